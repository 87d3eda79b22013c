//! The text of the working tree as the checks see it, with a view of Rust code in which comments
//! and literals are blanked so that a word search finds code only.

use crate::root;
use anyhow::{Context, Result};
use std::process::Command;

/// A text file.
pub struct Source {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
    /// Content of a Rust file with comments, strings and chars blanked by spaces; same line breaks.
    pub code: String,
}

/// The text files of a repository, sorted by path.
#[derive(Default)]
pub struct Tree {
    /// All of them; binary files are left out.
    pub files: Vec<Source>,
    /// Standard output of `cargo metadata`, if it was asked for.
    pub metadata: Option<serde_json::Value>,
}

impl Tree {
    /// The tracked and the new, not ignored files of this repository, and its `cargo metadata`.
    ///
    /// # Errors
    /// When git or cargo cannot be asked.
    pub fn of_repository() -> Result<Self> {
        let mut files = Vec::new();
        for path in tracked_files()? {
            if let Ok(text) = std::fs::read_to_string(root::root().join(&path)) {
                files.push(Source::new(&path, text));
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let metadata = root::output_of(root::cargo().args(METADATA))
            .or_else(|_| root::output_of(root::cargo().args(&METADATA[..3])))?;
        let metadata = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
        Ok(Self { files, metadata: Some(metadata) })
    }

    /// A tree of these files, for tests.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| Source::new(path, (*text).to_owned()));
        Self { files: files.collect(), metadata: None }
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> Option<&Source> {
        self.files.iter().find(|f| f.path == path)
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|f| f.path.ends_with(".rs"))
    }
}

/// Paths of the tracked and the new, not ignored files of this repository.
///
/// # Errors
/// When git cannot be asked.
pub fn tracked_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = root::output_of(git.current_dir(root::root()))
        .context("the list of files comes from git; run this in a clone")?;
    Ok(listed.lines().filter(|p| !p.starts_with("shared/")).map(str::to_owned).collect())
}

/// Without the network first; a fresh machine that has yet to download takes the first three.
const METADATA: [&str; 4] = ["metadata", "--format-version", "1", "--offline"];

impl Source {
    /// A file with its code view.
    pub fn new(path: &str, text: String) -> Self {
        let code = if path.ends_with(".rs") { blank(&text) } else { String::new() };
        Self { path: path.to_owned(), text, code }
    }
}

/// Replaces comments, strings and character literals by spaces, keeping line breaks.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let n = literal_len(&chars, at);
        let n_out = n.max(1);
        for &c in &chars[at..at + n_out] {
            out.push(if n == 0 || c == '\n' { c } else { ' ' });
        }
        at += n_out;
    }
    out
}

/// Length of the comment or literal that starts at `at`; 0 if none does.
fn literal_len(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => until(rest, |r| r[0] == '\n'),
        ['/', '*', ..] => block_comment_len(rest),
        ['"', ..] => string_len(rest),
        ['r' | 'b', ..] if at == 0 || !is_word(chars[at - 1]) => prefixed_len(rest),
        ['\'', '\\', _, tail @ ..] => 3 + until(tail, |r| r[0] == '\'') + 1,
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

/// Whether `c` continues an identifier.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Number of chars before the first place where `stop` holds.
fn until(chars: &[char], stop: impl Fn(&[char]) -> bool) -> usize {
    (0..chars.len()).find(|&i| stop(&chars[i..])).unwrap_or(chars.len())
}

fn block_comment_len(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a string that starts with its quote.
fn string_len(chars: &[char]) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Length of `b".."`, `r".."`, `br#".."#` or `b'.'`; 0 if it is just a word.
fn prefixed_len(chars: &[char]) -> usize {
    let prefix = until(chars, |r| r[0] != 'r' && r[0] != 'b');
    let raw = chars[..prefix].contains(&'r');
    let n_hashes = if raw { until(&chars[prefix..], |r| r[0] != '#') } else { 0 };
    match chars.get(prefix + n_hashes) {
        Some('"') if raw => {
            let open = prefix + n_hashes + 1;
            let close: Vec<char> =
                std::iter::once('"').chain(std::iter::repeat_n('#', n_hashes)).collect();
            let body = until(&chars[open..], |r| r.starts_with(&close));
            (open + body + close.len()).min(chars.len())
        }
        Some('"') => prefix + string_len(&chars[prefix..]),
        Some('\'') if prefix == 1 && !raw => 1 + literal_len(chars, 1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_view_has_no_comments_or_literals() {
        let text = "let a = \"x // \\\" y\"; // c\nlet b = r#\"un\"safe\"#; /* /* */ z */ 'q'; \
                    b'x' fn f<'a>(x: &'a u8) '\\n' br\"w\" bar";
        let code = blank(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>().join(" "),
            "let a = ; let b = ; ; fn f<'a>(x: &'a u8) bar"
        );
    }
}
