//! A model opened to be run: what `run`, `eval` and `bench` share.

use crate::ablation;
use crate::bars::PackingBar;
use crate::compute::ComputeArgs;
use crate::show::{self, bad_input};
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;
use sterna_formats::{FormatError, OpenOptions};
use sterna_kernels::Level;
use sterna_measure::LanguageModel;
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::machine::Roof;
use sterna_model::artifact::PLAN_KEY;
use sterna_model::{Model, Plan, Tokenizer};
use sterna_optimize::runner::{MEASURED, Running, kv_encoding};
use sterna_runtime::cache::Cache;
use sterna_runtime::flags::Flag;
use sterna_runtime::profile::{Detail, Profile};
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{
    Chunk, FLAGS, KvEncoding, Logits, Means, Memory, Program, Runner, SequenceId, Settings,
};

/// A model with a runner of its own.
pub struct Scorer {
    model: Model,
    program: Arc<Program>,
    running: Running,
}

/// Compiles a model, showing how far packing is. `twin` is another program of it.
///
/// # Errors
/// When it cannot be run.
pub fn prepare(
    model: &Model,
    settings: &Settings,
    cache: Option<&Cache>,
    twin: Option<&Program>,
) -> anyhow::Result<Program> {
    let bar = PackingBar::default();
    let progress = |done, total| bar.step(done, total);
    let means = Means { cache, progress: Some(&progress), twin, aside: None };
    Program::compile_with(&model.graph, model, settings, means)
        .with_context(|| format!("preparing {}", model.path().display()))
}

/// Opens a model and compiles it, with notes on standard error about what could not be as asked.
/// `kv_positions` says how many positions all sequences need together; at least one context is
/// there.
///
/// # Errors
/// When it cannot be read or run.
pub fn compiled(
    path: &Path,
    compute: &ComputeArgs,
    kv_positions: &dyn Fn(&Model, &Settings) -> usize,
) -> anyhow::Result<(Model, Arc<Program>)> {
    let options = OpenOptions { tokenizer: compute.tokenizer.clone() };
    let model = Model::open_with(path, &options)?;
    for warning in &model.warnings {
        show::warn(&warning.to_string());
    }
    let cache = compute.program_cache(&model)?;
    let mut compute = as_planned(&model, compute, &mut |line| show::note(line))?;
    let settings = compute.settings(model.config.context_len)?;
    for effect in ablation::auto(&model, &compute, cache.as_ref())? {
        if !effect.keeps() {
            show::note(&effect.line());
            let flag = FLAGS.iter().find(|flag| flag.name == effect.name);
            compute = compute.with_flag(flag.expect("it was measured"), false);
        }
    }
    let mut settings = match compute.optimizations()?.auto.is_empty() {
        true => compute.quiet_settings(model.config.context_len)?,
        false => settings,
    };
    compute.fit_texts(&model, &mut settings);
    let wanted = kv_positions(&model, &settings);
    settings.kv_positions = Some(settings.context_len.max(wanted));
    let program = compile(&model, &settings, cache.as_ref())?;
    Ok((model, program))
}

/// What [`compiled`] would take, from the model's header, without a word.
///
/// # Errors
/// When it cannot be read or run.
pub fn sized(
    path: &Path,
    compute: &ComputeArgs,
    kv_positions: &dyn Fn(&Model, &Settings) -> usize,
) -> anyhow::Result<(Model, Settings, Memory)> {
    let model = Model::open_with(path, &OpenOptions { tokenizer: compute.tokenizer.clone() })?;
    let compute = as_planned(&model, compute, &mut |_| ())?;
    let mut settings = compute.quiet_settings(model.config.context_len)?;
    compute.fit_texts(&model, &mut settings);
    let wanted = kv_positions(&model, &settings);
    settings.kv_positions = Some(settings.context_len.max(wanted));
    let memory = Program::memory_of(&model.graph, &model, &settings)
        .with_context(|| path.display().to_string())?;
    Ok((model, settings, memory))
}

/// The choices with what an artifact's Plan switches off, unless the user spoke of it.
fn as_planned(
    model: &Model,
    compute: &ComputeArgs,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<ComputeArgs> {
    let mut compute = compute.clone();
    let Some(text) = model.metadata.str(PLAN_KEY) else { return Ok(compute) };
    // A damaged Plan is for the gate to refuse; it says nothing about how to run.
    let Ok(plan) = Plan::parse(model.path(), text) else { return Ok(compute) };
    let kv = kv_encoding(&plan.kv)?;
    if compute.kv.is_none() && kv != KvEncoding::default() {
        let kv_name = kv.name();
        say(&format!("keys and values are kept in {kv_name}, as its Plan says (--kv-cache-dtype)"));
        compute = compute.with_kv(kv);
    }
    for name in &plan.off {
        let is_it = |flag: &&Flag| flag.name == *name && MEASURED.contains(&flag.name);
        let Some(flag) = FLAGS.iter().find(is_it) else {
            say(&format!("its Plan switches off {name:?}, which no Plan can: it stays as it is"));
            continue;
        };
        if compute.optimizations()?.named.contains(&flag.name) {
            say(&format!("its Plan switches {name} off, and --flags says otherwise: as asked"));
            continue;
        }
        say(&format!("{name} is off: it cost time where its Plan was made (--flags {name}=on)"));
        compute = compute.with_flag(flag, false);
    }
    Ok(compute)
}

/// Compiles an opened model, and says what there is to say about it.
fn compile(
    model: &Model,
    settings: &Settings,
    cache: Option<&Cache>,
) -> anyhow::Result<Arc<Program>> {
    let program = std::thread::scope(|scope| {
        // A prompt needs the tokenizer as soon as the program is there. What is wrong with it
        // is said when it is asked for.
        scope.spawn(|| model.tokenizer().is_ok());
        prepare(model, settings, cache, None)
    })?;
    for line in report(&program) {
        match line.strip_prefix("warning: ") {
            Some(text) => show::warn(text),
            None => show::note(line.strip_prefix("note: ").unwrap_or(&line)),
        }
    }
    Ok(Arc::new(program))
}

/// What there is to say about how a program was made.
fn report(program: &Program) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(program.warnings().iter().map(|warning| format!("warning: {warning}")));
    lines.extend(program.notes().iter().map(|note| format!("note: {note}")));
    let choices = program.choices();
    if program.settings().precision_budget.is_some() {
        let (chosen, kept): (Vec<_>, Vec<_>) = choices.iter().partition(|choice| choice.is_chosen);
        let worst = chosen.iter().map(|choice| choice.error).fold(0.0, f64::max);
        lines.push(format!(
            "note: adaptive_precision: {} of {} float matrices packed in 8 bits, relative error at \
             most {:.2}%",
            chosen.len(),
            choices.len(),
            100.0 * worst
        ));
        let kept = kept.iter().map(|choice| {
            let error = 100.0 * choice.error;
            format!("note: adaptive_precision: {} stays {}: {error:.2}%", choice.name, choice.from)
        });
        lines.extend(kept);
    }
    lines
}

/// What a model costs to run.
pub struct Cost {
    /// Bytes of its weights as stored.
    pub weight_bytes: u64,
    /// Its weights.
    pub n_params: u64,
    /// Weight bytes read to generate one token: all matrices but the embedding's other rows.
    pub read_bytes_per_token: u64,
    /// Multiply-accumulates of the linear layers without the head, per prompt token.
    pub linear_macs_per_token: f64,
    /// Those of the head, per token whose successor is wanted.
    pub head_macs_per_token: f64,
    /// Whether most of the linear layers' runs on integers.
    pub is_quantized: bool,
    /// Whether most of it has BF16 weights.
    pub is_bf16: bool,
}

impl Scorer {
    /// Opens and prepares a model.
    ///
    /// # Errors
    /// When it cannot be read or run.
    pub fn open(path: &Path, compute: &ComputeArgs) -> anyhow::Result<Self> {
        Self::open_for(path, compute, 0)
    }

    /// The same with room for at least so many KV positions, of all sequences together.
    ///
    /// # Errors
    /// As [`Scorer::open`].
    pub fn open_for(
        path: &Path,
        compute: &ComputeArgs,
        kv_positions: usize,
    ) -> anyhow::Result<Self> {
        let (model, program) = compiled(path, compute, &|_, _| kv_positions)?;
        Self::on(model, program)
    }

    /// Prepares an opened model.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn of(model: Model, settings: &Settings, cache: Option<&Cache>) -> anyhow::Result<Self> {
        let program = compile(&model, settings, cache)?;
        Self::on(model, program)
    }

    fn on(model: Model, program: Arc<Program>) -> anyhow::Result<Self> {
        let running = Running::new(Runner::new(program.clone())?);
        Ok(Self { model, program, running })
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When the model has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, FormatError> {
        self.model.tokenizer()
    }

    /// Refuses sequences that do not fit.
    ///
    /// # Errors
    /// When `n_tokens` is more than the context.
    pub fn check_context(&self, n_tokens: usize) -> anyhow::Result<()> {
        let context_len = self.context_len();
        if n_tokens <= context_len {
            return Ok(());
        }
        Err(bad_input(format!(
            "{n_tokens} tokens do not fit the context of {context_len}; shorten the text or raise \
             --ctx-size"
        )))
    }

    /// A fresh sequence to extend token by token.
    pub fn generation(&mut self) -> Generation<'_> {
        let sequence = self.running.runner().new_sequence();
        Generation { scorer: self, sequence }
    }

    /// What it costs to run.
    pub fn cost(&self) -> Cost {
        Cost::of(&self.model)
    }

    /// Its runner, for sequences of one's own.
    pub fn runner(&mut self) -> &mut Runner {
        self.running.runner()
    }

    /// Bytes of keys and values that a token reads which sees `context` positions.
    pub fn kv_read_bytes(&self, context: usize) -> f64 {
        let positions = self.program.settings().n_pages() * PAGE_LEN;
        let position_bytes = self.program.memory().kv as f64 / positions as f64;
        let cost = self.model.graph.cost(context);
        // A model without attention keeps nothing.
        let number_bytes = position_bytes / cost.kv_elements.max(1.0);
        cost.kv_read * number_bytes
    }

    /// The settings in use.
    pub fn settings(&self) -> &Settings {
        self.program.settings()
    }

    /// The ISA in use.
    pub fn level(&self) -> Level {
        self.program.level()
    }

    /// Threads in use.
    pub fn n_threads(&self) -> usize {
        self.program.n_workers()
    }

    /// The kernels in use: the ISA, and what is not exact.
    pub fn kernels_name(&self) -> String {
        let bf16 = if self.program.settings().bf16_dot { " with bf16 dots" } else { "" };
        format!("{}{bf16}", self.level().name())
    }

    /// The encoding of the KV cache.
    pub fn kv_name(&self) -> &'static str {
        self.program.settings().kv.name()
    }

    /// Its architecture, size and main encoding.
    pub fn describe(&self) -> String {
        describe(&self.model)
    }
}

/// A model's architecture, size and main encoding.
pub fn describe(model: &Model) -> String {
    let n = Cost::of(model).n_params as f64;
    let size = if n >= 1e9 { format!("{:.1}B", n / 1e9) } else { format!("{:.1}M", n / 1e6) };
    let (mut most, mut bytes) = ("", 0);
    for id in model.graph.weight_ids() {
        let Some(tensor) = model.tensor(id) else { continue };
        if tensor.n_bytes > bytes {
            (most, bytes) =
                (sterna_model::WeightSource::encoding(model, id).name(), tensor.n_bytes);
        }
    }
    format!("{} {size} {most}", model.arch.name())
}

impl Cost {
    /// Of an opened model.
    pub fn of(model: &Model) -> Self {
        use sterna_model::{Role, WeightSource};
        let mut cost = Cost {
            weight_bytes: 0,
            n_params: 0,
            read_bytes_per_token: 0,
            linear_macs_per_token: 0.0,
            head_macs_per_token: 0.0,
            is_quantized: false,
            is_bf16: false,
        };
        let (mut quantized_macs, mut bf16_macs) = (0.0, 0.0);
        for id in model.graph.weight_ids() {
            let decl = model.graph.decl(id);
            let (rows, cols) = decl.matrix();
            let encoding = model.encoding(id);
            let bytes = (rows * encoding.row_bytes(cols)) as u64;
            cost.weight_bytes += bytes;
            cost.n_params += (rows * cols) as u64;
            let is_head = decl.role == Role::Head;
            let is_embedding = decl.role == Role::TokenEmbedding;
            if !is_embedding || model.config.tied {
                cost.read_bytes_per_token += bytes;
            }
            if is_head || (is_embedding && model.config.tied) {
                cost.head_macs_per_token += (rows * cols) as f64;
            }
            if decl.role.is_matrix() && !is_head && !is_embedding {
                let macs = (rows * cols) as f64;
                cost.linear_macs_per_token += macs;
                quantized_macs += if encoding.grid().is_some() { macs } else { 0.0 };
                bf16_macs += if encoding.name() == "BF16" { macs } else { 0.0 };
            }
        }
        cost.is_quantized = quantized_macs > cost.linear_macs_per_token / 2.0;
        cost.is_bf16 = bf16_macs > cost.linear_macs_per_token / 2.0;
        cost
    }

    /// The ceiling of most of its arithmetic, run with these settings.
    pub fn peak(&self, settings: &Settings) -> Roof {
        match (self.is_quantized, self.is_bf16 && settings.bf16_dot) {
            (true, _) => Roof::Int8Peak,
            (_, true) => Roof::Bf16Peak,
            _ => Roof::F32Peak,
        }
    }
}

impl LanguageModel for Scorer {
    fn vocab_len(&self) -> usize {
        self.program.n_outputs()
    }

    fn context_len(&self) -> usize {
        self.program.settings().context_len
    }

    fn score(&mut self, tokens: &[u32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), String> {
        self.running.score(tokens, sink)
    }

    fn at_once(&mut self) -> Vec<&mut (dyn LanguageModel + Send)> {
        self.running.at_once()
    }
}

/// A sequence being extended.
pub struct Generation<'a> {
    scorer: &'a mut Scorer,
    sequence: SequenceId,
}

impl Generation<'_> {
    /// Appends tokens and returns the logits after the last.
    ///
    /// # Errors
    /// When the context is full.
    pub fn push(&mut self, tokens: &[u32]) -> anyhow::Result<&[f32]> {
        let chunk = Chunk { sequence: self.sequence, tokens, logits: Logits::Last };
        Ok(self.scorer.running.runner().forward(&[chunk])?)
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // The sequence is this generation's own, so it is there.
        let _ = self.scorer.running.runner().free(self.sequence);
    }
}

/// What a run on a model's runner took: its wall, and its profile.
///
/// # Errors
/// When the run fails.
pub fn profiled(
    runner: &mut Runner,
    detail: Detail,
    clock: RealClock,
    run: impl FnOnce(&mut Runner) -> anyhow::Result<()>,
) -> anyhow::Result<(f64, Profile)> {
    runner.start_profile(Box::new(move || clock.now()), detail);
    let start = clock.now();
    let result = run(runner);
    let wall = (clock.now() - start).as_secs_f64();
    let profile = runner.end_profile();
    result.map(|()| (wall, profile))
}
