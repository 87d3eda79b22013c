//! What an answer cost, as `usage`, `timings` and the `Server-Timing` header show it.

use axum::http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use std::time::Duration;
use sterna_engine::{Finished, Guessed};

/// Tokens and times of the choices of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// Those of them whose keys and values were there already.
    pub cached_tokens: usize,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Seconds in the queue, of the choice that waited longest; so choices that are computed
    /// together count once.
    pub queue_seconds: f64,
    /// Seconds to the first token, of the choice that took longest.
    pub prefill_seconds: f64,
    /// Seconds to the end, of the choice that took longest.
    pub decode_seconds: f64,
    /// Tokens that came after the first one of their choice, which ends the prefill.
    next_tokens: usize,
    /// Tokens that were guessed, and those of them from the client's prediction.
    guessed: Guessed,
    predicted: Option<Guessed>,
    is_coalesced: bool,
    /// Of the oldest, where the response cache had all of them.
    age: Option<Duration>,
}

impl Cost {
    /// Of choices that have ended, `n` in turn for each prompt. A prompt counts once, as with
    /// OpenAI; so many of its tokens were cached as all of its choices found.
    pub fn of(finished: &[Finished], n: usize) -> Self {
        let per_prompt = |count: fn(&Finished) -> usize| {
            let prompts = finished.chunks(n.max(1));
            prompts.filter_map(|choices| choices.iter().map(count).min()).sum::<usize>()
        };
        let longest =
            |seconds: fn(&Finished) -> f64| finished.iter().map(seconds).fold(0.0, f64::max);
        Self {
            prompt_tokens: per_prompt(|one| one.prompt_tokens),
            cached_tokens: per_prompt(|one| one.cached_tokens),
            new_tokens: finished.iter().map(|one| one.new_tokens).sum(),
            queue_seconds: longest(|one| one.queue_seconds),
            prefill_seconds: longest(|one| one.prefill_seconds),
            decode_seconds: longest(|one| one.decode_seconds),
            next_tokens: finished.iter().map(|one| one.new_tokens.saturating_sub(1)).sum(),
            guessed: finished.iter().map(|one| one.guessed).sum(),
            predicted: predicted(finished),
            is_coalesced: finished.iter().all(|one| one.is_coalesced),
            age: finished.iter().map(|one| one.age).collect::<Option<Vec<_>>>().and_then(oldest),
        }
    }

    /// OpenAI's object. Where there was a prediction, its tokens that were tried are accepted or
    /// rejected; neither is counted besides.
    pub fn usage(&self) -> Value {
        let mut usage = json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.new_tokens,
            "total_tokens": self.prompt_tokens + self.new_tokens,
            "prompt_tokens_details": { "cached_tokens": self.cached_tokens },
        });
        if let Some(Guessed { drafted, accepted }) = self.predicted {
            usage["completion_tokens_details"] = json!({
                "accepted_prediction_tokens": accepted,
                "rejected_prediction_tokens": drafted - accepted,
            });
        }
        usage
    }

    /// llama.cpp's object. Rates are `null` where no time passed. The first token of an answer
    /// comes with the prompt, so the rate of prediction is that of the others.
    pub fn timings(&self) -> Value {
        let n_computed = self.prompt_tokens.saturating_sub(self.cached_tokens);
        let rate = |n: usize, seconds: f64| (seconds > 0.0).then(|| n as f64 / seconds);
        let mut timings = json!({
            "cache_n": self.cached_tokens,
            "cache": self.cache(),
            "prompt_n": n_computed,
            "prompt_ms": self.prefill_seconds * 1e3,
            "prompt_per_second": rate(n_computed, self.prefill_seconds),
            "predicted_n": self.new_tokens,
            "predicted_ms": self.decode_seconds * 1e3,
            "predicted_per_second": rate(self.next_tokens, self.decode_seconds),
        });
        if self.guessed.drafted > 0 {
            timings["draft_n"] = self.guessed.drafted.into();
            timings["draft_n_accepted"] = self.guessed.accepted.into();
        }
        timings
    }

    /// Shows it in an answer's headers.
    pub fn show_in(&self, headers: &mut HeaderMap) {
        let timing = HeaderValue::from_str(&self.server_timing()).expect("numbers are a header");
        headers.insert("server-timing", timing);
        if let Some(cache) = self.cache() {
            headers.insert("x-cache", HeaderValue::from_static(cache));
        }
        if let Some(age) = self.age {
            headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        }
    }

    /// The header, in milliseconds.
    fn server_timing(&self) -> String {
        let Self { queue_seconds, prefill_seconds, decode_seconds, .. } = self;
        let [queue, prefill, decode] =
            [queue_seconds, prefill_seconds, decode_seconds].map(|seconds| seconds * 1e3);
        format!("queue;dur={queue:.3}, prefill;dur={prefill:.3}, decode;dur={decode:.3}")
    }

    /// Where the answer came from, if it was not computed for this request alone: the value of
    /// `X-Cache`.
    fn cache(&self) -> Option<&'static str> {
        match self.age {
            Some(_) => Some("HIT"),
            None => self.is_coalesced.then_some("COALESCED"),
        }
    }
}

/// Of all choices together, where there was a prediction.
fn predicted(finished: &[Finished]) -> Option<Guessed> {
    let predicted: Vec<Guessed> = finished.iter().filter_map(|one| one.predicted).collect();
    (!predicted.is_empty()).then(|| predicted.into_iter().sum())
}

fn oldest(ages: Vec<Duration>) -> Option<Duration> {
    ages.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_engine::FinishReason;

    fn finished(cached_tokens: usize, new_tokens: usize, decode_seconds: f64) -> Finished {
        Finished {
            reason: FinishReason::Stop,
            text: String::new(),
            prompt_tokens: 10,
            cached_tokens,
            new_tokens,
            queue_seconds: 0.001,
            prefill_seconds: 0.5,
            decode_seconds,
            embedding: None,
            guessed: Guessed::default(),
            predicted: None,
            is_coalesced: false,
            age: None,
            stop_text: None,
        }
    }

    #[test]
    fn a_prompt_counts_once_and_its_choices_each() {
        let choices =
            [finished(0, 5, 2.0), finished(8, 1, 0.5), finished(4, 3, 1.0), finished(6, 2, 0.1)];
        let cost = Cost::of(&choices, 2);
        let usage = json!({
            "prompt_tokens": 20,
            "completion_tokens": 11,
            "total_tokens": 31,
            "prompt_tokens_details": { "cached_tokens": 4 },
        });
        assert_eq!(cost.usage(), usage);
        let timings = json!({
            "cache_n": 4,
            "cache": null,
            "prompt_n": 16,
            "prompt_ms": 500.0,
            "prompt_per_second": 32.0,
            "predicted_n": 11,
            "predicted_ms": 2000.0,
            "predicted_per_second": 3.5,
        });
        assert_eq!(cost.timings(), timings);
        let header = "queue;dur=1.000, prefill;dur=500.000, decode;dur=2000.000";
        assert_eq!(cost.server_timing(), header);
    }

    #[test]
    fn guesses_are_shown_where_there_were_some() {
        let guessed = |drafted, accepted| Guessed { drafted, accepted };
        let mut choices = [finished(0, 5, 2.0), finished(0, 5, 2.0)];
        choices[0].guessed = guessed(7, 3);
        let cost = Cost::of(&choices, 2);
        assert_eq!(cost.usage()["completion_tokens_details"], Value::Null);
        assert_eq!(
            (&cost.timings()["draft_n"], &cost.timings()["draft_n_accepted"]),
            (&json!(7), &json!(3))
        );
        choices[0].predicted = Some(guessed(4, 3));
        choices[1].predicted = Some(guessed(2, 0));
        let details = json!({ "accepted_prediction_tokens": 3, "rejected_prediction_tokens": 3 });
        assert_eq!(Cost::of(&choices, 2).usage()["completion_tokens_details"], details);
    }

    #[test]
    fn rates_without_time_are_unknown() {
        let timings = Cost::of(&[finished(0, 1, 0.0)], 1).timings();
        assert_eq!(timings["predicted_per_second"], Value::Null);
    }
}
