//! The table of an experiment: means, spreads, and promises kept or not.

use super::design::{Arm, Experiment};
use super::trial::Run;
use sterna_measure::stats;

/// The table, and whether every promise is kept.
pub fn table(experiment: &Experiment, runs: &[Run]) -> (String, bool) {
    let mut lines = vec![
        "| arm | held-out nats/token, mean (sd, n) | change, mean (sd) | promise | model bytes |"
            .to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    let mut all_kept = true;
    for arm in &experiment.arm {
        let own: Vec<&Run> = runs.iter().filter(|run| run.arm == arm.name).collect();
        let losses: Vec<f64> = own.iter().map(|run| run.held_out_nats_per_token).collect();
        let (loss, spread) = mean_sd(&losses);
        let (mut change, mut promise) = (String::new(), String::new());
        if let Some(against) = &arm.against {
            let (mean, spread) = mean_sd(&changes(experiment, arm, against, runs));
            change = format!("{mean:+.2}% ({spread:.2}) against {against}");
            if let Some(limit) = arm.at_most_percent {
                let is_kept = mean <= limit;
                all_kept &= is_kept;
                promise = format!("at most {limit:+}%: {}", if is_kept { "met" } else { "missed" });
            }
        }
        let (name, n) = (&arm.name, losses.len());
        let bytes = own.first().map_or(0, |run| run.model_bytes);
        lines.push(format!(
            "| {name} | {loss:.4} ({spread:.4}, {n}) | {change} | {promise} | {bytes} |"
        ));
    }
    (lines.join("\n"), all_kept)
}

/// Percent by which an arm's loss is above another's, seed by seed.
fn changes(experiment: &Experiment, arm: &Arm, against: &str, runs: &[Run]) -> Vec<f64> {
    let of = |name: &str, seed: u64| {
        let run = runs.iter().find(|run| run.arm == name && run.seed == seed)?;
        Some(run.held_out_nats_per_token)
    };
    let change = |&seed: &u64| {
        let base = of(against, experiment.partner_seed(against, seed))?;
        Some((of(&arm.name, seed)? / base - 1.0) * 100.0)
    };
    experiment.seeds_of(arm).iter().filter_map(change).collect()
}

/// Mean and sample standard deviation; no spread of a single value.
fn mean_sd(values: &[f64]) -> (f64, f64) {
    (stats::mean(values), stats::stddev(values).unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_the_samples() {
        assert_eq!(mean_sd(&[1.0, 3.0]), (2.0, 2.0f64.sqrt()));
        assert_eq!(mean_sd(&[4.0]), (4.0, 0.0));
    }

    #[test]
    fn changes_are_seed_by_seed_and_promises_are_judged() {
        let text = r#"
            about = "x"
            texts = []
            held_out_fraction = 0.1
            vocab_size = 1
            window = 1
            seeds = [1, 2, 3]
            args = []
            [[arm]]
            name = "a"
            [[arm]]
            name = "b"
            against = "a"
            at_most_percent = 10.0
            [[arm]]
            name = "c"
            against = "a"
            at_most_percent = 0.0
        "#;
        let experiment: Experiment = toml::from_str(text).unwrap();
        let run = |arm: &str, seed: u64, loss: f64| Run {
            arm: arm.into(),
            seed,
            held_out_nats_per_token: loss,
            held_out_tokens: 1,
            model_bytes: 7,
            training_seconds: 0.0,
        };
        let mut runs = Vec::new();
        for (seed, base) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
            runs.push(run("a", seed, base));
            runs.push(run("b", seed, base * 1.05));
            runs.push(run("c", seed, base * 1.01));
        }
        let (text, all_kept) = table(&experiment, &runs);
        assert!(!all_kept);
        assert!(text.contains("| +5.00% (0.00) against a | at most +10%: met | 7 |"), "{text}");
        assert!(text.contains("| +1.00% (0.00) against a | at most +0%: missed | 7 |"), "{text}");
    }
}
