//! The commands that measure, and where each figure is in what they print: all that this
//! repository's chores know of `sterna`'s JSON.

use super::super::Setup;
use super::super::workload::Test;
use super::rows::{Figure, Row};
use crate::peers;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What is measured: a row for one file and test (or several tests).
#[derive(Clone, Copy)]
pub struct Case<'r> {
    pub row: &'r Row,
    pub shape: &'r str,
    pub encoding: &'r str,
    pub tests: &'r [Test],
}

/// `sterna`, with what it printed before: rows share commands.
pub struct Tools<'s> {
    setup: &'s Setup,
    printed: RefCell<BTreeMap<String, Result<Value, String>>>,
}

impl<'s> Tools<'s> {
    /// Nothing run yet.
    pub fn new(setup: &'s Setup) -> Self {
        Self { setup, printed: RefCell::default() }
    }

    /// The figure of a row, or why there is none.
    pub fn measure(&self, case: &Case, file: &Path, rounds: usize) -> Result<f64, String> {
        match case.row.figure {
            Figure::KernelShare => kernel_share(&self.kernels(case)?, case).map(|(share, _)| share),
            Figure::Share => self.share(case, file, rounds),
            Figure::Ratio => ratio(&self.race(case, file, case.tests[0], rounds)?),
            Figure::Rise => {
                let speed = |test: &Test| median_speed(&self.alone(case, file, *test, rounds)?);
                let speeds: Vec<f64> = case.tests.iter().map(speed).collect::<Result<_, _>>()?;
                Ok(speeds.windows(2).map(|pair| pair[1] / pair[0]).fold(f64::INFINITY, f64::min))
            }
            Figure::Overhead => overhead(&self.profile(case, file)?),
            Figure::AttentionShare => attention_share(&self.profile(case, file)?),
            Figure::WarmStartMs => metric(&self.start(case, file)?, "warm_beyond_prefill_ms"),
            Figure::SecondProcessPercent => {
                metric(&self.start(case, file)?, "second_process_percent")
            }
            Figure::ColdStartRatio => cold_start_ratio(&self.start(case, file)?),
        }
    }

    /// Where the time goes of what missed its target, in words.
    pub fn why(&self, case: &Case, file: &Path) -> Result<String, String> {
        match case.row.figure {
            Figure::KernelShare => kernel_share(&self.kernels(case)?, case).map(|(_, at)| at),
            _ if case.tests.is_empty() => start_words(&self.start(case, file)?),
            _ => profile_words(&self.profile(case, file)?),
        }
    }

    fn kernels(&self, case: &Case) -> Result<Value, String> {
        let mut command = Command::new(&self.setup.sterna);
        command.args(["bench", "kernels", "--json"]).args(&case.row.flags);
        self.json(self.with_threads(command))
    }

    /// The share in a race, or alone where there is no llama.cpp.
    fn share(&self, case: &Case, file: &Path, rounds: usize) -> Result<f64, String> {
        let test = case.tests[0];
        if self.has_llama_cpp(case.row) {
            return ours(&self.race(case, file, test, rounds)?, "share");
        }
        number(&self.alone(case, file, test, rounds)?[0]["share"], "share")
    }

    /// One test of Sterna alone, as often as a race runs it.
    fn alone(&self, case: &Case, file: &Path, test: Test, rounds: usize) -> Result<Value, String> {
        let mut command = self.setup.bench(&[file.to_owned()]);
        command.args(test.flags()).args(["--json", "--repetitions"]);
        command.arg((2 * rounds).to_string()).args(&case.row.flags);
        self.json(command)
    }

    /// One test raced against llama.cpp.
    fn race(&self, case: &Case, file: &Path, test: Test, rounds: usize) -> Result<Value, String> {
        if !self.has_llama_cpp(case.row) {
            let avx2 = if case.row.peers.is_some() { " --avx2" } else { "" };
            return Err(format!("llama.cpp is not here; `cargo xtask peers{avx2}` builds it"));
        }
        let mut command = self.setup.bench(&[file.to_owned()]);
        command.args(test.flags()).args(["--against", "llama.cpp", "--json"]);
        command.args(["--rounds", &rounds.to_string()]).args(&case.row.flags);
        if let Some(folder) = &case.row.peers {
            command.arg("--peers").arg(peers::folder().join(folder));
        }
        self.json(command)
    }

    fn has_llama_cpp(&self, row: &Row) -> bool {
        match &row.peers {
            Some(folder) => peers::has_bench(&peers::folder().join(folder)),
            None => peers::find().is_ok(),
        }
    }

    fn profile(&self, case: &Case, file: &Path) -> Result<Value, String> {
        let test = case.tests[0];
        if test.n_sequences > 1 {
            return Err("sterna profile runs one sequence".into());
        }
        let mut command = Command::new(&self.setup.sterna);
        command.arg("profile").arg(file).args(test.flags()).arg("--json").args(&case.row.flags);
        self.json(self.with_threads(command))
    }

    fn start(&self, case: &Case, file: &Path) -> Result<Value, String> {
        let mut command = Command::new(&self.setup.sterna);
        command.args(["bench", "start"]).arg(file).arg("--json").args(&case.row.flags);
        self.json(self.with_threads(command))
    }

    fn with_threads(&self, mut command: Command) -> Command {
        if let Some(threads) = self.setup.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command
    }

    /// What a command prints, run once.
    fn json(&self, mut command: Command) -> Result<Value, String> {
        let words = command.get_args().map(|word| word.to_string_lossy());
        let key = words.collect::<Vec<_>>().join(" ");
        if let Some(printed) = self.printed.borrow().get(&key) {
            return printed.clone();
        }
        println!("$ sterna {key}");
        let printed = run(&mut command);
        self.printed.borrow_mut().insert(key, printed.clone());
        printed
    }
}

fn run(command: &mut Command) -> Result<Value, String> {
    let output = command.output().map_err(|error| format!("sterna does not start: {error}"))?;
    let parsed = serde_json::from_slice(&output.stdout);
    match parsed {
        // A race ends with code 1 where a row is unavailable, which the row says itself.
        Ok(value) if output.status.code().is_some_and(|code| code < 2) => Ok(value),
        _ => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let error = stderr.lines().find(|line| line.starts_with("error"));
            let said = error.or(stderr.lines().last()).unwrap_or("it printed no JSON").trim();
            Err(format!("{}: {}", output.status, said.trim_start_matches("error: ")))
        }
    }
}

fn number(value: &Value, what: &str) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("sterna's JSON has no {what}"))
}

/// `samples` of Sterna in a race of one row.
fn ours(race: &Value, key: &str) -> Result<f64, String> {
    let entrant = &race["rows"][0]["entrants"][0];
    reason(entrant)?;
    number(&entrant["summary"][key], key)
}

/// Tokens/s of Sterna alone: the median of its runs.
fn median_speed(printed: &Value) -> Result<f64, String> {
    let samples = printed[0]["samples_ts"].as_array().ok_or("sterna's JSON has no samples_ts")?;
    let mut speeds: Vec<f64> = samples.iter().filter_map(Value::as_f64).collect();
    speeds.sort_by(f64::total_cmp);
    let at = |i: usize| speeds.get(i).copied().ok_or("sterna's JSON has no sample");
    Ok((at(speeds.len() / 2)? + at(speeds.len().saturating_sub(1) / 2)?) / 2.0)
}

fn ratio(race: &Value) -> Result<f64, String> {
    let entrants = &race["rows"][0]["entrants"];
    reason(&entrants[0])?;
    reason(&entrants[1]).map_err(|reason| format!("llama.cpp: {reason}"))?;
    number(&entrants[1]["summary"]["ratio"], "ratio")
}

fn reason(entrant: &Value) -> Result<(), String> {
    entrant["unavailable"].as_str().map_or(Ok(()), |reason| Err(reason.to_owned()))
}

/// The least share among matrices of the case's encoding and rows, and the matrix that has it.
fn kernel_share(printed: &Value, case: &Case) -> Result<(f64, String), String> {
    let rows = case.tests[0].n_prompt.max(1) as u64;
    let list = printed.as_array().or(printed["kernels"].as_array());
    let list = list.ok_or("sterna's JSON is no list of kernels")?;
    let fits = |entry: &&Value| {
        let encoding = entry["encoding"].as_str().unwrap_or_default();
        encoding.eq_ignore_ascii_case(case.encoding) && entry["rows"].as_u64() == Some(rows)
    };
    let shares = list.iter().filter(fits).filter_map(|entry| {
        let shape = entry["shape"].as_str().map_or_else(|| entry["shape"].to_string(), Into::into);
        Some((entry["share"].as_f64()?, shape))
    });
    // Where kernels are listed by model, the case's model counts alone.
    let all: Vec<(f64, String)> = shares.collect();
    let own = all.iter().filter(|(_, shape)| shape.contains(case.shape));
    let least = own.min_by(|a, b| a.0.total_cmp(&b.0));
    let least = least.or(all.iter().min_by(|a, b| a.0.total_cmp(&b.0)));
    let (share, shape) = least
        .ok_or_else(|| format!("it measured no kernel of {} for {rows} rows", case.encoding))?;
    Ok((*share, format!("slowest: {shape} at {:.0}%", 100.0 * share)))
}

/// The profile of the one test that was asked for.
fn only_test(printed: &Value) -> &Value {
    &printed["tests"][0]["profile"]
}

fn overhead(printed: &Value) -> Result<f64, String> {
    number(&only_test(printed)["overhead"], "overhead")
}

/// The roofline's share of all attention ops, by their time.
fn attention_share(printed: &Value) -> Result<f64, String> {
    let ops = only_test(printed)["ops"].as_array().ok_or("sterna's JSON has no ops")?;
    let is_attention = |op: &&Value| op["name"].as_str().is_some_and(|n| n.contains("attention"));
    let (mut least, mut seconds) = (0.0, 0.0);
    for op in ops.iter().filter(is_attention) {
        let (Some(took), Some(share)) = (op["seconds"].as_f64(), op["share_of_roofline"].as_f64())
        else {
            continue;
        };
        seconds += took;
        least += took * share;
    }
    if seconds > 0.0 { Ok(least / seconds) } else { Err("the profile has no attention".into()) }
}

/// The ops that took longest, and how near their rooflines they were.
fn profile_words(printed: &Value) -> Result<String, String> {
    const MOST: usize = 3;
    let profile = only_test(printed);
    let ops = profile["ops"].as_array().ok_or("sterna's JSON has no ops")?;
    let words = ops.iter().take(MOST).map(|op| {
        let name = op["name"].as_str().unwrap_or("an op");
        let of_time = 100.0 * op["share_of_wall"].as_f64().unwrap_or(f64::NAN);
        let of_roof = op["share_of_roofline"].as_f64();
        let roof =
            of_roof.map_or("no roofline".into(), |s| format!("{:.0}% of roofline", 100.0 * s));
        format!("{name} {of_time:.0}% of time at {roof}")
    });
    Ok(words.collect::<Vec<_>>().join("; "))
}

/// A figure of `sterna bench start`.
fn metric(printed: &Value, name: &str) -> Result<f64, String> {
    let all = printed["metrics"].as_array().ok_or("sterna's JSON has no metrics")?;
    let found = all.iter().find(|metric| metric["name"] == name);
    let found = found.ok_or_else(|| format!("sterna's JSON has no {name}"))?;
    match found["reason"].as_str() {
        Some(reason) => Err(reason.to_owned()),
        None => number(&found["value"], name),
    }
}

fn cold_start_ratio(printed: &Value) -> Result<f64, String> {
    let [cold, read, pack] = ["cold_first_token_ms", "read_file_ms", "pack_at_memory_speed_ms"]
        .map(|name| metric(printed, name));
    Ok(cold? / (read? + pack?))
}

fn start_words(printed: &Value) -> Result<String, String> {
    let names = ["cold_first_token_ms", "warm_first_token_ms", "prefill_ms", "read_file_ms"];
    let words = names.map(|name| metric(printed, name).map(|ms| format!("{name} {ms:.1}")));
    Ok(words.into_iter().collect::<Result<Vec<_>, _>>()?.join("; "))
}

#[cfg(test)]
mod tests;
