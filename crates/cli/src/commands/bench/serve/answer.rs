//! From a stream of completions to an answer.
//!
//! In: a [`Transcript`], bytes with their times. Out: the end of the request, as
//! `sterna_measure::load` has it. Servers differ in where they put their counts and errors; all of
//! that is here.

use super::sse::{self, Event};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::time::Duration;
use sterna_measure::load::{Answer, Chunk, End, Failure, Usage};

/// A stream as it came; times are on the client's clock.
#[derive(Default)]
pub struct Transcript {
    /// When the request was sent.
    pub sent: Duration,
    /// When the stream had ended, or was given up.
    pub end: Duration,
    /// What came.
    pub body: Vec<u8>,
    /// Why it did not end well, as far as the connection knows.
    pub failure: Option<Failure>,
    /// The length of the body after each piece, and when that came.
    pieces: Vec<(usize, Duration)>,
}

impl Transcript {
    /// Of a request that is sent now.
    pub fn new(sent: Duration) -> Self {
        Self { sent, ..Self::default() }
    }

    /// One more piece.
    pub fn add(&mut self, at: Duration, piece: &[u8]) {
        self.body.extend_from_slice(piece);
        self.pieces.push((self.body.len(), at));
    }

    /// Seconds until so many bytes had come.
    fn seconds_to(&self, n_bytes: usize) -> f64 {
        let index = self.pieces.partition_point(|(len, _)| *len < n_bytes);
        let at = self.pieces.get(index).map_or(self.end, |(_, at)| *at);
        at.saturating_sub(self.sent).as_secs_f64()
    }
}

/// How the request ended.
pub fn read(transcript: &Transcript) -> End {
    let mut stream = Stream::default();
    let events = sse::events(&transcript.body);
    let read = events.iter().try_for_each(|event| {
        let seconds = transcript.seconds_to(event.end);
        stream.take(event, seconds)
    });
    let failure = match (read, &transcript.failure) {
        // A server that fails says why, and may hang up then.
        (Err(failure @ Failure::Server { .. }), _) => failure,
        (_, Some(failure)) => failure.clone(),
        (Err(failure), None) => failure,
        (Ok(()), None) if !stream.is_done => stream.broken_off(&transcript.body),
        (Ok(()), None) => match Answer::of(&stream.chunks, stream.usage, stream.end) {
            Some(answer) => return End::Answered(answer),
            None => Failure::NoToken,
        },
    };
    End::Failed(failure)
}

/// What the events have said so far.
#[derive(Default)]
struct Stream {
    chunks: Vec<Chunk>,
    usage: Usage,
    /// Seconds until the last event.
    end: f64,
    /// Whether it has said that it is over.
    is_done: bool,
}

/// One event's data.
#[derive(Deserialize)]
struct Piece {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counts>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    /// vLLM's name for the ids behind the text, where they are asked for.
    token_ids: Option<Vec<IgnoredAny>>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    prompt_tokens: Option<usize>,
    completion_tokens: Option<usize>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<usize>,
}

impl Stream {
    fn take(&mut self, event: &Event, seconds: f64) -> Result<(), Failure> {
        self.end = seconds;
        if event.data.trim_ascii() == b"[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let parsed = match event.is_error {
            true => serde_json::from_slice(&event.data).map(|error| Piece {
                choices: Vec::new(),
                usage: None,
                error: Some(error),
            }),
            false => serde_json::from_slice::<Piece>(&event.data),
        };
        let piece = parsed.map_err(|error| Failure::Broken {
            message: format!("an event is not as it should be ({error})"),
        })?;
        if let Some(error) = piece.error.filter(|error| !error.is_null()) {
            return Err(Failure::Server { message: error_words(&error) });
        }
        for choice in &piece.choices {
            self.chunks.extend(choice.chunk(seconds));
            self.is_done |= choice.finish_reason.is_some();
        }
        if let Some(counts) = piece.usage {
            let cached = counts.prompt_tokens_details.and_then(|details| details.cached_tokens);
            self.usage = Usage {
                n_prompt: counts.prompt_tokens.or(self.usage.n_prompt),
                n_cached: cached.or(self.usage.n_cached),
                n_generated: counts.completion_tokens.or(self.usage.n_generated),
            };
        }
        Ok(())
    }

    /// Why a stream without an end is none.
    fn broken_off(&self, body: &[u8]) -> Failure {
        let message = match (self.chunks.len(), body.is_empty()) {
            (0, true) => "it is empty".to_owned(),
            (0, false) => "it has no completions; does the server stream?".to_owned(),
            (n, _) => format!("it ended after {n} chunks, without [DONE] or a finish_reason"),
        };
        Failure::Broken { message }
    }
}

impl Choice {
    /// The tokens that came with it. A choice that only says why it is finished has none, but an
    /// empty text before that is a token whose text is held back.
    fn chunk(&self, at: f64) -> Option<Chunk> {
        let n_ids = self.token_ids.as_ref().map_or(0, Vec::len);
        let has_text = self.text.as_ref().is_some_and(|text| !text.is_empty());
        let is_visible = has_text || n_ids > 0;
        let is_held_back = self.text.is_some() && self.finish_reason.is_none();
        let chunk = Chunk { at, n_tokens: n_ids.max(1), is_visible };
        (is_visible || is_held_back).then_some(chunk)
    }
}

/// What an error object says, cut to a line: `{"error": {"message": ..}}`, or what is in it.
pub fn error_words(error: &Value) -> String {
    let inner = error.get("error").unwrap_or(error);
    let message = inner.get("message").unwrap_or(inner);
    let words = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose pieces come 0.1 s apart.
    fn of(pieces: &[&[u8]]) -> Transcript {
        let mut transcript = Transcript::new(Duration::from_secs(5));
        for (i, piece) in pieces.iter().enumerate() {
            transcript.add(Duration::from_millis(5100 + 100 * i as u64), piece);
        }
        transcript.end = Duration::from_secs(9);
        transcript
    }

    fn text(text: &str) -> String {
        let text = Value::from(text);
        format!("data: {{\"choices\": [{{\"text\": {text}, \"finish_reason\": null}}]}}\n\n")
    }

    fn answer(transcript: &Transcript) -> Answer {
        match read(transcript) {
            End::Answered(answer) => answer,
            End::Failed(failure) => panic!("{failure}"),
        }
    }

    fn failure(transcript: &Transcript) -> String {
        match read(transcript) {
            End::Answered(answer) => panic!("{answer:?}"),
            End::Failed(failure) => failure.to_string(),
        }
    }

    const USAGE: &str = "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 256, \
        \"completion_tokens\": 3, \"prompt_tokens_details\": {\"cached_tokens\": 240}}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn an_answer_has_times_and_counts() {
        let (a, b) = (text("Once"), text(" upon") + &text(" a"));
        let stream = of(&[a.as_bytes(), b.as_bytes(), USAGE.as_bytes(), DONE.as_bytes()]);
        let answer = answer(&stream);
        assert_eq!((answer.ttft, answer.e2e, answer.n_generated), (0.1, 0.4, 3));
        assert_eq!((answer.n_prompt, answer.n_cached), (Some(256), Some(240)));
        // Two tokens came in one piece, 0.1 s after the first.
        assert_eq!(answer.itl, [0.05]);
    }

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let whole = text("ä🦀") + ": ping\n\n" + &text("ß") + USAGE + DONE;
        for cut in 0..=whole.len() {
            let (a, b) = whole.as_bytes().split_at(cut);
            let cut_once = answer(&of(&[a, b]));
            assert_eq!((cut_once.n_generated, cut_once.itl.len() <= 1), (3, true), "{cut}");
        }
        let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        let first = text("ä🦀").len() as f64 - 1.0;
        // An event is there with the end of its line, the last byte but one.
        assert!((answer(&of(&bytes)).ttft - first * 0.1).abs() < 1e-6);
    }

    #[test]
    fn tokens_without_text_are_an_answer_if_the_server_counts_them() {
        let unseen = answer(&of(&[text("").as_bytes(), USAGE.as_bytes(), DONE.as_bytes()]));
        assert_eq!((unseen.n_generated, unseen.itl.len()), (3, 0));
        assert_eq!(unseen.ttft, unseen.e2e);
    }

    #[test]
    fn streams_that_do_not_end_well_are_failures() {
        let token = text("a");
        let with = |end: &str| failure(&of(&[token.as_bytes(), end.as_bytes()]));
        assert!(with("").contains("ended after 1 chunks"));
        let error = "data: {\"error\": {\"code\": 500, \"message\": \"out of\\nmemory\"}}\n\n";
        assert_eq!(with(error), "the server failed: out of memory");
        assert_eq!(with("error: {\"message\": \"old\"}\n\n"), "the server failed: old");
        assert_eq!(with("event: error\ndata: \"words\"\n\n"), "the server failed: words");
        assert!(with("data: {\"choices\": [{\"te").contains("not as it should be"));
        assert!(with("data: \u{fffd}\n\n").contains("not as it should be"));
        assert!(failure(&of(&[b""])).contains("it is empty"));
        assert!(failure(&of(&[b"{\"choices\": [{\"text\": \"a\"}]}"])).contains("does the server"));
        assert_eq!(failure(&of(&[DONE.as_bytes()])), "there was no token");
        let mut late = of(&[token.as_bytes(), b"data: {\"cho"]);
        late.failure = Some(Failure::Timeout);
        assert_eq!(failure(&late), Failure::Timeout.to_string());
    }

    #[test]
    fn held_back_tokens_count_and_ends_do_not() {
        let end = "data: {\"choices\": [{\"text\": \"\", \"finish_reason\": \"length\"}]}\n\n";
        let pieces = [text(""), text("ab"), text(""), end.to_owned()];
        let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
        let held = answer(&of(&pieces));
        assert_eq!((held.ttft, held.n_generated, held.itl), (0.2, 3, vec![0.1]));
        let ids = "data: {\"choices\": [{\"text\": \"\", \"token_ids\": [1, 2], \
                   \"finish_reason\": \"stop\"}]}\n\n";
        assert_eq!(answer(&of(&[ids.as_bytes()])).n_generated, 2);
    }
}
