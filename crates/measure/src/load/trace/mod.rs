//! Recorded traffic: who asked for how much, and when. One file per format.
//!
//! In: a trace's text, which nobody has checked. Out: [`Record`]s in order of time, or a sentence
//! with the line that is wrong.

mod azure;
mod mooncake;

use super::arrivals::{MAX_REQUESTS, MAX_TOKENS};
use crate::MeasureError;

/// Every format.
pub const FORMATS: &[Format] = &[azure::FORMAT, mooncake::FORMAT];

/// A format of traces: lines of text.
#[derive(Debug)]
pub struct Format {
    /// As on the command line.
    pub name: &'static str,
    /// What the first line must be.
    heading: Option<&'static str>,
    /// Reads any other line, or says in a few words why it cannot.
    read: fn(&str) -> Result<Record, String>,
}

/// A request of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Seconds after the first request.
    pub at: f64,
    /// Tokens of its prompt.
    pub n_prompt: usize,
    /// Tokens generated.
    pub n_gen: usize,
    /// A hash of each block of [`BLOCK_LEN`] tokens of the prompt and all before it; empty where
    /// the trace does not say what prompts share.
    pub blocks: Vec<u64>,
}

/// Tokens of a block; the last one of a prompt may have fewer.
pub const BLOCK_LEN: usize = 512;

impl Format {
    /// The format of this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// Reads a whole trace, sorted by time.
    ///
    /// # Errors
    /// For the first line that is not a request, or not one that could be sent; for no request.
    pub fn parse(&self, text: &str) -> Result<Vec<Record>, MeasureError> {
        let mut records = Vec::new();
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        if let Some(heading) = self.heading {
            let first = lines.next().map_or("", |(_, line)| line.trim());
            if first != heading {
                let why = format!("{:?} is not the heading {heading}", start_of(first));
                return Err(wrong(0, &why));
            }
        }
        for (index, line) in lines {
            let record = (self.read)(line.trim()).and_then(bounded);
            records.push(record.map_err(|why| wrong(index, &why))?);
            if records.len() > MAX_REQUESTS {
                return Err(wrong(index, &format!("there are more than {MAX_REQUESTS} requests")));
            }
        }
        records.sort_by(|a: &Record, b| a.at.total_cmp(&b.at));
        let Some(start) = records.first().map(|record| record.at) else {
            return Err(MeasureError::Data("it has no requests".into()));
        };
        records.iter_mut().for_each(|record| record.at -= start);
        Ok(records)
    }
}

fn wrong(index: usize, why: &str) -> MeasureError {
    MeasureError::Data(format!("line {}: {why}", index + 1))
}

fn bounded(record: Record) -> Result<Record, String> {
    let check = |what: &str, n: usize| match n {
        1..=MAX_TOKENS => Ok(()),
        _ => Err(format!("its {what} is {n} tokens; it must be 1 to {MAX_TOKENS}")),
    };
    check("prompt", record.n_prompt)?;
    check("answer", record.n_gen)?;
    if !(0.0..1e12).contains(&record.at) {
        return Err(format!("its time is {} seconds, which is no time", record.at));
    }
    Ok(record)
}

/// What a message quotes of a line.
fn start_of(line: &str) -> String {
    line.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
