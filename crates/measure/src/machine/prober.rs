//! One ceiling probed again and again, between the runs that are held against it.
//!
//! A shared machine's bandwidth drifts within seconds, so a run is compared with its own
//! neighbour, not with a profile of yesterday. In: a roof, probes, threads. Out: a rate per call.
//! The threads and their memory stay; between calls they sleep.

use super::Probes;
use super::ceilings::{Work, reading};
use crate::{Clock, Unit};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roof {
    /// Reading memory; each thread has so many bytes of its own, all of them far above its share of
    /// the last cache.
    MemoryRead {
        /// Bytes of each thread.
        thread_bytes: usize,
    },
    /// int8 dots on registers.
    Int8Peak,
    /// f32 FMAs on registers.
    F32Peak,
    /// bf16 dots on registers.
    Bf16Peak,
}

impl Roof {
    /// Those of arithmetic.
    pub const PEAKS: [Self; 3] = [Self::F32Peak, Self::Int8Peak, Self::Bf16Peak];

    /// The ceiling's name, as in [`super::Ceilings`].
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryRead { .. } => "memory_read",
            Self::Int8Peak => "int8_peak",
            Self::F32Peak => "f32_peak",
            Self::Bf16Peak => "bf16_peak",
        }
    }

    /// What it is counted in.
    pub fn unit(self) -> Unit {
        match self {
            Self::MemoryRead { .. } => Unit::BytesPerSecond,
            Self::Int8Peak | Self::F32Peak | Self::Bf16Peak => Unit::OpsPerSecond,
        }
    }

    fn work(self, probes: &dyn Probes) -> Work<'_> {
        match self {
            Self::MemoryRead { thread_bytes } => reading(probes, thread_bytes),
            Self::Int8Peak => Box::new(|n| probes.int8_ops(n)),
            Self::F32Peak => Box::new(|n| probes.f32_ops(n)),
            Self::Bf16Peak => Box::new(|n| probes.bf16_ops(n)),
        }
    }
}

/// Threads that wait to probe. Dropping it ends them.
pub struct Prober {
    roof: Roof,
    threads: Vec<Worker>,
}

struct Worker {
    /// `None` once its end has been asked for.
    orders: Option<Sender<Duration>>,
    rates: Receiver<Option<f64>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts the threads, which touch their memory first. `clock` must move.
    pub fn start<P, C>(roof: Roof, probes: P, n_threads: usize, clock: C) -> Self
    where
        P: Probes + Clone + Send + 'static,
        C: Clock + Clone + Send + 'static,
    {
        let worker = |_| {
            let (probes, clock) = (probes.clone(), clock.clone());
            let (orders, from_parent) = channel();
            let (to_parent, rates) = channel();
            let thread = std::thread::spawn(move || {
                let mut work = roof.work(&probes);
                for length in from_parent {
                    if to_parent.send(rate(&mut work, length, &clock)).is_err() {
                        break;
                    }
                }
            });
            Worker { orders: Some(orders), rates, thread: Some(thread) }
        };
        Self { roof, threads: (0..n_threads).map(worker).collect() }
    }

    /// What it probes.
    pub fn roof(&self) -> Roof {
        self.roof
    }

    /// The rate of all threads together, probed for about `length`; `None` where the probes have no
    /// such loop.
    ///
    /// # Panics
    /// When a probe did.
    pub fn sample(&mut self, length: Duration) -> Option<f64> {
        for worker in &self.threads {
            let orders = worker.orders.as_ref().expect("only dropping closes it");
            orders.send(length).expect("a probe does not end before it is told to");
        }
        let rates = self.threads.iter().map(|worker| worker.rates.recv());
        rates.map(|rate| rate.expect("a probe answers every order")).sum()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        for worker in &mut self.threads {
            worker.orders = None;
            if let Some(thread) = worker.thread.take() {
                // A probe that panicked has said so.
                let _ = thread.join();
            }
        }
    }
}

/// Works for about `length`; the amount done per second.
fn rate(work: &mut Work<'_>, length: Duration, clock: &dyn Clock) -> Option<f64> {
    let (mut amount, mut done) = (1 << 16, 0);
    let begin = clock.now();
    let mut now = begin;
    while now < begin + length {
        let before = now;
        done += work(amount)?;
        now = clock.now();
        // Long enough that asking the clock costs nothing, short enough to end in time.
        if now - before < length / 64 {
            amount *= 2;
        }
    }
    Some(done as f64 / (now - begin).as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::machine::{PAGE_BYTES, Reader};
    use std::sync::Arc;

    /// Probes on whose clock each byte takes a nanosecond, each int8 operation half of one.
    #[derive(Clone)]
    struct Timed(Arc<SimulatedClock>);

    impl Clock for Timed {
        fn now(&self) -> Duration {
            self.0.now()
        }
    }

    impl Probes for Timed {
        fn name(&self) -> String {
            "timed".into()
        }

        fn reader(&self, n_bytes: usize) -> Reader<'_> {
            Box::new(move || {
                self.0.advance(Duration::from_nanos(n_bytes as u64));
                0
            })
        }

        fn int8_ops(&self, n: u64) -> Option<u64> {
            self.0.advance(Duration::from_nanos(n / 2));
            Some(n)
        }

        fn f32_ops(&self, _: u64) -> Option<u64> {
            None
        }

        fn bf16_ops(&self, _: u64) -> Option<u64> {
            None
        }
    }

    #[test]
    fn a_rate_is_work_over_time() {
        let clock = Timed(Arc::default());
        let sample = |roof: Roof| {
            let mut prober = Prober::start(roof, clock.clone(), 1, clock.clone());
            assert_eq!(prober.roof(), roof);
            [10, 50].map(|ms| prober.sample(Duration::from_millis(ms)).map(f64::round))
        };
        let read = Roof::MemoryRead { thread_bytes: 3 * PAGE_BYTES };
        assert_eq!(sample(read), [Some(1e9); 2], "a longer probe finds the same rate");
        assert_eq!(sample(Roof::Int8Peak), [Some(2e9); 2]);
        assert_eq!(sample(Roof::F32Peak), [None; 2], "there is no such loop");
    }

    #[test]
    fn threads_add_up() {
        let clock = crate::clock::RealClock::new();
        let roof = Roof::MemoryRead { thread_bytes: 1 << 20 };
        let mut prober = Prober::start(roof, crate::machine::PortableProbes, 2, clock);
        let rates = [(); 2].map(|()| prober.sample(Duration::from_millis(2)));
        assert!(rates.iter().all(|rate| rate.is_some_and(|rate| rate > 1e6)), "{rates:?}");
    }
}
