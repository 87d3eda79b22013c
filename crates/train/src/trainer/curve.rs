//! The curve of a run: a point per step, one JSON object per line.

use crate::TrainError;
use serde::{Deserialize, Serialize};
use std::path::Path;
use sterna_formats::AtomicFile;

/// The curve's file in the run's folder.
pub const CURVE: &str = "curve.jsonl";

/// One point of the curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done, this one included.
    pub step: usize,
    /// Training loss of this step's batch.
    pub loss: f64,
    /// Learning rate.
    pub rate: f64,
    /// Norm of the gradients before clipping.
    pub norm: f64,
    /// Held-out loss in nats per token, where it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f64>,
    /// Seconds since the run began, over all starts.
    pub seconds: f64,
}

/// Writes a curve into the run's folder.
///
/// # Errors
/// When the system refuses.
pub fn write(folder: &Path, curve: &[Point]) -> Result<(), TrainError> {
    let mut file = AtomicFile::create(&folder.join(CURVE))?;
    for point in curve {
        let line = serde_json::to_string(point).expect("a point is plain data");
        file.write(line.as_bytes())?;
        file.write(b"\n")?;
    }
    Ok(file.finish()?)
}

/// The points up to a step. What cannot be read is left out: the curve is for people.
pub fn read(folder: &Path, up_to: usize) -> Vec<Point> {
    let text = std::fs::read_to_string(folder.join(CURVE)).unwrap_or_default();
    let points = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    points.filter(|p: &Point| p.step <= up_to).collect()
}
