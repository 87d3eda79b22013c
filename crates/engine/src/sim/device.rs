//! The machine of the simulator: its pages keep a hash of all tokens up to each position, from
//! which the next token follows.

use super::{FIRST, VOCABULARY};
use crate::Core;
use crate::batch::Batch;
use crate::embedding::{Pool, Pooling};
use crate::request::Request;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Logits, Sampler};

/// What a position keeps: of the one before, and its token.
fn mix(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

/// Tokens of a circle.
const CIRCLE: u32 = 4;

/// The likeliest token after a position and the second one. Mostly texts go round in circles, so
/// that guesses can be right; but where they leave them depends on all tokens before.
fn next(kept: u64, token: u32) -> [u32; 2] {
    let any = |hash: u64| FIRST + (hash % (VOCABULARY as u64 - u64::from(FIRST))) as u32;
    let at = token - FIRST;
    let circle = FIRST + at / CIRCLE * CIRCLE + (at + 1) % CIRCLE;
    if kept.is_multiple_of(5) { [any(kept >> 8), circle] } else { [circle, any(kept >> 8)] }
}

/// The logits after a position.
fn logits(kept: u64, token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; VOCABULARY];
    let [first, second] = next(kept, token);
    logits[second as usize] = 28.0;
    logits[first as usize] = 29.0;
    logits
}

/// Pages of a machine.
pub struct Device {
    /// What each position keeps.
    pub pages: Vec<[u64; PAGE_LEN]>,
    /// The states before the head that the last batch wanted.
    pub hidden: Vec<f32>,
    /// Whether a token's state depends on those after it: see [`crate::Limits::reads_whole`].
    pub reads_whole: bool,
}

/// What all tokens of a text add to each one's state.
fn whole(tokens: &[u32]) -> u64 {
    tokens.iter().fold(1, |kept, &token| mix(kept, token))
}

/// The state of a position before the head.
fn state(kept: u64) -> [f32; 3] {
    [0, 10, 20].map(|shift| (kept >> shift & 0x3ff) as f32)
}

impl Device {
    pub fn new(n_pages: usize) -> Self {
        Self { pages: vec![[u64::MAX; PAGE_LEN]; n_pages], hidden: Vec::new(), reads_whole: false }
    }

    pub fn run(&mut self, core: &Core, batch: &Batch) -> Vec<f32> {
        for &(from, to) in &batch.copies {
            self.pages[to as usize] = self.pages[from as usize];
        }
        let mut all = Vec::new();
        self.hidden.clear();
        for chunk in core.chunks(batch) {
            let all_tokens = if self.reads_whole { whole(chunk.tokens) } else { 0 };
            assert!(!self.reads_whole || chunk.position == 0, "a text is read at once");
            for (i, &token) in chunk.tokens.iter().enumerate() {
                let at = chunk.position + i;
                let slot = |at: usize| (chunk.pages[at / PAGE_LEN] as usize, at % PAGE_LEN);
                let before = at.checked_sub(1).map_or(0, |at| {
                    let (page, slot) = slot(at);
                    self.pages[page][slot]
                });
                let kept = mix(before, token);
                let (page, slot) = slot(at);
                self.pages[page][slot] = kept;
                let is_last = i + 1 == chunk.tokens.len();
                match chunk.logits {
                    Logits::All => all.extend(logits(kept, token)),
                    Logits::Last if is_last => all.extend(logits(kept, token)),
                    Logits::AllHidden => self.hidden.extend(state(kept ^ all_tokens)),
                    Logits::LastHidden if is_last => {
                        self.hidden.extend(state(kept ^ all_tokens));
                    }
                    Logits::None | Logits::Last | Logits::LastHidden => {}
                }
            }
        }
        all
    }
}

/// The answer to a request that is alone in the world.
pub fn expected(request: &Request) -> Vec<u32> {
    let mut tokens = request.prompt.clone();
    let mut kept = tokens.iter().fold(0, |kept, &token| mix(kept, token));
    let mut sampler = Sampler::new(request.sampling.clone());
    let n_prompt = tokens.len();
    for _ in 0..request.max_tokens {
        let logits = logits(kept, tokens[tokens.len() - 1]);
        let token = sampler.sample_after(&logits, &tokens, n_prompt).unwrap();
        tokens.push(token);
        kept = mix(kept, token);
    }
    tokens.split_off(n_prompt)
}

/// The embedding of a request that is alone in the world.
pub fn embedded(request: &Request) -> Option<Vec<f32>> {
    embedded_by(request, 0)
}

/// The same by a machine that reads texts as a whole.
pub fn encoded(request: &Request) -> Option<Vec<f32>> {
    embedded_by(request, whole(&request.prompt))
}

fn embedded_by(request: &Request, all_tokens: u64) -> Option<Vec<f32>> {
    let mut kept = 0;
    let mut pool = Pool::default();
    for &token in &request.prompt {
        kept = mix(kept, token);
        match request.embed? {
            Pooling::Mean => {}
            Pooling::Last => pool.clear(),
            Pooling::First if pool.is_empty() => {}
            Pooling::First => break,
        }
        pool.add(&state(kept ^ all_tokens));
    }
    Some(pool.embedding())
}

/// The likeliest tokens after others.
pub fn continued(tokens: &[u32], most: usize) -> Vec<u32> {
    let mut kept = tokens.iter().fold(0, |kept, &token| mix(kept, token));
    let mut last = tokens[tokens.len() - 1];
    let mut next = || {
        [last, _] = next(kept, last);
        kept = mix(kept, last);
        last
    };
    (0..most).map(|_| next()).collect()
}
