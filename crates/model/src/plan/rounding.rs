//! How a Plan has matrices rounded.

use serde::{Deserialize, Serialize};

/// Which errors rounding keeps small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Those of all values alike.
    #[default]
    Plain,
    /// Those of a value as much as its column's inputs are large: their mean squares on the
    /// calibration text.
    Weighed,
    /// Weighed, and what a block of columns is off by is made up for by the columns after it, so
    /// that the layer's outputs on the calibration text change least.
    Compensated,
}

impl Rounding {
    /// Whether it is [`Rounding::Plain`].
    pub fn is_plain(&self) -> bool {
        *self == Rounding::Plain
    }
}
