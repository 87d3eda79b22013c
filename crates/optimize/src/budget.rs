//! What the user caps, and how they write it.
//!
//! In: flags as text (`1%`, `700MB`, `30m`, `int8,int4`). Out: a [`Budget`].

use crate::error::{OptimizeError, Result};
use crate::search::Least;
use std::time::Duration;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::{ENCODINGS, by_name};
use sterna_measure::Unit;
use sterna_measure::figure::short;
use sterna_model::plan;

/// Tokens of the prompt of a capped time to the first token, where as many fit.
pub const TTFT_PROMPT: usize = 128;

/// The caps, and what may be used to keep them.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Rise of the perplexity on held-out text, in percent, upper end of its 95% interval.
    pub max_drop_percent: Option<f64>,
    /// Bytes of the artifact's file.
    pub max_size: Option<u64>,
    /// Bits of all tensors, over the parameters of the model as given.
    pub target_bpw: Option<f64>,
    /// Bytes of its own that a process takes for the loaded model, with its KV cache.
    pub max_memory: Option<u64>,
    /// Median time between tokens of one sequence, milliseconds.
    pub max_itl_ms: Option<f64>,
    /// 95th percentile of it, milliseconds.
    pub max_itl_p95_ms: Option<f64>,
    /// Median time to the first token after a prompt of [`TTFT_PROMPT`] tokens, milliseconds.
    pub max_ttft_ms: Option<f64>,
    /// What is to be least within the caps; `None` is the divergence where size or time is capped,
    /// else the bytes.
    pub least: Option<Least>,
    /// Encodings that may be used.
    pub allow: Vec<EncodingRef>,
    /// How long the search may take; `None` is until it is done.
    pub time: Option<Duration>,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_drop_percent: None,
            max_size: None,
            target_bpw: None,
            max_memory: None,
            max_itl_ms: None,
            max_itl_p95_ms: None,
            max_ttft_ms: None,
            least: None,
            allow: ENCODINGS.iter().copied().filter(|e| e.can_encode()).collect(),
            time: None,
            seed: 0x5eed,
        }
    }
}

impl Budget {
    /// Checks that something is asked for.
    ///
    /// # Errors
    /// When nothing is capped, or a cap is no sensible number.
    pub fn check(&self) -> Result<()> {
        let bad = |why: &str| Err(OptimizeError::Input(why.into()));
        if self.line().is_empty() {
            return bad("there is nothing to optimize for; say how much quality may drop \
                 (--max-drop 1%), or how large the result may be (--max-size 200MB, \
                 --target-bpw 4.5), or how fast (--tokens-per-s 50)");
        }
        if self.target_bpw.is_some_and(|bits| !(bits > 0.0 && bits <= 32.0)) {
            return bad("--target-bpw is a number of bits above 0, such as 4.5");
        }
        if self.max_drop_percent.is_some_and(|drop| !(drop > 0.0 && drop <= 1000.0)) {
            return bad("--max-drop is a share of the perplexity above 0%, such as 1%");
        }
        let times = [self.max_itl_ms, self.max_itl_p95_ms, self.max_ttft_ms];
        if times.into_iter().flatten().any(|ms| !(ms > 0.0 && ms <= 1e9)) {
            return bad(
                "--itl, --latency-p95, --ttft and --tokens-per-s are numbers above 0, such as 5ms, \
                 8ms, 200ms and 50",
            );
        }
        if self.least.is_some() && self.max_drop_percent.is_none() {
            return bad("--goal says what to save as far as quality allows; say how much quality \
                 may drop with --max-drop 1%");
        }
        Ok(())
    }

    /// Nanoseconds that a token may take, where its 95th percentile is so many times its median.
    pub fn token_nanos(&self, p95_ratio: f64) -> Option<f64> {
        let p95 = self.max_itl_p95_ms.map(|ms| ms / p95_ratio);
        [self.max_itl_ms, p95].into_iter().flatten().reduce(f64::min).map(|ms| ms * 1e6)
    }

    /// Whether a size, memory or time is capped.
    pub fn is_capped(&self) -> bool {
        let is_small = self.max_size.is_some() || self.target_bpw.is_some();
        is_small || self.caps_time() || self.max_memory.is_some()
    }

    fn caps_time(&self) -> bool {
        self.token_nanos(1.0).is_some() || self.max_ttft_ms.is_some()
    }

    /// Whether plans must be compared in time.
    pub fn is_about_time(&self) -> bool {
        self.caps_time() || self.least == Some(Least::Time)
    }

    /// What is capped: the metric that shows whether it is kept, and the most it may be.
    pub fn caps(&self) -> Vec<(&'static str, f64, Unit)> {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let all = [
            ("perplexity_drop_percent_high", self.max_drop_percent, Unit::Percent),
            ("file_bytes", bytes(self.max_size), Unit::Bytes),
            ("artifact_bits_per_weight", self.target_bpw, Unit::BitsPerWeight),
            ("artifact_memory_bytes", bytes(self.max_memory), Unit::Bytes),
            ("artifact_itl_ms", self.max_itl_ms, Unit::Milliseconds),
            ("artifact_itl_p95_ms", self.max_itl_p95_ms, Unit::Milliseconds),
            ("artifact_ttft_ms", self.max_ttft_ms, Unit::Milliseconds),
        ];
        all.into_iter().filter_map(|(name, cap, unit)| Some((name, cap?, unit))).collect()
    }

    /// The caps as a Plan has them.
    pub fn in_plan(&self) -> plan::Budget {
        plan::Budget {
            max_drop: self.max_drop_percent.map(|percent| percent / 100.0),
            max_size: self.max_size,
            target_bpw: self.target_bpw,
            max_memory: self.max_memory,
            max_itl_ms: self.max_itl_ms,
            max_itl_p95_ms: self.max_itl_p95_ms,
            max_ttft_ms: self.max_ttft_ms,
        }
    }

    /// The caps of a Plan. A percentage may come back different in its last bits.
    pub fn of_plan(plan: &plan::Budget) -> Self {
        Self {
            max_drop_percent: plan.max_drop.map(|drop| drop * 100.0),
            max_size: plan.max_size,
            target_bpw: plan.target_bpw,
            max_memory: plan.max_memory,
            max_itl_ms: plan.max_itl_ms,
            max_itl_p95_ms: plan.max_itl_p95_ms,
            max_ttft_ms: plan.max_ttft_ms,
            ..Self::default()
        }
    }

    /// Bytes that all tensors may take of a model with so many parameters.
    pub fn tensor_bytes(&self, n_parameters: u64) -> Option<u64> {
        self.target_bpw.map(|bits| (bits * n_parameters as f64 / 8.0) as u64)
    }

    /// One line for people; empty where nothing is capped.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(drop) = self.max_drop_percent {
            parts.push(format!("perplexity rises at most {drop}%"));
        }
        if let Some(bytes) = self.max_size {
            parts.push(format!("file of at most {bytes} bytes"));
        }
        if let Some(bits) = self.target_bpw {
            parts.push(format!("at most {bits} bits per weight"));
        }
        if let Some(bytes) = self.max_memory {
            parts.push(format!("memory of at most {bytes} bytes"));
        }
        if let Some(ms) = self.max_itl_ms {
            parts.push(format!("a token in at most {} ms", short(ms)));
        }
        if let Some(ms) = self.max_itl_p95_ms {
            parts.push(format!("95% of tokens in at most {} ms", short(ms)));
        }
        if let Some(ms) = self.max_ttft_ms {
            let ms = short(ms);
            parts.push(format!(
                "the first token after a prompt of {TTFT_PROMPT} in at most {ms} ms"
            ));
        }
        if let Some(least) = self.least {
            parts.push(format!("then the {}", least.words()));
        }
        parts.join(", ")
    }
}

/// Percent: `1%`, `0.5%` or `1` (percent signs are what users forget).
///
/// # Errors
/// When it is no number.
pub fn parse_percent(text: &str) -> Result<f64> {
    let number = text.trim().trim_end_matches('%').trim().parse::<f64>();
    number.ok().filter(|n| n.is_finite()).ok_or_else(|| {
        OptimizeError::Input(format!("{text} is no percentage; write it like 1% or 0.5%"))
    })
}

/// Units of bytes: decimal as `ls -h --si` and disk makers say them, binary with an i.
const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("b", 1),
];

/// Bytes: `700MB`, `1.5GiB`, `229376`.
///
/// # Errors
/// When it is no number with a known unit.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let lower = text.trim().to_lowercase();
    let unit = UNITS.iter().find(|(unit, _)| lower.ends_with(unit));
    let (number, scale) = unit.map_or((lower.as_str(), 1), |(unit, scale)| {
        (lower[..lower.len() - unit.len()].trim(), *scale)
    });
    let value = number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    value.map(|value| (value * scale as f64) as u64).ok_or_else(|| {
        OptimizeError::Input(format!("{text} is no size; write it like 700MB, 1.5GiB or 229376"))
    })
}

/// Milliseconds: `5ms`, `0.2s`, `800us`.
///
/// # Errors
/// When it is no number with one of these units.
pub fn parse_ms(text: &str) -> Result<f64> {
    let units = [("ms", 1.0), ("us", 1e-3), ("s", 1e3)];
    let parsed = units.iter().find_map(|(unit, scale)| {
        let number = text.trim().strip_suffix(unit)?.trim().parse::<f64>().ok()?;
        Some(number * scale)
    });
    parsed.filter(|ms| ms.is_finite() && *ms > 0.0).ok_or_else(|| {
        OptimizeError::Input(format!(
            "{text} is no time; write it with its unit, like 5ms or 800us"
        ))
    })
}

/// A time: `90s`, `30m`, `2h`.
///
/// # Errors
/// When it is no number with one of these units.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let text = text.trim();
    let scale = match text.chars().last() {
        Some('s') => Some(1.0),
        Some('m') => Some(60.0),
        Some('h') => Some(3600.0),
        _ => None,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|n| n.trim().parse().ok());
    let seconds = scale.zip(number).map(|(scale, number): (f64, f64)| scale * number);
    seconds.filter(|s| (0.0..1e9).contains(s)).map(Duration::from_secs_f64).ok_or_else(|| {
        OptimizeError::Input(format!("{text} is no time; write it like 90s, 30m or 2h"))
    })
}

/// Families of encodings by what people call them.
const FAMILIES: &[(&str, &[&str])] = &[
    ("float", &["F32", "F16", "BF16"]),
    ("int8", &["Q8_0"]),
    ("int6", &["Q6_K"]),
    ("int5", &["Q5_K", "Q5_1", "Q5_0"]),
    ("int4", &["Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS"]),
    ("int3", &["Q3_K"]),
    ("int2", &["Q2_K"]),
    ("ternary", &["TQ2_0", "TQ1_0"]),
];

/// The words that allow channels to leave and codes to learn, among those that allow encodings.
const WORDS: [&str; 2] = ["prune", "distill"];

/// What `--allow` allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed {
    /// Encodings that may be used.
    pub encodings: Vec<EncodingRef>,
    /// Whether channels of the MLP may leave.
    pub prune: bool,
    /// Whether what is quantized may learn from the source.
    pub distill: bool,
}

/// What may be used: families of encodings (`int8,int4`), names of some (`Q5_0`), `prune`
/// and `distill`.
/// Floats always may, since rows that fit no block need them; all may where no encoding is named.
///
/// # Errors
/// When a word is neither.
pub fn parse_allow(text: &str) -> Result<Allowed> {
    let mut names: Vec<&str> = FAMILIES[0].1.to_vec();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let is = |word: &str, known: &str| word.eq_ignore_ascii_case(known);
    let (others, words): (Vec<&str>, Vec<&str>) =
        words.partition(|word| WORDS.iter().any(|known| is(word, known)));
    let [prune, distill] = WORDS.map(|known| others.iter().any(|word| is(word, known)));
    if words.is_empty() {
        return Ok(Allowed { encodings: Budget::default().allow, prune, distill });
    }
    for word in words {
        if let Some((_, family)) = FAMILIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word))
        {
            names.extend(*family);
        } else if let Some(encoding) = by_name(word) {
            names.push(encoding.name());
        } else {
            let families: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
            return Err(OptimizeError::Input(format!(
                "--allow {word}: there is no such family or encoding; families are {}; prune \
                 lets channels of the MLP leave, and distill has codes learn from the source",
                families.join(", ")
            )));
        }
    }
    let allowed = ENCODINGS.iter().copied().filter(|e| names.contains(&e.name()));
    let encodings = allowed.filter(|e| e.can_encode()).collect();
    Ok(Allowed { encodings, prune, distill })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_as_users_write_them() {
        assert_eq!(parse_percent("1%").unwrap(), 1.0);
        assert_eq!(parse_percent(" 0.5 % ").unwrap(), 0.5);
        assert!(parse_percent("one").is_err());
        assert_eq!(parse_bytes("700MB").unwrap(), 700_000_000);
        assert_eq!(parse_bytes("1.5GiB").unwrap(), 3 << 29);
        assert_eq!(parse_bytes("229376").unwrap(), 229_376);
        assert_eq!(parse_bytes("12 kb").unwrap(), 12_000);
        assert!(parse_bytes("-3MB").is_err() && parse_bytes("MB").is_err());
        assert_eq!(parse_duration("30m").unwrap(), Duration::from_secs(1800));
        assert_eq!(parse_ms("5ms").unwrap(), 5.0);
        assert_eq!(parse_ms("0.2s").unwrap(), 200.0);
        assert!(parse_ms("5").is_err() && parse_ms("-1ms").is_err());
        assert!(parse_duration("30").is_err() && parse_duration("").is_err());
        let Allowed { encodings, prune, distill } = parse_allow("int8,q4_0").unwrap();
        let names: Vec<&str> = encodings.iter().map(|e| e.name()).collect();
        assert_eq!(names, ["F32", "F16", "BF16", "Q8_0", "Q4_0"]);
        assert!(!prune && !distill);
        let all = Budget::default().allow;
        let of = |encodings, prune, distill| Allowed { encodings, prune, distill };
        assert_eq!(parse_allow("prune").unwrap(), of(all.clone(), true, false));
        assert_eq!(parse_allow("distill").unwrap(), of(all, false, true));
        let encodings = parse_allow("int8").unwrap().encodings;
        assert_eq!(parse_allow("int8,Prune,distill").unwrap(), of(encodings, true, true));
        assert!(parse_allow("int7").unwrap_err().to_string().contains("int5"));
    }

    #[test]
    fn a_budget_asks_for_something() {
        assert!(Budget::default().check().unwrap_err().to_string().contains("--max-drop 1%"));
        assert!(Budget { max_drop_percent: Some(0.0), ..Budget::default() }.check().is_err());
        assert!(Budget { max_size: Some(1), ..Budget::default() }.check().is_ok());
        assert!(Budget { target_bpw: Some(-1.0), ..Budget::default() }.check().is_err());
        let by_bits = Budget { target_bpw: Some(4.5), ..Budget::default() };
        assert_eq!((by_bits.check().is_ok(), by_bits.tensor_bytes(1000)), (true, Some(562)));
    }
}
