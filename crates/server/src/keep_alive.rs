//! How long a model that nobody uses stays in memory, as Ollama says it.

use serde_json::Value;
use std::time::Duration;

/// How long a model that nobody uses stays in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long after its last use; 0 is until its answers are given.
    For(Duration),
    /// Until its memory is needed.
    Forever,
}

impl KeepAlive {
    /// Ollama's forms: `5m`, `90s`, `2h`, a number of seconds; 0 for at once, below 0 for ever.
    ///
    /// # Errors
    /// When it is none of them: a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let scales = [("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let scaled =
            scales.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
        let (number, scale) = scaled.unwrap_or((text, 1.0));
        let seconds = number.trim().parse::<f64>().ok().filter(|n| n.is_finite() && n.abs() < 1e9);
        match seconds.map(|seconds| seconds * scale) {
            Some(seconds) if seconds < 0.0 => Ok(Self::Forever),
            Some(seconds) => Ok(Self::For(Duration::from_secs_f64(seconds))),
            None => Err(format!(
                "{text} is no time to keep a model; write 5m, 90s or 2h, 0 for not at all, -1 for \
                 ever"
            )),
        }
    }

    /// The same of a parameter: a text, or a number of seconds.
    ///
    /// # Errors
    /// When it is neither: a sentence.
    pub fn of_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::parse(text),
            other => Self::parse(&other.to_string()),
        }
    }

    /// Whether it is over at once.
    pub fn is_zero(self) -> bool {
        self == Self::For(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_to_keep_are_those_of_ollama() {
        let seconds = |n| Ok(KeepAlive::For(Duration::from_secs(n)));
        assert_eq!(KeepAlive::parse("5m"), seconds(300));
        assert_eq!(KeepAlive::parse("2h"), seconds(7200));
        assert_eq!(KeepAlive::parse(" 30 s"), seconds(30));
        assert_eq!(KeepAlive::parse("0"), seconds(0));
        assert_eq!(KeepAlive::parse("45"), seconds(45));
        assert_eq!(KeepAlive::parse("-1"), Ok(KeepAlive::Forever));
        assert_eq!(KeepAlive::parse("-1m"), Ok(KeepAlive::Forever));
        assert!(KeepAlive::parse("soon").unwrap_err().contains("5m"));
        assert_eq!(KeepAlive::of_json(&json!(45)), seconds(45));
        assert_eq!(KeepAlive::of_json(&json!("5m")), seconds(300));
        for wrong in [json!(true), json!({}), json!([5]), json!("")] {
            assert!(KeepAlive::of_json(&wrong).is_err(), "{wrong}");
        }
    }
}
