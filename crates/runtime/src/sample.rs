//! Choosing the next token from logits: penalties, bias, top-k, top-p, min-p, temperature, in this
//! order. Tokens that may not come next are left out before all of them.
//!
//! In: logits, the tokens so far and how many of them were given. Out: a token. The same seed,
//! settings and logits give the same tokens on every machine and in every version: the generator is
//! the few lines below, not a library's.

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
    /// Taken from a logit for each time that its token was generated.
    pub frequency_penalty: f32,
    /// Taken from a logit when its token was generated at all.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
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
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
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
        let is_finite = |penalty: f32| (-100.0..=100.0).contains(&penalty);
        let biases = self.logit_bias.iter().map(|&(_, bias)| bias);
        let bias = biases.max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
        let range = "from -100 to 100";
        let checks: [(_, f32, bool, _); 7] = [
            ("frequency penalty", self.frequency_penalty, is_finite(self.frequency_penalty), range),
            ("presence penalty", self.presence_penalty, is_finite(self.presence_penalty), range),
            ("logit bias", bias, is_finite(bias), range),
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

/// A set of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    bits: Vec<u32>,
}

impl TokenSet {
    /// Those of the first `n_tokens` tokens whose bit is set, 32 to a word, the lowest first.
    pub fn new(mut bits: Vec<u32>, n_tokens: usize) -> Self {
        bits.resize(n_tokens.div_ceil(32), 0);
        if let Some(last) = bits.last_mut().filter(|_| !n_tokens.is_multiple_of(32)) {
            *last &= (1 << (n_tokens % 32)) - 1;
        }
        Self { bits }
    }

    /// Whether a token is in it.
    pub fn has(&self, token: u32) -> bool {
        self.bits.get(token as usize / 32).is_some_and(|bits| bits >> (token % 32) & 1 == 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bits.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|&bits| bits == 0)
    }
}

/// What choosing a token takes: 12 bytes for each of the vocabulary. Nothing of it outlasts one.
#[derive(Clone, Debug, Default)]
pub struct SamplerMemory {
    logits: Vec<f32>,
    candidates: Vec<(f32, u32)>,
}

/// Chooses tokens; keeps the state of its random numbers and its memory.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: SamplerSettings,
    state: u64,
    memory: SamplerMemory,
    /// Tokens that were generated, ascending, with how often; and how many tokens that counts.
    counts: Vec<(u32, u32)>,
    counted: usize,
}

impl Sampler {
    /// A sampler; [`SamplerSettings::check`] says whether the settings make sense.
    pub fn new(settings: SamplerSettings) -> Self {
        let state = settings.seed;
        let (memory, counts) = Default::default();
        Self { settings, state, memory, counts, counted: 0 }
    }

    /// Exchanges its memory for another's, so that many samplers need it once.
    pub fn swap_memory(&mut self, memory: &mut SamplerMemory) {
        std::mem::swap(&mut self.memory, memory);
    }

    /// The settings.
    pub fn settings(&self) -> &SamplerSettings {
        &self.settings
    }

    /// The next token after `tokens`, all of which were given.
    ///
    /// # Errors
    /// As [`Sampler::sample_after`].
    pub fn sample(&mut self, logits: &[f32], tokens: &[u32]) -> Result<u32, RuntimeError> {
        self.sample_after(logits, tokens, tokens.len())
    }

    /// The next token after `tokens`, the first `n_prompt` of which were given and the others
    /// generated by this sampler.
    ///
    /// # Errors
    /// When there is no logit, or one is not a number.
    pub fn sample_after(
        &mut self,
        logits: &[f32],
        tokens: &[u32],
        n_prompt: usize,
    ) -> Result<u32, RuntimeError> {
        self.sample_allowed(logits, tokens, n_prompt, None)
    }

    /// The same where only some tokens are allowed, if that is given.
    ///
    /// # Errors
    /// As [`Sampler::sample_after`], and when no token is allowed.
    pub fn sample_allowed(
        &mut self,
        logits: &[f32],
        tokens: &[u32],
        n_prompt: usize,
        allowed: Option<&TokenSet>,
    ) -> Result<u32, RuntimeError> {
        if let Some(index) = logits.iter().position(|x| x.is_nan()) {
            return Err(RuntimeError::Logits { index });
        }
        self.memory.logits.clear();
        self.memory.logits.extend_from_slice(logits);
        if let Some(allowed) = allowed {
            for (logit, token) in self.memory.logits.iter_mut().zip(0..) {
                // Nothing that is added to it later makes it likelier.
                *logit = if allowed.has(token) { *logit } else { f32::NEG_INFINITY };
            }
        }
        self.penalize(tokens);
        self.penalize_generated(&tokens[n_prompt..]);
        for &(token, bias) in &self.settings.logit_bias {
            if let Some(logit) = self.memory.logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        let best = argmax(&self.memory.logits).ok_or(RuntimeError::Logits { index: 0 })?;
        if allowed.is_some() && self.memory.logits[best] == f32::NEG_INFINITY {
            return Err(RuntimeError::NoToken);
        }
        if self.settings.temperature == 0.0 || self.memory.logits[best].is_infinite() {
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
            let Some(logit) = self.memory.logits.get_mut(token as usize) else { continue };
            if !recent[..i].contains(&token) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    fn penalize_generated(&mut self, generated: &[u32]) {
        let SamplerSettings { frequency_penalty, presence_penalty, .. } = self.settings;
        if frequency_penalty == 0.0 && presence_penalty == 0.0 {
            return;
        }
        for &token in &generated[self.counted.min(generated.len())..] {
            match self.counts.binary_search_by_key(&token, |&(token, _)| token) {
                Ok(at) => self.counts[at].1 += 1,
                Err(at) => self.counts.insert(at, (token, 1)),
            }
        }
        self.counted = generated.len();
        for &(token, count) in &self.counts {
            if let Some(logit) = self.memory.logits.get_mut(token as usize) {
                *logit -= frequency_penalty * count as f32 + presence_penalty;
            }
        }
    }

    /// Keeps the candidates that the filters leave; those of least logit may be in any order.
    fn keep_candidates(&mut self) {
        let SamplerSettings { top_k, top_p, min_p, .. } = self.settings;
        let kept = &mut self.memory.candidates;
        kept.clear();
        let candidates = self.memory.logits.iter().zip(0..).map(|(&logit, token)| (logit, token));
        kept.extend(candidates.filter(|&(logit, _)| logit > f32::NEG_INFINITY));
        if top_k > 0 && top_k < kept.len() {
            kept.select_nth_unstable_by(top_k - 1, likelier);
            kept.truncate(top_k);
            // Sums are taken in an order of our own, not of the library's.
            kept.sort_unstable_by(likelier);
        }
        let largest = kept.iter().fold(f32::NEG_INFINITY, |most, &(logit, _)| most.max(logit));
        if top_p < 1.0 {
            let total: f64 = kept.iter().map(|&(logit, _)| weight(logit, largest, 1.0)).sum();
            let mut sum = 0.0;
            let enough = find_sorted(kept, |&(logit, _)| {
                sum += weight(logit, largest, 1.0);
                sum >= f64::from(top_p) * total
            });
            kept.truncate(enough.map_or(kept.len(), |last| last + 1));
        }
        if min_p > 0.0 {
            kept.retain(|&(logit, _)| weight(logit, largest, 1.0) >= f64::from(min_p));
        }
    }

    fn draw(&mut self) -> u32 {
        let temperature = self.settings.temperature;
        let unit = self.unit();
        let kept = &mut self.memory.candidates;
        let largest = kept.iter().fold(f32::NEG_INFINITY, |most, &(logit, _)| most.max(logit));
        let of = |&(logit, _): &(f32, u32)| weight(logit, largest, temperature);
        let mut left = unit * kept.iter().map(of).sum::<f64>();
        let drawn = find_sorted(kept, |candidate| {
            left -= of(candidate);
            left < 0.0
        });
        kept[drawn.unwrap_or(0)].1
    }

    /// Uniform in [0, 1): SplitMix64 (Steele, Lea and Flood 2014), its upper 53 bits.
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The larger first, of equal ones the token that comes first.
fn likelier(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The first candidate, the likeliest first, for which `is_found` holds. It sorts as far as it
/// looks: what is drawn is mostly among the first of tens of thousands.
fn find_sorted(
    candidates: &mut [(f32, u32)],
    mut is_found: impl FnMut(&(f32, u32)) -> bool,
) -> Option<usize> {
    let (mut start, mut len) = (0, 64);
    while start < candidates.len() {
        let rest = &mut candidates[start..];
        let n = len.min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n, likelier);
        }
        rest[..n].sort_unstable_by(likelier);
        if let Some(at) = rest[..n].iter().position(&mut is_found) {
            return Some(start + at);
        }
        (start, len) = (start + n, len * 8);
    }
    None
}

/// The unnormalized probability of a logit.
fn weight(logit: f32, largest: f32, temperature: f32) -> f64 {
    (f64::from(logit - largest) / f64::from(temperature)).exp()
}

/// The first of the largest values.
pub fn argmax(logits: &[f32]) -> Option<usize> {
    // Lanes of their own, so that the compiler may compare many at once.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = logits.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let largest =
        lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    logits.iter().position(|&x| x == largest).or((!logits.is_empty()).then_some(0))
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
    fn sorting_as_far_as_needed_finds_what_sorting_all_does() {
        let mut candidates: Vec<(f32, u32)> =
            (0..5_000).map(|i| ((i * 7919 % 4_001) as f32, i)).collect();
        let mut sorted = candidates.clone();
        sorted.sort_unstable_by(likelier);
        for at in [0, 1, 63, 64, 575, 576, 4_999] {
            let mut n = 0;
            let found = find_sorted(&mut candidates, |_| {
                n += 1;
                n == at + 1
            });
            assert_eq!(found.map(|found| candidates[found]), Some(sorted[at]));
        }
        assert_eq!(find_sorted(&mut candidates, |_| false), None);
    }

    #[test]
    fn generated_tokens_are_penalized_and_biases_added() {
        let logits = [1.0f32, 0.9, 0.0];
        let with = |frequency_penalty, presence_penalty, logit_bias: &[(u32, f32)]| {
            let logit_bias = logit_bias.to_vec();
            let greedy = SamplerSettings::greedy();
            let settings =
                SamplerSettings { frequency_penalty, presence_penalty, logit_bias, ..greedy };
            Sampler::new(settings)
        };
        // The prompt does not count.
        assert_eq!(with(1.0, 0.0, &[]).sample_after(&logits, &[0, 0], 2).unwrap(), 0);
        assert_eq!(with(1.0, 0.0, &[]).sample_after(&logits, &[0, 0], 1).unwrap(), 1);
        assert_eq!(with(0.0, 0.05, &[]).sample_after(&logits, &[0, 0], 0).unwrap(), 0);
        let mut sampler = with(0.06, 0.0, &[]);
        assert_eq!(sampler.sample_after(&logits, &[0], 0).unwrap(), 0);
        assert_eq!(sampler.sample_after(&logits, &[0, 0], 0).unwrap(), 1);
        assert_eq!(with(0.0, 0.0, &[(2, 5.0), (9, 1.0)]).sample(&logits, &[]).unwrap(), 2);
        assert!(with(f32::NAN, 0.0, &[]).settings().check().is_err());
        assert!(with(0.0, 0.0, &[(1, -200.0)]).settings().check().is_err());
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
    fn what_is_not_allowed_never_comes_and_the_rest_keeps_its_shares() {
        let logits = [5.0f32, 1.0, 9.0, 0.0, 2.0];
        // Tokens 1, 3 and 4; bits beyond the vocabulary say nothing.
        let allowed = TokenSet::new(vec![0b11_1010], 5);
        assert_eq!((allowed.len(), allowed.has(3), allowed.has(5)), (3, true, false));
        let mut greedy = Sampler::new(SamplerSettings {
            logit_bias: vec![(2, 100.0)],
            repetition_penalty: 2.0,
            ..SamplerSettings::greedy()
        });
        let chosen = greedy.sample_allowed(&logits, &[0, 2], 2, Some(&allowed)).unwrap();
        assert_eq!(chosen, 4);
        // As if the others did not exist.
        let mut sampler = Sampler::new(open());
        let mut alone = Sampler::new(open());
        for _ in 0..200 {
            let token = sampler.sample_allowed(&logits, &[], 0, Some(&allowed)).unwrap();
            let index = alone.sample(&[1.0, 0.0, 2.0], &[]).unwrap();
            assert_eq!(token, [1, 3, 4][index as usize]);
        }
        let none = TokenSet::new(Vec::new(), 5);
        assert!(none.is_empty());
        assert!(sampler.sample_allowed(&logits, &[], 0, Some(&none)).is_err());
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
