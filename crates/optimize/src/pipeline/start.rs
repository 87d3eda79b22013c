//! What plans start from: the model, or the model with channels of its MLP left out.
//!
//! In: a model and whether it may be pruned. Out: some [`Width`]s, and a [`Start`] of each of them
//! and of the model itself. Which of them is taken, the search decides by measurement.

use super::{Prepared, STATE_NAME, Settings, feasible, inputs, write_file};
use crate::calibration::{MIN_PARTED, Texts};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::passes::pad::padded;
use crate::passes::{Context, PASSES};
use crate::progress::Watch;
use crate::prune::cut::{Kept, Pruned};
use crate::prune::{Amount, Seen, Subject, Wanted, cut, rounded, scores};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::path::PathBuf;
use sterna_model::archs::Arch;
use sterna_model::config::Config;
use sterna_model::{Graph, Model, WeightId, WeightSource};

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
        pad(settings, prepared.model.arch, self.config, &mut draft)?;
        Ok(draft)
    }
}

/// Pads a draft, if that may be.
///
/// # Errors
/// When the architecture has no such model.
pub fn pad(
    settings: &Settings,
    arch: &dyn Arch,
    config: &Config,
    draft: &mut Draft<'_>,
) -> Result<()> {
    let may_pad = settings.may_pad.then_some((arch, config));
    let mut context = Context { may_pad, ..Context::default() };
    PASSES.iter().try_for_each(|pass| pass.apply(draft, &mut context))
}

/// The file in the output folder that says what plans start from.
const NAME: &str = "start.json";

/// Which start was chosen.
#[derive(Serialize, Deserialize)]
struct Chosen {
    /// Channels of the MLP.
    channels: usize,
    /// Hash of what was asked for, of which model and text.
    of: String,
}

/// Whatever the choice of a start depends on.
fn circumstances(settings: &Settings, prepared: &Prepared) -> String {
    let Settings { budget, rounding, scaling, inputs, .. } = settings;
    let allowed: Vec<&str> = budget.allow.iter().map(|encoding| encoding.name()).collect();
    let (content, text) = (&prepared.source.content, prepared.texts.calibration.workload().hash());
    let line = budget.line();
    let all = format!("{content} {text} {line} {allowed:?} {rounding:?} {scaling:?} {inputs:?}");
    blake3::hash(all.as_bytes()).to_hex().to_string()
}

/// Keeps what was chosen, for whoever resumes.
///
/// # Errors
/// When the file cannot be written.
pub fn remember(settings: &Settings, prepared: &Prepared, start: &Start<'_>) -> Result<()> {
    let (channels, of) = (start.config.ffn_dim, circumstances(settings, prepared));
    let text = serde_json::to_string(&Chosen { channels, of });
    write_file(&settings.output.join(NAME), text.expect("plain data").as_bytes())
}

/// What an earlier run chose of these for the same model, text and budget, where it is resumed.
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
    let chosen = chosen.filter(|chosen| chosen.of == circumstances(settings, prepared));
    let Some(Chosen { channels, .. }) = chosen else { return Ok(None) };
    if channels == prepared.model.config.ffn_dim {
        return Ok(Some(Start::whole(prepared)));
    }
    let width = pruned.iter().find(|width| width.n_channels == channels);
    width.map(|width| width.start(&mut Seen::default())).transpose()
}

/// The file with what was measured of plans that start from so many channels.
pub fn state_path(settings: &Settings, prepared: &Prepared, n_channels: usize) -> PathBuf {
    settings.output.join(match n_channels == prepared.model.config.ffn_dim {
        true => STATE_NAME.to_owned(),
        false => format!("{n_channels}-{STATE_NAME}"),
    })
}

/// Removes what an earlier run measured of these.
pub fn forget(settings: &Settings, prepared: &Prepared, pruned: &[Width<'_>]) {
    for width in pruned {
        // What is not there is as good as removed; what stays is refused if it does not serve.
        let _ = std::fs::remove_file(state_path(settings, prepared, width.n_channels));
    }
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
/// As [`allowed`].
pub fn widths<'p>(
    settings: &'p Settings,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    watch: Watch<'p>,
) -> Result<Vec<Width<'p>>> {
    let means = Means { settings, prepared, engine, watch };
    let of = |n_channels| Width { n_channels, means, made: OnceCell::new() };
    let widths = allowed(settings, &prepared.model, &prepared.texts)?;
    Ok(widths.into_iter().map(of).collect())
}

/// The channels that such widths have; runs nothing.
///
/// # Errors
/// When nothing is capped that pruning would help to keep, no width keeps the caps on bytes, or
/// neither model nor text are such that channels can leave.
pub fn allowed(settings: &Settings, model: &Model, texts: &Texts) -> Result<Vec<usize>> {
    if !settings.may_prune {
        return Ok(Vec::new());
    }
    let bad = |why: &str| Err(OptimizeError::Input(format!("--allow prune: {why}")));
    if !settings.budget.is_capped() {
        return bad("fewer channels help where a size, memory or time is capped; say how much, \
                    e.g. with --max-size");
    }
    if !inputs::ranges(model.arch, &model.config, &model.graph)?.is_empty() {
        return bad(
            "the ranges of this artifact's int8 inputs are of all its channels; prune the \
                    model that it was made from",
        );
    }
    scores::check(&model.graph)?;
    if !texts.is_parted() {
        return bad(&format!(
            "what stays is fitted to some documents and judged by others, which takes \
             {MIN_PARTED}; the calibration text has {}, so give more",
            texts.calibration.len()
        ));
    }
    let widths = narrower(settings, &model.config);
    let mut all = std::iter::once(model.config.ffn_dim).chain(widths.iter().copied());
    let first = may_fit(settings, model, all.next().expect("its own"));
    all.fold(first, |found, width| found.or_else(|_| may_fit(settings, model, width)))?;
    Ok(widths)
}

/// Refuses a width in which the caps on bytes cannot be kept, whichever channels it has.
fn may_fit(settings: &Settings, model: &Model, n_channels: usize) -> Result<()> {
    let config = &model.config;
    let kept = |layer| Kept { channels: (0..n_channels).collect(), ..Kept::all(layer, config) };
    let kept: Vec<Kept> = (0..config.n_layers).map(kept).collect();
    let pruned = Pruned::new(model, &model.graph, model.arch, config, &kept)?;
    let mut draft = Draft::new(pruned.graph(), &pruned);
    pad(settings, model.arch, pruned.config(), &mut draft)?;
    feasible::size(&settings.budget, &model.metadata, &draft)?;
    feasible::bits(&settings.budget, model.graph.n_parameters(), &draft)
}

/// The widths that are stored in fewer channels than the whole, one of those that are padded to the
/// same.
fn narrower(settings: &Settings, config: &Config) -> Vec<usize> {
    let stored = |ffn_dim: usize| {
        let config = Config { ffn_dim, ..config.clone() };
        let padded = settings.may_pad.then(|| padded(&config)).flatten();
        padded.map_or(ffn_dim, |padded| padded.ffn_dim)
    };
    let mut widths = left(config.ffn_dim);
    widths.retain(|&width| stored(width) < stored(config.ffn_dim));
    widths.dedup_by_key(|width| stored(*width));
    widths
}

impl<'p> Width<'p> {
    /// The model of this width; what is seen of the whole one on the way serves other widths too.
    ///
    /// # Errors
    /// When the model cannot be run or pruned, or the user stops it.
    pub fn start(&'p self, seen: &mut Seen) -> Result<Start<'p>> {
        let pruned = match self.made.get() {
            Some(pruned) => pruned,
            None => {
                let made = self.means.prune(self.n_channels, seen)?;
                self.made.get_or_init(|| made)
            }
        };
        Ok(Start { graph: pruned.graph(), weights: pruned, config: pruned.config() })
    }
}

impl<'p> Means<'p> {
    fn prune(&self, n_channels: usize, seen: &mut Seen) -> Result<Pruned<'p>> {
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
        let wanted = Wanted { channels, kv_heads, layers, makes_up: true };
        let cut = cut(&subject, &wanted, seen)?;
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
