//! Times as people write them: `150ms`, `2s`, `30m`, `1h`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A length of time that is read from text and written as text.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub Duration);

/// The longest first: `ms` ends in `s`.
const UNITS: &[(&str, f64)] = &[("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// No benchmark takes thirty years.
const MAX_SECONDS: f64 = 1e9;

impl Time {
    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let unit = UNITS.iter().find_map(|(unit, scale)| Some((text.strip_suffix(*unit)?, scale)));
        let seconds = unit.and_then(|(number, scale)| {
            let number: f64 = number.trim().parse().ok()?;
            Some(number * scale).filter(|seconds| (0.0..MAX_SECONDS).contains(seconds))
        });
        let seconds = seconds
            .ok_or_else(|| format!("{text:?} is no time; write it like 150ms, 2s, 30m or 1h"))?;
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.seconds();
        match seconds < 1.0 {
            true => write!(f, "{}ms", seconds * 1e3),
            false => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let known = [("150ms", 150), ("2s", 2000), (" 1.5 s ", 1500), ("30m", 1_800_000)];
        for (text, ms) in known {
            assert_eq!(text.parse(), Ok(Time(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!("1h".parse::<Time>().unwrap().to_string(), "3600s");
        assert_eq!("150ms".parse::<Time>().unwrap().to_string(), "150ms");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "ms", "5", "-1s", "nans", "infs", "1e300h", "2d", "s2"] {
            let error = text.parse::<Time>().unwrap_err();
            assert!(error.contains("write it like 150ms"), "{error}");
        }
    }
}
