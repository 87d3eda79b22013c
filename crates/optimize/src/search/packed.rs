//! What matrices take of memory once they are packed for the kernels: not always what they take in
//! a file, for an encoding without a packed layout of its own is unpacked to a byte a weight.
//!
//! In: a draft and what the runtime plans for drafts. Out: a table, by kind of matrix and encoding.

use super::groups;
use crate::draft::Draft;
use crate::error::Result;
use crate::fit;
use sterna_formats::EncodingRef;
use sterna_model::{Role, WeightDecl};

/// Bytes by kind of matrix and encoding.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    role: Role,
    shape: (usize, usize),
    from: &'static str,
    to: &'static str,
    bytes: u64,
}

impl Packed {
    /// The table for a draft's matrices in everything they may get: what `planned` rises by when
    /// one of a kind changes.
    ///
    /// # Errors
    /// When a draft cannot be planned.
    pub fn of(
        base: &Draft<'_>,
        allow: &[EncodingRef],
        planned: &dyn Fn(&Draft<'_>) -> Result<u64>,
    ) -> Result<Self> {
        let mut packed = Self::default();
        let before = planned(base)?;
        for group in groups::of(base, allow, groups::n_layers(base.graph())) {
            let from = group.candidates[0].encoding;
            for &id in &group.weights {
                let decl = base.graph().decl(id);
                for candidate in &group.candidates {
                    let to = candidate.encoding;
                    if packed.row(decl, from, to).is_some() {
                        continue;
                    }
                    let after = planned(&base.planned(&[(id, to)], "to plan its memory")?)?;
                    let stored = fit::bytes_of(decl, from) as i64;
                    let bytes = (stored + after as i64 - before as i64).max(0) as u64;
                    let (role, shape) = (decl.role, decl.matrix());
                    let (from, to) = (from.name(), to.name());
                    packed.rows.push(Row { role, shape, from, to, bytes });
                }
            }
        }
        Ok(packed)
    }

    /// Bytes of a matrix stored in `from` and packed from `to`; what it takes in a file where the
    /// table lacks it.
    pub fn bytes(&self, decl: &WeightDecl, from: EncodingRef, to: EncodingRef) -> u64 {
        let row = self.row(decl, from, to);
        row.map_or_else(|| fit::bytes_of(decl, to) as u64, |row| row.bytes)
    }

    fn row(&self, decl: &WeightDecl, from: EncodingRef, to: EncodingRef) -> Option<&Row> {
        let key = (decl.role, decl.matrix(), from.name(), to.name());
        self.rows.iter().find(|row| (row.role, row.shape, row.from, row.to) == key)
    }
}
