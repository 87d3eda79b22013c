//! The tables: per model and budget Sterna's artifact beside the rival of each kind that is as
//! large or just larger.

use super::{Outcome, Row};

/// Whom an artifact is compared with.
const KINDS: [&str; 3] = ["uniform", "mix", "imatrix"];

/// The smallest rival of a kind that is no smaller; of equals, and of those within a thousandth,
/// the best.
fn rival<'r>(rivals: &'r [Row], kind: &str, bytes: u64) -> Option<&'r Row> {
    let as_large = || rivals.iter().filter(|row| row.kind == kind && row.bytes >= bytes);
    let least = as_large().map(|row| row.bytes).min()?;
    let equals = as_large().filter(|row| row.bytes <= least + least / 1000);
    equals.min_by(|a, b| a.kl.total_cmp(&b.kl))
}

/// A model's table.
pub fn of_model(name: &str, rivals: &[Row], outcomes: &[Outcome]) -> String {
    let n = rivals.first().map_or(0, |row| row.n);
    let mut lines = vec![
        format!(
            "{name}: KL divergence from the source in nats/token (rise of perplexity), {n} \
             held-out tokens"
        ),
        "| bits per weight | Sterna | uniform, as large or larger | llama.cpp's mix | with its \
         imatrix |"
            .to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for (budget, outcome) in outcomes {
        let row = match outcome {
            Ok(row) => row,
            Err(why) => {
                lines.push(format!("| {budget} | {why} | | | |"));
                continue;
            }
        };
        let cell = |kind: &str| match rival(rivals, kind, row.bytes) {
            Some(rival) => {
                let mark = if row.kl < rival.kl { "" } else { " **better**" };
                format!("{}: {}{mark}", rival.name, numbers(rival))
            }
            None => "none is as large".into(),
        };
        let cells = KINDS.map(cell).join(" | ");
        lines.push(format!("| {budget} | {} | {cells} |", numbers(row)));
    }
    lines.join("\n")
}

/// The rivals that are better than what they stand beside, each once, the smallest first.
pub fn better<'r>(rivals: &'r [Row], outcomes: &[Outcome]) -> Vec<&'r Row> {
    let mut better: Vec<&Row> = Vec::new();
    for row in outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()) {
        let beside = KINDS.iter().filter_map(|kind| rival(rivals, kind, row.bytes));
        better.extend(beside.filter(|rival| rival.kl <= row.kl));
    }
    better.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.kl.total_cmp(&b.kl)));
    better.dedup_by(|a, b| (a.bytes, &a.name, &a.kind) == (b.bytes, &b.name, &b.kind));
    better
}

/// The table of those, beside what Sterna makes within their size; nothing where there are none.
pub fn within(pairs: &[(&Row, Row)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut lines = vec![
        "What is better there is larger. Sterna within its size:".to_owned(),
        "| better above | Sterna, no larger |".to_owned(),
        "|---|---|".to_owned(),
    ];
    for (rival, row) in pairs {
        let mark = |is_better: bool| if is_better { " **better**" } else { "" };
        lines.push(format!(
            "| {} ({}): {}{} | {}{} |",
            rival.name,
            rival.kind,
            numbers(rival),
            mark(rival.kl < row.kl),
            numbers(row),
            mark(row.kl < rival.kl)
        ));
    }
    lines.join("\n")
}

fn numbers(row: &Row) -> String {
    let kilobytes = row.bytes as f64 / 1000.0;
    format!("{:.5} ({:+.2}%), {kilobytes:.0} kB", row.kl, row.drop_percent)
}

/// How many models Sterna is better on, by budget and kind; and whether that is all but one, or all
/// of fewer than four.
pub fn summary(budgets: &[f64], results: &[(String, Vec<Row>, Vec<Outcome>)]) -> (String, bool) {
    let mut lines = Vec::new();
    let (mut is_enough, mut n_all) = (true, 0);
    for (index, budget) in budgets.iter().enumerate() {
        let mut parts = Vec::new();
        for kind in KINDS {
            let (mut n, mut n_kl, mut n_rise) = (0, 0, 0);
            for (_, rivals, outcomes) in results {
                let Some((_, Ok(row))) = outcomes.get(index) else { continue };
                let Some(rival) = rival(rivals, kind, row.bytes) else { continue };
                n += 1;
                n_kl += usize::from(row.kl < rival.kl);
                n_rise += usize::from(row.drop_percent < rival.drop_percent);
            }
            n_all += n;
            is_enough &= n_kl + usize::from(n >= 4) >= n;
            parts.push(format!("{kind} {n_kl} of {n} by KL, {n_rise} of {n} by perplexity"));
        }
        lines.push(format!("{budget} bits: better than {}", parts.join("; ")));
    }
    (lines.join("\n"), is_enough && n_all > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, bytes: u64, kl: f64) -> Row {
        Row { name: format!("{kind}{bytes}"), kind: kind.into(), bytes, kl, drop_percent: kl, n: 9 }
    }

    #[test]
    fn rivals_are_as_large_or_just_larger() {
        let rivals = [
            row("mix", 100_000, 0.5),
            row("mix", 120_000, 0.2),
            row("mix", 120_050, 0.1),
            row("mix", 150_000, 0.01),
            row("uniform", 90_000, 0.0),
        ];
        assert_eq!(rival(&rivals, "mix", 100_000).unwrap().kl, 0.5);
        assert_eq!(rival(&rivals, "mix", 100_001).unwrap().kl, 0.1);
        assert!(rival(&rivals, "mix", 150_001).is_none() && rival(&rivals, "uniform", 1).is_some());
        let outcomes = vec![
            (4.0, Ok(row("sterna", 110_000, 0.05))),
            (3.5, Ok(row("sterna", 99_000, 0.07))),
            (3.0, Err("no".to_owned())),
        ];
        let text = of_model("m", &rivals, &outcomes);
        assert!(text.contains("| 4 | 0.05000 (+0.05%), 110 kB | none is as large |"), "{text}");
        assert!(text.contains("| 3 | no | | | |") && !text.contains("**better**"), "{text}");
        let (text, is_enough) =
            summary(&[4.0, 3.5, 3.0], &[("m".into(), rivals.to_vec(), outcomes)]);
        assert!(is_enough && text.contains("mix 1 of 1 by KL"), "{text}");
    }

    #[test]
    fn what_is_better_is_met_at_its_own_size() {
        let rivals = [row("mix", 120_000, 0.2), row("imatrix", 120_000, 0.1)];
        let outcomes =
            vec![(5.0, Ok(row("sterna", 110_000, 0.15))), (4.0, Ok(row("sterna", 90_000, 0.3)))];
        let better = better(&rivals, &outcomes);
        let names: Vec<&str> = better.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["imatrix120000", "mix120000"], "each once");
        let text = within(&[(better[0], row("sterna", 119_000, 0.05))]);
        assert!(text.contains("0.10000 (+0.10%), 120 kB |"), "{text}");
        assert!(text.contains("0.05000 (+0.05%), 119 kB **better** |"), "{text}");
        assert_eq!(within(&[]), "");
    }
}
