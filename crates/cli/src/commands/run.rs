//! `sterna run`: generate text, streaming.

use crate::compute::ComputeArgs;
use crate::interrupt;
use crate::sample::{self, Generated, Request};
use crate::scoring::Scorer;
use crate::show::bad_input;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_runtime::sample::SamplerSettings;

/// Generate text from a prompt; with no prompt, read one line after another from the terminal.
///
/// The same seed gives the same text on every machine and for every number of threads.
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    model: PathBuf,
    /// The prompt.
    #[arg(value_name = "PROMPT", conflicts_with = "prompt")]
    text: Option<String>,
    /// The prompt, as a flag.
    #[arg(short = 'p', long)]
    prompt: Option<String>,
    /// Tokens to generate at most.
    #[arg(short = 'n', long = "n-predict", visible_alias = "max-tokens", default_value_t = 256)]
    n_predict: usize,
    /// Randomness; 0 always takes the likeliest token.
    #[arg(long, visible_alias = "temp", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// Keep the likeliest K tokens; 0 keeps all.
    #[arg(long, default_value_t = 40)]
    top_k: usize,
    /// Keep the likeliest tokens that make up this probability.
    #[arg(long, default_value_t = 0.95)]
    top_p: f32,
    /// Drop tokens less likely than this share of the likeliest.
    #[arg(long, default_value_t = 0.05)]
    min_p: f32,
    /// Divide the logits of recent tokens by this; 1 is off.
    #[arg(long, visible_alias = "repeat-penalty", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Seed of the randomness.
    #[arg(short = 's', long, default_value_t = 0)]
    seed: u64,
    /// Go on past the end-of-text token.
    #[arg(long)]
    ignore_eos: bool,
    /// Read special tokens such as <s> in the prompt as tokens, not as text.
    #[arg(long)]
    special: bool,
    /// Do not print speeds.
    #[arg(long, short = 'q')]
    quiet: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be run or a setting is out of range.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    interrupt::listen()?;
    let settings = SamplerSettings {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        ..SamplerSettings::default()
    };
    settings.check().map_err(|e| bad_input(e.to_string()))?;
    let mut model = Scorer::open(&args.model, &args.compute)?;
    if let Some(prompt) = args.text.as_ref().or(args.prompt.as_ref()) {
        generate(&mut model, prompt, &args, &settings)?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        eprintln!("type a prompt and press Enter; Ctrl-D ends");
    }
    for line in std::io::stdin().lock().lines() {
        generate(&mut model, &line?, &args, &settings)?;
        if interrupt::stopped() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn generate(
    model: &mut Scorer,
    prompt: &str,
    args: &Args,
    settings: &SamplerSettings,
) -> anyhow::Result<()> {
    let request = Request {
        prompt,
        special: args.special,
        n_predict: args.n_predict,
        ignore_eos: args.ignore_eos,
    };
    let mut out = std::io::stdout().lock();
    let generated = sample::stream(model, &request, settings.clone(), &mut |part| {
        write!(out, "{part}")?;
        out.flush()
    })?;
    writeln!(out)?;
    if generated.is_full {
        let n = generated.prompt_tokens + generated.new_tokens;
        eprintln!("note: the context of {n} tokens is full; --ctx-size gives more");
    }
    if !args.quiet {
        print_speed(&generated);
    }
    Ok(())
}

fn print_speed(speed: &Generated) {
    eprintln!(
        "prompt {} tokens, {:.1} tokens/s; generated {} tokens, {:.1} tokens/s",
        speed.prompt_tokens,
        speed.prompt_tokens as f64 / speed.prompt_seconds,
        speed.new_tokens,
        speed.new_tokens as f64 / speed.new_seconds,
    );
}
