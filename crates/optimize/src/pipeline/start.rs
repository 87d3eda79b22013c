//! What plans start from: the model, or the model with channels of its MLP left out.
//!
//! In: a model and whether it may be pruned. Out: some [`Width`]s, and a [`Start`] of each of them
//! and of the model itself. Which of them is taken, the search decides by measurement.

use super::{Prepared, Settings, inputs, write_file};
use crate::calibration::Texts;
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::passes::{Context, PASSES, pad};
use crate::progress::Watch;
use crate::prune::cut::Pruned;
use crate::prune::{Amount, Subject, Wanted, cut, rounded};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use sterna_model::config::Config;
use sterna_model::{Graph, WeightId, WeightSource};

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
    /// The model.
    pub fn whole(prepared: &'p Prepared) -> Self {
        let model = &prepared.model;
        Start { graph: &model.graph, weights: model, config: &model.config }
    }

    /// Whether channels are left out.
    pub fn is_pruned(&self, prepared: &Prepared) -> bool {
        self.config.ffn_dim != prepared.model.config.ffn_dim
    }

    /// How many of the model's channels are left, as people say it; `None` of the model itself.
    pub fn words(&self, prepared: &Prepared) -> Option<String> {
        let (left, all) = (self.config.ffn_dim, prepared.model.config.ffn_dim);
        self.is_pruned(prepared).then(|| format!("{left} of {all} channels of the MLP"))
    }

    /// The draft that encodings are chosen for: padded if that may be.
    pub fn draft(&self, settings: &Settings, prepared: &Prepared) -> Result<Draft<'p>> {
        let mut draft = Draft::new(self.graph, self.weights);
        if self.is_pruned(prepared) {
            draft.set_config(self.config.clone());
            let is_decoded = |id: &WeightId| prepared.is_recoded(self.graph, self.weights, *id);
            let n = self.graph.weight_ids().filter(is_decoded).count();
            if n > 0 {
                draft.note(format!(
                    "prune: {n} tensors lost columns, and with them the blocks of their encoding; \
                     a model is best pruned before it is quantized"
                ));
            }
        }
        let may_pad = settings.may_pad.then_some((prepared.model.arch, self.config));
        let mut context = Context { may_pad, ..Context::default() };
        PASSES.iter().try_for_each(|pass| pass.apply(&mut draft, &mut context))?;
        Ok(draft)
    }
}

/// The file in the output folder that says what plans start from.
const NAME: &str = "start.json";

/// Which start was chosen.
#[derive(Serialize, Deserialize)]
struct Chosen {
    /// Channels of the MLP.
    channels: usize,
}

/// Keeps what was chosen, for whoever resumes.
///
/// # Errors
/// When the file cannot be written.
pub fn remember(settings: &Settings, start: &Start<'_>) -> Result<()> {
    let text = serde_json::to_string(&Chosen { channels: start.config.ffn_dim });
    write_file(&settings.output.join(NAME), text.expect("plain data").as_bytes())
}

/// What an earlier run chose of these, where it is resumed.
///
/// # Errors
/// When the model cannot be pruned so again.
pub fn remembered<'p>(
    settings: &Settings,
    prepared: &'p Prepared,
    pruned: &'p [Width<'p>],
) -> Result<Option<Start<'p>>> {
    let text = settings.resume.then(|| std::fs::read(settings.output.join(NAME)).ok()).flatten();
    let chosen = text.and_then(|text| serde_json::from_slice::<Chosen>(&text).ok());
    let Some(Chosen { channels }) = chosen.filter(|_| !pruned.is_empty()) else { return Ok(None) };
    if channels == prepared.model.config.ffn_dim {
        return Ok(Some(Start::whole(prepared)));
    }
    let width = pruned.iter().find(|width| width.n_channels == channels);
    width.map(Width::start).transpose()
}

/// The model with so many channels of its MLP, made when it is first asked for.
pub struct Width<'p> {
    n_channels: usize,
    means: Means<'p>,
    made: OnceCell<Pruned<'p>>,
}

/// What channels are left out with.
#[derive(Clone, Copy)]
struct Means<'p> {
    settings: &'p Settings,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    watch: Watch<'p>,
}

/// Widths that plans may start from, the widest first; none where the model may not be pruned.
///
/// # Errors
/// When nothing is capped that pruning would help to keep.
pub fn widths<'p>(
    settings: &'p Settings,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    watch: Watch<'p>,
) -> Result<Vec<Width<'p>>> {
    if !settings.may_prune {
        return Ok(Vec::new());
    }
    check(settings)?;
    let model = &prepared.model;
    if !inputs::ranges(model.arch, &model.config, &model.graph)?.is_empty() {
        let why = "--allow prune: the ranges of this artifact's int8 inputs are of all its \
                   channels; prune the model that it was made from";
        return Err(OptimizeError::Input(why.into()));
    }
    let Texts { judged, observed, calibration, .. } = &prepared.texts;
    if judged.workload().hash() == observed.workload().hash() {
        return Err(OptimizeError::Input(format!(
            "--allow prune leaves channels out by some documents and judges that by others; there \
             are {}, which is too few to part them",
            calibration.len()
        )));
    }
    let means = Means { settings, prepared, engine, watch };
    let of = |n_channels| Width { n_channels, means, made: OnceCell::new() };
    Ok(narrower(settings, &model.config).into_iter().map(of).collect())
}

/// Refuses to prune where nothing is capped that it would help to keep.
///
/// # Errors
/// Then.
pub fn check(settings: &Settings) -> Result<()> {
    if settings.budget.is_capped() {
        return Ok(());
    }
    let why = "--allow prune makes a model smaller where a size, memory or time is capped; say how \
               much, e.g. with --max-size";
    Err(OptimizeError::Input(why.into()))
}

/// The widths that are stored in fewer channels than the whole, one of those that are padded to the
/// same.
pub fn narrower(settings: &Settings, config: &Config) -> Vec<usize> {
    let stored = |ffn_dim: usize| {
        let config = Config { ffn_dim, ..config.clone() };
        let padded = settings.may_pad.then(|| pad::padded(&config)).flatten();
        padded.map_or(ffn_dim, |padded| padded.ffn_dim)
    };
    let mut widths = left(config.ffn_dim);
    widths.retain(|&width| stored(width) < stored(config.ffn_dim));
    widths.dedup_by_key(|width| stored(*width));
    widths
}

impl<'p> Width<'p> {
    /// The model of this width.
    ///
    /// # Errors
    /// When the model cannot be run or pruned, or the user stops it.
    pub fn start(&'p self) -> Result<Start<'p>> {
        let pruned = match self.made.get() {
            Some(pruned) => pruned,
            None => {
                let made = self.means.prune(self.n_channels)?;
                self.made.get_or_init(|| made)
            }
        };
        Ok(Start { graph: pruned.graph(), weights: pruned, config: pruned.config() })
    }
}

impl<'p> Means<'p> {
    fn prune(&self, n_channels: usize) -> Result<Pruned<'p>> {
        let Means { settings, prepared, engine, watch } = *self;
        let (model, passages) = (&prepared.model, &prepared.texts.observed);
        let subject = Subject {
            arch: model.arch,
            config: &model.config,
            graph: &model.graph,
            weights: model,
            engine,
            passages,
            quick: passages,
            folder: &settings.output,
            watch,
        };
        let channels = Amount::Count(model.config.ffn_dim - n_channels);
        let (kv_heads, layers) = (Amount::NONE, Amount::NONE);
        let cut = cut(&subject, &Wanted { channels, kv_heads, layers, makes_up: true })?;
        cut.of(model, &model.graph, model.arch, &model.config)
    }
}

/// How many of so many channels may be left, the most first. Where rows have blocks of 256 now,
/// there are widths that have too: encodings of few bits need them.
fn left(all: usize) -> Vec<usize> {
    let rest = |share: &f64| rounded(all, ((1.0 - share) * all as f64).round() as usize);
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
        assert_eq!(left(5632), [5120, 4608, 4096, 3584, 2816]);
        assert_eq!(left(1536), [1376, 1280, 1216, 1088, 1024, 768]);
        assert_eq!(left(768), [704, 608, 544, 512]);
        assert_eq!(left(172), [155, 138, 120, 103, 86]);
        assert_eq!(left(1), [] as [usize; 0]);
    }
}
