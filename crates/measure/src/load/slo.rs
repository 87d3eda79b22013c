//! What users are promised, and whether a request kept it.

use super::outcome::Answer;
use super::time::Time;
use serde::{Deserialize, Serialize};

/// Limits of a request; those that are not there hold always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slo {
    /// Time to the first token.
    pub ttft: Option<Time>,
    /// Mean time between tokens.
    pub itl: Option<Time>,
    /// Time to the end.
    pub e2e: Option<Time>,
}

impl Slo {
    /// Whether an answer was in time.
    pub fn is_met(&self, answer: &Answer) -> bool {
        let within = |limit: Option<Time>, seconds: f64| {
            limit.is_none_or(|limit| seconds <= limit.seconds())
        };
        within(self.ttft, answer.ttft)
            && within(self.e2e, answer.e2e)
            && answer.itl_mean().is_none_or(|itl| within(self.itl, itl))
    }

    fn limits(&self) -> [(&'static str, Option<Time>); 3] {
        [("ttft", self.ttft), ("itl", self.itl), ("e2e", self.e2e)]
    }
}

impl std::str::FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut slo = Self::default();
        for limit in text.split(',') {
            let form = || format!("{limit:?} is no limit; write them like ttft=2s,itl=150ms");
            let (name, time) = limit.split_once('=').ok_or_else(form)?;
            let place = match name.trim() {
                "ttft" => &mut slo.ttft,
                "itl" => &mut slo.itl,
                "e2e" => &mut slo.e2e,
                _ => return Err(format!("{} (there are ttft, itl and e2e)", form())),
            };
            if place.replace(time.parse()?).is_some() {
                return Err(format!("{} is limited twice; give it once", name.trim()));
            }
        }
        Ok(slo)
    }
}

impl TryFrom<String> for Slo {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Slo> for String {
    fn from(slo: Slo) -> Self {
        slo.to_string()
    }
}

impl std::fmt::Display for Slo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limits = self.limits().into_iter();
        let limits = limits.filter_map(|(name, limit)| Some(format!("{name}={}", limit?)));
        f.write_str(&limits.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        let slo: Slo = "itl=150ms, ttft=2s".parse().unwrap();
        assert_eq!(slo.to_string(), "ttft=2s,itl=150ms");
        assert_eq!(serde_json::to_string(&slo).unwrap(), "\"ttft=2s,itl=150ms\"");
        for (text, says) in [
            ("", "is no limit"),
            ("ttft", "is no limit"),
            ("ttft=2", "is no time"),
            ("tpot=2s", "there are ttft"),
            ("e2e=1s,e2e=2s", "twice"),
        ] {
            let error = text.parse::<Slo>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_answer_keeps_each_limit() {
        let answer = |ttft, itl: &[f64], e2e| Answer {
            ttft,
            itl: itl.to_vec(),
            e2e,
            n_generated: 1 + itl.len(),
            n_prompt: None,
            n_cached: None,
        };
        let slo: Slo = "ttft=2s,itl=150ms,e2e=9s".parse().unwrap();
        assert!(slo.is_met(&answer(2.0, &[0.1, 0.19], 9.0)));
        assert!(slo.is_met(&answer(2.0, &[], 2.0)));
        assert!(!slo.is_met(&answer(2.1, &[0.1, 0.19], 3.0)));
        assert!(!slo.is_met(&answer(1.0, &[0.1, 0.21], 3.0)));
        assert!(!slo.is_met(&answer(1.0, &[0.1], 9.1)));
        assert!(Slo::default().is_met(&answer(1e6, &[1e6], 1e7)));
    }
}
