//! What an answer depends on, as bytes: equal keys are equal answers.
//!
//! A key is the whole of what was asked, not a hash of it, so that different requests never pass
//! for one another.

use crate::request::{CacheControl, Request, Stop};
use std::sync::Arc;
use sterna_runtime::SamplerSettings;

/// A request's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnswerKey(Arc<[u8]>);

impl AnswerKey {
    /// The key of a request whose answer is the same each time it is asked; `None` for those that
    /// are sampled without a seed of the client's.
    pub fn of(request: &Request) -> Option<Self> {
        // Taken apart, so that a new field cannot be forgotten here.
        let Request {
            prompt,
            max_tokens,
            sampling,
            is_seeded,
            stop,
            constraint,
            visible,
            logprobs,
            prompt_logprobs,
            embed,
            prediction: _,
            agent: _,
            class: _,
            share: _,
            cache_salt,
            public_tokens: _,
            waited: _,
            deadline: _,
            expected_tokens: _,
            session: _,
            cache: CacheControl { namespace, no_cache: _, no_store: _, ttl: _, max_age: _ },
        } = request;
        if !is_seeded && sampling.temperature > 0.0 && embed.is_none() {
            return None;
        }
        let mut bytes = Bytes::default();
        bytes.number(prompt.len());
        prompt.iter().for_each(|&token| bytes.bits(token));
        bytes.number(*max_tokens);
        bytes.sampling(sampling);
        let Stop { strings, ignore_eos } = stop;
        bytes.number(strings.len());
        strings.iter().for_each(|text| bytes.text(text));
        bytes.number(usize::from(*ignore_eos));
        bytes.choice(constraint.as_ref().map(|c| move |bytes: &mut Bytes| bytes.text(c.source())));
        bytes.number(visible.len());
        visible.iter().for_each(|&token| bytes.bits(token));
        bytes.choice(logprobs.map(|n| move |bytes: &mut Bytes| bytes.number(n)));
        bytes.choice(prompt_logprobs.map(|n| move |bytes: &mut Bytes| bytes.number(n)));
        bytes.choice(embed.map(|how| move |bytes: &mut Bytes| bytes.number(how as usize)));
        bytes.choice(cache_salt.as_deref().map(|text| move |bytes: &mut Bytes| bytes.text(text)));
        bytes.choice(namespace.as_deref().map(|text| move |bytes: &mut Bytes| bytes.text(text)));
        Some(Self(bytes.0.into()))
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it says nothing; it never does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes values one after another, each so that its end is known.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn bits(&mut self, bits: u32) {
        self.0.extend(bits.to_le_bytes());
    }

    fn number(&mut self, n: usize) {
        self.0.extend((n as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
    }

    fn choice(&mut self, write: Option<impl FnOnce(&mut Self)>) {
        self.number(usize::from(write.is_some()));
        if let Some(write) = write {
            write(self);
        }
    }

    fn sampling(&mut self, sampling: &SamplerSettings) {
        let SamplerSettings {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            repetition_window,
            frequency_penalty,
            presence_penalty,
            logit_bias,
            seed,
        } = sampling;
        self.bits(temperature.to_bits());
        if *temperature > 0.0 {
            // The likeliest token is the likeliest whatever these say.
            self.number(*top_k);
            self.bits(top_p.to_bits());
            self.bits(min_p.to_bits());
            self.0.extend(seed.to_le_bytes());
        }
        self.bits(repetition_penalty.to_bits());
        self.number(*repetition_window);
        self.bits(frequency_penalty.to_bits());
        self.bits(presence_penalty.to_bits());
        self.number(logit_bias.len());
        for &(token, bias) in logit_bias {
            self.bits(token);
            self.bits(bias.to_bits());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pooling;

    fn greedy() -> Request {
        let sampling = SamplerSettings::greedy();
        Request { prompt: vec![1, 2], sampling, ..Request::default() }
    }

    #[test]
    fn what_changes_an_answer_changes_its_key_and_nothing_else_does() {
        let key = AnswerKey::of(&greedy()).unwrap();
        let same = [
            Request { agent: "b".into(), ..greedy() },
            Request { is_seeded: true, ..greedy() },
            Request { prediction: [5, 6].into(), ..greedy() },
            Request {
                sampling: SamplerSettings { seed: 9, top_k: 3, ..SamplerSettings::greedy() },
                ..greedy()
            },
        ];
        for request in same {
            assert_eq!(AnswerKey::of(&request), Some(key.clone()));
        }
        let stop = |strings: &[&str]| Stop {
            strings: strings.iter().map(|&text| text.to_owned()).collect(),
            ignore_eos: false,
        };
        let namespace = Some("b".to_owned());
        let other = [
            Request { prompt: vec![1, 2, 3], ..greedy() },
            Request { max_tokens: 3, ..greedy() },
            Request { stop: stop(&["ab"]), ..greedy() },
            Request { stop: stop(&["a", "b"]), ..greedy() },
            Request { logprobs: Some(0), ..greedy() },
            Request { prompt_logprobs: Some(0), ..greedy() },
            Request { cache_salt: Some("b".into()), ..greedy() },
            Request { embed: Some(Pooling::Last), ..greedy() },
            Request { embed: Some(Pooling::Mean), ..greedy() },
            Request { cache: CacheControl { namespace, ..CacheControl::default() }, ..greedy() },
            Request {
                sampling: SamplerSettings { logit_bias: vec![(1, 1.0)], ..greedy().sampling },
                ..greedy()
            },
        ];
        let keys: Vec<_> = other.iter().map(|r| AnswerKey::of(r).unwrap()).collect();
        for (at, one) in keys.iter().enumerate() {
            assert_ne!(*one, key);
            assert!(!keys[..at].contains(one));
        }
        let sampling = SamplerSettings { temperature: 0.5, ..SamplerSettings::default() };
        assert_eq!(AnswerKey::of(&Request { sampling, ..greedy() }), None);
    }
}
