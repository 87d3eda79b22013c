//! How layers are to see their inputs, on the command line: `optimize` and `quantize` have the same
//! words.

use sterna_optimize::passes::int8;

/// As they are, or as int8 codes.
#[derive(Clone, Copy, Default, PartialEq, clap::ValueEnum)]
pub enum Activations {
    /// As the model was made.
    #[default]
    Float,
    /// As int8 codes with a scale per row.
    Dynamic,
    /// As int8 codes with one scale for all rows, found on calibration text.
    Static,
}

/// [`int8::Ranges`] on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Ranges {
    /// The largest magnitude.
    Minmax,
    /// What 99.9% are within.
    Percentile,
    /// What loses least by KL divergence.
    Entropy,
}

impl From<Ranges> for int8::Ranges {
    fn from(ranges: Ranges) -> Self {
        match ranges {
            Ranges::Minmax => int8::Ranges::MinMax,
            Ranges::Percentile => int8::Ranges::Percentile,
            Ranges::Entropy => int8::Ranges::Entropy,
        }
    }
}
