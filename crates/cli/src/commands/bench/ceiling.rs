//! The ceilings that tests are held against, probed beside their runs.

use crate::probes::KernelProbes;
use crate::scoring::Scorer;
use std::time::Duration;
use sterna_kernels::Level;
use sterna_measure::clock::RealClock;
use sterna_measure::latency::{BenchTest, Held, nearest};
use sterna_measure::machine::{Effort, Machine, Prober, Roof};

/// Length of one probe.
const PROBE: Duration = Duration::from_millis(60);

/// A team spins for about a millisecond after its work; a probe waits until it sleeps.
const SETTLE: Duration = Duration::from_millis(2);

/// The least memory that a thread reads in a probe.
const LEAST_THREAD_BYTES: usize = 64 << 20;

/// A ceiling that may bound a test.
#[derive(Clone, Copy)]
struct Bound {
    roof: Roof,
    /// Bytes or operations of a token.
    work_per_token: f64,
}

/// Probes for models on one ISA and number of threads, started when first needed.
pub struct Neighbours {
    level: Level,
    n_threads: usize,
    probers: Vec<Prober>,
}

impl Neighbours {
    /// For models that run so.
    pub fn of(model: &Scorer) -> Self {
        Self { level: model.level(), n_threads: model.n_threads(), probers: Vec::new() }
    }

    /// Makes ready to probe what may bound a test.
    pub fn beside(&mut self, model: &Scorer, test: &BenchTest) -> Beside<'_> {
        let bounds = bounds(model, test, self.n_threads);
        for bound in &bounds {
            if self.probers.iter().all(|prober| prober.roof() != bound.roof) {
                let (probes, clock) = (KernelProbes(self.level), RealClock::new());
                self.probers.push(Prober::start(bound.roof, probes, self.n_threads, clock));
            }
        }
        let samples = vec![Vec::new(); bounds.len()];
        Beside { probers: &mut self.probers, bounds, samples }
    }
}

/// The probes of one test.
pub struct Beside<'n> {
    probers: &'n mut [Prober],
    bounds: Vec<Bound>,
    /// The probes of each bound.
    samples: Vec<Vec<f64>>,
}

impl Beside<'_> {
    /// Probes each ceiling, right before a run.
    pub fn probe(&mut self) {
        std::thread::sleep(SETTLE);
        for (bound, samples) in self.bounds.iter().zip(&mut self.samples) {
            let prober = self.probers.iter_mut().find(|prober| prober.roof() == bound.roof);
            samples.extend(prober.expect("started before").sample(PROBE));
        }
    }

    /// The runs held against the ceiling that they came nearest to; `None` where these kernels have
    /// no loop that reaches it.
    ///
    /// # Errors
    /// When a probe found no rate.
    pub fn held(self, rates: &[f64]) -> anyhow::Result<Option<Held>> {
        let probed =
            self.bounds.iter().zip(self.samples).filter(|(_, samples)| !samples.is_empty());
        let held = probed.map(|(bound, samples)| {
            let Bound { roof, work_per_token } = *bound;
            Held::new(roof.name(), roof.unit(), work_per_token, rates, samples)
        });
        Ok(nearest(held.collect::<Result<_, _>>()?))
    }
}

/// What may bound a test: computing a prompt, reading for one sequence, either for several.
fn bounds(model: &Scorer, test: &BenchTest, n_threads: usize) -> Vec<Bound> {
    let cost = model.cost();
    let peak = cost.peak(model.settings());
    if test.n_gen == 0 {
        return vec![Bound { roof: peak, work_per_token: 2.0 * cost.linear_macs_per_token }];
    }
    // Tokens at positions depth.., each of which sees itself too.
    let contexts = test.n_depth + 1..=test.n_depth + test.n_gen;
    let kv = contexts.map(|context| model.kv_read_bytes(context)).sum::<f64>() / test.n_gen as f64;
    let weights = cost.read_bytes_per_token as f64 / test.n_sequences as f64;
    let roof = Roof::MemoryRead { thread_bytes: thread_bytes(n_threads) };
    let mut bounds = vec![Bound { roof, work_per_token: weights + kv }];
    if test.n_sequences > 1 {
        let macs = cost.linear_macs_per_token + cost.head_macs_per_token;
        bounds.push(Bound { roof: peak, work_per_token: 2.0 * macs });
    }
    bounds
}

/// Memory of each thread of a bandwidth probe: together far more than the last cache.
pub fn thread_bytes(n_threads: usize) -> usize {
    let together = Effort::thorough(&Machine::detect()).memory_bytes;
    (together / n_threads).max(LEAST_THREAD_BYTES)
}
