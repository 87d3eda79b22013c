//! `gptq`: what a block of columns is rounded by is made up for by the columns after it.
//!
//! Columns are rounded block by block, as the encoding has them; the error of each is spread over
//! the columns behind it so that the layer's outputs on calibration text change least, and those
//! are rounded with that in them. It works for every block encoding, changes no size and no kernel,
//! and costs a pass over the text for as many matrices as fit in memory (Frantar et al. 2022, by
//! whole blocks instead of single columns).

use super::{Context, Pass};
use crate::draft::{Draft, Edit};
use crate::engine::Engine;
use crate::error::Result;
use crate::fit;
use crate::hessian::{Factor, Hessian};
use crate::progress::{Stage, Watch};
use rayon::prelude::*;
use std::collections::BTreeMap;
use sterna_formats::EncodingRef;
use sterna_measure::quality::Passages;
use sterna_model::{Graph, Role, WeightId, WeightSource};

/// Rounding with feedback.
pub struct Gptq;

/// What matrices read is found by running this.
#[derive(Clone, Copy)]
pub struct Calibrated<'a> {
    /// Runs it.
    pub engine: &'a dyn Engine,
    /// The model as it was given.
    pub graph: &'a Graph,
    /// Its weights.
    pub weights: &'a dyn WeightSource,
    /// The text.
    pub passages: &'a Passages,
    /// So many of its documents are run.
    pub n_documents: usize,
    /// Whom to tell.
    pub watch: Watch<'a>,
}

/// Second moments kept at a time; more matrices take more passes over the text.
const MAX_HESSIAN_BYTES: usize = 1 << 30;

/// Rows of a matrix that go through the columns together, sharing what is read of a factor.
const ROWS: usize = 8;

impl Pass for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn about(&self) -> &'static str {
        "rounds column by column, later columns making up for the errors of earlier ones"
    }

    fn apply(&self, draft: &mut Draft<'_>, context: &mut Context<'_>) -> Result<()> {
        let Some(calibrated) = context.calibrated else { return Ok(()) };
        let edits: Vec<(WeightId, Edit)> = draft
            .edits()
            .filter(|(id, edit)| {
                let role = draft.graph().decl(*id).role;
                edit.encoding.grid().is_some() && role != Role::TokenEmbedding
            })
            .map(|(id, edit)| (id, edit.clone()))
            .collect();
        let ids: Vec<WeightId> = edits.iter().map(|(id, _)| *id).collect();
        second_moments(&calibrated, &ids, &mut |id, hessian| {
            let (_, edit) = edits.iter().find(|(edited, _)| *edited == id).expect("asked for");
            let cols = fit::cols_of(draft.graph().decl(id));
            let factors = draft.scaling().of(id).and_then(|factors| factors.cols.as_ref());
            let divided = factors.map(|factors| hessian.divided(factors));
            let hessian = divided.as_ref().unwrap_or(hessian);
            if let Some(factor) = hessian.factor(cols, edit.encoding.block_len()) {
                let bytes = round(&original(draft, id), edit.encoding, &factor).into();
                draft.encode(id, Edit { bytes: Some(bytes), ..edit.clone() })?;
            }
            Ok(())
        })
    }
}

/// Gives `each` matrix that is wanted the second moments of what it reads, as many matrices per
/// pass over the text as fit in memory. Of what the text never reaches nothing is given.
///
/// # Errors
/// When the model cannot be run, the user stops it, or `each` fails.
pub fn second_moments(
    calibrated: &Calibrated<'_>,
    wanted: &[WeightId],
    each: &mut dyn FnMut(WeightId, &Hessian) -> Result<()>,
) -> Result<()> {
    let bytes = |id: WeightId| Hessian::bytes(fit::cols_of(calibrated.graph.decl(id)));
    let mut at = 0;
    while at < wanted.len() {
        let mut sum = 0;
        let fits = |id: &&WeightId| {
            sum += bytes(**id);
            sum <= MAX_HESSIAN_BYTES
        };
        let n = wanted[at..].iter().take_while(fits).count().max(1);
        let note = format!("what matrices {} to {} of {} read", at + 1, at + n, wanted.len());
        let hessians = observe(calibrated, &wanted[at..at + n], &note)?;
        hessians.iter().try_for_each(|(id, hessian)| each(*id, hessian))?;
        at += n;
    }
    Ok(())
}

/// The second moments of what some matrices read.
fn observe(
    calibrated: &Calibrated<'_>,
    wanted: &[WeightId],
    note: &str,
) -> Result<BTreeMap<WeightId, Hessian>> {
    let Calibrated { engine, graph, weights, passages, n_documents, watch } = *calibrated;
    let mut hessians: BTreeMap<WeightId, Hessian> = BTreeMap::new();
    let documents = passages.iter().take(n_documents).map(|passage| &passage.tokens[..]);
    let documents: Vec<&[u32]> = documents.collect();
    let mut see = |matrices: &[WeightId], len: usize, rows: &[f32]| {
        for id in matrices.iter().filter(|id| wanted.contains(id)) {
            hessians.entry(*id).or_insert_with(|| Hessian::new(len)).add(rows);
        }
    };
    let mut told = |done| watch.step(Stage::Search, done, documents.len(), note);
    engine.observe(graph, weights, &documents, &mut see, &mut told)?;
    Ok(hessians)
}

/// A weight's values before rounding, as wide and as long as the draft has it, by rows.
fn original(draft: &Draft<'_>, id: WeightId) -> Vec<f32> {
    let mut plain = draft.clone();
    plain.restore(id);
    let wide = plain.weight(id);
    wide.to_f32()
}

/// Encodes `[rows, cols]` values.
fn round(values: &[f32], encoding: EncodingRef, factor: &Factor) -> Vec<u8> {
    let (cols, block_len) = (factor.cols(), factor.block_len());
    let row_bytes = encoding.row_bytes(cols);
    let mut bytes = vec![0; values.len() / cols * row_bytes];
    let tasks = bytes.par_chunks_mut(ROWS * row_bytes).zip(values.par_chunks(ROWS * cols));
    tasks.for_each(|(bytes, values)| {
        let mut values = values.to_vec();
        let mut spread = vec![0.0; ROWS * block_len];
        let (mut rounded, mut errors) = (vec![0.0; block_len], vec![0.0; block_len]);
        for first in (0..cols).step_by(block_len) {
            let importance = factor.importance(first);
            let rows = values.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes));
            for ((row, bytes), spread) in rows.zip(spread.chunks_exact_mut(block_len)) {
                let block = &row[first..first + block_len];
                let bytes = &mut bytes[first / block_len * encoding.block_bytes()..];
                let bytes = &mut bytes[..encoding.block_bytes()];
                encoding.encode(block, Some(importance), bytes);
                encoding.decode(bytes, &mut rounded);
                for ((error, value), rounded) in errors.iter_mut().zip(block).zip(&rounded) {
                    *error = value - rounded;
                }
                factor.spread(first, &errors, spread);
            }
            for i in 0..block_len {
                let rows = values.chunks_exact_mut(cols).zip(spread.chunks_exact(block_len));
                rows.for_each(|(row, spread)| factor.make_up(first, i, spread[i], row));
            }
        }
    });
    bytes
}
