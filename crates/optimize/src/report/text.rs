//! The report as a page of text, for terminals.

use super::{Report, damage};
use sterna_measure::figure::short;
use sterna_measure::report::{Status, Target};

/// The budget in a word, and what it means.
pub fn verdict(report: &Report) -> (&'static str, &'static str) {
    match report.run.grade() {
        Some(Status::Met) => ("met", "every cap is kept, by measurement on held-out text"),
        Some(Status::Missed) => ("missed", "at least one cap is not kept"),
        Some(Status::NotEvaluated) => ("not evaluated", "not every cap could be measured"),
        None => ("no budget", "nothing was capped that could be judged"),
    }
}

/// A target in words, its numbers short: `missed: file_bytes 1234 bytes, wanted at most 1000`.
pub fn target(target: &Target) -> String {
    let line = target.line();
    let word = |word: &str| match word.parse::<f64>() {
        Ok(number) if word.contains('.') => short(number),
        _ => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The page.
pub fn render(report: &Report) -> String {
    let details = &report.details;
    let (word, meaning) = verdict(report);
    let mut text = format!(
        "{}  {} parameters, {}\nbudget   {}\nverdict  {word}: {meaning}\n",
        details.model.name, details.model.n_parameters, details.model.architecture, details.budget
    );
    for target in &report.run.targets {
        text += &format!("         {}\n", self::target(target));
    }
    text += "\n";
    for metric in &report.run.metrics {
        text += &format!("{}\n", metric.line());
    }
    for warning in damage::warnings(&report.run) {
        text += &format!("WARNING: {warning}\n");
    }
    for race in &details.races {
        text += &format!("{}: {}\n", race.name, race.line);
    }
    for ablation in &details.ablations {
        text += &format!("{} {}\n", ablation.name, ablation.line);
    }
    if !details.held_out.is_empty() {
        text += "\nheld-out text            bytes      KL/token    drop %\n";
    }
    for point in &details.held_out {
        let (label, bytes) = (&point.label, point.bytes);
        text +=
            &format!("{label:<20.20} {bytes:>10} {:>12.6} {:>9.3}\n", point.kl, point.drop_percent);
    }
    for standing in &details.strategies {
        let gap = standing
            .gap_percent
            .map_or("loses where exact does not".into(), |gap| format!("{gap:.2}% above exact"));
        text += &format!("strategy {}: {gap}, {}\n", standing.strategy, standing.remark);
    }
    for note in &details.notes {
        text += &format!("note: {note}\n");
    }
    text
}
