//! What came of one request.
//!
//! In: when its chunks arrived, what the server counted, or how it failed. Out: an [`Outcome`], in
//! seconds: time to first token, times between tokens, time to the end.

use super::arrivals::Request;
use serde::Serialize;

/// One request and its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// By whom.
    pub agent: usize,
    /// Tokens of its prompt, as sent.
    pub n_prompt: usize,
    /// Tokens that it asked for.
    pub n_asked: usize,
    /// Seconds from the start of the run until it was sent.
    pub sent: f64,
    /// Seconds by which that was later than it was due.
    pub late: f64,
    /// Seconds until it was answered, or had failed.
    pub seconds: f64,
    /// Which of both.
    pub end: End,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With tokens, and in order.
    Answered(Answer),
    /// Otherwise.
    Failed(Failure),
}

/// Times in seconds from when the request was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// To the first chunk with a token to show; to the end where the tokens have no text.
    pub ttft: f64,
    /// Between chunks after it, each divided by the tokens of the later chunk.
    pub itl: Vec<f64>,
    /// To the end of the stream.
    pub e2e: f64,
    /// Tokens generated, as the server counts, else as chunks came.
    pub n_generated: usize,
    /// Tokens of the prompt as the server counts.
    pub n_prompt: Option<usize>,
    /// Those of them that it had computed before.
    pub n_cached: Option<usize>,
}

/// Tokens that arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chunk {
    /// Seconds from when the request was sent.
    pub at: f64,
    /// How many tokens; 1 where the server does not say.
    pub n_tokens: usize,
    /// Whether there is anything of them to show. A server may have to hold text back, since a
    /// token can end within a character.
    pub is_visible: bool,
}

/// What the server counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub n_prompt: Option<usize>,
    /// Those of them that it had computed before.
    pub n_cached: Option<usize>,
    /// Tokens generated.
    pub n_generated: Option<usize>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// Another status than 200.
    #[error("HTTP {code}: {message}")]
    Status {
        /// The status.
        code: u16,
        /// Seconds after which the server wants to be asked again.
        retry_after: Option<f64>,
        /// What the server says.
        message: String,
    },
    /// It took too long.
    #[error("it was not answered in time")]
    Timeout,
    /// Nobody listens there.
    #[error("the connection was refused; is the server running?")]
    Refused,
    /// No connection for another reason.
    #[error("no connection: {message}")]
    Unreachable {
        /// The system's words.
        message: String,
    },
    /// The stream broke off, or is none.
    #[error("the stream is broken: {message}")]
    Broken {
        /// How.
        message: String,
    },
    /// The server reported an error in the stream.
    #[error("the server failed: {message}")]
    Server {
        /// Its words.
        message: String,
    },
    /// The stream ended well with no token to show, and none that the server counts.
    #[error("there was no token")]
    NoToken,
}

impl Outcome {
    /// Of a request; times are seconds since the start of the run.
    pub fn new(request: &Request, sent: f64, seconds: f64, end: End) -> Self {
        Self {
            agent: request.agent,
            n_prompt: request.prompt.n_tokens(),
            n_asked: request.n_gen,
            sent: micros(sent),
            late: micros(request.at.map_or(0.0, |at| (sent - at.as_secs_f64()).max(0.0))),
            seconds: micros(seconds),
            end,
        }
    }

    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.end {
            End::Answered(answer) => Some(answer),
            End::Failed(_) => None,
        }
    }

    /// The failure, if it is one.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.end {
            End::Answered(_) => None,
            End::Failed(failure) => Some(failure),
        }
    }
}

/// Chunks nearer than this came in one packet: no sequence gets 10,000 tokens per second.
const TOGETHER: f64 = 100e-6;

impl Answer {
    /// From the chunks of a stream that ended well after `e2e` seconds; `None` where there is no
    /// token. One that ends within a character has no text, so an answer of few may show nothing:
    /// then the server's word counts that there were some, and its end is when they came.
    pub fn of(chunks: &[Chunk], usage: Usage, e2e: f64) -> Option<Self> {
        let Some(first) = chunks.iter().position(|chunk| chunk.is_visible) else {
            return Self::of_unseen(usage, e2e);
        };
        let n_chunked: usize = chunks.iter().map(|chunk| chunk.n_tokens).sum();
        let n_generated = usage.n_generated.filter(|n| *n > 0).unwrap_or(n_chunked);
        let shown = together(&chunks[first..]);
        // The server's count is right. Where a chunk holds more tokens than it says, or none, the
        // difference is spread over all, so that the mean over the request is right.
        let n_rest: usize = shown[1..].iter().map(|chunk| chunk.n_tokens).sum();
        let n_true = n_generated.saturating_sub(n_chunked - n_rest);
        let scale = if n_true > 0 { n_true as f64 / n_rest as f64 } else { 1.0 };
        let gap = |pair: &[Chunk]| (pair[1].at - pair[0].at) / (pair[1].n_tokens as f64 * scale);
        Some(Self {
            ttft: micros(shown[0].at),
            itl: shown.windows(2).map(|pair| micros(gap(pair))).collect(),
            e2e: micros(e2e),
            n_generated,
            n_prompt: usage.n_prompt,
            n_cached: usage.n_cached,
        })
    }

    fn of_unseen(usage: Usage, e2e: f64) -> Option<Self> {
        let n_generated = usage.n_generated.filter(|n| *n > 0)?;
        let Usage { n_prompt, n_cached, .. } = usage;
        let [ttft, e2e] = [micros(e2e); 2];
        Some(Self { ttft, itl: Vec::new(), e2e, n_generated, n_prompt, n_cached })
    }

    /// The mean time between its tokens, if there are any.
    pub fn itl_mean(&self) -> Option<f64> {
        (!self.itl.is_empty()).then(|| crate::stats::mean(&self.itl))
    }
}

/// Chunks that came in one packet as one.
fn together(chunks: &[Chunk]) -> Vec<Chunk> {
    let mut shown: Vec<Chunk> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match shown.last_mut() {
            Some(last) if chunk.at - last.at < TOGETHER => last.n_tokens += chunk.n_tokens,
            _ => shown.push(*chunk),
        }
    }
    shown
}

/// Rounded to microseconds: what is finer is noise, and fills files.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

impl Failure {
    /// Its name in tables.
    pub fn kind(&self) -> String {
        match self {
            Failure::Status { code, .. } => format!("HTTP {code}"),
            Failure::Timeout => "timeout".into(),
            Failure::Refused => "connection refused".into(),
            Failure::Unreachable { .. } => "no connection".into(),
            Failure::Broken { .. } => "broken stream".into(),
            Failure::Server { .. } => "error in the stream".into(),
            Failure::NoToken => "no token".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(times: &[f64]) -> Vec<Chunk> {
        times.iter().map(|&at| Chunk { at, n_tokens: 1, is_visible: true }).collect()
    }

    fn counted(n_generated: usize) -> Usage {
        Usage { n_generated: Some(n_generated), ..Usage::default() }
    }

    #[test]
    fn gaps_are_between_chunks() {
        let answer = Answer::of(&chunks(&[1.0, 1.5, 1.75]), counted(3), 2.0).unwrap();
        assert_eq!((answer.ttft, answer.e2e, answer.n_generated), (1.0, 2.0, 3));
        assert_eq!((answer.itl.as_slice(), answer.itl_mean()), (&[0.5, 0.25][..], Some(0.375)));
        let uncounted = Answer::of(&chunks(&[1.0, 1.5, 1.75]), Usage::default(), 2.0).unwrap();
        assert_eq!(uncounted, answer);
        let one = Answer::of(&chunks(&[1.0]), counted(1), 1.0).unwrap();
        assert_eq!((one.itl.len(), one.itl_mean()), (0, None));
    }

    #[test]
    fn a_chunk_of_several_tokens_is_divided() {
        // 9 tokens in 3 chunks: the first has one, as far as anyone knows, the others 4 each.
        let answer = Answer::of(&chunks(&[1.0, 1.4, 2.0]), counted(9), 2.0).unwrap();
        assert_eq!(answer.itl, [0.1, 0.15]);
        // Two of these came in one packet.
        let answer = Answer::of(&chunks(&[1.0, 1.4, 1.40001, 1.6]), counted(4), 2.0).unwrap();
        assert_eq!(answer.itl, [0.2, 0.2]);
        let mut told = chunks(&[1.0, 1.4, 2.0]);
        told[2].n_tokens = 3;
        let answer = Answer::of(&told, Usage::default(), 2.0).unwrap();
        assert_eq!((answer.itl, answer.n_generated), (vec![0.4, 0.2], 5));
    }

    #[test]
    fn what_shows_nothing_is_no_first_token() {
        let mut held = chunks(&[0.5, 1.0, 1.2, 1.4]);
        held[0].is_visible = false;
        held[2].is_visible = false;
        let answer = Answer::of(&held, counted(4), 2.0).unwrap();
        assert_eq!((answer.ttft, answer.itl.as_slice()), (1.0, &[0.2, 0.2][..]));
        held.iter_mut().for_each(|chunk| chunk.is_visible = false);
        let unseen = Answer::of(&held, counted(4), 2.0).unwrap();
        assert_eq!((unseen.ttft, unseen.itl.len(), unseen.n_generated), (2.0, 0, 4));
        assert_eq!(Answer::of(&held, Usage::default(), 2.0), None);
        assert_eq!(Answer::of(&[], counted(0), 2.0), None);
        // A count that cannot be leaves the gaps as they came.
        let answer = Answer::of(&chunks(&[1.0, 1.5]), counted(1), 2.0).unwrap();
        assert_eq!((answer.itl, answer.n_generated), (vec![0.5], 1));
    }
}
