//! One test on one file, by all engines in turn: forth and back in each round, the next round begun
//! by the next engine, so that a drift of the machine within a round cancels.
//!
//! In: engines, a file, a test. Out: every run's tokens per second, in the order taken.

use super::engines::Engine;
use super::roof::Probes;
use std::path::Path;
use std::process::Output;
use sterna_measure::latency::BenchTest as Test;

/// Runs of each engine in a round.
pub const RUNS_PER_ROUND: usize = 2;

/// What an engine did in all rounds.
#[derive(Debug)]
pub struct Runs {
    pub engine: &'static str,
    /// One of the commands, as a person would type it.
    pub command: Option<String>,
    /// [`RUNS_PER_ROUND`] for each round, or the reason why there are none.
    pub tokens_per_second: Result<Vec<f64>, String>,
}

/// What all of them did, and what the machine could do meanwhile.
#[derive(Debug)]
pub struct Found {
    pub runs: Vec<Runs>,
    /// Of each ceiling asked for, one value per round: the mean of a probe before and one after.
    pub ceilings: Vec<(&'static str, Vec<f64>)>,
}

/// Runs the rounds.
///
/// # Errors
/// When a ceiling cannot be measured; an engine that fails has its reason in its runs.
pub fn run(
    engines: &[Box<dyn Engine>],
    file: &Path,
    test: Test,
    n_threads: usize,
    n_rounds: usize,
    ceilings: &[&'static str],
    probe: &Probes,
) -> anyhow::Result<Found> {
    let mut runs: Vec<Runs> = engines.iter().map(|engine| Runs::none(engine.as_ref())).collect();
    let mut found: Vec<_> = ceilings.iter().map(|name| (*name, Vec::new())).collect();
    let probe_all = || ceilings.iter().map(|name| probe(name)).collect::<anyhow::Result<Vec<_>>>();
    for round in 0..n_rounds {
        let before = probe_all()?;
        for index in order(engines.len(), round) {
            let speed = runs[index].add(engines[index].as_ref(), file, test, n_threads);
            let name = engines[index].name();
            let said = match speed {
                Ok(speed) => format!("{speed:.2} tokens/s"),
                Err(reason) => format!("unavailable: {reason}"),
            };
            let file = file.file_name().unwrap_or(file.as_os_str()).display();
            eprintln!("{file} {test}, round {} of {n_rounds}: {name} {said}", round + 1);
        }
        let after = probe_all()?;
        for (i, (_, values)) in found.iter_mut().enumerate() {
            values.push((before[i] + after[i]) / 2.0);
        }
    }
    Ok(Found { runs, ceilings: found })
}

/// Who runs when: all forth and back, beginning with another one each round.
fn order(n_engines: usize, round: usize) -> Vec<usize> {
    let forth = (0..n_engines).map(|i| (i + round) % n_engines);
    forth.clone().chain(forth.rev()).collect()
}

impl Runs {
    fn none(engine: &dyn Engine) -> Self {
        Self { engine: engine.name(), command: None, tokens_per_second: Ok(Vec::new()) }
    }

    /// One more run; after a failure it is that failure again, and nothing is started.
    fn add(
        &mut self,
        engine: &dyn Engine,
        file: &Path,
        test: Test,
        n_threads: usize,
    ) -> Result<f64, String> {
        let speeds = self.tokens_per_second.as_mut().map_err(|reason| reason.clone())?;
        match once(engine, file, test, n_threads, &mut self.command) {
            Ok(speed) => {
                speeds.push(speed);
                Ok(speed)
            }
            Err(reason) => {
                self.tokens_per_second = Err(reason.clone());
                Err(reason)
            }
        }
    }
}

fn once(
    engine: &dyn Engine,
    file: &Path,
    test: Test,
    n_threads: usize,
    shown: &mut Option<String>,
) -> Result<f64, String> {
    let mut command = engine.command(file, test, n_threads)?;
    *shown = Some(engine.shown(&command));
    let output = command.output().map_err(|error| format!("it does not start: {error}"))?;
    if !output.status.success() {
        return Err(failure(&output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    engine.speed(&text, test).map_err(|error| format!("{error:#}"))
}

/// How a process ended, and the last thing it said.
fn failure(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let said = last.map_or(String::new(), |line| {
        let start: String = line.trim_start_matches("error: ").chars().take(200).collect();
        format!(": {start}")
    });
    let status = output.status;
    // A crash leaves no sentence of its own.
    let is_crash = status.code().is_none() || matches!(status.code(), Some(132 | 139));
    let hint = if is_crash { "; `cargo xtask peers` builds one that this CPU can run" } else { "" };
    format!("it ended with {status}{said}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::process::Command;

    #[test]
    fn every_round_goes_forth_and_back_from_another_engine() {
        assert_eq!([order(2, 0), order(2, 1)], [[0, 1, 1, 0], [1, 0, 0, 1]]);
        assert_eq!(order(3, 2), [2, 0, 1, 1, 0, 2]);
    }

    /// Prints its words; its speed is the number that they are.
    struct Echo(&'static str, &'static str);

    impl Engine for Echo {
        fn name(&self) -> &'static str {
            self.0
        }

        fn version(&self) -> String {
            "1".into()
        }

        fn command(&self, _: &Path, _: Test, _: usize) -> Result<Command, String> {
            let mut shell = Command::new("sh");
            shell.args(["-c", self.1]);
            Ok(shell)
        }

        fn speed(&self, output: &str, _: Test) -> anyhow::Result<f64> {
            Ok(output.trim().parse()?)
        }
    }

    #[test]
    fn ceilings_are_probed_around_rounds_and_a_failure_is_a_reason() {
        let engines: [Box<dyn Engine>; 3] = [
            Box::new(Echo("good", "echo 12.5")),
            Box::new(Echo("bad", "echo it has no such file >&2; exit 3")),
            Box::new(Echo("dead", "kill -SEGV $$")),
        ];
        let test = Test { n_prompt: 8, n_gen: 0, n_depth: 0, n_sequences: 1 };
        let n_probes = RefCell::new(0.0);
        let probe = |_: &str| {
            *n_probes.borrow_mut() += 1.0;
            Ok(*n_probes.borrow())
        };
        let found = run(&engines, Path::new("m"), test, 1, 2, &["memory_read"], &probe).unwrap();
        assert_eq!(found.ceilings, [("memory_read", vec![1.5, 3.5])]);
        assert_eq!(found.runs[0].tokens_per_second, Ok(vec![12.5; 4]));
        let reason = |i: usize| found.runs[i].tokens_per_second.as_ref().unwrap_err().as_str();
        assert_eq!(reason(1), "it ended with exit status: 3: it has no such file");
        assert!(reason(2).contains("signal: 11") && reason(2).contains("xtask peers"));
    }
}
