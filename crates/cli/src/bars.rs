//! How far an optimization is: a bar per stage on a terminal, a line per stage elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::IsTerminal;
use std::sync::Mutex;
use sterna_optimize::progress::{Progress, Stage};

/// Shows progress on standard error.
pub struct Bars {
    current: Mutex<Option<(Stage, ProgressBar)>>,
    is_terminal: bool,
}

impl Bars {
    /// Nothing shown yet.
    pub fn new() -> Self {
        Self { current: Mutex::new(None), is_terminal: std::io::stderr().is_terminal() }
    }

    /// Ends the last stage; later steps are those of another run.
    pub fn finish(&self) {
        if let Some((stage, bar)) = self.current.lock().expect("no holder panics").take() {
            self.end(stage, &bar);
        }
    }

    fn start(stage: Stage, total: usize) -> ProgressBar {
        let bar = ProgressBar::new(total as u64);
        let shape = "{prefix:12} {bar:30} {pos}/{len} {eta:>4} left  {wide_msg}";
        bar.set_style(ProgressStyle::with_template(shape).expect("the template is a constant"));
        bar.set_prefix(stage.name());
        bar
    }

    /// The bar gives way to a line with the time that the stage took.
    fn end(&self, stage: Stage, bar: &ProgressBar) {
        let seconds = bar.elapsed().as_secs_f64();
        let done = format!("{:12} {seconds:6.1} s", stage.name());
        if self.is_terminal {
            bar.set_style(ProgressStyle::with_template("{msg}").expect("a constant"));
            bar.finish_with_message(done);
        } else {
            eprintln!("{done}");
        }
    }
}

impl Progress for Bars {
    fn step(&self, stage: Stage, done: usize, total: usize, note: &str) {
        let mut current = self.current.lock().expect("no holder panics");
        if current.as_ref().is_none_or(|(at, _)| *at != stage) {
            if let Some((before, bar)) = current.take() {
                self.end(before, &bar);
            }
            *current = Some((stage, Self::start(stage, total)));
        }
        if let Some((_, bar)) = &*current {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(note.to_owned());
        }
    }
}

/// From this many bytes on packing takes long enough to show how far it is.
const SHOWN_FROM_BYTES: usize = 256 << 20;

/// Shows the packing of weights: a bar on a terminal, nothing elsewhere or where it takes no time.
#[derive(Default)]
pub struct PackingBar {
    bar: RefCell<Option<ProgressBar>>,
}

impl PackingBar {
    /// So many bytes of `total` are done.
    pub fn step(&self, done: usize, total: usize) {
        if total < SHOWN_FROM_BYTES || !std::io::stderr().is_terminal() {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let shape = "preparing weights {bar:30} {bytes}/{total_bytes} {eta:>4} left";
            let style = ProgressStyle::with_template(shape).expect("the template is a constant");
            ProgressBar::new(total as u64).with_style(style)
        });
        bar.set_position(done as u64);
        if done == total {
            bar.finish_and_clear();
        }
    }
}
