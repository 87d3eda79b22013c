//! How much an agent may ask for: requests and tokens per minute, requests at once.
//!
//! In: requests, tokens as they are generated, the time. Out: whether a request may go on, and
//! otherwise when to try again. Rates are token buckets: a minute's worth may come at once after a
//! minute of rest, and what a request generates beyond it is waited for by the next one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use sterna_engine::EngineError;

/// Limits of an agent; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Requests per minute; each choice and each prompt of a list is one.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute, of prompts and answers.
    pub tokens_per_minute: Option<u32>,
    /// Requests that have not ended.
    pub concurrent_requests: Option<u32>,
}

impl Quotas {
    /// Checks that so many requests can come through at all, so many of them at once.
    ///
    /// # Errors
    /// When they cannot, however long their client waits.
    pub fn check(&self, agent: &str, n: usize, at_once: usize) -> Result<(), EngineError> {
        for (most, n, what) in [
            (self.requests_per_minute, n, "requests per minute"),
            (self.concurrent_requests, at_once, "requests at once"),
        ] {
            if let Some(most) = most.filter(|&most| n > most as usize) {
                return Err(EngineError::Invalid(format!(
                    "this asks for {n} answers, each of which is a request, and agent `{agent}` \
                     has {most} {what}; ask for fewer"
                )));
            }
        }
        Ok(())
    }
}

/// A limit that an agent may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Requests per minute.
    Requests,
    /// Tokens per minute.
    Tokens,
    /// Requests at once.
    Concurrent,
}

impl Quota {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Concurrent];

    /// Its name, as `agents.toml` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Tokens => "tokens_per_minute",
            Self::Concurrent => "concurrent_requests",
        }
    }
}

/// A meter has no state between its counts that a panic could spoil.
pub fn locked<T>(meter: &Mutex<Meter>, work: impl FnOnce(&mut Meter) -> T) -> T {
    work(&mut meter.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What an agent has used.
#[derive(Debug)]
pub struct Meter {
    agent: String,
    quotas: Quotas,
    requests: Bucket,
    tokens: Bucket,
    n_open: usize,
    refused: [u64; 3],
}

impl Meter {
    /// Nothing used yet.
    pub fn new(agent: &str, quotas: Quotas) -> Self {
        Self {
            agent: agent.to_owned(),
            quotas,
            requests: Bucket::new(quotas.requests_per_minute),
            tokens: Bucket::new(quotas.tokens_per_minute),
            n_open: 0,
            refused: [0; 3],
        }
    }

    /// Counts requests that come together, each of which ends with [`Meter::end`]; their prompts
    /// have so many tokens in all.
    ///
    /// # Errors
    /// When a limit is reached: which, and when to try again, if that is of use. Then nothing is
    /// counted.
    pub fn begin(
        &mut self,
        now: Duration,
        n: usize,
        prompt_tokens: usize,
    ) -> Result<(), EngineError> {
        let agent = &self.agent;
        self.quotas.check(agent, n, n)?;
        let counts = &mut self.refused;
        let mut refused = |quota: Quota, what: String, seconds: f64| {
            counts[quota as usize] += 1;
            let why = format!("agent `{agent}` has used up its {what}; try again later");
            let retry_seconds = (seconds.ceil() as u32).max(1);
            Err(EngineError::Refused { why, retry_seconds })
        };
        let n_open = self.n_open + n;
        if let Some(most) = self.quotas.concurrent_requests.filter(|&most| n_open > most as usize) {
            return refused(Quota::Concurrent, format!("{most} requests at once"), 1.0);
        }
        if let Err(seconds) = self.requests.check(now, n as f64) {
            let most = self.quotas.requests_per_minute.unwrap_or_default();
            return refused(Quota::Requests, format!("{most} requests per minute"), seconds);
        }
        if let Err(seconds) = self.tokens.check(now, prompt_tokens as f64) {
            let most = self.quotas.tokens_per_minute.unwrap_or_default();
            return refused(Quota::Tokens, format!("{most} tokens per minute"), seconds);
        }
        self.requests.take(n as f64);
        self.tokens.take(prompt_tokens as f64);
        self.n_open = n_open;
        Ok(())
    }

    /// Takes back what requests were counted for that the engine refused.
    pub fn give_back(&mut self, n: usize, prompt_tokens: usize) {
        self.requests.take(-(n as f64));
        self.tokens.take(-(prompt_tokens as f64));
    }

    /// Requests that were refused, by [`Quota`].
    pub fn refused(&self) -> [u64; 3] {
        self.refused
    }

    /// Counts a token that was generated.
    pub fn token(&mut self) {
        self.tokens.take(1.0);
    }

    /// Counts the end of a request.
    pub fn end(&mut self) {
        self.n_open -= 1;
    }
}

/// So much per minute; without a limit it is never empty.
#[derive(Debug)]
struct Bucket {
    per_minute: Option<f64>,
    level: f64,
    filled: Duration,
}

impl Bucket {
    fn new(per_minute: Option<u32>) -> Self {
        let per_minute = per_minute.map(f64::from);
        Self { per_minute, level: per_minute.unwrap_or(0.0), filled: Duration::ZERO }
    }

    /// Whether so much is there; what is more than a whole minute's needs a full bucket. Otherwise
    /// the seconds until it is.
    fn check(&mut self, now: Duration, amount: f64) -> Result<(), f64> {
        let Some(per_minute) = self.per_minute else { return Ok(()) };
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.level = (self.level + per_minute * passed / 60.0).min(per_minute);
        self.filled = self.filled.max(now);
        let missing = amount.min(per_minute) - self.level;
        // Sums of fractions may miss by a rounding.
        if missing <= 1e-9 { Ok(()) } else { Err(missing * 60.0 / per_minute) }
    }

    fn take(&mut self, amount: f64) {
        self.level -= if self.per_minute.is_some() { amount } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    fn retry(result: Result<(), EngineError>) -> Option<u32> {
        match result {
            Ok(()) => None,
            Err(EngineError::Refused { retry_seconds, .. }) => Some(retry_seconds),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn requests_come_back_with_time() {
        let quotas = Quotas { requests_per_minute: Some(6), ..Quotas::default() };
        let mut meter = Meter::new("a", quotas);
        for _ in 0..6 {
            assert_eq!(retry(meter.begin(at(0), 1, 1)), None);
        }
        assert_eq!(retry(meter.begin(at(0), 1, 1)), Some(10));
        assert_eq!(retry(meter.begin(at(4), 1, 1)), Some(6));
        assert_eq!(retry(meter.begin(at(10), 1, 1)), None);
        assert_eq!(retry(meter.begin(at(10), 1, 1)), Some(10));
    }

    #[test]
    fn tokens_of_answers_are_owed_by_the_next_request() {
        let quotas = Quotas { tokens_per_minute: Some(60), ..Quotas::default() };
        let mut meter = Meter::new("a", quotas);
        assert_eq!(retry(meter.begin(at(0), 1, 20)), None);
        (0..50).for_each(|_| meter.token());
        assert_eq!(retry(meter.begin(at(0), 1, 5)), Some(15));
        assert_eq!(retry(meter.begin(at(15), 1, 5)), None);
        // A prompt of more than a minute's worth waits for all of it.
        assert_eq!(retry(meter.begin(at(15), 1, 1000)), Some(60));
        assert_eq!(retry(meter.begin(at(75), 1, 1000)), None);
    }

    #[test]
    fn requests_at_once_end() {
        let quotas = Quotas { concurrent_requests: Some(1), ..Quotas::default() };
        let mut meter = Meter::new("a", quotas);
        assert_eq!(retry(meter.begin(at(0), 1, 1)), None);
        let refused = meter.begin(at(0), 1, 1).unwrap_err().to_string();
        assert!(refused.contains("agent `a`") && refused.contains("1 requests at once"));
        meter.end();
        assert_eq!(retry(meter.begin(at(0), 1, 1)), None);
    }

    #[test]
    fn requests_that_come_together_are_let_through_together() {
        let (requests_per_minute, tokens_per_minute) = (Some(6), Some(60));
        let quotas = Quotas { requests_per_minute, tokens_per_minute, ..Quotas::default() };
        let mut meter = Meter::new("a", quotas);
        // Prompts of more than a minute's worth in all.
        assert_eq!(retry(meter.begin(at(0), 4, 4 * 20)), None);
        assert_eq!(retry(meter.begin(at(0), 3, 1)), Some(10));
        assert_eq!(retry(meter.begin(at(0), 2, 1)), Some(21));
        meter.give_back(4, 80);
        assert_eq!(retry(meter.begin(at(0), 6, 60)), None);
    }

    #[test]
    fn what_can_never_come_through_is_not_to_be_tried_again() {
        for quotas in [
            Quotas { requests_per_minute: Some(3), ..Quotas::default() },
            Quotas { concurrent_requests: Some(3), ..Quotas::default() },
        ] {
            let mut meter = Meter::new("a", quotas);
            let refused = meter.begin(at(0), 4, 1).unwrap_err();
            assert!(
                matches!(&refused, EngineError::Invalid(why) if why.contains("has 3 requests"))
            );
            assert_eq!(retry(meter.begin(at(0), 3, 1)), None);
        }
        let quotas = Quotas { concurrent_requests: Some(3), ..Quotas::default() };
        assert!(quotas.check("a", 100, 3).is_ok());
    }
}
