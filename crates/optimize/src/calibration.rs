//! The text: what the search may look at, and what it is judged by, never the same (B8).
//!
//! In: a file for calibration and perhaps one for evaluation. Out: [`Texts`]: passages that
//! rounding and pruning are fitted on, others to measure plans with while searching, so that no fit
//! is judged by what it was made from, and held-out ones for the verdict. Documents are told apart
//! by `<|endoftext|>`, by JSON lines with a `text`, or by blank lines; text without any of them is
//! one paragraph per line.

mod lessons;

use crate::error::{OptimizeError, Result};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::path::{Path, PathBuf};
use sterna_measure::quality::{Passages, Scoring};
use sterna_measure::{Workload, workload};
use sterna_model::{Model, Tokenizer};

/// Where the text is and how much of it is used.
#[derive(Debug, Clone)]
pub struct TextSettings {
    /// The file the search may look at.
    pub calibration: PathBuf,
    /// The file it is judged by; `None` takes other documents of the same file.
    pub evaluation: Option<PathBuf>,
    /// Calibration documents at most that plans are judged by.
    pub n_calibration: usize,
    /// At most so many times as many others are observed; with 0, the same are.
    pub observed_ratio: usize,
    /// Others at most, and pieces of them, that a quantized model learns from; with 0, none does.
    pub n_lessons: usize,
    /// Held-out documents at most.
    pub n_evaluation: usize,
    /// Tokens of a document at most, and never more than the model's context.
    pub max_tokens: usize,
    /// Tokens that a quick measurement runs, about.
    pub quick_tokens: usize,
    /// The seed of the choice of documents.
    pub seed: u64,
}

impl TextSettings {
    /// The defaults for a file.
    pub fn of(calibration: PathBuf) -> Self {
        Self {
            calibration,
            evaluation: None,
            n_calibration: 128,
            observed_ratio: 0,
            n_lessons: 0,
            n_evaluation: 256,
            max_tokens: 512,
            quick_tokens: 4096,
            seed: 0x5eed,
        }
    }

    /// Calibration documents at most, whatever they are for.
    fn n_in_all(&self) -> usize {
        let is_parted = self.n_calibration >= MIN_DOCUMENTS;
        let n_others = if is_parted { self.n_observed().max(self.n_lessons) } else { 0 };
        self.n_calibration.saturating_add(n_others)
    }

    /// Documents at most that are observed besides those that are judged by.
    fn n_observed(&self) -> usize {
        self.n_calibration.saturating_mul(self.observed_ratio)
    }

    /// Of so many documents, those that plans are judged by: all where they would be too few else.
    fn n_judged(&self, n: usize) -> usize {
        let is_parted = self.observed_ratio > 0 && n >= MIN_PARTED;
        if is_parted { self.n_calibration.clamp(MIN_DOCUMENTS, n / 2) } else { n }
    }

    /// Of a text for a model of so many parameters, the documents that are judged by, and how many
    /// of those behind them are observed.
    fn parts(&self, text: &Workload, n_parameters: u64) -> (usize, usize) {
        let n_judged = self.n_judged(text.documents().len());
        let others = &text.documents()[n_judged..];
        let within = n_within(others, MAX_OBSERVED_PRODUCTS / n_parameters.max(1));
        // As many as are judged by in any case.
        (n_judged, within.min(self.n_observed()).max(n_judged).min(others.len()))
    }

    /// The context that documents need of a model that has room for so many tokens: they are cut,
    /// and a longer one would only take memory.
    pub fn context_len(&self, of_model: usize) -> usize {
        of_model.min(self.max_tokens + 8)
    }
}

/// Text ready to be measured with.
#[derive(Debug, Clone)]
pub struct Texts {
    /// All calibration documents, but for those that are only learned from.
    pub calibration: Passages,
    /// Those of them that plans are judged by.
    pub judged: Passages,
    /// The first of those, for ranking tensors.
    pub quick: Passages,
    /// What rounding and pruning are fitted on: others, where there are enough, else the same.
    pub observed: Passages,
    /// What a quantized model learns from: others too, where it is to learn and there are some.
    pub lessons: Option<Passages>,
    /// What the verdict rests on.
    pub heldout: Passages,
    /// Remarks for the report.
    pub notes: Vec<String>,
}

impl Texts {
    /// Whether plans are judged by other documents than rounding and pruning are fitted on.
    pub fn is_parted(&self) -> bool {
        self.judged.len() < self.calibration.len()
    }
}

/// Fewer documents give no interval, and without an interval no budget can be met.
const MIN_DOCUMENTS: usize = 5;
/// Fewer documents are not parted: plans are judged by all of them.
pub const MIN_PARTED: usize = 2 * MIN_DOCUMENTS;
/// Documents that are observed, but not more of them than are judged by, take at most so many
/// products of a token and a parameter: a minute's work or so.
const MAX_OBSERVED_PRODUCTS: u64 = 1_000_000_000_000;

/// Reads, splits, tokenizes and checks.
///
/// # Errors
/// When a file cannot be read, there is too little text, or the two texts overlap.
pub fn prepare(settings: &TextSettings, model: &Model, context_len: usize) -> Result<Texts> {
    let (tokenizer, mut notes) = (model.tokenizer()?, Vec::new());
    let all = read(&settings.calibration)?;
    let (calibration, heldout) = match &settings.evaluation {
        Some(path) => (shuffled(all, settings.seed), shuffled(read(path)?, settings.seed)),
        None => split(all, settings),
    };
    let max_tokens = settings.max_tokens.min(context_len);
    let scoring = scoring(tokenizer);
    let limit = max_tokens - usize::from(has_bos(scoring));
    let tokenized = Tokenized { tokenizer, limit, suffix: &[] };
    let name = |path: &Path, part: &str| {
        let file = path.file_name().map_or(path.display().to_string(), |f| f.display().to_string());
        format!("{file} ({part})")
    };
    let cut = tokenized.cut(
        &name(&settings.calibration, "calibration"),
        &calibration,
        settings.n_in_all(),
        None,
    )?;
    let (n_judged, n_observed) = settings.parts(&cut.kept, model.graph.n_parameters());
    let lessons = lessons::of(settings, model, &cut, n_judged, limit)?;
    let calibration = cut.kept.first(n_judged + n_observed)?;
    let heldout_path = settings.evaluation.as_ref().unwrap_or(&settings.calibration);
    let heldout = tokenized.cut(
        &name(heldout_path, "held out"),
        &heldout,
        settings.n_evaluation,
        settings.evaluation.is_none().then_some((&calibration, &mut notes)),
    )?;
    let heldout = heldout.kept;
    workload::disjoint(&calibration, &heldout)?;
    let judged = calibration.first(n_judged)?;
    // Of much more text some is likely to be in what judges it too; that is not learned from.
    let apart = |lessons: Workload, from| lessons.apart_from(from);
    let lessons = lessons.map(|lessons| apart(lessons, &heldout)).transpose()?.flatten();
    let lessons = lessons.map(|lessons| apart(lessons, &judged)).transpose()?.flatten();
    let quick = judged.first(n_documents(&judged, settings.quick_tokens))?;
    let has_others = n_observed > 0;
    let others = if has_others { calibration.without_first(n_judged)? } else { judged.clone() };
    if !has_others && settings.observed_ratio > 0 {
        notes.push(format!(
            "the calibration text has {n_judged} documents, which is too few to part them: \
             rounding is fitted to what plans are judged by"
        ));
    } else if has_others && workload::disjoint(&judged, &others).is_err() {
        notes.push(
            "some calibration text that rounding is fitted to repeats what plans are judged by"
                .into(),
        );
    }
    let passages = |workload: &Workload| Passages::new(workload, scoring);
    Ok(Texts {
        calibration: passages(&calibration)?,
        judged: passages(&judged)?,
        quick: passages(&quick)?,
        observed: passages(&others)?,
        lessons: lessons.as_ref().map(passages).transpose()?,
        heldout: passages(&heldout)?,
        notes,
    })
}

/// The same without a verdict: all documents, as many as are asked for, for calibration. Where
/// there is a text for evaluation, they must share nothing with it.
///
/// # Errors
/// As [`prepare`].
pub fn alone(settings: &TextSettings, model: &Model, context_len: usize) -> Result<Passages> {
    let tokenizer = model.tokenizer()?;
    let scoring = scoring(tokenizer);
    // An encoder's texts end as it is used to.
    let suffix = if model.graph.is_encoder() { tokenizer.suffix() } else { &[] };
    let n_around = suffix.len() + usize::from(has_bos(scoring));
    let limit = settings.max_tokens.min(context_len).saturating_sub(n_around);
    let tokenized = Tokenized { tokenizer, limit, suffix };
    let workload = |path: &Path, n| -> Result<Workload> {
        let documents = shuffled(read(path)?, settings.seed);
        Ok(tokenized.cut(&path.display().to_string(), &documents, n, None)?.kept)
    };
    let calibration = workload(&settings.calibration, settings.n_calibration)?;
    if let Some(path) = &settings.evaluation {
        workload::disjoint(&calibration, &workload(path, usize::MAX)?)?;
    }
    Ok(Passages::new(&calibration, scoring)?)
}

fn has_bos(scoring: Scoring) -> bool {
    matches!(scoring, Scoring::Documents { bos: Some(_), .. })
}

/// Each document alone, after a BOS if the model was trained with one.
fn scoring(tokenizer: &Tokenizer) -> Scoring {
    let bos = if tokenizer.add_bos() { tokenizer.bos() } else { None };
    Scoring::Documents { bos, n_unscored: 0 }
}

/// Documents, from the first on, that hold so many tokens at most.
fn n_within(documents: &[Vec<u32>], max_tokens: u64) -> usize {
    let mut n_tokens = 0;
    let fitting = documents.iter().take_while(|document| {
        n_tokens += document.len() as u64;
        n_tokens <= max_tokens
    });
    fitting.count()
}

/// Documents that hold about so many tokens, at least enough for an interval.
fn n_documents(workload: &Workload, n_tokens: usize) -> usize {
    n_within(workload.documents(), n_tokens as u64).max(MIN_DOCUMENTS)
}

/// Documents as they are used.
struct Cut {
    /// The first tokens of each.
    kept: Workload,
    /// The rest of each.
    rests: Vec<Vec<u32>>,
}

/// How documents become tokens.
struct Tokenized<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens of a text at most, without those around it.
    limit: usize,
    /// What is put behind each.
    suffix: &'a [u32],
}

impl Tokenized<'_> {
    /// At most `n` documents; those that repeat `other` are left out, and that is noted.
    fn cut(
        &self,
        name: &str,
        documents: &[String],
        n: usize,
        other: Option<(&Workload, &mut Vec<String>)>,
    ) -> Result<Cut> {
        let (other, notes) = other.map_or((None, None), |(w, notes)| (Some(w), Some(notes)));
        let (mut kept, mut rests, mut n_bytes, mut n_repeats) = (Vec::new(), Vec::new(), 0, 0);
        for text in documents {
            if kept.len() == n {
                break;
            }
            let (tokens, rest, bytes) = self.tokens(text);
            if tokens.len() < 2 {
                continue;
            }
            let one = Workload::new(name, vec![tokens.clone()], bytes)?;
            if other.is_some_and(|other| workload::disjoint(other, &one).is_err()) {
                n_repeats += 1;
                continue;
            }
            kept.push(tokens);
            rests.push(rest);
            n_bytes += bytes;
        }
        if let (Some(notes), true) = (notes, n_repeats > 0) {
            notes.push(format!(
                "{n_repeats} documents were left out of the held-out text because they repeat {} \
                 tokens or more of a calibration document",
                workload::LEAK_NGRAM_LEN
            ));
        }
        if kept.len() < MIN_DOCUMENTS {
            return Err(OptimizeError::Input(format!(
                "{name}: {} documents are left, and an interval needs {MIN_DOCUMENTS}; give more \
                 text, with documents apart by blank lines or <|endoftext|>",
                kept.len()
            )));
        }
        Ok(Cut { kept: Workload::new(name, kept, n_bytes)?, rests })
    }

    /// A document's first tokens, the rest, and the bytes of text that the first stand for.
    fn tokens(&self, text: &str) -> (Vec<u32>, Vec<u32>, usize) {
        let mut tokens = self.tokenizer.encode(text, false);
        let rest = tokens.split_off(self.limit.min(tokens.len()));
        let n_bytes = if rest.is_empty() { text.len() } else { n_bytes(self.tokenizer, &tokens) };
        tokens.extend(self.suffix);
        (tokens, rest, n_bytes)
    }
}

/// Bytes of text that tokens stand for.
fn n_bytes(tokenizer: &Tokenizer, tokens: &[u32]) -> usize {
    tokens.iter().map(|&token| tokenizer.token_bytes(token).len()).sum()
}

/// Half for calibration, half held out, in proportion to what was asked for.
fn split(all: Vec<String>, settings: &TextSettings) -> (Vec<String>, Vec<String>) {
    let mut documents = shuffled(all, settings.seed);
    let n = documents.len();
    let wanted = settings.n_calibration.saturating_add(settings.n_evaluation);
    let share = n.saturating_mul(settings.n_calibration).checked_div(wanted).unwrap_or(n / 2);
    // What is not wanted for the proof may be observed.
    let spare = n.saturating_sub(settings.n_evaluation).min(settings.n_in_all());
    let heldout = documents.split_off(share.min(settings.n_calibration).max(spare));
    (documents, heldout)
}

fn shuffled(mut documents: Vec<String>, seed: u64) -> Vec<String> {
    documents.shuffle(&mut StdRng::seed_from_u64(seed));
    documents
}

fn read(path: &Path) -> Result<Vec<String>> {
    let input = |why: String| OptimizeError::Input(format!("{}: {why}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| input(error.to_string()))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| input(format!("is not UTF-8 text ({error}); give a text file")))?;
    documents(&text).map_err(input)
}

/// Between documents of many corpora.
const SEPARATOR: &str = "<|endoftext|>";
/// Paragraphs are joined to documents of at least so many bytes.
const MIN_PARAGRAPH_BYTES: usize = 400;

/// The documents of a text.
///
/// # Errors
/// When it looks like JSON lines but a line is none with a `text`.
pub fn documents(text: &str) -> std::result::Result<Vec<String>, String> {
    let documents: Vec<String> = if text.contains(SEPARATOR) {
        text.split(SEPARATOR).map(|part| part.trim().to_owned()).collect()
    } else if text.trim_start().starts_with('{') {
        json_lines(text)?
    } else {
        paragraphs(text)
    };
    Ok(documents.into_iter().filter(|document| !document.is_empty()).collect())
}

fn json_lines(text: &str) -> std::result::Result<Vec<String>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let of = |(number, line): (usize, &str)| {
        let json: serde_json::Value = serde_json::from_str(line)
            .map_err(|error| format!("line {}: {error}; one JSON object per line", number + 1))?;
        let text = json["text"].as_str();
        text.map(str::to_owned).ok_or_else(|| format!("line {} has no \"text\"", number + 1))
    };
    lines.map(of).collect()
}

fn paragraphs(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let gap = if text.trim().contains("\n\n") { "\n\n" } else { "\n" };
    let mut documents = vec![String::new()];
    for paragraph in text.split(gap).map(str::trim).filter(|p| !p.is_empty()) {
        let last = documents.last_mut().expect("never empty");
        if last.len() >= MIN_PARAGRAPH_BYTES {
            documents.push(paragraph.to_owned());
        } else {
            let gap = if last.is_empty() { "" } else { gap };
            *last += &format!("{gap}{paragraph}");
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart() {
        let of = |text: &str| documents(text).unwrap();
        assert_eq!(of("a b\n<|endoftext|>\nc\n\nd<|endoftext|>"), ["a b", "c\n\nd"]);
        assert_eq!(of("{\"text\": \"a\"}\n\n{\"text\": \"b\"}\n"), ["a", "b"]);
        assert!(documents("{\"text\": \"a\"}\n{\"words\": 1}").unwrap_err().contains("line 2"));
        let long = "x".repeat(MIN_PARAGRAPH_BYTES);
        assert_eq!(of(&format!("a\n\n{long}\r\n\r\nb\n\nc")), [&format!("a\n\n{long}"), "b\n\nc"]);
        assert_eq!(of(&format!("a\n{long}\nb\nc\n")), [&format!("a\n{long}"), "b\nc"]);
    }

    #[test]
    fn one_file_splits_into_disjoint_parts_by_its_seed() {
        let all: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let mut settings = TextSettings::of("x".into());
        (settings.n_calibration, settings.n_evaluation) = (10, 30);
        let (calibration, heldout) = split(all.clone(), &settings);
        assert_eq!((calibration.len(), heldout.len()), (10, 90));
        assert!(calibration.iter().all(|document| !heldout.contains(document)));
        assert_eq!(split(all.clone(), &settings).0, calibration);
        settings.seed += 1;
        assert_ne!(split(all.clone(), &settings).0, calibration);
        (settings.n_calibration, settings.n_evaluation) = (300, 100);
        assert_eq!(split(all.clone(), &settings).0.len(), 75);
        (settings.n_calibration, settings.observed_ratio) = (10, 4);
        assert_eq!(split(all.clone(), &settings).0.len(), 9, "nothing is taken from the proof");
        settings.n_evaluation = 60;
        assert_eq!(split(all, &settings).0.len(), 40);
    }

    #[test]
    fn what_is_fitted_on_is_not_what_plans_are_judged_by() {
        let settings = |n_calibration, observed_ratio| TextSettings {
            n_calibration,
            observed_ratio,
            ..TextSettings::of("x".into())
        };
        let text = |n| Workload::new("x", vec![vec![1; 10]; n], 100).unwrap();
        // Of so many documents of 10 tokens each: those that are judged by and observed, for
        // a model with which that many tokens are observed.
        let parts = |settings: &TextSettings, n: usize, max_tokens: u64| {
            let n_parameters = MAX_OBSERVED_PRODUCTS / max_tokens;
            settings.parts(&text(n.min(settings.n_in_all())), n_parameters)
        };
        assert_eq!(parts(&settings(24, 4), 1000, 10_000), (24, 96));
        assert_eq!(parts(&settings(24, 4), 1000, 500), (24, 50), "as many as there is time for");
        assert_eq!(parts(&settings(24, 4), 1000, 1), (24, 24), "but no fewer documents");
        assert_eq!(parts(&settings(24, 4), 30, 10_000), (15, 15));
        assert_eq!(parts(&settings(24, 4), 9, 10_000), (9, 0), "too few to be parted");
        assert_eq!(parts(&settings(24, 0), 1000, 10_000), (24, 0));
    }
}
