//! From tokens to the text that a client gets: whole characters, and nothing of a stop text.

use std::sync::Arc;
use sterna_model::Tokenizer;
use sterna_model::tokenizer::Decoder;

/// The text of a generation as it grows.
pub struct Text {
    decoder: Decoder<Arc<Tokenizer>>,
    /// Control tokens that are part of the text, and their spellings.
    visible: Vec<(u32, String)>,
    stops: Vec<String>,
    /// Text that may be the beginning of a stop text.
    held: String,
    stopped_by: Option<String>,
}

/// What a token adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Text that is certain.
    pub text: String,
    /// Whether a stop text came after it.
    pub is_stopped: bool,
}

impl Text {
    /// A text that follows a prompt; the spellings of the control tokens `visible` are part of it.
    pub fn new(tokenizer: Arc<Tokenizer>, stops: &[String], visible: &[u32]) -> Self {
        let spelled = |&id: &u32| Some((id, tokenizer.token(id)?.to_owned()));
        let visible = visible.iter().filter_map(spelled).collect();
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self {
            decoder: Decoder::continuing(tokenizer),
            visible,
            stops,
            held: String::new(),
            stopped_by: None,
        }
    }

    /// Adds a token.
    pub fn push(&mut self, token: u32) -> Piece {
        let new = match self.visible.iter().find(|&&(id, _)| id == token) {
            Some((_, spelling)) => self.decoder.take_rest() + spelling,
            None => self.decoder.push(token),
        };
        self.add(&new)
    }

    fn add(&mut self, new: &str) -> Piece {
        if self.stops.is_empty() {
            return Piece { text: new.to_owned(), is_stopped: false };
        }
        self.held += new;
        let found = |stop: &String| self.held.find(stop).map(|at| (at, stop.clone()));
        if let Some((at, stop)) = self.stops.iter().filter_map(found).min_by_key(|&(at, _)| at) {
            self.held.truncate(at);
            self.stopped_by = Some(stop);
            return Piece { text: std::mem::take(&mut self.held), is_stopped: true };
        }
        let n_held = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - n_held);
        Piece { text: std::mem::replace(&mut self.held, rest), is_stopped: false }
    }

    /// The stop text that came, if one did.
    pub fn stopped_by(&self) -> Option<&str> {
        self.stopped_by.as_deref()
    }

    /// What is left when no token follows; nothing after a stop text. A character that never became
    /// complete shows as U+FFFD.
    pub fn finish(&mut self) -> String {
        if self.stopped_by.is_some() {
            return String::new();
        }
        let last = self.decoder.take_rest();
        let piece = self.add(&last);
        if piece.is_stopped { piece.text } else { piece.text + &std::mem::take(&mut self.held) }
    }
}

/// Bytes at the end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    let fits = |&n: &usize| {
        let at = text.len() - n;
        text.is_char_boundary(at) && stop.starts_with(&text[at..])
    };
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(stops: &[&str], new: &[&str]) -> (String, bool) {
        let json = include_str!("../../../models/tokenizer.json");
        let tokenizer = Arc::new(Tokenizer::from_json_text(json).unwrap());
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut text = Text::new(tokenizer, &stops, &[]);
        let mut all = String::new();
        for part in new {
            let piece = text.add(part);
            all += &piece.text;
            all.push('|');
            if piece.is_stopped {
                return (all, true);
            }
        }
        (all + &text.finish(), false)
    }

    #[test]
    fn stop_texts_are_found_across_pieces_and_never_shown() {
        assert_eq!(pieces(&[], &["a", "b"]), ("a|b|".into(), false));
        assert_eq!(pieces(&["END"], &["xE", "N", "Dy"]), ("x|||".into(), true));
        assert_eq!(pieces(&["END"], &["xE", "N", "x"]), ("x||ENx|".into(), false));
        assert_eq!(pieces(&["END"], &["xEN"]), ("x|EN".into(), false));
        assert_eq!(pieces(&["bc", "b"], &["abc"]), ("a|".into(), true));
        assert_eq!(pieces(&["", "é!"], &["é", "é!"]), ("|é|".into(), true));
        assert_eq!(pieces(&["aab"], &["aa", "ab"]), ("|a|".into(), true));
    }
}
