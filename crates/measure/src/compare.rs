//! Is B faster than A? Interleaved runs of both, and a verdict that knows noise (A7).
//!
//! In: two subjects, each a call that gives its cost. Out: the ratio of their costs with an
//! interval, the noise as A shows it against itself, and a verdict.
//!
//! A round runs A B B A, the next B A A B, so that a steady drift of the machine cancels within the
//! round. The estimate is the median of the rounds' log ratios: bursts of other work move few of
//! them. The number of rounds depends on the width of the interval alone, never on its place, so
//! that looking often does not find differences that are not there.

use crate::{
    Clock, Figure, MeasureError, Samples, Unit,
    figure::short,
    stats::{self, Interval},
};

/// One call of a subject: its cost (seconds, or anything where less is better, positive), or why
/// it failed.
pub type Subject<'s> = dyn FnMut() -> Result<f64, String> + 's;

/// How long to go on, and what counts as a difference.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Calls of each subject before anything counts.
    pub n_warmup: usize,
    /// Rounds before the first look; four calls each.
    pub min_rounds: usize,
    /// Rounds at most.
    pub max_rounds: usize,
    /// Differences below this share are not news, however certain.
    pub floor: f64,
    /// Stop when the interval of the ratio is this narrow to either side.
    pub precision: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { n_warmup: 2, min_rounds: 10, max_rounds: 60, floor: 0.01, precision: 0.005 }
    }
}

/// What the comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// None that exceeds the noise and the floor; `Comparison::resolution` says what would have.
    NoDifference,
    /// A costs less.
    AFaster,
    /// B costs less.
    BFaster,
}

/// Both subjects' costs, and what follows from them.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// A's costs in the order taken, two per round.
    pub a: Samples,
    /// B's.
    pub b: Samples,
    /// The median over rounds of B's cost over A's.
    pub ratio: f64,
    /// Its interval over rounds.
    pub ratio_ci95: Interval,
    /// Three standard errors of the ratio, from how far A strays from itself and B from itself
    /// between neighbouring rounds.
    pub noise: f64,
    /// The smallest difference that could have been called one: the greater of noise and floor.
    pub resolution: f64,
    /// Rounds that counted.
    pub n_rounds: usize,
    /// Whether the interval became as narrow as asked before the rounds ran out.
    pub is_precise: bool,
    /// What follows.
    pub verdict: Verdict,
}

/// Compares by interleaved rounds.
///
/// # Errors
/// If a subject fails, or a cost is not positive and finite.
pub fn compare(
    a: &mut Subject,
    b: &mut Subject,
    settings: &Settings,
) -> Result<Comparison, MeasureError> {
    assert!(
        settings.min_rounds >= stats::MIN_SAMPLES_MEDIAN_INTERVAL,
        "too few rounds for an interval"
    );
    assert!(settings.max_rounds >= settings.min_rounds, "more rounds at least than at most");
    for _ in 0..settings.n_warmup {
        cost(a, "A")?;
        cost(b, "B")?;
    }
    let (mut costs_a, mut costs_b) = (Vec::new(), Vec::new());
    for n_rounds in 1..=settings.max_rounds {
        for is_a in [[false, true, true, false], [true, false, false, true]][n_rounds % 2] {
            if is_a { costs_a.push(cost(a, "A")?) } else { costs_b.push(cost(b, "B")?) }
        }
        let is_look = n_rounds >= settings.min_rounds && n_rounds % 5 == 0;
        if is_look || n_rounds == settings.max_rounds {
            let comparison = Comparison::derive(&costs_a, &costs_b, settings)?;
            if comparison.is_precise || n_rounds == settings.max_rounds {
                return Ok(comparison);
            }
        }
    }
    unreachable!("the last round returns")
}

/// A subject that times `work` with `clock`.
pub fn timed<'s>(
    clock: &'s dyn Clock,
    mut work: impl FnMut() -> Result<(), String> + 's,
) -> impl FnMut() -> Result<f64, String> + 's {
    move || {
        let start = clock.now();
        work()?;
        Ok((clock.now() - start).as_secs_f64())
    }
}

fn cost(subject: &mut Subject, name: &str) -> Result<f64, MeasureError> {
    let what = || format!("the call of {name}");
    let cost = subject().map_err(|why| MeasureError::Failed { what: what(), why })?;
    if cost.is_finite() && cost > 0.0 {
        return Ok(cost);
    }
    let why = format!("its cost came out as {cost}; it is too short for the clock");
    Err(MeasureError::Failed { what: what(), why })
}

/// The standard error of the median log ratio, as the greater of two estimates: how far the ratios
/// scatter, and how far A strays from A, and B from B, between neighbouring rounds. The second is
/// a ratio of equals, so all that it shows is noise.
fn standard_error(logs: &[f64], rounds_a: &[f64], rounds_b: &[f64]) -> f64 {
    let strays: Vec<f64> = [rounds_a, rounds_b]
        .iter()
        .flat_map(|rounds| rounds.windows(2).map(|pair| (pair[1] - pair[0]).abs()))
        .collect();
    // 1.4826 turns a median absolute deviation into a standard deviation, and the median of n
    // normal values has 1.2533 times the standard error of their mean.
    let spread = 1.4826 * stats::median(&strays).max(stats::mad(logs));
    1.2533 * spread / (logs.len() as f64).sqrt()
}

impl Comparison {
    /// What follows from costs in the order taken, two of each subject per round.
    ///
    /// # Errors
    /// If there are too few for an interval, or one is not positive and finite.
    pub fn derive(a: &[f64], b: &[f64], settings: &Settings) -> Result<Self, MeasureError> {
        let n = a.len();
        let is_cost = |cost: &f64| cost.is_finite() && *cost > 0.0;
        let is_enough = n.is_multiple_of(2) && n / 2 >= stats::MIN_SAMPLES_MEDIAN_INTERVAL;
        if !is_enough || b.len() != n || !a.iter().chain(b).all(is_cost) {
            let (n_b, least) = (b.len(), stats::MIN_SAMPLES_MEDIAN_INTERVAL);
            let why = format!(
                "{n} costs of A and {n_b} of B are no comparison: it takes two positive costs of \
                 each in {least} rounds or more"
            );
            return Err(MeasureError::Data(why));
        }
        let rounds_of = |costs: &[f64]| -> Vec<f64> {
            costs.chunks_exact(2).map(|pair| (pair[0] + pair[1]).ln()).collect()
        };
        let (rounds_a, rounds_b) = (rounds_of(a), rounds_of(b));
        let logs: Vec<f64> = rounds_b.iter().zip(&rounds_a).map(|(b, a)| b - a).collect();
        let center = stats::median(&logs);
        let interval = stats::median_interval(&logs).expect("enough rounds");
        let noise = 3.0 * standard_error(&logs, &rounds_a, &rounds_b);
        let resolution = noise.max(settings.floor);
        let is_different = !interval.contains(0.0) && center.abs() > resolution;
        let verdict = match (is_different, center > 0.0) {
            (false, _) => Verdict::NoDifference,
            (true, true) => Verdict::AFaster,
            (true, false) => Verdict::BFaster,
        };
        Ok(Self {
            a: Samples::new("A", a.to_vec())?,
            b: Samples::new("B", b.to_vec())?,
            ratio: center.exp(),
            ratio_ci95: interval.map(f64::exp),
            noise,
            resolution,
            n_rounds: logs.len(),
            is_precise: interval.half_width() <= settings.precision,
            verdict,
        })
    }

    /// One line: `no difference: B/A 1.002 [0.997, 1.006], could have seen 1.2%, 20 rounds`.
    pub fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::NoDifference => "no difference",
            Verdict::AFaster => "A is faster",
            Verdict::BFaster => "B is faster",
        };
        let Interval { low, high } = self.ratio_ci95;
        let unsure = if self.is_precise { "" } else { " (noisy)" };
        format!(
            "{verdict}: B/A {} [{}, {}], could have seen {:.1}%, {} rounds{unsure}",
            short(self.ratio),
            short(low),
            short(high),
            self.resolution * 100.0,
            self.n_rounds
        )
    }

    /// `cost_ratio` (B over A) as a figure of a report.
    ///
    /// # Errors
    /// If `method` is empty.
    pub fn figure(&self, name: &str, method: &str) -> Result<Figure, MeasureError> {
        let method = format!("{method}; B over A in interleaved ABBA rounds, median of log ratios");
        let (n, interval) = (self.n_rounds, Some(self.ratio_ci95.holding(self.ratio)));
        Figure::estimated(name, Unit::Ratio, &method, self.ratio, n, interval)
    }
}

#[cfg(test)]
mod tests;
