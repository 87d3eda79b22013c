//! Choosing the next token from logits: penalty, top-k, top-p, min-p, temperature, in this order.
//!
//! In: logits and the tokens so far. Out: a token. The same seed, settings and logits give the same
//! tokens on every machine and in every version: the generator is the few lines below, not a
//! library's.

use crate::RuntimeError;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerSettings {
    /// Divides the logits; 0 takes the largest one.
    pub temperature: f32,
    /// Keeps the `top_k` largest; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest whose probabilities sum to at least `top_p`.
    pub top_p: f32,
    /// Keeps those at least `min_p` times as probable as the most probable.
    pub min_p: f32,
    /// Divides positive logits of tokens that occurred, multiplies negative ones; 1 does nothing.
    pub repetition_penalty: f32,
    /// How many of the last tokens count as having occurred.
    pub repetition_window: usize,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl SamplerSettings {
    /// Always the largest logit.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// When a number is outside of its range.
    pub fn check(&self) -> Result<(), RuntimeError> {
        let checks: [(_, f32, bool, _); 4] = [
            ("temperature", self.temperature, self.temperature >= 0.0, "at least 0"),
            ("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            (
                "repetition penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0,
                "above 0",
            ),
        ];
        let bad = checks.into_iter().find(|&(_, value, ok, _)| !ok || !value.is_finite());
        match bad {
            None => Ok(()),
            Some((field, value, _, range)) => {
                Err(RuntimeError::Sampler { field, value: value.into(), range })
            }
        }
    }
}

/// Chooses tokens; keeps the state of its random numbers and its memory.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: SamplerSettings,
    state: u64,
    logits: Vec<f32>,
    candidates: Vec<(f32, u32)>,
}

impl Sampler {
    /// A sampler; [`SamplerSettings::check`] says whether the settings make sense.
    pub fn new(settings: SamplerSettings) -> Self {
        let state = settings.seed;
        Self { settings, state, logits: Vec::new(), candidates: Vec::new() }
    }

    /// The next token after `tokens`.
    ///
    /// # Errors
    /// When there is no logit, or one is not a number.
    pub fn sample(&mut self, logits: &[f32], tokens: &[u32]) -> Result<u32, RuntimeError> {
        if let Some(index) = logits.iter().position(|x| x.is_nan()) {
            return Err(RuntimeError::Logits { index });
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.penalize(tokens);
        let best = argmax(&self.logits).ok_or(RuntimeError::Logits { index: 0 })?;
        if self.settings.temperature == 0.0 || self.logits[best].is_infinite() {
            return Ok(best as u32);
        }
        self.keep_candidates();
        Ok(self.draw())
    }

    fn penalize(&mut self, tokens: &[u32]) {
        let penalty = self.settings.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let recent = &tokens[tokens.len().saturating_sub(self.settings.repetition_window)..];
        for (i, &token) in recent.iter().enumerate() {
            let Some(logit) = self.logits.get_mut(token as usize) else { continue };
            if !recent[..i].contains(&token) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Candidates with their probabilities, most probable first.
    fn keep_candidates(&mut self) {
        let SamplerSettings { top_k, top_p, min_p, temperature, .. } = self.settings;
        let kept = &mut self.candidates;
        kept.clear();
        kept.extend(self.logits.iter().zip(0..).map(|(&logit, token)| (logit, token)));
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if top_k > 0 && top_k < kept.len() {
            kept.select_nth_unstable_by(top_k - 1, order);
            kept.truncate(top_k);
        }
        kept.sort_unstable_by(order);
        let largest = kept[0].0;
        let total: f64 = kept.iter().map(|&(logit, _)| weight(logit, largest, 1.0)).sum();
        let mut sum = 0.0;
        let enough = kept.iter().position(|&(logit, _)| {
            sum += weight(logit, largest, 1.0);
            sum >= f64::from(top_p) * total
        });
        if top_p < 1.0 {
            kept.truncate(enough.map_or(kept.len(), |last| last + 1));
        }
        kept.retain(|&(logit, _)| weight(logit, largest, 1.0) >= f64::from(min_p));
        for candidate in kept.iter_mut() {
            candidate.0 = weight(candidate.0, largest, temperature) as f32;
        }
    }

    fn draw(&mut self) -> u32 {
        let total: f64 = self.candidates.iter().map(|&(weight, _)| f64::from(weight)).sum();
        let mut left = self.unit() * total;
        for &(weight, token) in &self.candidates {
            left -= f64::from(weight);
            if left < 0.0 {
                return token;
            }
        }
        self.candidates[0].1
    }

    /// Uniform in [0, 1): SplitMix64 (Steele, Lea and Flood 2014), its upper 53 bits.
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The unnormalized probability of a logit.
fn weight(logit: f32, largest: f32, temperature: f32) -> f64 {
    (f64::from(logit - largest) / f64::from(temperature)).exp()
}

/// The first of the largest values.
pub fn argmax(logits: &[f32]) -> Option<usize> {
    let better = |best: Option<usize>, (i, &x): (usize, &f32)| match best {
        Some(b) if logits[b] >= x => best,
        _ => Some(i),
    };
    logits.iter().enumerate().fold(None, better)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(settings: SamplerSettings, logits: &[f32], tokens: &[u32]) -> Vec<usize> {
        let mut sampler = Sampler::new(settings);
        let mut counts = vec![0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits, tokens).unwrap() as usize] += 1;
        }
        counts
    }

    fn open() -> SamplerSettings {
        let (top_k, top_p, min_p, temperature) = (0, 1.0, 0.0, 1.0);
        SamplerSettings { top_k, top_p, min_p, temperature, seed: 5, ..Default::default() }
    }

    #[test]
    fn frequencies_are_the_softmax() {
        let logits = [0.0f32, 1.0, 2.0, -1.0];
        for temperature in [0.5, 1.0, 2.0] {
            let counts = counts(SamplerSettings { temperature, ..open() }, &logits, &[]);
            let weights = logits.map(|x| f64::from(x / temperature).exp());
            let total: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let p = weight / total;
                let deviation = (p * (1.0 - p) / 20_000.0).sqrt();
                assert!((*count as f64 / 20_000.0 - p).abs() < 5.0 * deviation + 1e-9);
            }
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits: Vec<f32> = [0.4f32, 0.3, 0.2, 0.1].iter().map(|p| p.ln()).collect();
        let kept = |settings, tokens: &[u32]| {
            counts(settings, &logits, tokens).iter().map(|&n| n > 0).collect::<Vec<_>>()
        };
        assert_eq!(kept(SamplerSettings { top_k: 2, ..open() }, &[]), [true, true, false, false]);
        assert_eq!(kept(SamplerSettings { top_p: 0.75, ..open() }, &[]), [true, true, true, false]);
        assert_eq!(
            kept(SamplerSettings { top_p: 0.65, ..open() }, &[]),
            [true, true, false, false]
        );
        assert_eq!(kept(SamplerSettings { min_p: 0.6, ..open() }, &[]), [true, true, false, false]);
        assert_eq!(kept(open(), &[]), [true; 4]);
        let greedy = SamplerSettings { repetition_penalty: 2.0, ..SamplerSettings::greedy() };
        assert_eq!(Sampler::new(greedy.clone()).sample(&logits, &[0]).unwrap(), 1);
        let one = SamplerSettings { repetition_window: 1, ..greedy };
        assert_eq!(Sampler::new(one).sample(&logits, &[0, 1]).unwrap(), 0);
    }

    #[test]
    fn seeds_decide_and_ties_go_to_the_first() {
        let logits = [1.0f32; 50];
        let draw = |seed| {
            let mut sampler = Sampler::new(SamplerSettings { seed, ..open() });
            (0..20).map(|_| sampler.sample(&logits, &[]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let mut greedy = Sampler::new(SamplerSettings::greedy());
        assert_eq!(greedy.sample(&[0.0, 3.0, 3.0], &[]).unwrap(), 1);
        // The same tokens in every version.
        assert_eq!(draw(7)[..4], [19, 0, 45, 29]);
    }

    #[test]
    fn bad_input_is_a_sentence() {
        let mut sampler = Sampler::new(open());
        let message = sampler.sample(&[0.0, f32::NAN], &[]).unwrap_err().to_string();
        assert!(message.contains("logit 1 is not a number"), "{message}");
        assert!(sampler.sample(&[], &[]).is_err());
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, 0.0], &[]).unwrap(), 1);
        let settings = SamplerSettings { top_p: 0.0, ..open() };
        let message = settings.check().unwrap_err().to_string();
        assert_eq!(message, "the sampler's top-p is 0, but must be above 0 and at most 1");
        assert!(SamplerSettings { temperature: f32::NAN, ..open() }.check().is_err());
        assert!(SamplerSettings::default().check().is_ok());
    }
}
