//! `sterna tokenizer`: make tokenizers.

use super::convert::may_write;
use crate::show::{self, bad_input};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_formats::AtomicFile;
use sterna_measure::{Figure, Unit};
use sterna_model::Tokenizer;
use sterna_optimize::budget::parse_bytes;
use sterna_train::text;
use sterna_train::tokenizer::{Compression, Settings, train};

/// Make tokenizers.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Train a byte-level BPE tokenizer on texts.
    Train(Train),
}

/// Train a byte-level BPE tokenizer on texts and write it as a Hugging Face tokenizer.json.
///
/// The same texts and settings give the same file. llama.cpp knows its way of cutting words, which
/// is GPT-2's. A text that is too little for the vocabulary is refused.
#[derive(clap::Args)]
#[command(after_help = "Example:
  sterna tokenizer train books.txt more.txt.gz -o tokenizer.json --vocab-size 4096")]
struct Train {
    /// Texts, UTF-8, plain or gzip.
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<PathBuf>,
    /// The file to write.
    #[arg(long, short = 'o', default_value = "tokenizer.json", value_name = "FILE")]
    out: PathBuf,
    /// Tokens, the 256 bytes and the special ones included.
    #[arg(long, default_value_t = 2048, value_name = "N")]
    vocab_size: usize,
    /// A pair becomes a token only if it occurs at least so often.
    #[arg(long, default_value_t = 2, value_name = "N")]
    min_frequency: u64,
    /// A token that is never made from a text's characters; give it again for more [default:
    /// <|endoftext|>].
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
    /// Refuse more text than this, e.g. 2GB.
    #[arg(long, default_value = "1GB", value_name = "BYTES")]
    max_bytes: String,
    /// Also say how well the tokenizer fits this text, which it is not trained on.
    #[arg(long, value_name = "FILE")]
    held_out: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When a text cannot be used, or the file not written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Train(args) => run_train(args),
    }
}

fn run_train(args: Train) -> anyhow::Result<ExitCode> {
    may_write(&args.out, args.force)?;
    let settings = settings(&args);
    settings.check().map_err(bad_input)?;
    let texts = read_texts(&args.texts, parse_bytes(&args.max_bytes)?)?;
    let held_out = match &args.held_out {
        Some(path) => {
            Some(text::read(path, parse_bytes(&args.max_bytes)?, TOO_LONG).map_err(bad_input)?)
        }
        None => None,
    };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let bar = bar(texts.iter().map(|t| t.len() as u64).sum());
    let json = train(&texts, &settings, &mut |n_bytes| bar.set_position(n_bytes));
    bar.finish_and_clear();
    let json = json.map_err(bad_input)?;
    let tokenizer = Tokenizer::from_json_text(&json).map_err(anyhow::Error::msg)?;
    let mut figures = vec![vocab_size(&tokenizer)?];
    figures.extend(bytes_per_token("bytes_per_token", &tokenizer, &texts)?);
    if let Some(text) = &held_out {
        figures.extend(bytes_per_token("held_out_bytes_per_token", &tokenizer, &[text])?);
    }
    AtomicFile::write_whole(&args.out, json.as_bytes())?;
    if args.json {
        show::json(&serde_json::json!({ "tokenizer": args.out, "figures": figures }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for figure in figures {
        println!("{}", figure.line());
    }
    println!("{}: {}", args.out.display(), show::bytes(json.len() as u64));
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &Train) -> Settings {
    let specials = match args.special.is_empty() {
        true => vec!["<|endoftext|>".to_owned()],
        false => args.special.clone(),
    };
    Settings { vocab_size: args.vocab_size, min_frequency: args.min_frequency, specials }
}

/// The texts, which together are at most so long.
/// What to do with a text that is too long.
const TOO_LONG: &str = "cut it, or raise --max-bytes";

fn read_texts(paths: &[PathBuf], max_bytes: u64) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::with_capacity(paths.len());
    let mut n_bytes = 0;
    for path in paths {
        let text = text::read(path, max_bytes, TOO_LONG).map_err(bad_input)?;
        n_bytes += text.len() as u64;
        if n_bytes > max_bytes {
            return Err(bad_input(format!(
                "the texts up to {} hold {n_bytes} bytes, more than the {max_bytes} allowed; name \
                 fewer, or raise --max-bytes",
                path.display()
            )));
        }
        texts.push(text);
    }
    Ok(texts)
}

fn vocab_size(tokenizer: &Tokenizer) -> anyhow::Result<Figure> {
    let n = tokenizer.vocab_len() as f64;
    Ok(Figure::computed("vocab_size", Unit::Count, "tokens of the tokenizer as read back", n)?)
}

/// Bytes per token over texts; none if they are empty.
fn bytes_per_token(
    name: &str,
    tokenizer: &Tokenizer,
    texts: &[&str],
) -> anyhow::Result<Option<Figure>> {
    let mut total = Compression { n_bytes: 0, n_tokens: 0 };
    for text in texts {
        let one = Compression::of(tokenizer, text);
        total.n_bytes += one.n_bytes;
        total.n_tokens += one.n_tokens;
    }
    let method = format!("{} bytes of text over their {} tokens", total.n_bytes, total.n_tokens);
    let figure = |value| Figure::computed(name, Unit::BytesPerToken, &method, value);
    Ok(total.bytes_per_token().map(figure).transpose()?)
}

/// A bar over the bytes counted; the merges that follow take about as long again.
fn bar(n_bytes: u64) -> ProgressBar {
    let template = "counting words {bar:40} {bytes}/{total_bytes} {elapsed}, then merging";
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    let bar = ProgressBar::new(n_bytes).with_style(style);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
