//! What `compute_overlap` brings to a cold start: the first prompt after the prepared weights have
//! left the page cache, with it and without it, beside reading the file and computing alone (T-7).

use crate::ablation::{Case, Load};
use crate::compute::ComputeArgs;
use crate::scoring::prepare;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use sterna_formats::mmap::evict;
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::stats::median;
use sterna_model::Model;
use sterna_runtime::cache::Cache;
use sterna_runtime::{Chunk, Logits, Runner};

/// Rounds; each evicts the file four times.
const N_ROUNDS: usize = 3;

/// Medians in seconds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Cold {
    /// Loading and the first prompt from the disk, with prefetching.
    pub on: f64,
    /// The same without.
    pub off: f64,
    /// Reading the file once, from the disk.
    pub io: f64,
    /// Loading and the first prompt with the file in memory.
    pub compute: f64,
}

impl Cold {
    /// What follows, as a sentence.
    pub fn line(&self) -> String {
        let Self { on, off, io, compute } = *self;
        let sum = io + compute;
        let facts = format!(
            "cold start {:.0} ms with compute_overlap, {:.0} ms without; reading alone {:.0} ms, \
             computing alone {:.0} ms",
            on * 1e3,
            off * 1e3,
            io * 1e3,
            compute * 1e3
        );
        // The disk's own spread is larger than anything below.
        if on < 0.95 * off && on < sum {
            return format!("{facts}: {:.0} ms of them overlap", (sum - on) * 1e3);
        }
        format!("{facts}: no effect")
    }
}

/// Measures cold starts, where the model's prepared weights are a file; else says why not.
///
/// # Errors
/// When the model cannot be run or the file cannot be read.
pub fn measure(
    model: &Model,
    cache: Option<&Cache>,
    case: &Case,
    load: Load,
) -> anyhow::Result<Result<Cold, String>> {
    let Some(cache) = cache else {
        return Ok(Err(
            "no effect on cold starts: the prepared weights are not kept in a file (the \
                       model is small, or --no-program-cache)"
                .into(),
        ));
    };
    let settings = |compute: &ComputeArgs| compute.quiet_settings(model.config.context_len);
    let (on, off) = (settings(&case.on)?, settings(&case.off)?);
    // The first makes the file and the second finds it.
    drop(prepare(model, &on, Some(cache), None)?);
    let program = prepare(model, &on, Some(cache), None)?;
    let Some(file) = program.cache_file().map(Path::to_owned) else {
        return Ok(Err("no effect on cold starts: the program cache cannot be used".into()));
    };
    drop(program);
    let start = |settings| -> anyhow::Result<f64> {
        let clock = RealClock::new();
        let mut runner = Runner::new(Arc::new(prepare(model, settings, Some(cache), None)?))?;
        let vocabulary = runner.program().vocabulary();
        let tokens: Vec<u32> =
            (0..load.n_prompt.max(1)).map(|i| (i * 7919 % vocabulary) as u32).collect();
        let sequence = runner.new_sequence();
        runner.forward(&[Chunk { sequence, tokens: &tokens, logits: Logits::Last }])?;
        Ok(clock.now().as_secs_f64())
    };
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..N_ROUNDS {
        if !evict(&file)? {
            return Ok(Err("cold starts: the system does not let go of cached files".into()));
        }
        times[0].push(start(&on)?);
        evict(&file)?;
        times[1].push(start(&off)?);
        evict(&file)?;
        times[2].push(read(&file)?);
        times[3].push(start(&off)?);
    }
    let [on, off, io, compute] = times.map(|times| median(&times));
    Ok(Ok(Cold { on, off, io, compute }))
}

/// Seconds to read a file from its start to its end.
fn read(path: &Path) -> anyhow::Result<f64> {
    let (mut file, mut buffer) = (std::fs::File::open(path)?, vec![0; 1 << 20]);
    let clock = RealClock::new();
    while file.read(&mut buffer)? > 0 {}
    Ok(clock.now().as_secs_f64())
}
