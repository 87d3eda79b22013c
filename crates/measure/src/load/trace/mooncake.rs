//! Mooncake's traces (Kimi's traffic, 2024): JSON lines with a hash for each block of a prompt, so
//! that requests with the same beginning are known.

use super::{BLOCK_LEN, Format, Record, start_of};
use serde::Deserialize;

/// One request a line.
pub const FORMAT: Format = Format { name: "mooncake", heading: None, read };

/// What is read of a line; other keys may stand there.
#[derive(Deserialize)]
struct Line {
    /// Milliseconds since the trace began.
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

fn read(line: &str) -> Result<Record, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| {
        format!(
            "{:?} is no request ({error}); a line is like {{\"timestamp\": 0, \"input_length\": \
             600, \"output_length\": 50, \"hash_ids\": [0, 14]}}",
            start_of(line)
        )
    })?;
    let n_prompt = usize::try_from(line.input_length).unwrap_or(usize::MAX);
    let (given, needed) = (line.hash_ids.len(), n_prompt.div_ceil(BLOCK_LEN));
    if given != needed {
        let wanted = format!("{n_prompt} tokens are {needed} blocks of {BLOCK_LEN}");
        return Err(format!("it has {given} block hashes, but {wanted}"));
    }
    Ok(Record {
        at: line.timestamp / 1e3,
        n_prompt,
        n_gen: usize::try_from(line.output_length).unwrap_or(usize::MAX),
        blocks: line.hash_ids,
    })
}
