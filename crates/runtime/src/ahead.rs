//! Weights that lie in a file, asked for from the disk before the steps that read them, and let go
//! of after those that did where a program is to take little memory.

use crate::cache::Image;
use crate::steps::Planned;
use std::sync::atomic::{AtomicUsize, Ordering};
use sterna_kernels::Line;

/// Bytes of weights that are asked for ahead of the step that computes.
const AHEAD_BYTES: usize = 64 << 20;

/// Asks for the weights of the next steps while a step computes.
pub(crate) struct Ahead<'a> {
    image: &'a Image,
    n_lines: usize,
    /// Lines asked for so far; worker 0 alone moves it.
    asked: AtomicUsize,
    /// Lines let go of so far; it moves it too.
    left: AtomicUsize,
}

impl<'a> Ahead<'a> {
    /// Asks for the first weights. Of a table of embeddings few rows are read, so it is left out.
    pub(crate) fn start(image: &'a Image, steps: &[Planned]) -> Self {
        let table = steps.first().filter(|first| first.step.kind() == "embed");
        let first = table.map_or(0, |table| table.weights_end);
        let n_lines = image.lines().len();
        let ahead = Self { image, n_lines, asked: AtomicUsize::new(first), left: 0.into() };
        ahead.reach(first);
        ahead
    }

    /// Asks for what follows the first `done` lines, which few steps of this walk read again.
    pub(crate) fn reach(&self, done: usize) {
        let end = (done + AHEAD_BYTES / size_of::<Line>()).min(self.n_lines);
        let asked = self.asked.load(Ordering::Relaxed);
        if asked < end {
            self.asked.store(end, Ordering::Relaxed);
            self.image.will_need(asked..end);
        }
        let left = self.left.load(Ordering::Relaxed);
        if self.image.is_passing() && left < done {
            self.left.store(done, Ordering::Relaxed);
            self.image.let_go(left..done);
        }
    }
}
