//! What a generated token takes on this machine, matrix by matrix and encoding by encoding:
//! measured, so that plans can be compared in time before they are run (A1, S-8).
//!
//! In: times of a program's steps ([`crate::pipeline::costs`] takes them). Out: [`Costs`], a table
//! that is kept beside the artifact; with another machine's table the same losses give the plan
//! for that machine (B12).

use crate::fit;
use serde::{Deserialize, Serialize};
use sterna_formats::EncodingRef;
use sterna_model::WeightDecl;

/// The table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Where it was measured.
    pub place: Place,
    /// The 95th percentile of a token's time over its median.
    pub p95_ratio: f64,
    /// Of a generated token.
    pub token: Table,
    /// Of a prompt of so many tokens and its first token, where that was asked for.
    pub prompt: Option<(usize, Table)>,
}

/// What some work takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Nanoseconds besides matrices: attention, norms, sampling.
    pub rest: f64,
    /// One row per kind of matrix and encoding.
    pub rows: Vec<Row>,
}

/// What costs hold for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The machine's name for itself.
    pub machine: String,
    /// Its CPU.
    pub cpu: String,
    /// The kernels in use.
    pub isa: String,
    /// Threads in use.
    pub threads: usize,
    /// A name for the runtime's other settings.
    pub choices: String,
}

/// A kind of matrix in an encoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The part it plays, e.g. `ffn_down`.
    pub role: String,
    /// Rows and columns.
    pub shape: (usize, usize),
    /// The encoding's name.
    pub encoding: String,
    /// Nanoseconds that one such matrix takes: the median of runs.
    pub nanos: f64,
    /// Times taken.
    pub n: usize,
}

/// No matrix takes longer: a quarter of an hour.
const MAX_NANOS: f64 = 1e12;

impl Costs {
    /// Whether every number is a time, or a ratio of times.
    pub fn is_sound(&self) -> bool {
        (1.0..=1e6).contains(&self.p95_ratio)
            && self.token.is_sound()
            && self.prompt.as_ref().is_none_or(|(n, table)| *n > 0 && table.is_sound())
    }
}

impl Table {
    fn is_sound(&self) -> bool {
        let is_time = |nanos: f64| (0.0..=MAX_NANOS).contains(&nanos);
        is_time(self.rest) && self.rows.iter().all(|row| is_time(row.nanos))
    }

    /// Nanoseconds that a matrix in an encoding takes; `None` where it was not measured.
    pub fn nanos(&self, decl: &WeightDecl, encoding: EncodingRef) -> Option<f64> {
        self.of_kind(fit::role_name(decl.role), decl.matrix(), encoding.name())
    }

    /// The same by the words of the table.
    pub fn of_kind(&self, role: &str, shape: (usize, usize), encoding: &str) -> Option<f64> {
        let is_it = |row: &&Row| row.shape == shape && row.role == role && row.encoding == encoding;
        self.rows.iter().find(is_it).map(|row| row.nanos)
    }
}
