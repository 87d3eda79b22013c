//! The result of a race as a table for people and as JSON with every sample.

use super::Setup;
use super::race::Race;
use super::workload::Test;
use crate::root;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::process::Command;
use sterna_measure::clock::timestamp_utc;
use sterna_measure::machine::{Ceilings, Machine};
use sterna_measure::stats::Bootstrap;

/// What a number needs beside it to mean something.
pub struct Facts {
    workload: String,
    about: String,
    n_threads: usize,
    cpu: String,
    n_cpus: usize,
    date: String,
    /// Versions of both engines.
    sterna: String,
    llama: String,
    /// `None` where `sterna doctor` measured none.
    ceilings: Option<Ceilings>,
}

impl Facts {
    /// Asks the machine and the engines.
    ///
    /// # Errors
    /// When an engine does not answer.
    pub fn of(setup: &Setup) -> Result<Self> {
        let mut doctor = Command::new(&setup.sterna);
        let doctor = root::output_of(doctor.args(["doctor", "--measure", "--json"]))?;
        let doctor: Value = serde_json::from_str(&doctor).context("doctor printed no JSON")?;
        let ceilings = find(&doctor, "ceilings");
        let machine = Machine::detect();
        let llama = setup.peers.join("llama-bench");
        Ok(Self {
            workload: setup.workload_name.clone(),
            about: setup.workload.about.clone(),
            n_threads: setup.n_threads,
            n_cpus: machine.usable_cpus(),
            cpu: machine.cpu,
            date: timestamp_utc(),
            sterna: root::output_of(Command::new(&setup.sterna).arg("--version"))?.trim().into(),
            llama: version_of(&mut Command::new(llama)),
            ceilings: ceilings.and_then(|c| serde_json::from_value(c.clone()).ok()),
        })
    }

    /// A measured ceiling at the race's number of threads, per second.
    fn ceiling(&self, name: &str) -> Option<f64> {
        self.ceilings.as_ref()?.get(name, self.n_threads)
    }
}

/// The first line of `--version`, which llama.cpp prints to either stream.
fn version_of(command: &mut Command) -> String {
    let Ok(output) = command.arg("--version").output() else { return "unknown".into() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().find(|l| l.contains("version")).unwrap_or("unknown").trim().to_owned()
}

/// The value of `key` wherever it is nested.
fn find<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|v| find(v, key))),
        Value::Array(list) => list.iter().find_map(|v| find(v, key)),
        _ => None,
    }
}

/// The share of the machine's ceiling that a speed is: bandwidth for decode; prefill is bound by
/// arithmetic, which depends on the kernel, and gets none.
fn share(facts: &Facts, race: &Race, tokens_per_second: f64) -> Option<f64> {
    match race.test {
        Test::Prefill(_) => None,
        Test::Decode(_) => {
            let bandwidth = facts.ceiling("memory_read")?;
            Some(tokens_per_second * race.bytes_per_token as f64 / bandwidth)
        }
    }
}

/// The median of ours over the median of theirs, with its interval when there are samples enough.
fn ratio(race: &Race) -> (f64, Option<[f64; 2]>) {
    let interval = Bootstrap::default().ratio_of_medians(race.ours.raw(), race.theirs.raw());
    (race.ours.median() / race.theirs.median(), interval.map(Into::into))
}

/// The table, under the facts it holds for.
pub fn markdown(facts: &Facts, races: &[Race]) -> String {
    let mut text = format!(
        "{} ({})\n\n{} CPUs of {}, {} threads, {}; {} against {}\n\n",
        facts.workload,
        facts.about,
        facts.n_cpus,
        facts.cpu,
        facts.n_threads,
        facts.date,
        facts.sterna,
        facts.llama
    );
    if let Some(bandwidth) = facts.ceiling("memory_read") {
        text += &format!("Measured read bandwidth: {:.1} GB/s.\n\n", bandwidth / 1e9);
    }
    text += "| file | test | runs | sterna tokens/s | llama.cpp tokens/s | ratio | \
             bandwidth, sterna | llama.cpp |\n|---|---|---|---|---|---|---|---|\n";
    for race in races {
        let speed = |s: &sterna_measure::Samples| {
            format!("{:.2} ({:.2} to {:.2})", s.median(), s.min(), s.max())
        };
        let share = |tokens_per_second| match share(facts, race, tokens_per_second) {
            Some(share) => format!("{:.0}%", share * 100.0),
            None => "-".into(),
        };
        let (ratio, interval) = ratio(race);
        let interval = interval.map_or(String::new(), |[a, b]| format!(" [{a:.2}, {b:.2}]"));
        text += &format!(
            "| {}, {:.0} MB | {} | {} | {} | {} | {ratio:.2}{interval} | {} | {} |\n",
            race.encoding,
            race.file_bytes as f64 / 1e6,
            race.test,
            race.ours.n(),
            speed(&race.ours),
            speed(&race.theirs),
            share(race.ours.median()),
            share(race.theirs.median()),
        );
    }
    text + "\nMedians (least to greatest) of runs in turn; above 1, Sterna is faster.\n"
}

/// Everything, with every sample.
pub fn json(facts: &Facts, races: &[Race]) -> Value {
    let results = races.iter().map(|race| {
        let (ratio, interval) = ratio(race);
        json!({
            "encoding": race.encoding,
            "test": race.test.to_string(),
            "file_bytes": race.file_bytes,
            "bytes_per_token": race.bytes_per_token,
            "sterna_tokens_per_second": race.ours.raw(),
            "llama_tokens_per_second": race.theirs.raw(),
            "ratio_of_medians": ratio,
            "ratio_ci95": interval,
            "sterna_share_of_bandwidth": share(facts, race, race.ours.median()),
            "llama_share_of_bandwidth": share(facts, race, race.theirs.median()),
        })
    });
    json!({
        "workload": facts.workload,
        "about": facts.about,
        "cpu": facts.cpu,
        "n_cpus": facts.n_cpus,
        "n_threads": facts.n_threads,
        "date": facts.date,
        "sterna": facts.sterna,
        "llama_cpp": facts.llama,
        "memory_read_bytes_per_second": facts.ceiling("memory_read"),
        "results": results.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_measure::Samples;

    #[test]
    fn the_table_has_medians_ratio_and_share() {
        let facts = Facts {
            workload: "smoke".into(),
            about: "tiny".into(),
            n_threads: 2,
            cpu: "a CPU".into(),
            n_cpus: 2,
            date: "2026-11-21T12:00:00Z".into(),
            sterna: "sterna 0.1.0".into(),
            llama: "version: 1".into(),
            ceilings: None,
        };
        let samples = |v: &[f64]| Samples::new("t", v.to_vec()).unwrap();
        let race = Race {
            encoding: "Q4_0".into(),
            test: Test::Decode(8),
            ours: samples(&[30.0, 50.0, 40.0]),
            theirs: samples(&[20.0, 20.0, 20.0]),
            bytes_per_token: 1_000,
            file_bytes: 2_000_000,
        };
        let text = markdown(&facts, std::slice::from_ref(&race));
        let row = "| Q4_0, 2 MB | tg8 | 3 | 40.00 (30.00 to 50.00) | 20.00 (20.00 to 20.00) \
                   | 2.00 | - | - |";
        assert!(text.contains(row), "{text}");
        let json = json(&facts, &[race]);
        assert_eq!(json["results"][0]["ratio_of_medians"], 2.0);
        assert_eq!(json["results"][0]["sterna_tokens_per_second"][1], 50.0);
    }
}
