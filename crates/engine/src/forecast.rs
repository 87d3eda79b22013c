//! When a request would be answered, from what batches took until now.
//!
//! A batch takes a time of its own, and more for each row: least squares over the batches that were
//! computed, of which older ones count less, on the rows of prompts and of tokens being generated.

use crate::batch::Batch;
use std::time::Duration;

/// What older batches count, batch by batch.
const DECAY: f64 = 0.98;

/// Batches that must have been seen before anything is said.
const LEAST_BATCHES: u32 = 8;

/// What is ahead of a request, or beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests.
    pub n: usize,
    /// Tokens of their prompts that are still to be computed.
    pub prompt_rows: usize,
    /// Tokens that are still to be generated for them.
    pub tokens: usize,
}

/// What older batches count in the time between tokens.
const STEP_DECAY: f64 = 0.9;

/// What is told over what is expected: a deadline is missed by being a little late, too.
const MARGIN: f64 = 1.1;

/// The seconds of a batch: `[1, prompt rows, decode rows] . coefficients`.
pub type Coefficients = [f64; 3];

/// A batch that took longer than this many times what was expected counts as if it had taken so
/// much: something else held it up. Where all do, it is soon expected.
const MOST_SURPRISE: f64 = 3.0;

/// The forecast.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Sums of products of what batches had, `[3, 3]`, and of that with what they took.
    moments: [[f64; 3]; 3],
    sums: [f64; 3],
    n_batches: u32,
    /// Seconds between tokens of late: with the prompts of those who came meanwhile.
    step_seconds: f64,
    /// What was expected of the last batch was wrong by this part of what it took.
    error: Option<f64>,
}

impl Forecast {
    /// Learns from a computed batch that gave so many tokens. Where guesses gave a sequence
    /// several, each is taken to have come by itself.
    pub fn learn_batch(&mut self, batch: &Batch, n_new: usize, took: Duration) {
        let n_decoding = batch.parts.iter().filter(|part| part.is_decode).count();
        let prompts = batch.parts.iter().filter(|part| !part.is_decode);
        let is_guessed = batch.parts.iter().any(|part| part.n_drafted > 0);
        let share = if is_guessed { n_decoding as f64 / n_new.max(n_decoding) as f64 } else { 1.0 };
        self.learn(prompts.map(|part| part.n_tokens).sum(), n_decoding, took.mul_f64(share));
    }

    /// By which part of what it took the last batch differed from what was expected of it; `None`
    /// where nothing was expected yet.
    pub fn error(&self) -> Option<f64> {
        self.error
    }

    /// What a batch takes by now, each row of a prompt in it, and each token being generated;
    /// `None` until enough was seen.
    pub fn coefficients(&self) -> Option<Coefficients> {
        (self.n_batches >= LEAST_BATCHES).then(|| self.fit())
    }

    /// Learns from what a batch had and took.
    fn learn(&mut self, prompt_rows: usize, decode_rows: usize, took: Duration) {
        let had = [1.0, prompt_rows as f64, decode_rows as f64];
        let took = took.as_secs_f64();
        let expected = self.coefficients().map(|fit| {
            let seconds = had.iter().zip(fit).map(|(n, each)| n * each);
            seconds.sum::<f64>()
        });
        self.error = expected.filter(|_| took > 0.0).map(|seconds| (seconds / took - 1.0).abs());
        let most = expected.filter(|&seconds| seconds > 0.0).map(|s| MOST_SURPRISE * s);
        let took = took.min(most.unwrap_or(f64::INFINITY));
        for (i, row) in self.moments.iter_mut().enumerate() {
            for (j, moment) in row.iter_mut().enumerate() {
                *moment = *moment * DECAY + had[i] * had[j];
            }
            self.sums[i] = self.sums[i] * DECAY + had[i] * took;
        }
        self.n_batches = self.n_batches.saturating_add(1);
        if decode_rows > 0 {
            self.step_seconds = self.step_seconds * STEP_DECAY + took * (1.0 - STEP_DECAY);
        }
    }

    /// The time from now until a request is answered which has `own` left, where at most
    /// `max_running` are computed at once; `None` until enough was seen.
    pub fn answered_in(&self, ahead: Load, own: Load, max_running: usize) -> Option<Duration> {
        let fit = self.coefficients()?;
        let step = |n: usize| fit[0] + fit[2] * n as f64;
        let prompts = fit[1] * (ahead.prompt_rows + own.prompt_rows) as f64;
        // Who comes when all places are taken waits until so many others have ended.
        let n_before = (ahead.n + 1).saturating_sub(max_running) as f64;
        let tokens_each = ahead.tokens as f64 / ahead.n.max(1) as f64;
        let full = step(max_running).max(self.step_seconds);
        let place_every = tokens_each * full / max_running as f64;
        let beside = step((ahead.n + 1).min(max_running));
        // Alone, nothing of late tells how it will be.
        let every = if ahead.n == 0 { beside } else { beside.max(self.step_seconds) };
        let seconds = prompts + n_before * place_every + own.tokens as f64 * every;
        Duration::try_from_secs_f64(seconds * MARGIN).ok()
    }

    /// Coefficients of least squares, none of them negative: one that would be is left out.
    fn fit(&self) -> Coefficients {
        let mut is_used = [true; 3];
        loop {
            let fit = self.solve(is_used);
            let least = (0..3).filter(|&i| is_used[i]).min_by(|&a, &b| fit[a].total_cmp(&fit[b]));
            match least {
                Some(i) if fit[i] < 0.0 => is_used[i] = false,
                _ => return fit,
            }
        }
    }

    /// Gaussian elimination on the normal equations of the coefficients in use. A little is added
    /// to the diagonal, so that batches which were all alike have a solution too.
    fn solve(&self, is_used: [bool; 3]) -> Coefficients {
        let (mut a, mut b) = (self.moments, self.sums);
        for i in 0..3 {
            a[i][i] *= 1.0 + 1e-9;
            if !is_used[i] {
                (0..3).for_each(|j| (a[i][j], a[j][i]) = (0.0, 0.0));
                b[i] = 0.0;
            }
            if a[i][i] == 0.0 {
                a[i][i] = 1.0;
            }
        }
        for i in 0..3 {
            for below in i + 1..3 {
                let factor = a[below][i] / a[i][i];
                (i..3).for_each(|j| a[below][j] -= factor * a[i][j]);
                b[below] -= factor * b[i];
            }
        }
        let mut fit = [0.0; 3];
        for i in (0..3).rev() {
            let rest: f64 = (i + 1..3).map(|j| a[i][j] * fit[j]).sum();
            fit[i] = (b[i] - rest) / a[i][i];
        }
        fit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_batches_take_is_found_and_told() {
        let mut forecast = Forecast::default();
        let took = |prompt: usize, decode: usize| {
            Duration::from_secs_f64(0.020 + 0.001 * prompt as f64 + 0.002 * decode as f64)
        };
        let (nothing, own) = (Load::default(), Load { n: 1, prompt_rows: 100, tokens: 10 });
        assert_eq!(forecast.answered_in(nothing, own, 4), None);
        for i in 0..50 {
            let (prompt, decode) = (i * 7 % 64, i % 5);
            forecast.learn(prompt, decode, took(prompt, decode));
        }
        let near = |ahead, expected: f64| {
            let seconds = forecast.answered_in(ahead, own, 4).unwrap().as_secs_f64();
            let expected = MARGIN * expected;
            assert!((seconds / expected - 1.0).abs() < 0.01, "{seconds} against {expected}");
        };
        assert!(forecast.error().unwrap() < 1e-3);
        // A prompt of 100 rows, then ten steps alone.
        near(nothing, 0.1 + 10.0 * 0.022);
        // With another's prompt before it, and four at once from then on, or eight that take turns.
        let of_late = forecast.step_seconds;
        assert!((0.03..0.09).contains(&of_late), "{of_late}");
        near(Load { n: 3, prompt_rows: 100, tokens: 30 }, 0.2 + 10.0 * of_late);
        let wait = 5.0 * 10.0 * of_late / 4.0;
        near(Load { n: 8, prompt_rows: 0, tokens: 80 }, 0.1 + wait + 10.0 * of_late);
    }

    #[test]
    fn batches_that_are_all_alike_say_what_they_say() {
        let mut forecast = Forecast::default();
        for _ in 0..20 {
            forecast.learn(0, 4, Duration::from_millis(40));
        }
        let own = Load { n: 1, prompt_rows: 0, tokens: 10 };
        let beside = Load { n: 3, prompt_rows: 0, tokens: 30 };
        let seconds = forecast.answered_in(beside, own, 4).unwrap().as_secs_f64();
        assert!((seconds / MARGIN - 0.4).abs() < 0.01, "{seconds}");
        forecast.learn(0, 4, Duration::from_millis(80));
        assert!((forecast.error().unwrap() - 0.5).abs() < 1e-3, "half of it was expected");
        // A page of the disk, or a long pause of the machine, is not what steps take.
        forecast.learn(0, 4, Duration::from_secs(60));
        let seconds = forecast.answered_in(beside, own, 4).unwrap().as_secs_f64();
        assert!(seconds / MARGIN < 0.6, "{seconds}");
        // What they all take is.
        (0..100).for_each(|_| forecast.learn(0, 4, Duration::from_secs(1)));
        assert!(forecast.error().unwrap() < 0.2, "{:?}", forecast.error());
    }
}
