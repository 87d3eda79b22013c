//! The servers of a report side by side, for terminals.

use super::report::{Report, Served};
use crate::show;
use sterna_measure::load::{Latency, Memory, Ratios, Summary};

/// A line of the table: what it says of a server, and how much better the first one is.
struct Row {
    name: &'static str,
    value: fn(&Served) -> String,
    ratio: fn(&Ratios) -> Option<f64>,
}

const ROWS: &[Row] = &[
    Row { name: "answered", value: |s| answered(&s.summary), ratio: |_| None },
    Row { name: "tokens/s in all", value: speed_of_runs, ratio: |r| r.tokens_per_second },
    Row {
        name: "answers/s",
        value: |s| number(s.summary.requests_per_second),
        ratio: |r| r.requests_per_second,
    },
    Row { name: "TTFT p50", value: |s| p50(s.summary.ttft), ratio: |r| r.ttft_p50 },
    Row { name: "p95, p99", value: |s| tails(s.summary.ttft), ratio: |_| None },
    Row { name: "mean, max", value: |s| mean_max(s.summary.ttft), ratio: |_| None },
    Row { name: "ITL p50", value: |s| p50(s.summary.itl), ratio: |r| r.itl_p50 },
    Row { name: "p95, p99", value: |s| tails(s.summary.itl), ratio: |_| None },
    Row { name: "mean, max", value: |s| mean_max(s.summary.itl), ratio: |_| None },
    Row { name: "end to end p50", value: |s| p50(s.summary.e2e), ratio: |r| r.e2e_p50 },
    Row { name: "p95, p99", value: |s| tails(s.summary.e2e), ratio: |_| None },
    Row { name: "mean, max", value: |s| mean_max(s.summary.e2e), ratio: |_| None },
    Row { name: "within limits", value: |s| goodput(&s.summary), ratio: |r| r.goodput },
    Row { name: "prompt cached", value: |s| cached(&s.summary), ratio: |_| None },
];

/// Where memory was watched.
const MEMORY: &[Row] = &[
    Row { name: "memory at start", value: |s| memory(s, |m| m.start_bytes), ratio: |_| None },
    Row { name: "usual by half-time", value: |s| memory(s, |m| m.usual_bytes), ratio: |_| None },
    Row { name: "most after it", value: |s| memory(s, |m| m.late_bytes), ratio: |_| None },
    Row { name: "at end", value: |s| memory(s, |m| m.end_bytes), ratio: |_| None },
    Row { name: "most", value: |s| memory(s, |m| m.max_bytes), ratio: |_| None },
];

/// The facts, the table, and what went wrong.
pub fn text(report: &Report) -> String {
    let first = &report.servers[0];
    let mut headings = vec![String::new(), first.name.clone()];
    for other in &report.servers[1..] {
        headings.extend([other.name.clone(), format!("{} is", first.name)]);
    }
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = show::table(&headings);
    let is_watched = report.servers.iter().any(|server| server.summary.memory.is_some());
    for row in ROWS.iter().chain(if is_watched { MEMORY } else { &[] }) {
        let mut cells = vec![row.name.to_owned(), (row.value)(first)];
        for other in &report.servers[1..] {
            let ratio = other.first_is.as_ref().and_then(row.ratio);
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"));
            cells.extend([(row.value)(other), ratio]);
        }
        table.add_row(cells);
    }
    let Report { cpu, n_cpus, date, load, .. } = report;
    let load = show::paragraph(load, 0);
    let slo = first.summary.goodput.map(|goodput| format!("limits: {}\n", goodput.slo));
    let mut text = format!("{cpu}, {n_cpus} CPUs, {date}\n{load}\n{table}\n");
    text += &slo.unwrap_or_default();
    report.servers.iter().for_each(|server| text += &notes(server));
    text
}

/// A run in a line.
pub fn line(summary: &Summary) -> String {
    let (speed, ttft) = (number(summary.tokens_per_second), p50(summary.ttft));
    format!("{speed} tokens/s, TTFT p50 {ttft}, {} answered", answered(summary))
}

/// More than this much later than due, and the times are those of this side.
const LATE_SECONDS: f64 = 0.05;

/// What a reader must know of a server's figures.
fn notes(server: &Served) -> String {
    let Served { name, summary, .. } = server;
    let mut lines = Vec::new();
    for error in &summary.errors {
        lines.push(format!("{name}: {} x {}", error.count, error.example));
    }
    if summary.n_short > 0 {
        lines.push(format!(
            "{name}: {} answers have fewer tokens than asked for; does it know ignore_eos, and is \
             its context long enough?",
            summary.n_short
        ));
    }
    if summary.late_seconds_max > LATE_SECONDS {
        lines.push(format!(
            "{name}: requests left up to {} late; this side was too slow",
            time(summary.late_seconds_max)
        ));
    }
    lines.iter().map(|line| show::paragraph(line, 2) + "\n").collect()
}

fn answered(summary: &Summary) -> String {
    format!("{} of {}", summary.n_done, summary.n_requests)
}

/// Over all runs, and the least and greatest where there are several.
fn speed_of_runs(server: &Served) -> String {
    let all = number(server.summary.tokens_per_second);
    let runs = || server.runs.iter().map(|run| run.summary.tokens_per_second);
    if runs().count() < 2 {
        return all;
    }
    let (least, greatest) = (runs().fold(f64::INFINITY, f64::min), runs().fold(0.0, f64::max));
    format!("{all} ({} to {})", number(least), number(greatest))
}

/// The median, or a dash.
pub fn p50(latency: Option<Latency>) -> String {
    latency.map_or("-".into(), |latency| time(latency.p50))
}

/// The 95th and the 99th percentile, each a dash where there are too few.
pub fn tails(latency: Option<Latency>) -> String {
    let tail = |value: Option<f64>| value.map_or("-".into(), time);
    latency.map_or("-".into(), |l| format!("{}, {}", tail(l.p95), tail(l.p99)))
}

fn mean_max(latency: Option<Latency>) -> String {
    latency.map_or("-".into(), |l| format!("{}, {}", time(l.mean), time(l.max)))
}

fn goodput(summary: &Summary) -> String {
    summary.goodput.map_or("-".into(), |goodput| {
        let share = 100.0 * goodput.share;
        format!("{}/s, {share:.0}%", number(goodput.requests_per_second))
    })
}

fn cached(summary: &Summary) -> String {
    summary.cached_prompt_tokens.map_or("-".into(), |n| {
        let share = 100.0 * n as f64 / summary.prompt_tokens.max(1) as f64;
        format!("{n} of {}, {share:.0}%", summary.prompt_tokens)
    })
}

fn memory(server: &Served, of: fn(&Memory) -> u64) -> String {
    server.summary.memory.map_or("-".into(), |memory| show::bytes(of(&memory)))
}

/// With as many digits as say something.
pub fn number(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Seconds in the unit people read.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.1} ms", s * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_the_digits_that_say_something() {
        let numbers = [1234.5, 75.12, 1.234, 0.0].map(number);
        assert_eq!(numbers, ["1234", "75.1", "1.23", "0.00"]);
        let times = [143.4, 30.25, 8.123, 0.1704, 0.0123, 0.0].map(time);
        assert_eq!(times, ["143 s", "30.2 s", "8.12 s", "170 ms", "12.3 ms", "0.0 ms"]);
    }
}
