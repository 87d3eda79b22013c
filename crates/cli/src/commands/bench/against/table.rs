//! A race as a table for terminals.

use super::outcome::{Entrant, Race, Row};
use crate::show;

/// The facts, the table, and how to read it.
pub fn text(race: &Race) -> String {
    let machine = &race.machine;
    let mut text = format!(
        "{}, {} CPUs, {} threads, {} kernels, {}\n",
        machine.cpu, machine.n_cpus, race.n_threads, machine.isa, race.date
    );
    for engine in &race.engines {
        text += &format!("{} {}\n", engine.name, engine.version);
    }
    let mut table = show::table(&[
        "file",
        "test",
        "engine",
        "tokens/s, median (least to greatest)",
        "sterna is",
        "share of ceiling",
    ]);
    for row in &race.rows {
        // The engines of a test stand in one row of several lines.
        let lines = row.entrants.iter().map(|entrant| cells(row, entrant));
        let lines: Vec<[String; 4]> = lines.collect();
        let column = |i: usize| lines.iter().map(|l| l[i].clone()).collect::<Vec<_>>().join("\n");
        let [engine, speed, ratio, share] = [0, 1, 2, 3].map(column);
        table.add_row([&row.file, &row.test, &engine, &speed, &ratio, &share]);
    }
    let n_runs = race.rounds * super::rounds::RUNS_PER_ROUND;
    text + &format!(
        "{table}\n{n_runs} runs each, in turn, every run a fresh process; ceilings probed around \
         every round\n"
    )
}

/// Engine, speed, ratio and share as words.
fn cells(row: &Row, entrant: &Entrant) -> [String; 4] {
    let engine = entrant.engine.clone();
    let Some(summary) = &entrant.summary else {
        let reason = entrant.unavailable.as_deref().unwrap_or("it did not run");
        return [engine, format!("unavailable: {reason}"), "-".into(), "-".into()];
    };
    let [median, least, greatest] = [summary.median, summary.least, summary.greatest].map(speed);
    let ceiling = &row.ceiling;
    [
        engine,
        format!("{median} ({least} to {greatest})"),
        summary.ratio.map_or("-".into(), |ratio| ratio_words(ratio, summary.ratio_ci95)),
        format!("{:.0}% of {} {}", 100.0 * summary.share, ceiling.shown(), ceiling.words()),
    ]
}

/// Tokens per second with as many digits as say something.
pub fn speed(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// `1.49x [1.40, 1.52]`.
pub fn ratio_words(ratio: f64, interval: Option<[f64; 2]>) -> String {
    let interval = interval.map_or(String::new(), |[low, high]| format!(" [{low:.2}, {high:.2}]"));
    format!("{ratio:.2}x{interval}")
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::example;

    #[test]
    fn the_table_has_medians_ratios_shares_and_reasons() {
        let text = super::text(&example());
        let words: Vec<String> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let has = |line: &str| words.iter().any(|l| l == line);
        let first = "model-Q4_0.gguf pp512 sterna 300.0 (290.0 to 310.0) - 60% of 1000.0 GOP/s";
        assert!(has(&format!("{first} int8 peak")), "{text}");
        let loss = "openvino 320.0 (310.0 to 330.0) 0.94x 64% of 1000.0 GOP/s int8 peak";
        assert!(has(loss), "{text}");
        assert!(text.contains("unavailable: it has <no> such encoding"), "{text}");
        assert!(text.contains("a CPU, 2 CPUs, 2 threads, avx512 kernels"), "{text}");
        assert!(text.contains("4 runs each"), "{text}");
    }
}
