//! The thread that looks at the time and at the machine's memory, so that models go that nobody
//! uses or that there is no room for any more.

use super::{Resident, Shared};
use crate::entry::ModelId;
use crate::manager::Event;
use crate::pressure::Reading;
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

/// How often to look, and where.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Where `proc` and `sys` are: `/`, but in tests.
    pub root: PathBuf,
    /// Time between two looks at who is idle.
    pub beat: Duration,
    /// Beats between two looks at the machine's memory.
    pub beats_per_reading: u32,
}

impl Default for Watch {
    fn default() -> Self {
        // System 001 looks at the memory every 10 s.
        Self { root: "/".into(), beat: Duration::from_secs(1), beats_per_reading: 10 }
    }
}

impl Watch {
    /// Looks until the fleet is gone.
    pub(super) fn run(&self, shared: &Weak<Shared>) {
        for beat in 1u32.. {
            std::thread::sleep(self.beat);
            let Some(shared) = shared.upgrade() else { return };
            let mut inside = shared.lock();
            let in_use = inside.models.iter().enumerate().filter_map(|(i, resident)| {
                resident.as_ref().is_some_and(Resident::is_in_use).then_some(ModelId(i))
            });
            let in_use = in_use.collect();
            shared.apply(&mut inside, Event::Tick(in_use));
            drop(inside);
            if beat.is_multiple_of(self.beats_per_reading) {
                let reading = Reading::under(&self.root);
                shared.apply(&mut shared.lock(), Event::Memory(reading));
            }
        }
    }
}
