//! A judge that remembers: every measurement is appended to a file and never made twice.
//!
//! In: a judge and a file in the output folder. Out: the same losses, so that `--resume` goes on
//! where it was stopped and comes to the same plan. The file is JSON lines; its first names what
//! the measurements depend on, and a file of other circumstances is refused.

use super::{Depth, Judge, Loss};
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use sterna_formats::EncodingRef;
use sterna_model::WeightId;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    /// Hash of source, text and settings.
    key: String,
}

/// Every other line.
#[derive(Serialize, Deserialize)]
struct Line {
    plan: String,
    depth: Depth,
    loss: Loss,
}

/// A judge with a file.
pub struct Remembered<'a> {
    judge: &'a mut dyn Judge,
    seen: HashMap<(String, Depth), Loss>,
    file: Option<File>,
    n_reused: usize,
}

impl<'a> Remembered<'a> {
    /// Remembers within this run only.
    pub fn within_run(judge: &'a mut dyn Judge) -> Self {
        Self { judge, seen: HashMap::new(), file: None, n_reused: 0 }
    }

    /// Remembers in `path`. With `resume`, measurements that it holds are used; else it starts
    /// anew.
    ///
    /// # Errors
    /// When the file cannot be used, or was made of another model, text or settings.
    pub fn in_file(judge: &'a mut dyn Judge, path: &Path, key: &str, resume: bool) -> Result<Self> {
        let io = |error| OptimizeError::failed(path.display().to_string(), error);
        let mut seen = HashMap::new();
        let mut whole_bytes = 0;
        if resume && path.exists() {
            let text = std::fs::read_to_string(path).map_err(io)?;
            whole_bytes = read(path, &text, key, &mut seen)?;
        }
        let mut options = OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(false).open(path).map_err(io)?;
        // A line cut short by a kill is cut off, so that the next one starts on its own.
        file.set_len(whole_bytes as u64).map_err(io)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(io)?;
        if whole_bytes == 0 {
            let header = serde_json::to_string(&Header { key: key.into() }).expect("plain data");
            writeln!(file, "{header}").map_err(io)?;
        }
        Ok(Self { judge, seen, file: Some(file), n_reused: 0 })
    }

    /// Measurements that came from the file or from earlier in the run.
    pub fn n_reused(&self) -> usize {
        self.n_reused
    }

    fn recall(
        &mut self,
        plan: String,
        depth: Depth,
        measure: impl FnOnce(&mut dyn Judge) -> Result<Loss>,
    ) -> Result<Loss> {
        let key = (plan, depth);
        if let Some(loss) = self.seen.get(&key) {
            self.n_reused += 1;
            return Ok(*loss);
        }
        let loss = measure(self.judge)?;
        if let Some(file) = &mut self.file {
            let line = Line { plan: key.0.clone(), depth, loss };
            let line = serde_json::to_string(&line).expect("plain data");
            writeln!(file, "{line}").map_err(|e| OptimizeError::failed("the state file", e))?;
        }
        self.seen.insert(key, loss);
        Ok(loss)
    }
}

/// Reads whole lines; gives their length.
fn read(
    path: &Path,
    text: &str,
    key: &str,
    seen: &mut HashMap<(String, Depth), Loss>,
) -> Result<usize> {
    let mut whole_bytes = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if !line.ends_with('\n') {
            break;
        }
        let bad = |why: String| {
            let place = format!("{}, line {}", path.display(), number + 1);
            OptimizeError::Input(format!("{place}: {why}; leave out --resume to start anew"))
        };
        if number == 0 {
            let header: Header = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            if header.key != key {
                let why = "these measurements are of another model, text or settings";
                return Err(bad(why.into()));
            }
        } else {
            let Line { plan, depth, loss } =
                serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            seen.insert((plan, depth), loss);
        }
        whole_bytes += line.len();
    }
    Ok(whole_bytes)
}

impl Judge for Remembered<'_> {
    fn judge_draft(&mut self, draft: &Draft<'_>, kv: Option<&str>) -> Result<Loss> {
        self.judge.judge_draft(draft, kv)
    }

    fn base(&mut self, depth: Depth) -> Result<Loss> {
        self.recall(plan_key(&[]), depth, |judge| judge.base(depth))
    }

    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], depth: Depth) -> Result<Loss> {
        self.recall(plan_key(plan), depth, |judge| judge.judge(plan, depth))
    }
}

/// A plan as text: `3=Q4_0 7=Q8_0`, by weight; long ones as their hash.
fn plan_key(plan: &[(WeightId, EncodingRef)]) -> String {
    let mut parts: Vec<(WeightId, &str)> = plan.iter().map(|(id, e)| (*id, e.name())).collect();
    parts.sort_unstable();
    let parts: Vec<String> = parts.iter().map(|(id, name)| format!("{}={name}", id.0)).collect();
    let text = parts.join(" ");
    if text.len() <= 64 { text } else { blake3::hash(text.as_bytes()).to_hex().to_string() }
}
