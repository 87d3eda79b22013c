//! What plans start from: the model, or the model with channels of its MLP left out.
//!
//! In: a model and whether it may be pruned. Out: some [`Pruned`] models, and a [`Start`] for each
//! of them and the model itself. Which of them is taken, the search decides by measurement.

use super::{Prepared, Settings};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::passes::{Context, PASSES};
use crate::progress::Watch;
use crate::prune::cut::Pruned;
use crate::prune::{Amount, Subject, Wanted, cut};
use sterna_measure::quality::Passages;
use sterna_measure::{MeasureError, Workload};
use sterna_model::config::Config;
use sterna_model::{Graph, WeightSource};

/// Shares of the MLP's channels that may leave.
const SHARES: [f64; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];
/// What rows of the longest blocks have a multiple of.
const BLOCK_LEN: usize = 256;
/// So many blocks and more divide finely enough.
const MANY_BLOCKS: usize = 10;

/// What plans start from.
#[derive(Clone, Copy)]
pub struct Start<'p> {
    /// Its graph.
    pub graph: &'p Graph,
    /// Its weights.
    pub weights: &'p dyn WeightSource,
    /// Its hyper-parameters.
    pub config: &'p Config,
}

impl<'p> Start<'p> {
    /// The model, then what is pruned of it.
    pub fn all(prepared: &'p Prepared, pruned: &'p [Pruned<'p>]) -> Vec<Self> {
        let model = &prepared.model;
        let whole = Start { graph: &model.graph, weights: model, config: &model.config };
        let smaller = pruned.iter().map(|pruned| Start {
            graph: pruned.graph(),
            weights: pruned,
            config: pruned.config(),
        });
        std::iter::once(whole).chain(smaller).collect()
    }

    /// How many of the model's channels are left, as people say it; `None` of the model itself.
    pub fn words(&self, prepared: &Prepared) -> Option<String> {
        let (left, all) = (self.config.ffn_dim, prepared.model.config.ffn_dim);
        (left != all).then(|| format!("{left} of {all} channels of the MLP"))
    }

    /// The draft that encodings are chosen for: padded if that may be.
    pub fn draft(&self, settings: &Settings, prepared: &Prepared) -> Result<Draft<'p>> {
        let mut draft = Draft::new(self.graph, self.weights);
        if self.config.ffn_dim != prepared.model.config.ffn_dim {
            draft.set_config(self.config.clone());
        }
        let may_pad = settings.may_pad.then_some((prepared.model.arch, self.config));
        let mut context = Context { may_pad, ..Context::default() };
        PASSES.iter().try_for_each(|pass| pass.apply(&mut draft, &mut context))?;
        Ok(draft)
    }
}

/// The calibration text in two halves: what stays makes up for what leaves on the first, so that
/// only the second can say what that loses.
fn halves(prepared: &Prepared) -> Result<(Passages, Passages)> {
    let text = &prepared.texts.calibration;
    let (workload, n) = (text.workload(), text.workload().documents().len() / 2);
    let of = |part: std::result::Result<Workload, MeasureError>| {
        Ok::<_, MeasureError>(Passages::new(&part?, text.scoring())?)
    };
    Ok((of(workload.first(n))?, of(workload.without_first(n))?))
}

/// Text that nothing left by.
///
/// # Errors
/// When there are too few documents.
pub fn unseen(prepared: &Prepared) -> Result<Passages> {
    Ok(halves(prepared)?.1)
}

/// The model with some of its channels left out, fewer and fewer; none where it may not be pruned.
///
/// # Errors
/// When it cannot be run, or the user stops it.
pub fn pruned<'p>(
    settings: &Settings,
    prepared: &'p Prepared,
    engine: &dyn Engine,
    watch: Watch<'_>,
) -> Result<Vec<Pruned<'p>>> {
    let model = &prepared.model;
    if !settings.may_prune {
        return Ok(Vec::new());
    }
    if !settings.budget.is_capped() {
        let why = "--allow prune makes a model smaller where a size, memory or time is capped; say \
                   how much, e.g. with --max-size";
        return Err(OptimizeError::Input(why.into()));
    }
    let (passages, _) = halves(prepared)?;
    let subject = Subject {
        arch: model.arch,
        config: &model.config,
        graph: &model.graph,
        weights: model,
        engine,
        passages: &passages,
        quick: &passages,
        folder: &settings.output,
        watch,
    };
    let of_width = |width: usize| {
        let channels = Amount::Count(model.config.ffn_dim - width);
        let (kv_heads, layers) = (Amount::NONE, Amount::NONE);
        let cut = cut(&subject, &Wanted { channels, kv_heads, layers, makes_up: true })?;
        cut.of(model, &model.graph, model.arch, &model.config)
    };
    widths(model.config.ffn_dim).into_iter().map(of_width).collect()
}

/// How many of so many channels may be left, the most first. Where rows have blocks of 256 now, there
/// are widths that have too: encodings of few bits need them.
fn widths(all: usize) -> Vec<usize> {
    let rest = |share: &f64| ((1.0 - share) * all as f64).round() as usize;
    let n_blocks = all / BLOCK_LEN;
    let mut widths: Vec<usize> = match (all % BLOCK_LEN, n_blocks) {
        (0, MANY_BLOCKS..) => SHARES.iter().map(|s| rest(s).next_multiple_of(BLOCK_LEN)).collect(),
        (0, _) => {
            let by_blocks = (n_blocks.div_ceil(2)..n_blocks).map(|n| n * BLOCK_LEN);
            by_blocks.chain(SHARES[..3].iter().map(rest)).collect()
        }
        _ => SHARES.iter().map(rest).collect(),
    };
    widths.retain(|&width| width > 0 && width < all);
    widths.sort_unstable_by(|a, b| b.cmp(a));
    widths.dedup();
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_keep_long_blocks_where_there_are_some() {
        assert_eq!(widths(5632), [5120, 4608, 4096, 3584, 2816]);
        assert_eq!(widths(1536), [1382, 1280, 1229, 1075, 1024, 768]);
        assert_eq!(widths(768), [691, 614, 538, 512]);
        assert_eq!(widths(172), [155, 138, 120, 103, 86]);
        assert_eq!(widths(1), [] as [usize; 0]);
    }
}
