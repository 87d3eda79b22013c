//! The weights' bytes as workers come to need them: read ahead by one thread, let go once packed.

use super::Layout;
use crate::RuntimeError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use sterna_kernels::Line;
use sterna_model::{WeightSource, WeightView};

/// How far reading may be ahead of the first weight that is not packed, in lines of the image.
const AHEAD_LINES: usize = (64 << 20) / size_of::<Line>();

/// The weights of a layout's sections between reading and packing.
pub struct Views<'a> {
    layout: &'a Layout,
    source: &'a dyn WeightSource,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

struct State<'a> {
    /// What was read and is not packed, by section.
    views: Vec<Option<Arc<WeightView<'a>>>>,
    /// Lines of each section that are not packed.
    n_left: Vec<usize>,
    /// The first section of which some are not.
    first: usize,
    /// Somebody failed: nobody needs to wait any more.
    is_stopped: bool,
}

impl<'a> Views<'a> {
    /// Nothing read yet.
    pub fn new(layout: &'a Layout, source: &'a dyn WeightSource) -> Self {
        let n_left: Vec<usize> = layout.sections.iter().map(|s| s.lines.len()).collect();
        let views = n_left.iter().map(|_| None).collect();
        let state = Mutex::new(State { views, n_left, first: 0, is_stopped: false });
        Self { layout, source, state, changed: Condvar::new() }
    }

    /// Reads section after section, until all are read or somebody stopped.
    pub fn read(&self) {
        let _guard = self.guard();
        for (i, section) in self.layout.sections.iter().enumerate() {
            let mut state = self.lock();
            loop {
                let first = self.layout.sections.get(state.first);
                let is_near = |f: &super::Section| section.lines.start < f.lines.end + AHEAD_LINES;
                if state.is_stopped {
                    return;
                }
                if first.is_none_or(is_near) {
                    break;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            let view = self.source.weight(section.weight);
            touch(&view.bytes);
            self.lock().views[i] = Some(Arc::new(view));
            self.changed.notify_all();
        }
    }

    /// A section's weight, as soon as it is read.
    ///
    /// # Errors
    /// When somebody stopped.
    pub fn get(&self, i: usize) -> Result<Arc<WeightView<'a>>, RuntimeError> {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return Err(RuntimeError::Stopped);
            }
            if let Some(view) = &state.views[i] {
                return Ok(view.clone());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that so many lines of a section are packed. With the last its weight is let go: what is
    /// packed is not read from the file again, so its pages need not stay.
    pub fn done(&self, i: usize, n_lines: usize) {
        let mut state = self.lock();
        state.n_left[i] -= n_lines;
        if state.n_left[i] > 0 {
            return;
        }
        state.views[i] = None;
        while state.n_left.get(state.first) == Some(&0) {
            state.first += 1;
        }
        drop(state);
        self.changed.notify_all();
        self.source.release(self.layout.sections[i].weight);
    }

    /// Lets nobody wait any more.
    pub fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Stops the others when the thread that holds it panics.
    pub fn guard(&self) -> Guard<'_, 'a> {
        Guard(self)
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Views::guard`].
pub struct Guard<'v, 'a>(&'v Views<'a>);

impl Drop for Guard<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// Reads a byte of every page, so that all of them are in memory.
fn touch(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().step_by(4096).fold(0, |sum, byte| sum ^ byte));
}
