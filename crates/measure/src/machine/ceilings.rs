//! What the machine can do at most: read bandwidth and arithmetic peaks for 1..N threads.
//!
//! In: probes (loops that only read, or only multiply), a clock, and how to pin a thread. Out:
//! [`Ceilings`], the roofs that a kernel's speed is held against.

use crate::{Clock, Figure, MeasureError, Samples, Unit, machine::Machine};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Loops that each do one thing as fast as the CPU can. `cli` passes the SIMD ones; the portable
/// ones show what plain code reaches.
pub trait Probes: Sync {
    /// Which loops these are, such as `portable` or `avx512_vnni`.
    fn name(&self) -> String;
    /// Memory of this many bytes (a multiple of [`PAGE_BYTES`]) on the calling thread's node, every
    /// page touched, in huge pages where possible; each call reads all of it once.
    fn reader(&self, n_bytes: usize) -> Reader<'_>;
    /// About `n` int8 operations (a multiply-add is two); how many were done, `None` where the
    /// probes have no such loop.
    fn int8_ops(&self, n: u64) -> Option<u64>;
    /// The same with f32 fused multiply-adds.
    fn f32_ops(&self, n: u64) -> Option<u64>;
    /// The same with bf16 dot products into f32.
    fn bf16_ops(&self, n: u64) -> Option<u64>;
}

/// One reading of some memory; the sum keeps the compiler honest.
pub type Reader<'p> = Box<dyn FnMut() -> u64 + 'p>;

/// Readers hold whole pages of this size, so that every probe's own unit of memory fits.
pub const PAGE_BYTES: usize = 4096;

/// Called on each measuring thread with its index, to pin it; threads float where it does nothing.
pub type Pin<'p> = dyn Fn(usize) + Sync + 'p;

/// One ceiling at one number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// Threads that worked at once.
    pub n_threads: usize,
    /// The rate of all of them together.
    pub figure: Figure,
}

/// All ceilings of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceilings {
    /// The loops that measured them.
    pub probes: String,
    /// One entry per quantity and number of threads.
    pub all: Vec<Ceiling>,
}

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Bytes that each thread reads for memory bandwidth; far above the last-level cache's share.
    pub memory_bytes: usize,
    /// Repetitions; the ceiling is the greatest rate, as other work can only slow a probe down.
    pub n_repetitions: usize,
    /// Aimed length of one repetition.
    pub repetition: Duration,
}

impl Effort {
    /// Enough for a profile that is kept: some seconds per number of threads.
    pub fn thorough(machine: &Machine) -> Self {
        let cache = machine.last_level_cache().map_or(32 << 20, |cache| cache.bytes);
        let share = machine.usable_memory_bytes().map_or(1 << 30, |bytes| bytes / 8);
        // Cloud CPUs report caches of whole sockets; past 512 MiB nothing is learnt.
        let memory_bytes = (4 * cache).clamp(128 << 20, 512 << 20).min(share) as usize;
        Self { memory_bytes, n_repetitions: 7, repetition: Duration::from_millis(60) }
    }
}

/// What is probed, and its unit.
const QUANTITIES: [(&str, Unit); 5] = [
    ("memory_read", Unit::BytesPerSecond),
    ("cache_read", Unit::BytesPerSecond),
    ("int8_peak", Unit::OpsPerSecond),
    ("f32_peak", Unit::OpsPerSecond),
    ("bf16_peak", Unit::OpsPerSecond),
];

/// A quantity with how a thread gets ready for it.
struct Quantity<'q> {
    name: &'static str,
    unit: Unit,
    prepare: &'q Prepare<'q>,
}

/// Called on each measuring thread for the work that it repeats.
type Prepare<'p> = dyn Fn() -> Work<'p> + Sync + 'p;

/// Called with a wanted amount; gives the amount done, or `None` if there is no such loop.
pub(super) type Work<'p> = Box<dyn FnMut(u64) -> Option<u64> + 'p>;

/// Reads `n_bytes` again and again until about the wanted amount is read.
pub(super) fn reading(probes: &dyn Probes, n_bytes: usize) -> Work<'_> {
    let n_bytes = n_bytes.next_multiple_of(PAGE_BYTES);
    let mut read = probes.reader(n_bytes);
    Box::new(move |amount| {
        let n_passes = amount.div_ceil(n_bytes as u64);
        (0..n_passes).for_each(|_| _ = std::hint::black_box(read()));
        Some(n_passes * n_bytes as u64)
    })
}

impl Ceilings {
    /// Measures every ceiling with 1, 2, 4, ... and `max_threads` threads. For `memory_read` each
    /// thread reads `effort.memory_bytes`, for `cache_read` half of its share of the last level.
    ///
    /// # Errors
    /// If the clock does not move.
    pub fn measure(
        probes: &dyn Probes,
        machine: &Machine,
        max_threads: usize,
        effort: &Effort,
        clock: &dyn Clock,
        pin: &Pin,
    ) -> Result<Self, MeasureError> {
        let mut all = Vec::new();
        for (name, _) in QUANTITIES {
            for n_threads in thread_counts(max_threads) {
                let figure = Self::one(name, probes, machine, n_threads, effort, clock, pin)?;
                all.push(Ceiling { n_threads, figure });
            }
        }
        Ok(Self { probes: probes.name(), all })
    }

    /// Measures one ceiling, such as `int8_peak`, with exactly `n_threads` threads: what a speed
    /// measured right beside it is held against.
    ///
    /// # Errors
    /// If there is no ceiling of that name, or the clock does not move.
    fn one(
        name: &str,
        probes: &dyn Probes,
        machine: &Machine,
        n_threads: usize,
        effort: &Effort,
        clock: &dyn Clock,
        pin: &Pin,
    ) -> Result<Figure, MeasureError> {
        let known = QUANTITIES.into_iter().find(|(known, _)| *known == name);
        let Some((name, unit)) = known else {
            return Err(MeasureError::Data(format!("there is no ceiling named {name}")));
        };
        let prepare = || -> Work<'_> {
            match name {
                "memory_read" => reading(probes, effort.memory_bytes),
                "cache_read" => reading(probes, cache_bytes(machine)),
                "int8_peak" => Box::new(|n| probes.int8_ops(n)),
                "f32_peak" => Box::new(|n| probes.f32_ops(n)),
                _ => Box::new(|n| probes.bf16_ops(n)),
            }
        };
        let quantity = Quantity { name, unit, prepare: &prepare };
        measure_one(&quantity, probes, n_threads, effort, clock, pin)
    }

    /// The ceiling of that name at that number of threads, or at the nearest number below.
    pub fn get(&self, name: &str, n_threads: usize) -> Option<f64> {
        let fitting = self
            .all
            .iter()
            .filter(|ceiling| ceiling.figure.name() == name && ceiling.n_threads <= n_threads);
        fitting.max_by_key(|ceiling| ceiling.n_threads)?.figure.value()
    }

    /// The ceilings as text, one line per quantity and number of threads.
    pub fn table(&self) -> String {
        let line = |ceiling: &Ceiling| {
            let rate = ceiling.figure.value().map_or("unavailable".into(), |value| {
                let unit =
                    if ceiling.figure.unit() == Unit::OpsPerSecond { "GOP/s" } else { "GB/s" };
                format!("{:.1} {unit}", value / 1e9)
            });
            format!("{:<12} {:>3} threads {rate:>16}\n", ceiling.figure.name(), ceiling.n_threads)
        };
        self.all.iter().map(line).collect()
    }
}

/// 1, 2, 4, ... and the greatest itself.
fn thread_counts(max_threads: usize) -> Vec<usize> {
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < max_threads).collect();
    counts.push(max_threads.max(1));
    counts
}

fn cache_bytes(machine: &Machine) -> usize {
    let Some(cache) = machine.last_level_cache() else {
        return 1 << 20;
    };
    // The kernel may count CPUs of the host that this machine does not have.
    let share = cache.bytes / cache.n_sharing.max(1) as u64 / 2;
    share.clamp(256 << 10, 16 << 20) as usize
}

fn measure_one(
    quantity: &Quantity,
    probes: &dyn Probes,
    n_threads: usize,
    effort: &Effort,
    clock: &dyn Clock,
    pin: &Pin,
) -> Result<Figure, MeasureError> {
    let Quantity { name, unit, .. } = *quantity;
    let method = format!("best of repetitions, {} probes, {n_threads} threads", probes.name());
    let Some(rates) = rates(quantity, n_threads, effort, clock, pin) else {
        let reason = "these probes have no such loop on this CPU";
        return Figure::unavailable(name, unit, &method, reason);
    };
    let samples = Samples::new(name, rates)?;
    Figure::estimated(name, unit, &method, samples.max(), samples.n(), None)
}

/// The rate of each repetition, all threads together; the slowest thread ends a repetition.
fn rates(
    quantity: &Quantity,
    n_threads: usize,
    effort: &Effort,
    clock: &dyn Clock,
    pin: &Pin,
) -> Option<Vec<f64>> {
    let amount = calibrate(quantity, effort, clock)?;
    let n_repetitions = effort.n_repetitions.max(1);
    let start = Barrier::new(n_threads + 1);
    let end = Barrier::new(n_threads + 1);
    let done = AtomicU64::new(0);
    let worker = |index: usize| {
        pin(index);
        let mut work = (quantity.prepare)();
        work(amount);
        for _ in 0..n_repetitions {
            start.wait();
            let n = work(amount).unwrap_or(0);
            done.fetch_add(n, Ordering::Relaxed);
            end.wait();
        }
    };
    std::thread::scope(|scope| {
        for index in 0..n_threads {
            let worker = &worker;
            scope.spawn(move || worker(index));
        }
        let repetition = |_| {
            start.wait();
            let begin = clock.now();
            end.wait();
            let seconds = (clock.now() - begin).as_secs_f64();
            done.swap(0, Ordering::Relaxed) as f64 / seconds
        };
        Some((0..n_repetitions).map(repetition).collect())
    })
}

/// The amount of work that fills one repetition.
fn calibrate(quantity: &Quantity, effort: &Effort, clock: &dyn Clock) -> Option<u64> {
    let mut work = (quantity.prepare)();
    let mut amount = 1 << 16;
    loop {
        let begin = clock.now();
        let done = work(amount)?;
        let seconds = (clock.now() - begin).as_secs_f64();
        let wanted = effort.repetition.as_secs_f64();
        // A tenth of a repetition is long enough to tell the rate; and a clock that stands still
        // must not keep us.
        if seconds >= wanted / 10.0 || amount >= 1 << 40 {
            return Some((done as f64 * wanted / seconds.max(1e-9)) as u64);
        }
        amount *= 4;
    }
}

/// Loops in plain Rust: right on every machine, and as fast as the compiler makes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct PortableProbes;

/// Values worked on at once, enough for several vector registers to be busy.
const LANES: usize = 64;

impl Probes for PortableProbes {
    fn name(&self) -> String {
        "portable".into()
    }

    fn reader(&self, n_bytes: usize) -> Reader<'_> {
        let memory = vec![1; n_bytes / 8];
        Box::new(move || sum(&memory))
    }

    fn int8_ops(&self, n: u64) -> Option<u64> {
        let codes: [i8; LANES] = std::hint::black_box([3; LANES]);
        let mut sums = [1i16; LANES];
        let n_steps = n.div_ceil(2 * LANES as u64);
        for _ in 0..n_steps {
            for (sum, code) in sums.iter_mut().zip(codes) {
                *sum = sum.wrapping_mul(i16::from(code)).wrapping_add(1);
            }
        }
        std::hint::black_box(sums);
        Some(n_steps * 2 * LANES as u64)
    }

    fn f32_ops(&self, n: u64) -> Option<u64> {
        let factors: [f32; LANES] = std::hint::black_box([0.999; LANES]);
        let mut sums = [1.0f32; LANES];
        let n_steps = n.div_ceil(2 * LANES as u64);
        for _ in 0..n_steps {
            for (sum, factor) in sums.iter_mut().zip(factors) {
                // Not `mul_add`: without the CPU feature that is a call.
                *sum = *sum * factor + factor;
            }
        }
        std::hint::black_box(sums);
        Some(n_steps * 2 * LANES as u64)
    }

    fn bf16_ops(&self, _: u64) -> Option<u64> {
        None
    }
}

/// The sum of all words, in lanes that a vector unit can keep apart.
fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; LANES];
    let chunks = words.chunks_exact(LANES);
    let rest: u64 = chunks.remainder().iter().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, word)| *lane = lane.wrapping_add(*word));
    }
    lanes.iter().fold(rest, |sum, lane| sum.wrapping_add(*lane))
}
