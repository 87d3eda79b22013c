//! From raw samples to the numbers of a report: the only place where those numbers are made, so
//! that whoever has the samples comes to the same ones.

use super::Evidence;
use crate::error::Result;
use crate::report::{Point, ReliabilityBins};
use crate::yardstick::Reading;
use sterna_measure::quality::{Reliability, Scores};
use sterna_measure::{Figure, MeasureError, Unit};

/// What follows from what was said.
pub struct Quality {
    /// For the report's metrics.
    pub figures: Vec<Figure>,
    /// The artifact and whom it is compared with, as points of size and quality.
    pub points: Vec<Point>,
    /// Bins of the reliability diagram.
    pub reliability: ReliabilityBins,
}

/// Everything about quality; `source_bytes` is the length of the baseline's file.
///
/// # Errors
/// When the samples are not of the text, or are impossible.
pub fn quality(evidence: &Evidence, source_bytes: u64) -> Result<Quality> {
    let mut points = Vec::new();
    let mut figures = Vec::new();
    for (index, candidate) in evidence.candidates.iter().enumerate() {
        let reading = evidence.reading(candidate)?;
        if index == 0 {
            figures = of_reading(&reading)?;
            points.push(Point::baseline(source_bytes, &reading));
        }
        points.push(Point::of(&candidate.facts, &reading));
    }
    let said = |said: &[_]| Reliability::of(&evidence.text, said);
    let baseline = said(&evidence.baseline)?;
    let artifact = evidence.candidates.first().map_or(&[][..], |candidate| &candidate.said);
    let artifact: Vec<_> = artifact.iter().map(|compared| compared.said.clone()).collect();
    let artifact = said(&artifact)?;
    figures.extend(baseline.figures("baseline")?);
    figures.extend(artifact.figures("artifact")?);
    for task in &evidence.tasks {
        figures.extend(task.figures()?);
    }
    let reliability =
        ReliabilityBins { baseline: baseline.bins().to_vec(), artifact: artifact.bins().to_vec() };
    Ok(Quality { figures, points, reliability })
}

/// Divergence, drop, and both models' perplexities.
fn of_reading(reading: &Reading) -> Result<Vec<Figure>> {
    let baseline = reading.divergence.baseline_scores();
    let mut figures = perplexities("baseline", baseline)?;
    figures.extend(perplexities("artifact", reading.divergence.scores())?);
    figures.extend(reading.drop.figures()?);
    let name = "perplexity_drop_percent_high";
    let method = format!(
        "upper end of the 95% interval of perplexity_drop_percent, bootstrapped over documents; {}",
        baseline.method()
    );
    figures.push(match reading.drop.perplexity_percent_ci95 {
        Some(interval) => {
            let high = interval.high.max(reading.drop.perplexity_percent);
            Figure::estimated(name, Unit::Percent, &method, high, baseline.n_scored(), None)?
        }
        None => {
            let reason = "an interval needs five held-out documents or more";
            Figure::unavailable(name, Unit::Percent, &method, reason)?
        }
    });
    figures.extend(reading.divergence.figures()?);
    Ok(figures)
}

/// A model's own figures, named for it.
fn perplexities(who: &str, scores: &Scores) -> Result<Vec<Figure>> {
    let figures: std::result::Result<_, MeasureError> =
        scores.figures()?.into_iter().map(|figure| named(who, figure)).collect();
    Ok(figures?)
}

/// An estimate with whose it is in its name; one without a value as it is.
///
/// # Errors
/// Never, for the estimate was checked before.
pub fn named(who: &str, figure: Figure) -> std::result::Result<Figure, MeasureError> {
    let name = format!("{who}_{}", figure.name());
    match figure.value() {
        Some(value) => {
            let (unit, n) = (figure.unit(), figure.n());
            Figure::estimated(&name, unit, figure.method(), value, n, figure.ci95())
        }
        None => Ok(figure),
    }
}

/// Bytes of a file, and of what it is made from.
pub struct Sizes {
    /// Bytes of the artifact's file.
    pub file: u64,
    /// Bytes of the baseline's.
    pub source: u64,
    /// Bytes of the artifact's tensors.
    pub weights: u64,
    /// Parameters of the source.
    pub n_parameters: u64,
}

/// Everything about size.
///
/// # Errors
/// When a size is impossible.
pub fn sizes(sizes: &Sizes) -> Result<Vec<Figure>> {
    let method = "length of the artifact's file, Plan and evidence included";
    let (bytes, source) = (sizes.file as f64, sizes.source as f64);
    Ok(vec![
        Figure::read("file_bytes", Unit::Bytes, method, bytes)?,
        Figure::computed(
            "baseline_file_bytes",
            Unit::Bytes,
            "GGUF file of the source's tensors as they are, with its metadata",
            source,
        )?,
        Figure::computed(
            "size_ratio",
            Unit::Ratio,
            "baseline_file_bytes over file_bytes",
            source / bytes,
        )?,
        Figure::computed(
            "artifact_bits_per_weight",
            Unit::BitsPerWeight,
            "bits of all tensors over the source's parameters",
            sizes.weights as f64 * 8.0 / sizes.n_parameters as f64,
        )?,
    ])
}
