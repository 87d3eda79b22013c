//! What a model thinks before it answers, apart from the answer: each pair of marks that models
//! write around their thoughts is a line of [`FORMS`].
//!
//! In: the text of an answer, in pieces as it comes. Out: the thoughts, and the rest. However the
//! text is cut into pieces, the same comes out; only white space at the edges of thoughts is left
//! out.

use crate::calls::{Marker, begins, find};

/// The marks around thoughts, those first that a template shows most clearly.
pub const FORMS: &[Form] = &[
    // DeepSeek's R1, Qwen 3, QwQ, GLM 4.5, Nemotron, SmolLM 3 and most others; the names are those
    // of vLLM's parsers and of llama.cpp's format.
    Form {
        names: &["deepseek_r1", "qwen3", "glm45", "deepseek", "think"],
        open: "<think>",
        close: "</think>",
    },
    Form { names: &["mistral"], open: "[THINK]", close: "[/THINK]" },
    Form { names: &["seed_oss"], open: "<seed:think>", close: "</seed:think>" },
    Form { names: &["kimi"], open: "◁think▷", close: "◁/think▷" },
];

/// Asks for the form that the model's chat template shows.
pub const AUTO: &str = "auto";
/// Asks that thoughts stay in the text.
pub const NONE: &str = "none";

/// How a model writes thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What it is called.
    names: &'static [&'static str],
    /// Begins the thoughts; a prompt that ends with it has begun them already.
    pub open: &'static str,
    /// Ends them.
    pub close: &'static str,
}

/// All names of forms.
pub fn names() -> impl Iterator<Item = &'static str> {
    [AUTO, NONE].into_iter().chain(FORMS.iter().flat_map(|form| form.names).copied())
}

/// The form of a model whose chat template is this: the one of that name, or the one that the
/// template shows.
pub fn form(name: &str, template: &str) -> Option<&'static Form> {
    match name {
        NONE => None,
        AUTO => FORMS.iter().find(|form| template.contains(form.close)),
        name => FORMS.iter().find(|form| form.names.contains(&name)),
    }
}

/// The variables that chat templates look at to know whether the model should think.
pub fn switch(template: &str) -> Option<&'static str> {
    let knows = |text: &str| template.contains(text);
    match () {
        () if knows("enable_thinking") => Some("enable_thinking"),
        // DeepSeek's V3.1.
        () if knows("thinking is defined") => Some("thinking"),
        () => None,
    }
}

/// Where an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Thoughts may begin.
    Start,
    /// In thoughts of which nothing was said yet.
    Opened,
    /// In thoughts.
    Thoughts,
    /// Behind them, before the answer.
    Closed,
    /// In the answer.
    Answer,
}

/// What became certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Of the thoughts.
    pub thoughts: String,
    /// Of the answer.
    pub answer: String,
}

/// Reads an answer as it comes.
#[derive(Clone, Debug)]
pub struct Splitter {
    form: &'static Form,
    place: Place,
    /// What is not certain yet.
    rest: String,
}

impl Splitter {
    /// A reader of an answer; `has_begun` where the prompt has begun its thoughts.
    pub fn new(form: &'static Form, has_begun: bool) -> Self {
        let place = if has_begun { Place::Opened } else { Place::Start };
        Self { form, place, rest: String::new() }
    }

    /// Whether what comes next belongs to the thoughts.
    pub fn is_thinking(&self) -> bool {
        matches!(self.place, Place::Opened | Place::Thoughts)
    }

    /// Adds a piece, the last where nothing follows it.
    pub fn push(&mut self, piece: &str, is_over: bool) -> Parts {
        if self.place == Place::Answer {
            return Parts { answer: piece.to_owned(), ..Parts::default() };
        }
        self.rest += piece;
        let rest = std::mem::take(&mut self.rest);
        let mut parts = Parts::default();
        let left = self.read(&rest, is_over, &mut parts);
        self.rest = rest[rest.len() - left..].to_owned();
        parts
    }

    /// Reads what is certain of a text; returns how many bytes at its end are not.
    fn read(&mut self, text: &str, is_over: bool, parts: &mut Parts) -> usize {
        let Form { open, close, .. } = *self.form;
        let mut left = text;
        loop {
            let begun = left.trim_start();
            match self.place {
                Place::Start if begun.is_empty() && !is_over => return left.len(),
                Place::Start => match begins(begun, open, is_over) {
                    None => return left.len(),
                    Some(true) => (self.place, left) = (Place::Opened, &begun[open.len()..]),
                    Some(false) => self.place = Place::Answer,
                },
                Place::Opened | Place::Closed if begun.is_empty() => return left.len(),
                Place::Opened => (self.place, left) = (Place::Thoughts, begun),
                Place::Closed => (self.place, left) = (Place::Answer, begun),
                Place::Thoughts => match find(left, close, is_over) {
                    Marker::Here => (self.place, left) = (Place::Closed, &left[close.len()..]),
                    Marker::Perhaps => return left.len(),
                    Marker::Later(n) => {
                        // White space before the end is none of the thoughts.
                        let shown = left[..n].trim_end();
                        parts.thoughts += shown;
                        if !left[n..].starts_with(close) {
                            return left.len() - shown.len();
                        }
                        left = &left[n..];
                    }
                },
                Place::Answer => {
                    parts.answer += left;
                    return 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(form: &'static Form, has_begun: bool, pieces: &[&str]) -> (String, String) {
        let mut splitter = Splitter::new(form, has_begun);
        let mut all = Parts::default();
        for (piece, is_over) in pieces.iter().map(|piece| (*piece, false)).chain([("", true)]) {
            let parts = splitter.push(piece, is_over);
            all.thoughts += &parts.thoughts;
            all.answer += &parts.answer;
        }
        (all.thoughts, all.answer)
    }

    fn check(has_begun: bool, answer: &str, thoughts: &str, rest: &str) {
        let expected = (thoughts.into(), rest.into());
        assert_eq!(read(&FORMS[0], has_begun, &[answer]), expected, "{answer}");
    }

    #[test]
    fn thoughts_are_what_is_between_the_marks() {
        check(false, "<think>\nHm. <b>\n</think>\n\nYes. ", "Hm. <b>", "Yes. ");
        check(true, "Hm.</think>Yes.", "Hm.", "Yes.");
        check(false, "Yes. <think>", "", "Yes. <think>");
        check(false, " <thin", "", " <thin");
        check(false, "<think></think>x</think>", "", "x</think>");
        // Cut off while it thinks.
        check(false, "<think>Hm. </thi", "Hm. </thi", "");
        check(false, "  ", "", "  ");
        let answer = ["[THINK]a[/THI", "NK]b"];
        assert_eq!(read(&FORMS[1], false, &answer), ("a".into(), "b".into()));
    }

    #[test]
    fn forms_are_named_or_shown_by_a_template() {
        let close = |name: &str, template: &str| form(name, template).map(|form| form.close);
        assert_eq!(close(AUTO, "{{ content.split('</think>') }}"), Some("</think>"));
        assert_eq!(close(AUTO, "[THINK]..[/THINK]"), Some("[/THINK]"));
        assert_eq!(close(AUTO, "<|im_start|>"), None);
        assert_eq!(close(NONE, "</think>"), None);
        assert_eq!(close("qwen3", ""), Some("</think>"));
        assert_eq!(close("x", "</think>"), None);
        for name in names().filter(|name| ![AUTO, NONE].contains(name)) {
            let named = FORMS.iter().filter(|form| form.names.contains(&name));
            assert_eq!(named.count(), 1, "{name}");
        }
        assert_eq!(switch("{% if enable_thinking %}"), Some("enable_thinking"));
        assert_eq!(switch("{% if not thinking is defined %}"), Some("thinking"));
        assert_eq!(switch("thinking"), None);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_comes_out(
            parts in prop::collection::vec((0..11usize, "[ a\né<]{0,2}"), 0..10),
            has_begun in any::<bool>(),
        ) {
            for form in FORMS {
                let (open, close) = (form.open, form.close);
                let at = open.char_indices().nth(3).unwrap().0;
                let end = close.char_indices().last().unwrap().0;
                let known = [open, close, &open[..at], &open[at..], &close[..end]];
                let parts: Vec<&str> = parts
                    .iter()
                    .map(|(which, other)| known.get(*which).copied().unwrap_or(other))
                    .collect();
                let answer = parts.concat();
                let whole = read(form, has_begun, &[&answer]);
                prop_assert_eq!(&read(form, has_begun, &parts), &whole);
                let single: Vec<String> = answer.chars().map(String::from).collect();
                let single: Vec<&str> = single.iter().map(String::as_str).collect();
                prop_assert_eq!(&read(form, has_begun, &single), &whole);
                // Nothing is lost but marks and white space.
                let bare = |text: &str| -> String {
                    text.chars().filter(|c| !c.is_whitespace()).collect()
                };
                let kept = bare(&whole.0) + &bare(&whole.1);
                let said = bare(&answer);
                let n_marks = said.len() - kept.len();
                let marks = [0, open.len(), close.len(), open.len() + close.len()];
                prop_assert!(marks.contains(&n_marks), "{:?} of {:?}", whole, answer);
            }
        }
    }
}
