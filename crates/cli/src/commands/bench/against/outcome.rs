//! What a race came to: plain data with every sample, as it is written to JSON.

use super::engines::Engine;
use super::roof::{BANDWIDTH, Roof};
use super::rounds::{Found, RUNS_PER_ROUND, Runs};
use serde::{Deserialize, Serialize};
use std::path::Path;
use sterna_measure::Samples;
use sterna_measure::latency::BenchTest as Test;
use sterna_measure::machine::Machine;
use sterna_measure::stats::{self, Bootstrap};

/// Names the form of this JSON.
pub const FORMAT: &str = "sterna-race 1";

/// A whole race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Race {
    /// [`FORMAT`].
    pub format: String,
    /// When it began, UTC.
    pub date: String,
    /// The command that repeats it.
    pub command: String,
    /// Where it ran.
    pub machine: MachineFacts,
    /// Threads of every engine.
    pub n_threads: usize,
    /// Rounds of each test.
    pub rounds: usize,
    /// Sterna first.
    pub engines: Vec<EngineFacts>,
    /// One per file and test.
    pub rows: Vec<Row>,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Its CPU's own name.
    pub cpu: String,
    /// CPUs that can be used.
    pub n_cpus: usize,
    /// Memory.
    pub ram_bytes: Option<u64>,
    /// The instruction set of Sterna's kernels.
    pub isa: String,
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// As on the command line.
    pub name: String,
    /// In its own words.
    pub version: String,
}

/// One test on one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The file's name.
    pub file: String,
    /// Its size.
    pub file_bytes: u64,
    /// Architecture, size and main encoding.
    pub model: String,
    /// `pp512`, `tg128`.
    pub test: String,
    /// The same in numbers.
    pub counts: Test,
    /// What bounds it.
    pub ceiling: Ceiling,
    /// One per engine, Sterna first.
    pub entrants: Vec<Entrant>,
}

/// The ceiling that takes this test longest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// `memory_read`, `int8_peak` or `f32_peak`.
    pub name: String,
    /// Bytes or operations per second, probed around each round.
    pub per_second: Vec<f64>,
    /// Bytes or operations that one token takes.
    pub per_token: f64,
}

/// One engine in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entrant {
    /// Its name.
    pub engine: String,
    /// What ran.
    pub command: Option<String>,
    /// Why there are no numbers.
    pub unavailable: Option<String>,
    /// Tokens per second of each run, in the order taken.
    pub samples: Vec<f64>,
    /// The numbers of the table.
    pub summary: Option<Summary>,
}

/// What is said of the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Median tokens per second.
    pub median: f64,
    /// The slowest run.
    pub least: f64,
    /// The fastest.
    pub greatest: f64,
    /// The median of each run's share of the ceiling probed around it.
    pub share: f64,
    /// Sterna's median over this one's, above 1 where Sterna is faster; none for Sterna.
    pub ratio: Option<f64>,
    /// Its 95% interval, where there are samples enough.
    pub ratio_ci95: Option<[f64; 2]>,
}

impl MachineFacts {
    /// Of a machine, used with these kernels.
    pub fn of(machine: &Machine, isa: &str) -> Self {
        let (cpu, n_cpus) = (machine.cpu.clone(), machine.usable_cpus());
        Self { cpu, n_cpus, ram_bytes: machine.ram_bytes, isa: isa.to_owned() }
    }
}

impl EngineFacts {
    /// Of an engine.
    pub fn of(engine: &dyn Engine) -> Self {
        Self { name: engine.name().to_owned(), version: engine.version() }
    }
}

impl Row {
    /// From what was found.
    ///
    /// # Errors
    /// When the file is gone, or a speed is not a number.
    pub fn new(path: &Path, test: Test, roof: &Roof, found: Found) -> anyhow::Result<Self> {
        let ceiling = Ceiling::of(roof, test, &found);
        let ours = found.runs[0].tokens_per_second.clone().ok();
        let entrants = found.runs.into_iter().enumerate().map(|(index, runs)| {
            let ours = ours.as_deref().filter(|_| index > 0);
            Entrant::new(runs, ours, &ceiling)
        });
        let entrants = entrants.collect::<anyhow::Result<_>>()?;
        Ok(Self {
            file: path.file_name().unwrap_or(path.as_os_str()).display().to_string(),
            file_bytes: std::fs::metadata(path)?.len(),
            model: roof.model.clone(),
            test: test.to_string(),
            counts: test,
            ceiling,
            entrants,
        })
    }
}

impl Ceiling {
    fn of(roof: &Roof, test: Test, found: &Found) -> Self {
        let work = roof.work(test);
        let all = found.ceilings.iter().map(|(name, per_second)| {
            let per_token = if *name == BANDWIDTH { work.bytes } else { work.ops };
            Self { name: (*name).to_owned(), per_second: per_second.clone(), per_token }
        });
        let seconds = |ceiling: &Self| ceiling.per_token / stats::median(&ceiling.per_second);
        let longest = all.max_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        longest.expect("a race probes at least one ceiling")
    }

    /// Its name for people.
    pub fn words(&self) -> &'static str {
        match self.name.as_str() {
            "memory_read" => "read bandwidth",
            "int8_peak" => "int8 peak",
            "bf16_peak" => "bf16 peak",
            _ => "f32 peak",
        }
    }

    /// The median of the probes, for people.
    pub fn shown(&self) -> String {
        let unit = if self.name == BANDWIDTH { "GB/s" } else { "GOP/s" };
        format!("{:.1} {unit}", stats::median(&self.per_second) / 1e9)
    }
}

impl Entrant {
    /// `ours`: Sterna's samples, of which the ratio is told.
    fn new(runs: Runs, ours: Option<&[f64]>, ceiling: &Ceiling) -> anyhow::Result<Self> {
        let Runs { engine, command, tokens_per_second } = runs;
        let engine = engine.to_owned();
        let values = match tokens_per_second {
            Ok(values) => values,
            Err(reason) => {
                let unavailable = Some(reason);
                return Ok(Self { engine, command, unavailable, samples: vec![], summary: None });
            }
        };
        let samples = Samples::new(&engine, values)?;
        let shares = samples.raw().iter().enumerate().map(|(run, speed)| {
            speed * ceiling.per_token / ceiling.per_second[run / RUNS_PER_ROUND]
        });
        let summary = Summary {
            median: samples.median(),
            least: samples.min(),
            greatest: samples.max(),
            share: stats::median(&shares.collect::<Vec<_>>()),
            ratio: ours.map(|ours| stats::median(ours) / samples.median()),
            ratio_ci95: ours
                .and_then(|ours| Bootstrap::default().ratio_of_medians(ours, samples.raw()))
                .map(Into::into),
        };
        let samples = samples.raw().to_vec();
        Ok(Self { engine, command, unavailable: None, samples, summary: Some(summary) })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A race of three engines over a prompt and generation, the last of which cannot generate.
    pub fn example() -> Race {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model-Q4_0.gguf");
        std::fs::write(&path, vec![0; 2_000_000]).unwrap();
        let roof = Roof {
            model: "llama 1.1B Q4_0".into(),
            weight_bytes: 1e9,
            kv_bytes: 0.0,
            linear_ops: 2e9,
            head_ops: 0.0,
            arithmetic: "int8_peak",
        };
        let runs = |engine, speeds: [f64; 4]| Runs {
            engine,
            command: Some(format!("{engine} model-Q4_0.gguf")),
            tokens_per_second: Ok(speeds.to_vec()),
        };
        let none = Runs {
            engine: "openvino",
            command: None,
            tokens_per_second: Err("it has <no> such encoding".into()),
        };
        let ceilings =
            || vec![("memory_read", vec![40e9, 50e9]), ("int8_peak", vec![1000e9, 1000e9])];
        let prompt = Found {
            runs: vec![
                runs("sterna", [300.0, 310.0, 290.0, 300.0]),
                runs("llama.cpp", [100.0, 101.0, 99.0, 100.0]),
                runs("openvino", [320.0, 310.0, 330.0, 320.0]),
            ],
            ceilings: ceilings(),
        };
        let generate = Found {
            runs: vec![
                runs("sterna", [36.0, 36.0, 45.0, 45.0]),
                runs("llama.cpp", [20.0, 20.0, 30.0, 30.0]),
                none,
            ],
            ceilings: ceilings(),
        };
        let none = Test { n_prompt: 0, n_gen: 0, n_depth: 0, n_sequences: 1 };
        let tests = [Test { n_prompt: 512, ..none }, Test { n_gen: 128, ..none }];
        let rows = [(tests[0], prompt), (tests[1], generate)];
        let rows = rows.map(|(test, found)| Row::new(&path, test, &roof, found).unwrap());
        let engine =
            |name: &str, version: &str| EngineFacts { name: name.into(), version: version.into() };
        Race {
            format: FORMAT.into(),
            date: "2026-11-21T12:00:00Z".into(),
            command: "sterna bench model-Q4_0.gguf --against llama.cpp,openvino".into(),
            machine: MachineFacts {
                cpu: "a CPU".into(),
                n_cpus: 2,
                ram_bytes: Some(8_000_000_000),
                isa: "avx512".into(),
            },
            n_threads: 2,
            rounds: 2,
            engines: vec![
                engine("sterna", "0.1.0"),
                engine("llama.cpp", "0.5.0 (abc)"),
                engine("openvino", "2026.4"),
            ],
            rows: rows.to_vec(),
        }
    }

    #[test]
    fn ratios_and_shares_are_of_medians_and_of_neighbouring_probes() {
        let race = example();
        let summary = |row: usize, i: usize| race.rows[row].entrants[i].summary.clone().unwrap();
        assert_eq!(race.rows[0].ceiling.name, "int8_peak");
        assert_eq!((summary(0, 0).share, summary(0, 0).ratio), (0.6, None));
        assert_eq!(summary(0, 1).ratio, Some(3.0));
        assert_eq!(summary(0, 2).ratio, Some(300.0 / 320.0));
        // Each run is held against its own round's probes: 36 of 40 and 45 of 50 are both 0.9.
        assert_eq!(race.rows[1].ceiling.name, "memory_read");
        assert!((summary(1, 0).share - 0.9).abs() < 1e-12);
        assert_eq!((summary(1, 1).least, summary(1, 1).greatest), (20.0, 30.0));
        let none = &race.rows[1].entrants[2];
        assert_eq!((none.summary.is_none(), none.samples.len()), (true, 0));
        let text = serde_json::to_string(&race).unwrap();
        assert_eq!(serde_json::from_str::<Race>(&text).unwrap(), race);
    }
}
