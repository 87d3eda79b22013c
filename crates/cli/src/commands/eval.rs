//! `sterna eval`: score a text with a model, alone or against a baseline; with `--pairs`, its
//! embeddings.

mod pairs;

use crate::compute::{ComputeArgs, kv_encodings};
use crate::scoring::Scorer;
use crate::show::{self, bad_input};
use anyhow::Context;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_measure::quality::{
    Passages, Reference, Scoring, divergence_between, paired_drop, score,
};
use sterna_measure::workload::TextRecipe;
use sterna_measure::{Figure, LanguageModel};
use sterna_model::Tokenizer;
use sterna_runtime::{KvEncoding, RuntimeError};

/// Score a text: mean negative log-likelihood (nats per token and per byte), perplexity with its
/// standard error; with --baseline also KL divergence, top-1 flips and the drop in perplexity.
///
/// The text is cut into documents at --separator; each is scored alone after a BOS. --windows N
/// scores as llama-perplexity does instead. What an 8-bit KV cache changes:
/// `sterna eval model.gguf -f text.txt --kv-cache-dtype q8_0 --baseline-kv f16`.
///
/// Models that encode texts have no next token to score: --pairs takes pairs of texts with human
/// scores instead, and says how well the cosines of their embeddings rank them; with --baseline
/// also what that loses, how near the vectors are, and how fast both models make them.
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    model: PathBuf,
    /// The text, UTF-8.
    #[arg(long, short = 'f', value_name = "FILE", required_unless_present = "pairs")]
    text: Option<PathBuf>,
    /// Pairs of texts with a human score, parted by tabs: text, text, score, or the columns of the
    /// STS benchmark. Measures embeddings.
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["text", "separator", "skip_documents", "max_chars", "max_tokens",
                                "windows", "baseline_kv"])]
    pairs: Option<PathBuf>,
    /// Where one document ends and the next begins, e.g. '<|endoftext|>' [default: one document].
    #[arg(long)]
    separator: Option<String>,
    /// Score at most so many documents, or pairs.
    #[arg(long, visible_alias = "limit")]
    documents: Option<usize>,
    /// Leave out the first so many documents.
    #[arg(long, default_value_t = 0)]
    skip_documents: usize,
    /// Cut each document at so many characters.
    #[arg(long)]
    max_chars: Option<usize>,
    /// Cut each document at so many tokens, the BOS included.
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Score as llama-perplexity does: one stream in windows of N tokens, second halves scored.
    #[arg(long, value_name = "N", conflicts_with_all = ["separator", "max_tokens"])]
    windows: Option<usize>,
    /// Another model of the same vocabulary (of vectors as long, for --pairs) to compare with.
    #[arg(long, value_name = "MODEL")]
    baseline: Option<PathBuf>,
    /// Compare with another encoding of the KV cache, of the baseline or the model itself.
    #[arg(long, value_name = "KV", value_parser = kv_encodings())]
    baseline_kv: Option<KvEncoding>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, the text is empty, or vocabularies differ.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.pairs {
        return pairs::run(&args, file);
    }
    let file = args.text.as_ref().context("clap wants a text or pairs")?;
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut model = Scorer::open(&args.model, &args.compute)?;
    if model.vocab_len() == 0 {
        return Err(bad_input(format!("{}; see --pairs", RuntimeError::NoLogits)));
    }
    let passages = passages(&args, &text, model.tokenizer()?)?;
    let longest = passages.iter().map(|p| p.tokens.len()).max().unwrap_or(0);
    model.check_context(longest)?;
    let figures = match (&args.baseline, args.baseline_kv) {
        (None, None) => score(&mut model, &passages)?.figures()?,
        (path, kv) => {
            let compute = kv.map_or(args.compute.clone(), |kv| args.compute.with_kv(kv));
            let mut baseline = Scorer::open(path.as_ref().unwrap_or(&args.model), &compute)?;
            baseline.check_context(longest)?;
            compare(&mut baseline, &mut model, &passages)?
        }
    };
    show_figures(&figures, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Logits kept in memory at most.
const MAX_LOGITS_BYTES: usize = 256 << 20;

fn compare(
    baseline: &mut Scorer,
    model: &mut Scorer,
    passages: &Passages,
) -> anyhow::Result<Vec<Figure>> {
    if baseline.vocab_len() != model.vocab_len() {
        return Err(bad_input(format!(
            "the baseline has a vocabulary of {} and the model one of {}; they cannot be compared \
             token by token",
            baseline.vocab_len(),
            model.vocab_len()
        )));
    }
    // Small models score several passages at once, which wants the baseline's logits kept.
    let is_small = Reference::bytes_needed(passages, baseline.vocab_len()) <= MAX_LOGITS_BYTES;
    let divergence = match is_small {
        true => Reference::record(baseline, passages, None)?.divergence(model)?,
        false => divergence_between(baseline, model, passages)?,
    };
    let mut figures = divergence.scores().figures()?;
    figures.extend(paired_drop(divergence.baseline_scores(), divergence.scores())?.figures()?);
    figures.extend(divergence.figures()?);
    Ok(figures)
}

fn passages(args: &Args, text: &str, tokenizer: &Tokenizer) -> anyhow::Result<Passages> {
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let n_bos = usize::from(bos.is_some());
    let recipe = TextRecipe {
        separator: args.separator.clone(),
        max_documents: args.documents,
        skip_documents: args.skip_documents,
        max_chars: args.max_chars,
        max_tokens: args.max_tokens.map(|n| n.saturating_sub(n_bos)),
    };
    let name = args.text.as_ref().and_then(|path| path.file_name());
    let name = name.map_or("text".into(), |n| n.to_string_lossy());
    let workload =
        recipe.workload(&name, text, &mut |part| tokenizer.encode(part, false), &|token| {
            tokenizer.token_bytes(token).len()
        })?;
    let scoring = match args.windows {
        Some(n_ctx) => Scoring::Windows { n_ctx, bos },
        None => Scoring::Documents { bos, n_unscored: 0 },
    };
    Ok(Passages::new(&workload, scoring)?)
}

/// Figures as lines or JSON.
pub fn show_figures(figures: &[Figure], json: bool) -> anyhow::Result<()> {
    if json {
        return show::json(&figures);
    }
    for figure in figures {
        println!("{}", figure.line());
    }
    Ok(())
}
