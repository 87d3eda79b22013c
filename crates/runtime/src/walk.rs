//! A batch's walk through the steps of a program, as a job of the team.

use crate::ahead::Ahead;
use crate::profile::Recorder;
use crate::steps::{Planned, Rows, Run};
use crate::team::{Io, Items, Job};

/// One batch through all steps.
pub struct Walk<'a> {
    /// The steps.
    pub steps: &'a [Planned],
    /// The batch.
    pub run: Run<'a>,
    /// Who shares the work.
    pub n_workers: usize,
    /// Times the steps.
    pub recorder: Option<&'a Recorder>,
    /// Loads weights before they are needed.
    pub ahead: Option<Ahead<'a>>,
}

impl Walk<'_> {
    fn n_rows(&self, rows: Rows) -> usize {
        self.run.batch.n_rows(rows)
    }
}

impl Job for Walk<'_> {
    fn items(&self, step: usize) -> Items {
        let planned = &self.steps[step];
        planned.step.items(self.n_rows(planned.rows), self.n_workers)
    }

    fn work(&self, io: Io<'_>) {
        let planned = &self.steps[io.step()];
        let work = || planned.step.work(&io, &self.run, self.n_rows(planned.rows));
        match self.recorder {
            None => work(),
            Some(recorder) => recorder.claim(io.step(), io.worker(), work),
        }
    }

    fn finished(&self, step: usize) {
        if let Some(recorder) = self.recorder {
            recorder.finished(step);
        }
        if let Some(ahead) = &self.ahead {
            ahead.reach(self.steps[step].weights_end);
        }
    }
}
