//! `sterna eval --pairs`: how well a model's embeddings say what people say of pairs of texts,
//! alone or against a baseline, and how fast both make them.

use super::{Args, show_figures};
use crate::embedder::Embedder;
use crate::show::bad_input;
use anyhow::Context;
use std::path::Path;
use std::process::ExitCode;
use sterna_measure::clock::RealClock;
use sterna_measure::compare::{self, Settings, compare, timed};
use sterna_measure::quality::similarity::{Pair, Similarity, parse_pairs};
use sterna_measure::{Figure, Samples, Unit};

/// Texts of one timed call: enough that it is no matter of microseconds.
const TIMED_TEXTS: usize = 64;

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, a text is too long, or a model makes no embeddings.
pub fn run(args: &Args, file: &Path) -> anyhow::Result<ExitCode> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let named = |error| bad_input(format!("{}: {error}", file.display()));
    let mut pairs = parse_pairs(&text).map_err(named)?;
    pairs.truncate(args.documents.unwrap_or(usize::MAX));
    if pairs.is_empty() {
        return Err(bad_input("--documents 0 leaves no pairs"));
    }
    let mut model = Texts::open(&args.model, args, &pairs)?;
    let vectors = model.vectors()?;
    let own = Similarity { pairs: &pairs, vectors: &vectors };
    let Some(baseline) = &args.baseline else {
        show_figures(&own.figures().map_err(named)?, args.json)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut baseline = Texts::open(baseline, args, &pairs)?;
    let theirs = baseline.vectors()?;
    if vectors[0].len() != theirs[0].len() {
        let why = format!(
            "the baseline's vectors have {} features and the model's {}; they cannot be compared",
            theirs[0].len(),
            vectors[0].len()
        );
        return Err(bad_input(why));
    }
    let mut figures =
        own.against(&Similarity { pairs: &pairs, vectors: &theirs }).map_err(named)?;
    figures.extend(speeds(&mut model, &mut baseline)?);
    show_figures(&figures, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// A model, and the texts of all pairs as its tokens.
struct Texts {
    embedder: Embedder,
    tokens: Vec<Vec<u32>>,
}

impl Texts {
    fn open(path: &Path, args: &Args, pairs: &[Pair]) -> anyhow::Result<Self> {
        let embedder = Embedder::open(path, &args.compute)?;
        let texts = pairs.iter().flat_map(|pair| [&pair.first, &pair.second]);
        let tokens = texts.map(|text| embedder.tokens(text)).collect::<anyhow::Result<_>>()?;
        Ok(Self { embedder, tokens })
    }

    fn vectors(&mut self) -> anyhow::Result<Vec<Vec<f32>>> {
        self.embedder.embed(&self.tokens)
    }

    /// Embeds the texts that are timed.
    fn again(&mut self) -> Result<(), String> {
        let n = TIMED_TEXTS.min(self.tokens.len());
        self.embedder.embed(&self.tokens[..n]).map(|_| ()).map_err(|error| format!("{error:#}"))
    }
}

/// Texts per second of both, timed in turn.
fn speeds(model: &mut Texts, baseline: &mut Texts) -> anyhow::Result<Vec<Figure>> {
    let clock = RealClock::new();
    let n = TIMED_TEXTS.min(model.tokens.len());
    let n_tokens: usize = model.tokens[..n].iter().map(Vec::len).sum();
    let settings = Settings { max_rounds: 30, ..Settings::default() };
    let comparison = compare(
        &mut timed(&clock, || model.again()),
        &mut timed(&clock, || baseline.again()),
        &settings,
    )?;
    let method = format!("{n} texts of {n_tokens} tokens in one call, both models in turn");
    let per_second = |name: &str, samples: &Samples| -> anyhow::Result<Figure> {
        let rates = samples.raw().iter().map(|seconds| n as f64 / seconds).collect();
        let rates = Samples::new(name, rates)?;
        Ok(Figure::measured(name, Unit::TextsPerSecond, &method, &rates)?)
    };
    let compare::Comparison { a, b, .. } = &comparison;
    Ok(vec![
        per_second("texts_per_s", a)?,
        per_second("baseline_texts_per_s", b)?,
        comparison.figure("speedup", &format!("{method}, A this model and B the baseline"))?,
    ])
}
