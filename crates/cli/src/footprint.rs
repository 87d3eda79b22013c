//! What a model takes of memory, measured by this program run again for it alone.

use crate::validation::process::Process;
use crate::validation::worker::{Request, Work};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use sterna_model::{Graph, WeightSource};
use sterna_optimize::OptimizeError;
use sterna_optimize::footprint::{Footprint, RunAs};
use sterna_optimize::runner::kv_encoding;
use sterna_runtime::flags::Flags;
use sterna_runtime::{Program, Settings};

/// Tokens of the prompt that fills the KV cache, where the context is no shorter.
const MAX_PROMPT: usize = 512;

/// A process of its own for each model.
struct OwnProcess {
    flags: Vec<OsString>,
    settings: Settings,
}

/// Measures with these settings, which `flags` say to a process, its context and what a [`RunAs`]
/// has left out.
pub fn own_process(mut flags: Vec<OsString>, settings: &Settings) -> Arc<dyn Footprint> {
    let context_len = settings.context_len.min(MAX_PROMPT);
    flags.extend(["--ctx-size".into(), context_len.to_string().into()]);
    let settings = Settings { context_len, kv_positions: None, ..settings.clone() };
    Arc::new(OwnProcess { flags, settings })
}

impl Footprint for OwnProcess {
    fn workload(&self) -> String {
        format!("reads a prompt of {} tokens, its whole context", self.settings.context_len)
    }

    fn planned(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        how: &RunAs,
    ) -> Result<u64, OptimizeError> {
        let settings = Flags::without(&self.settings, how.off.iter().map(String::as_str));
        let settings = settings.map_err(OptimizeError::Input)?;
        let settings = Settings { kv: kv_encoding(&how.kv)?, ..settings };
        let planned = Program::memory_of(graph, weights, &settings);
        let planned = planned.map_err(|e| OptimizeError::failed("planning the memory", e))?;
        Ok(planned.total() as u64)
    }

    fn measured(&self, model: &Path, how: &RunAs) -> Result<u64, String> {
        let mut flags = self.flags.clone();
        flags.extend(["--kv-cache-dtype".into(), how.kv.to_lowercase().into()]);
        for name in &how.off {
            flags.extend(["--flags".into(), format!("{name}=off").into()]);
        }
        let mut process = Process::start(model, &flags).map_err(|error| format!("{error:#}"))?;
        let before = process.own()?;
        process.ask::<serde_json::Value>(&Request::Load)?;
        let n_prompt = self.settings.context_len;
        let work = Work { batch: 1, n_prompt, n_generate: 0 };
        process.ask::<f64>(&Request::Run(work))?;
        Ok((process.own()? - before).max(0.0) as u64)
    }
}
