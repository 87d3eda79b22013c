//! What a figure is counted in, and which values that unit can take at all.
//!
//! In: a unit. Out: its name in reports, and the rule that impossible values break.

use serde::{Deserialize, Serialize};

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// Bytes per second.
    #[serde(rename = "bytes/s")]
    BytesPerSecond,
    /// Arithmetic operations per second; a multiply-add counts as two.
    #[serde(rename = "ops/s")]
    OpsPerSecond,
    /// Tokens per second.
    #[serde(rename = "tokens/s")]
    TokensPerSecond,
    /// A plain count.
    #[serde(rename = "count")]
    Count,
    /// Natural-log units per token.
    #[serde(rename = "nats/token")]
    NatsPerToken,
    /// Natural-log units per byte of text.
    #[serde(rename = "nats/byte")]
    NatsPerByte,
    /// The exponential of nats per token.
    #[serde(rename = "perplexity")]
    Perplexity,
    /// Natural-log units.
    #[serde(rename = "nats")]
    Nats,
    /// A share of a whole, such as an accuracy: always in 0..=1.
    #[serde(rename = "fraction")]
    Fraction,
    /// One quantity over another of the same kind, such as a speed-up.
    #[serde(rename = "ratio")]
    Ratio,
    /// A difference in percent of the baseline; may be negative.
    #[serde(rename = "%")]
    Percent,
    /// Bytes of text per token.
    #[serde(rename = "bytes/token")]
    BytesPerToken,
    /// Bits per weight.
    #[serde(rename = "bits/weight")]
    BitsPerWeight,
    /// The raw scale of a model's logits.
    #[serde(rename = "logit")]
    Logit,
    /// A correlation or a cosine: always in -1..=1.
    #[serde(rename = "correlation")]
    Correlation,
    /// A difference in hundredths of a correlation or a share; may be negative.
    #[serde(rename = "points")]
    Points,
    /// Texts per second.
    #[serde(rename = "texts/s")]
    TextsPerSecond,
    /// Joules.
    #[serde(rename = "J")]
    Joules,
    /// Watts.
    #[serde(rename = "W")]
    Watts,
}

impl Unit {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes/s",
            Unit::OpsPerSecond => "ops/s",
            Unit::TokensPerSecond => "tokens/s",
            Unit::Count => "count",
            Unit::NatsPerToken => "nats/token",
            Unit::NatsPerByte => "nats/byte",
            Unit::Perplexity => "perplexity",
            Unit::Nats => "nats",
            Unit::Fraction => "fraction",
            Unit::Ratio => "ratio",
            Unit::Percent => "%",
            Unit::BytesPerToken => "bytes/token",
            Unit::BitsPerWeight => "bits/weight",
            Unit::Logit => "logit",
            Unit::Correlation => "correlation",
            Unit::Points => "points",
            Unit::TextsPerSecond => "texts/s",
            Unit::Joules => "J",
            Unit::Watts => "W",
        }
    }

    /// The rule that `value` breaks, if it breaks one.
    pub fn broken_rule(self, value: f64) -> Option<&'static str> {
        match self {
            Unit::Percent | Unit::Points => None,
            Unit::Correlation if !(-1.0..=1.0).contains(&value) => Some("it is in -1..=1"),
            Unit::Correlation => None,
            Unit::Fraction if !(0.0..=1.0).contains(&value) => Some("a fraction is in 0..=1"),
            Unit::Perplexity if value < 1.0 => Some("a perplexity is at least 1"),
            // Rounding may leave a divergence of equal models a hair below zero.
            Unit::Nats | Unit::NatsPerToken | Unit::NatsPerByte if value >= -1e-9 => None,
            _ if value < 0.0 => Some("it cannot be negative"),
            _ => None,
        }
    }
}

/// Words that name a share of a whole; a figure so named must be a [`Unit::Fraction`].
pub(crate) const FRACTION_WORDS: &[&str] = &["accuracy", "agreement"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_are_the_printed_names() {
        for unit in [
            Unit::Seconds,
            Unit::Milliseconds,
            Unit::Bytes,
            Unit::BytesPerSecond,
            Unit::OpsPerSecond,
            Unit::TokensPerSecond,
            Unit::Count,
            Unit::NatsPerToken,
            Unit::NatsPerByte,
            Unit::Perplexity,
            Unit::Nats,
            Unit::Fraction,
            Unit::Ratio,
            Unit::Percent,
            Unit::BytesPerToken,
            Unit::BitsPerWeight,
            Unit::Logit,
            Unit::Correlation,
            Unit::Points,
            Unit::TextsPerSecond,
            Unit::Joules,
            Unit::Watts,
        ] {
            assert_eq!(serde_json::to_value(unit).unwrap(), unit.name());
        }
    }

    #[test]
    fn impossible_values_break_a_rule() {
        assert!(Unit::Fraction.broken_rule(1.01).is_some());
        assert!(Unit::Fraction.broken_rule(1.0).is_none());
        assert!(Unit::Perplexity.broken_rule(0.5).is_some());
        assert!(Unit::Bytes.broken_rule(-1.0).is_some());
        assert!(Unit::Nats.broken_rule(-1e-12).is_none());
        assert!(Unit::Percent.broken_rule(-3.0).is_none());
        assert!(Unit::Correlation.broken_rule(-1.0).is_none());
        assert!(Unit::Correlation.broken_rule(1.1).is_some());
    }
}
