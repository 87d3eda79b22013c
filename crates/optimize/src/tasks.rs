//! Tasks: questions with known answers from files of JSON lines, as lm-eval and its kin have them.
//!
//! In: files and a tokenizer. Out: [`Questions`] as tokens. A line is one of three forms, told by
//! its keys: `query` and `choices` with `gold`; `context_options` with one `continuation` and
//! `gold`; `context` and the `continuation` that must come.

use crate::error::{OptimizeError, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use sterna_measure::Workload;
use sterna_measure::quality::tasks::{Choice, Question};
use sterna_measure::workload::disjoint;
use sterna_model::Tokenizer;

/// Which tasks, and how much of them.
#[derive(Debug, Clone, Default)]
pub struct TaskSettings {
    /// Files of JSON lines.
    pub files: Vec<PathBuf>,
    /// Questions of each, from its start, at most.
    pub limit: Option<usize>,
}

/// The questions of a file.
#[derive(Debug, Clone)]
pub struct Questions {
    /// Its name without folder and ending, of letters, digits and `_`.
    pub name: String,
    /// As tokens.
    pub questions: Vec<Question>,
}

/// A file is no longer than this.
const MAX_BYTES: u64 = 256 << 20;
/// Choices of a question at most.
const MAX_CHOICES: usize = 64;

/// A line.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Choices { query: String, choices: Vec<String>, gold: usize },
    Contexts { context_options: Vec<String>, continuation: String, gold: usize },
    Continuation { context: String, continuation: String },
}

/// Reads all files. Questions that do not fit `context_len` tokens, or repeat `calibration`, are
/// left out with a note.
///
/// # Errors
/// When a file cannot be read, has a line of another form, or leaves no question.
pub fn read(
    settings: &TaskSettings,
    tokenizer: &Tokenizer,
    context_len: usize,
    calibration: &Workload,
    notes: &mut Vec<String>,
) -> Result<Vec<Questions>> {
    let mut all: Vec<Questions> = Vec::new();
    for path in &settings.files {
        let name = name(path);
        if all.iter().any(|questions| questions.name == name) {
            let why = format!("{}: there is a task {name} already", path.display());
            return Err(OptimizeError::Input(why));
        }
        let lines = lines(path, settings.limit.unwrap_or(usize::MAX))?;
        let mut questions: Vec<Question> =
            lines.iter().map(|line| question(line, tokenizer)).collect();
        let n_lines = questions.len();
        questions.retain(|question| {
            question.is_sound() && question.choices.iter().all(|c| c.tokens.len() <= context_len)
        });
        let n_long = n_lines - questions.len();
        if repeats(&questions, calibration) {
            questions.retain(|question| !repeats(std::slice::from_ref(question), calibration));
        }
        let n_repeats = n_lines - n_long - questions.len();
        for (n, why) in [
            (n_long, format!("are empty or longer than the {context_len} tokens that fit")),
            (n_repeats, "repeat the calibration text".into()),
        ] {
            if n > 0 {
                notes.push(format!("task {name}: {n} questions were left out because they {why}"));
            }
        }
        if questions.is_empty() {
            let why = format!("{}: no question is left that can be asked", path.display());
            return Err(OptimizeError::Input(why));
        }
        all.push(Questions { name, questions });
    }
    Ok(all)
}

/// Whether some question has a long run of tokens from the calibration text.
fn repeats(questions: &[Question], calibration: &Workload) -> bool {
    let choices = questions.iter().flat_map(|question| &question.choices);
    let documents: Vec<Vec<u32>> = choices.map(|choice| choice.tokens.clone()).collect();
    // Nothing repeats nothing.
    let asked = Workload::new("questions", documents, 1);
    asked.is_ok_and(|asked| disjoint(calibration, &asked).is_err())
}

fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = stem.chars().map(safe).take(64).collect();
    if name.is_empty() { "task".into() } else { name }
}

fn lines(path: &Path, limit: usize) -> Result<Vec<Line>> {
    let bad = |why: String| OptimizeError::Input(format!("{}: {why}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| bad(format!("{error}; a task is a file of JSON lines")))?
        .len();
    if length > MAX_BYTES {
        return Err(bad(format!("{length} bytes are more than the {MAX_BYTES} of a task")));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| bad(format!("is no UTF-8 text: {error}")))?;
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    numbered
        .take(limit)
        .map(|(number, text)| line(text).map_err(|why| bad(format!("line {}: {why}", number + 1))))
        .collect()
}

fn line(text: &str) -> std::result::Result<Line, String> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("{error}; a task is one JSON object per line"))?;
    let line: Line = serde_json::from_value(value).map_err(|_| {
        "it is none of the forms known: {query, choices, gold}, {context_options, continuation, \
         gold}, {context, continuation}"
            .to_owned()
    })?;
    let (n, gold) = match &line {
        Line::Choices { choices, gold, .. } => (choices.len(), *gold),
        Line::Contexts { context_options, gold, .. } => (context_options.len(), *gold),
        Line::Continuation { .. } => return Ok(line),
    };
    if !(2..=MAX_CHOICES).contains(&n) || gold >= n {
        return Err(format!("gold {gold} of {n} choices; there are 2 to {MAX_CHOICES}, from 0 on"));
    }
    Ok(line)
}

fn question(line: &Line, tokenizer: &Tokenizer) -> Question {
    let choice = |context: &str, continuation: &str| choice(context, continuation, tokenizer);
    match line {
        Line::Choices { query, choices, gold } => {
            let context = format!("{query}\nAnswer:");
            let choices = choices.iter().map(|one| choice(&context, one)).collect();
            Question { choices, gold: *gold }
        }
        Line::Contexts { context_options, continuation, gold } => {
            let choices = context_options.iter().map(|one| choice(one, continuation)).collect();
            Question { choices, gold: *gold }
        }
        Line::Continuation { context, continuation } => {
            Question { choices: vec![choice(context, continuation)], gold: 0 }
        }
    }
}

/// A context and what may follow it, with a space between words that would run together. The
/// context's tokens are those of the whole that precede the first which depends on the
/// continuation.
fn choice(context: &str, continuation: &str, tokenizer: &Tokenizer) -> Choice {
    let context = context.trim_end();
    let is_joined = continuation.starts_with(char::is_whitespace) || context.ends_with('=');
    let gap = if is_joined || context.is_empty() { "" } else { " " };
    let tokens = tokenizer.encode(&format!("{context}{gap}{continuation}"), true);
    let alone = tokenizer.encode(context, true);
    let same = alone.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
    // A model has to have something to go on.
    let n_context = same.max(1);
    Choice { tokens, n_context, n_bytes: continuation.trim().len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_told_apart_and_others_refused() {
        let forms = [
            r#"{"query": "Q?", "choices": ["a", "b"], "gold": 1}"#,
            r#"{"context_options": ["x", "y"], "continuation": "z", "gold": 0}"#,
            r#"{"context": "a", "continuation": "b"}"#,
        ];
        let of = |text: &str| match line(text).unwrap() {
            Line::Choices { .. } => 0,
            Line::Contexts { .. } => 1,
            Line::Continuation { .. } => 2,
        };
        assert_eq!(forms.map(of), [0, 1, 2]);
        let why = |text: &str| line(text).err().unwrap();
        assert!(why(r#"{"context": "a", "answer": "1"}"#).contains("none of the forms known"));
        assert!(why(r#"{"query": "Q?", "choices": ["a", "b"], "gold": 2}"#).contains("gold 2"));
        assert!(why("no").contains("one JSON object per line"));
    }

    #[test]
    fn names_are_safe() {
        assert_eq!(name(Path::new("/x/ARC-Easy.v2.jsonl")), "arc_easy_v2");
        assert_eq!(name(Path::new("/")), "task");
    }
}
