//! A machine whose pages keep a hash of all tokens up to each position.

use super::*;

/// Pages of a machine.
pub struct Device {
    /// What each position keeps.
    pub pages: Vec<[u64; PAGE_LEN]>,
}

impl Device {
    pub fn new(n_pages: usize) -> Self {
        Self { pages: vec![[u64::MAX; PAGE_LEN]; n_pages] }
    }

    pub fn run(&mut self, core: &Core, batch: &Batch) -> Vec<f32> {
        for &(from, to) in &batch.copies {
            self.pages[to as usize] = self.pages[from as usize];
        }
        let mut logits = Vec::new();
        for chunk in core.chunks(batch) {
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
                let is_wanted = match chunk.logits {
                    Logits::None => false,
                    Logits::Last => i + 1 == chunk.tokens.len(),
                    Logits::All => true,
                };
                if is_wanted {
                    let start = logits.len();
                    logits.resize(start + VOCABULARY, 0.0);
                    logits[start + next(kept) as usize] = 1.0;
                }
            }
        }
        logits
    }
}
