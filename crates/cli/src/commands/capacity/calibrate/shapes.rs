//! Which batches are measured.
//!
//! In: what an engine may use. Out: shapes that fit it, over the range of what it plans: few tokens
//! being generated and many, near the beginning of a sequence and far into it, prompts short and
//! long, both together. Those that are held out lie between those that are fitted.

use sterna_measure::capacity::BatchShape;
use sterna_runtime::settings::PAGE_LEN;

/// What an engine may use.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Pages of keys and values.
    pub n_pages: usize,
    /// Tokens of a sequence.
    pub context_len: usize,
    /// Rows of a batch.
    pub max_rows: usize,
    /// Sequences of a batch.
    pub max_running: usize,
}

/// The next tokens of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Positions before them.
    pub depth: usize,
    /// Tokens.
    pub n_tokens: usize,
    /// Whether the next token is chosen.
    pub wants_logits: bool,
    /// Whether it is one token being generated.
    pub is_decode: bool,
}

/// A batch to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its sequences' parts.
    pub parts: Vec<Part>,
    /// The first pages of each, which are the same for all.
    pub n_shared: usize,
    /// Pages copied.
    pub copies: usize,
    /// Whether it judges the fit.
    pub is_held_out: bool,
}

/// A depth at which attention hardly counts, and the one at which it counts most.
const NEAR: usize = 64;
const FAR: usize = 1024;

/// All shapes that fit.
pub fn shapes(room: &Room) -> Vec<Planned> {
    let near = NEAR.min(room.context_len / 4);
    let far = FAR.min(room.context_len / 4 * 3);
    let middle = (near + far) / 2;
    let fitted = [
        generate(1, near),
        generate(4, near),
        generate(16, near),
        generate(64, near),
        generate(128, near),
        generate(1, far),
        generate(4, far),
        generate(16, far),
        prompt(4, 0),
        prompt(16, 0),
        prompt(64, 0),
        prompt(64, 0).silent(),
        prompt(256, 0),
        prompt(512, 0),
        prompt(64, far),
        prompt(256, far),
        generate(16, near).and(prompt(64, 0)),
        generate(64, near).and(prompt(256, 0)),
        prompt(16, 0).copying(8),
        generate(16, far).sharing(),
        generate(64, middle).sharing(),
        prompts(16, 16, near).sharing(),
    ];
    let held_out = [
        generate(2, near),
        generate(8, far),
        generate(32, middle),
        generate(96, near),
        prompt(128, 0),
        prompt(384, 0),
        generate(32, near).and(prompt(128, middle)),
        generate(32, middle).sharing(),
        prompts(8, 16, middle).sharing(),
    ];
    let held_out = held_out.map(|planned| Planned { is_held_out: true, ..planned });
    fitted.into_iter().chain(held_out).filter(|planned| planned.fits(room)).collect()
}

/// So many sequences, each a token further.
fn generate(n: usize, depth: usize) -> Planned {
    let part = Part { depth, n_tokens: 1, wants_logits: true, is_decode: true };
    Planned { parts: vec![part; n], n_shared: 0, copies: 0, is_held_out: false }
}

/// The end of a prompt.
fn prompt(n_tokens: usize, depth: usize) -> Planned {
    prompts(1, n_tokens, depth)
}

/// The ends of so many prompts.
fn prompts(n: usize, n_tokens: usize, depth: usize) -> Planned {
    let part = Part { depth, n_tokens, wants_logits: true, is_decode: false };
    Planned { parts: vec![part; n], n_shared: 0, copies: 0, is_held_out: false }
}

impl Planned {
    /// In one batch with another.
    fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// With no token chosen, as within a prompt.
    fn silent(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.wants_logits = false);
        self
    }

    /// With the full pages before the next tokens shared by all.
    fn sharing(self) -> Self {
        let n_shared = self.parts.iter().map(|part| part.depth / PAGE_LEN).min().unwrap_or(0);
        Self { n_shared, ..self }
    }

    /// After so many copies of pages.
    fn copying(self, copies: usize) -> Self {
        Self { copies, ..self }
    }

    /// Pages that it takes.
    pub fn n_pages(&self) -> usize {
        self.n_read() + self.copies
    }

    /// Different pages that it reads.
    fn n_read(&self) -> usize {
        let own = self.parts.iter().map(|part| part.n_pages() - self.n_shared);
        self.n_shared + own.sum::<usize>()
    }

    fn fits(&self, room: &Room) -> bool {
        let n_rows: usize = self.parts.iter().map(|part| part.n_tokens).sum();
        self.n_pages() <= room.n_pages
            && n_rows <= room.max_rows
            && self.parts.len() <= room.max_running
            && self.parts.iter().all(|part| part.depth + part.n_tokens <= room.context_len)
    }

    /// For people.
    pub fn name(&self) -> String {
        let decodes: Vec<&Part> = self.parts.iter().filter(|part| part.is_decode).collect();
        let mut words = Vec::new();
        if let Some(first) = decodes.first() {
            words.push(format!("generate {} @ {}", decodes.len(), first.depth));
        }
        let prompts: Vec<&Part> = self.parts.iter().filter(|part| !part.is_decode).collect();
        if let Some(Part { n_tokens, depth, wants_logits, .. }) = prompts.first() {
            let silent = if *wants_logits { "" } else { " without its end" };
            let times = if prompts.len() > 1 { format!("{} x ", prompts.len()) } else { "".into() };
            words.push(format!("prompt {times}{n_tokens} @ {depth}{silent}"));
        }
        if self.n_shared > 0 {
            words.push(format!("{} pages shared", self.n_shared));
        }
        if self.copies > 0 {
            words.push(format!("{} copies", self.copies));
        }
        words.join(" + ")
    }

    /// What it computes.
    pub fn shape(&self) -> BatchShape {
        let (pages, copies) = (self.n_read(), self.copies);
        let none = BatchShape { pages, copies, ..BatchShape::default() };
        self.parts.iter().fold(none, |shape, part| match part.is_decode {
            true => shape.with_decodes(1, part.depth),
            false => shape.with_prompt(part.n_tokens, part.depth, usize::from(part.wants_logits)),
        })
    }
}

impl Part {
    /// Pages that it takes.
    pub fn n_pages(&self) -> usize {
        (self.depth + self.n_tokens).div_ceil(PAGE_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves A22 (in part: there are shapes to measure for any engine)
    #[test]
    fn shapes_fit_whatever_room_there_is() {
        let roomy = Room { n_pages: 4096, context_len: 4096, max_rows: 512, max_running: 128 };
        assert_eq!(shapes(&roomy).len(), 31);
        for room in [
            roomy,
            Room { n_pages: 20, ..roomy },
            Room { context_len: 32, n_pages: 1, ..roomy },
            Room { max_rows: 1, ..roomy },
            Room { max_running: 1, ..roomy },
        ] {
            let all = shapes(&room);
            assert!(all.iter().any(|planned| !planned.is_held_out), "{room:?}");
            for planned in all {
                let shape = planned.shape();
                assert!(shape.rows() <= room.max_rows && planned.parts.len() <= room.max_running);
                assert!(planned.n_pages() <= room.n_pages, "{room:?} {}", planned.name());
            }
        }
    }

    #[test]
    fn a_shape_is_named_and_counted() {
        let planned = generate(2, 64).and(prompt(16, 8)).copying(3);
        assert_eq!(planned.name(), "generate 2 @ 64 + prompt 16 @ 8 + 3 copies");
        let shape = BatchShape {
            prompt_rows: 16,
            decode_rows: 2,
            prompt_positions: 16 * 8 + 16 * 17 / 2,
            decode_positions: 2 * 65,
            pages: 2 * 3 + 1,
            logit_rows: 3,
            copies: 3,
        };
        assert_eq!(planned.shape(), shape);
        assert_eq!(planned.n_pages(), 2 * 3 + 1 + 3);
        let shared = prompts(4, 16, 70).sharing();
        assert_eq!(shared.name(), "prompt 4 x 16 @ 70 + 2 pages shared");
        // 86 tokens are 3 pages, of which 2 are full before the prompt's end.
        assert_eq!((shared.shape().pages, shared.n_pages()), (2 + 4, 2 + 4));
        assert_eq!(prompt(4, 0).silent().shape().logit_rows, 0);
    }
}
