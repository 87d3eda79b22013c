//! One number of a report, with where it came from: DESIGN invariant 2 as a type.
//!
//! In: samples, or a value and the words that explain it. Out: a [`Figure`], whose fields can only
//! be set together, so that a number without a measurement, an accuracy above 1 or a NaN cannot
//! exist; reading one back from JSON passes the same checks.

use crate::{
    MeasureError, Samples, Unit,
    stats::{Bootstrap, Interval},
    unit::FRACTION_WORDS,
};
use serde::{Deserialize, Serialize};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A named measurement of this run.
    Measured,
    /// Arithmetic on known facts, such as a file's size from its tensors' shapes.
    Computed,
    /// What the user wants, not what is.
    Target,
    /// It could not be had here; the figure says why.
    Unavailable,
}

impl Source {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Source::Measured => "measured",
            Source::Computed => "computed",
            Source::Target => "target",
            Source::Unavailable => "unavailable",
        }
    }
}

/// A named value with its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Figure(Fields);

/// The JSON form, in the report schema's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    name: String,
    value: Option<f64>,
    unit: Unit,
    source: Source,
    method: String,
    n: usize,
    mean: Option<f64>,
    median: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    stddev: Option<f64>,
    ci95: Option<Interval>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Figure {
    /// The median of repeated measurements, with a bootstrapped interval.
    ///
    /// # Errors
    /// If the values are impossible in `unit`, or `name` or `method` is empty.
    pub fn measured(
        name: &str,
        unit: Unit,
        method: &str,
        samples: &Samples,
    ) -> Result<Self, MeasureError> {
        let median = samples.median();
        Self::checked(Fields {
            value: Some(median),
            mean: Some(samples.mean()),
            median: Some(median),
            p95: samples.p95(),
            p99: samples.p99(),
            stddev: samples.stddev(),
            ci95: Bootstrap::default().median(samples.raw()).map(|i| i.holding(median)),
            n: samples.n(),
            ..Fields::blank(name, unit, Source::Measured, method)
        })
    }

    /// One reading of something that does not vary between readings, such as a peak that the
    /// kernel keeps or a file's size.
    ///
    /// # Errors
    /// As [`Figure::measured`].
    pub fn read(name: &str, unit: Unit, method: &str, value: f64) -> Result<Self, MeasureError> {
        let fields = Fields::blank(name, unit, Source::Measured, method);
        Self::checked(Fields { value: Some(value), n: 1, ..fields })
    }

    /// A statistic over `n` measured units that is not their median, such as a perplexity over
    /// tokens, with the interval its own method gives.
    ///
    /// # Errors
    /// As [`Figure::measured`], or if `n` is 0 or `ci95` does not hold `value`.
    pub fn estimated(
        name: &str,
        unit: Unit,
        method: &str,
        value: f64,
        n: usize,
        ci95: Option<Interval>,
    ) -> Result<Self, MeasureError> {
        let fields = Fields::blank(name, unit, Source::Measured, method);
        Self::checked(Fields { value: Some(value), n, ci95, ..fields })
    }

    /// Arithmetic on known facts; `method` states the formula.
    ///
    /// # Errors
    /// As [`Figure::measured`].
    pub fn computed(
        name: &str,
        unit: Unit,
        method: &str,
        value: f64,
    ) -> Result<Self, MeasureError> {
        let fields = Fields::blank(name, unit, Source::Computed, method);
        Self::checked(Fields { value: Some(value), ..fields })
    }

    /// What the user asked for; `method` says where they did.
    ///
    /// # Errors
    /// As [`Figure::measured`].
    pub fn target(name: &str, unit: Unit, method: &str, value: f64) -> Result<Self, MeasureError> {
        let fields = Fields::blank(name, unit, Source::Target, method);
        Self::checked(Fields { value: Some(value), ..fields })
    }

    /// A figure that this machine or run cannot give; `reason` is a sentence.
    ///
    /// # Errors
    /// If `name`, `method` or `reason` is empty.
    pub fn unavailable(
        name: &str,
        unit: Unit,
        method: &str,
        reason: &str,
    ) -> Result<Self, MeasureError> {
        let fields = Fields::blank(name, unit, Source::Unavailable, method);
        Self::checked(Fields { reason: Some(reason.into()), ..fields })
    }

    /// Its name, in the words of the glossary, unit last where it helps: `ttft_ms`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The value; `None` only where unavailable.
    pub fn value(&self) -> Option<f64> {
        self.0.value
    }

    /// What the value is counted in.
    pub fn unit(&self) -> Unit {
        self.0.unit
    }

    /// Where the value came from.
    pub fn source(&self) -> Source {
        self.0.source
    }

    /// How the value came about.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// How many measurements stand behind it; 0 where none do.
    pub fn n(&self) -> usize {
        self.0.n
    }

    /// The mean of the samples, where there were several.
    pub fn mean(&self) -> Option<f64> {
        self.0.mean
    }

    /// The median of the samples.
    pub fn median(&self) -> Option<f64> {
        self.0.median
    }

    /// The 95th percentile, where there were samples enough.
    pub fn p95(&self) -> Option<f64> {
        self.0.p95
    }

    /// The 99th percentile, where there were samples enough.
    pub fn p99(&self) -> Option<f64> {
        self.0.p99
    }

    /// The sample standard deviation.
    pub fn stddev(&self) -> Option<f64> {
        self.0.stddev
    }

    /// The 95% confidence interval of the value.
    pub fn ci95(&self) -> Option<Interval> {
        self.0.ci95
    }

    /// Why it is unavailable.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// One line for a terminal: `ttft_ms 12.30 ms [11.90, 12.80] (measured, n=30)`.
    pub fn line(&self) -> String {
        let Fields { name, unit, source, n, .. } = &self.0;
        let Some(value) = self.0.value else {
            return format!("{name} unavailable: {}", self.0.reason.as_deref().unwrap_or_default());
        };
        let interval = self.0.ci95.map_or(String::new(), |interval| {
            format!(" [{}, {}]", short(interval.low), short(interval.high))
        });
        let count = if *n == 0 { String::new() } else { format!(", n={n}") };
        let is_whole = matches!(unit, Unit::Count | Unit::Bytes) && value.fract() == 0.0;
        let value = if is_whole { format!("{value:.0}") } else { short(value) };
        format!("{name} {value} {}{interval} ({}{count})", unit.name(), source.name())
    }

    fn checked(fields: Fields) -> Result<Self, MeasureError> {
        fields.check()?;
        Ok(Self(fields))
    }
}

/// Four significant digits, without an exponent for everyday sizes.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    let n_decimals = if size >= 1000.0 {
        0
    } else if size == 0.0 {
        1
    } else {
        (3 - size.log10().floor() as i32).clamp(0, 7) as usize
    };
    format!("{value:.n_decimals$}")
}

impl Fields {
    fn blank(name: &str, unit: Unit, source: Source, method: &str) -> Self {
        Self {
            name: name.into(),
            value: None,
            unit,
            source,
            method: method.into(),
            n: 0,
            mean: None,
            median: None,
            p95: None,
            p99: None,
            stddev: None,
            ci95: None,
            reason: None,
        }
    }

    /// Everything that holds of an honest figure.
    fn check(&self) -> Result<(), MeasureError> {
        for (field, text) in [("name", &self.name), ("method", &self.method)] {
            if text.trim().is_empty() {
                return Err(MeasureError::Unexplained { name: self.name.clone(), field });
            }
        }
        self.check_source()?;
        let ends = self.ci95.map_or([None, None], |i| [Some(i.low), Some(i.high)]);
        let values = [self.value, self.mean, self.median, self.p95, self.p99, ends[0], ends[1]];
        values.iter().flatten().try_for_each(|&value| self.check_value(value))?;
        if let (Some(value), Some(interval)) = (self.value, self.ci95)
            && !interval.contains(value)
        {
            return Err(self.impossible(value, "a value lies inside its own 95% interval"));
        }
        let word = FRACTION_WORDS.iter().find(|word| self.name.contains(*word));
        if let (Some(_), Some(value), true) = (word, self.value, self.unit != Unit::Fraction) {
            return Err(self.impossible(value, "an accuracy or agreement is a fraction in 0..=1"));
        }
        Ok(())
    }

    /// A source and the fields that it asks for, or forbids.
    fn check_source(&self) -> Result<(), MeasureError> {
        let missing = |field| Err(MeasureError::Unexplained { name: self.name.clone(), field });
        match (self.source, self.value) {
            (Source::Unavailable, Some(value)) => {
                return Err(self.impossible(value, "an unavailable figure has no value"));
            }
            (Source::Unavailable, None) => {
                let reason = self.reason.as_deref().unwrap_or_default();
                return if reason.trim().is_empty() { missing("reason") } else { Ok(()) };
            }
            (_, None) => return missing("value"),
            (Source::Measured, Some(_)) if self.n == 0 => {
                return Err(MeasureError::NoSamples { name: self.name.clone() });
            }
            (Source::Computed | Source::Target, Some(value)) if self.n > 0 => {
                return Err(self.impossible(value, "only a measured figure has samples"));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_value(&self, value: f64) -> Result<(), MeasureError> {
        if !value.is_finite() {
            return Err(self.impossible(value, "a figure is a finite number"));
        }
        self.unit.broken_rule(value).map_or(Ok(()), |rule| Err(self.impossible(value, rule)))
    }

    fn impossible(&self, value: f64, rule: &'static str) -> MeasureError {
        let (name, unit) = (self.name.clone(), self.unit.name());
        MeasureError::Impossible { name, value: value.to_string(), unit, rule }
    }
}

impl TryFrom<Fields> for Figure {
    type Error = MeasureError;

    fn try_from(fields: Fields) -> Result<Self, MeasureError> {
        Self::checked(fields)
    }
}

impl From<Figure> for Fields {
    fn from(figure: Figure) -> Self {
        figure.0
    }
}

#[cfg(test)]
mod tests;
