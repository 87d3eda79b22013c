//! Structured pruning (S-6, B11): hidden channels of the MLP, heads, or whole layers leave the
//! model, and its matrices become smaller.
//!
//! In: a model, calibration text, how much of what may go. Out: a [`Cut`], which any `Pruned`
//! source is made of. Layers go by the measured divergence without them, one at a time; channels
//! and heads by how much they add to the residual stream on the text; and what stays makes up for
//! what left, as well as a least-squares fit on the same text can.
//!
//! [`Pruned`]: cut::Pruned

pub mod cut;
pub mod report;
pub mod scores;

use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::hessian::Hessian;
use crate::observe::{Observed, observe};
use crate::passes::gptq::{Calibrated, second_moments};
use crate::progress::{Stage, Watch};
use crate::yardstick::Yardstick;
use cut::{Kept, Pruned};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use sterna_measure::quality::Passages;
use sterna_model::archs::Arch;
use sterna_model::config::Config;
use sterna_model::{Graph, Role, WeightId, WeightSource};

/// How much of something leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// A share, 0 to 1.
    Share(f64),
    /// So many.
    Count(usize),
}

impl Amount {
    /// Nothing.
    pub const NONE: Self = Amount::Count(0);

    /// Whether it asks for nothing.
    pub fn is_none(self) -> bool {
        matches!(self, Amount::Count(0)) || self == Amount::Share(0.0)
    }

    /// How many of `n`.
    pub fn of(self, n: usize) -> usize {
        match self {
            Amount::Share(share) => (share * n as f64).round() as usize,
            Amount::Count(count) => count,
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let bad = || format!("{text} is no amount; write a share like 20%, or a number like 2");
        if let Some(percent) = text.trim().strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
            let share = Some(percent / 100.0).filter(|share| (0.0..1.0).contains(share));
            return share.map(Amount::Share).ok_or_else(bad);
        }
        text.trim().parse().map(Amount::Count).map_err(|_| bad())
    }
}

/// What is to leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Hidden channels of every layer's MLP.
    pub channels: Amount,
    /// Key and value heads of every layer, each with the query heads that share it.
    pub kv_heads: Amount,
    /// Layers.
    pub layers: Amount,
    /// Whether what stays makes up for what leaves.
    pub makes_up: bool,
}

/// A model to prune, and what it is measured with.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Its architecture.
    pub arch: &'a dyn Arch,
    /// What it was built from.
    pub config: &'a Config,
    /// Its graph.
    pub graph: &'a Graph,
    /// Its weights.
    pub weights: &'a dyn WeightSource,
    /// Runs it.
    pub engine: &'a dyn Engine,
    /// The text.
    pub passages: &'a Passages,
    /// Fewer of it, for comparing layers.
    pub quick: &'a Passages,
    /// Where files may be that go with the run.
    pub folder: &'a Path,
    /// Whom to tell.
    pub watch: Watch<'a>,
}

/// What stays, and shares that make up for what does not.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Cut {
    /// Layer by layer.
    pub kept: Vec<Kept>,
    /// By weight of the smaller graph.
    #[serde(skip)]
    pub shares: Vec<(WeightId, Vec<f32>)>,
    /// Remarks.
    pub notes: Vec<String>,
}

impl Cut {
    /// The smaller model.
    ///
    /// # Errors
    /// When the architecture cannot be built so.
    pub fn apply<'a>(&self, subject: &Subject<'a>) -> Result<Pruned<'a>> {
        let Subject { weights, graph, arch, config, .. } = *subject;
        self.of(weights, graph, arch, config)
    }

    /// The smaller model, of a source that outlives whatever it was found with.
    ///
    /// # Errors
    /// As [`Cut::apply`].
    pub fn of<'a>(
        &self,
        weights: &'a dyn WeightSource,
        graph: &Graph,
        arch: &dyn Arch,
        config: &Config,
    ) -> Result<Pruned<'a>> {
        let mut pruned = Pruned::new(weights, graph, arch, config, &self.kept)?;
        self.shares.iter().for_each(|(id, shares)| pruned.make_up(*id, shares));
        Ok(pruned)
    }
}

/// Channels are kept in multiples of this, where there are enough: blocks of encodings are as long.
const MULTIPLE: usize = 32;
/// Fewer channels are kept to the number.
const MANY_CHANNELS: usize = 320;

/// What was seen of a model, kept for other cuts of it that take the same layers out.
#[derive(Default)]
pub struct Seen {
    observed: Option<Observed>,
    /// Second moments of what matrices read, as many as have room.
    moments: BTreeMap<WeightId, Hessian>,
}

/// Second moments kept at most; those of further matrices are summed up again for each cut.
const MAX_MOMENTS_BYTES: usize = 1 << 30;

/// Finds what should leave.
///
/// # Errors
/// When more is to leave than there is, the model cannot be run, or the user stops it.
pub fn cut(subject: &Subject<'_>, wanted: &Wanted, seen: &mut Seen) -> Result<Cut> {
    let config = subject.config;
    let channels = kept_channels(config, wanted)?;
    let kv_heads = rest("key and value heads", config.n_kv_heads, wanted.kv_heads)?;
    let n_layers = rest("layers", config.n_layers, wanted.layers)?;
    let told = [
        ("hidden channels", config.ffn_dim, channels, wanted.channels),
        ("key and value heads", config.n_kv_heads, kv_heads, wanted.kv_heads),
        ("layers", config.n_layers, n_layers, wanted.layers),
    ];
    let notes = told.into_iter().filter(|(.., amount)| !amount.is_none()).map(left);
    let mut cut = Cut {
        notes: notes.collect::<Result<_>>()?,
        kept: (0..config.n_layers).map(|layer| Kept::all(layer, config)).collect(),
        ..Cut::default()
    };
    remove_layers(subject, &mut cut, n_layers)?;
    let is_narrower = channels < config.ffn_dim || kv_heads < config.n_kv_heads;
    if is_narrower {
        scores::check(subject.graph)?;
        let whole = cut.apply(subject)?;
        let told = &mut |done| {
            let note = "looking at what channels and heads add";
            subject.watch.step(Stage::Sensitivity, done, subject.passages.len(), note)
        };
        let observed = match seen.observed.take() {
            Some(observed) => observed,
            None => observe(whole.graph(), &whole, subject.engine, subject.passages, told)?,
        };
        let observed = seen.observed.insert(observed);
        scores::narrow(subject, &whole, observed, (channels, kv_heads), &mut cut)?;
        if wanted.makes_up {
            cut.shares = shares(subject, &whole, &cut, &mut seen.moments)?;
        }
    }
    Ok(cut)
}

/// What leaves, in words; an amount that comes to nothing is refused.
fn left((what, n, kept, _): (&str, usize, usize, Amount)) -> Result<String> {
    if kept == n {
        return Err(OptimizeError::Input(format!(
            "of {n} {what}, so few are none: ask for more, such as 1, or {MULTIPLE} of many \
             channels, which leave by {MULTIPLE}"
        )));
    }
    let percent = (n - kept) as f64 / n as f64 * 100.0;
    Ok(format!("{} of {n} {what} left, {percent:.1}%", n - kept))
}

/// How many of `n` stay.
fn rest(what: &str, n: usize, amount: Amount) -> Result<usize> {
    match n.checked_sub(amount.of(n)) {
        Some(rest @ 1..) => Ok(rest),
        _ => Err(OptimizeError::Input(format!(
            "of {n} {what}, {} cannot leave: at least one has to stay",
            amount.of(n)
        ))),
    }
}

fn kept_channels(config: &Config, wanted: &Wanted) -> Result<usize> {
    let rest = rest("hidden channels", config.ffn_dim, wanted.channels)?;
    Ok(rounded(config.ffn_dim, rest))
}

/// How many of `all` channels really stay, where `rest` should.
pub fn rounded(all: usize, rest: usize) -> usize {
    match rest < all && all >= MANY_CHANNELS {
        true => ((rest as f64 / MULTIPLE as f64).round() as usize * MULTIPLE).max(MULTIPLE),
        false => rest,
    }
}

/// Takes layers out one at a time, each time the one whose absence does least.
fn remove_layers(subject: &Subject<'_>, cut: &mut Cut, n_layers: usize) -> Result<()> {
    let n_removed = cut.kept.len() - n_layers;
    if n_removed == 0 {
        return Ok(());
    }
    let baseline = subject.engine.load(subject.graph, subject.weights)?;
    let mut yardstick = Yardstick::new(baseline, subject.quick, subject.folder)?;
    let mut done = 0;
    while cut.kept.len() > n_layers {
        let mut best: Option<(usize, f64)> = None;
        for at in 0..cut.kept.len() {
            let layer = cut.kept[at].layer;
            let note = format!("running the model without layer {layer}");
            let total = n_removed * subject.config.n_layers;
            subject.watch.step(Stage::Search, done, total, &note)?;
            done += 1;
            let mut without = cut.clone();
            without.kept.remove(at);
            let pruned = without.apply(subject)?;
            let mut loaded = subject.engine.load(pruned.graph(), &pruned)?;
            let kl = yardstick.read(&mut *loaded)?.divergence.mean_kl();
            if best.is_none_or(|(_, least)| kl < least) {
                best = Some((at, kl));
            }
        }
        let (at, kl) = best.expect("a layer is left");
        let layer = cut.kept.remove(at).layer;
        cut.notes.push(format!(
            "layer {layer} left: without it the divergence is {kl:.4} nats per token, less than \
             without any other"
        ));
    }
    Ok(())
}

/// How what stays of each narrower matrix makes up for what does not.
fn shares(
    subject: &Subject<'_>,
    whole: &Pruned<'_>,
    cut: &Cut,
    moments: &mut BTreeMap<WeightId, Hessian>,
) -> Result<Vec<(WeightId, Vec<f32>)>> {
    let columns = |id: WeightId| {
        let decl = whole.graph().decl(id);
        let kept = &cut.kept[decl.layer?];
        let columns = match decl.role {
            Role::MlpDown => kept.channels.clone(),
            Role::AttentionOutput => kept.query_features(subject.config),
            _ => return None,
        };
        (columns.len() < decl.matrix().1).then_some((id, columns))
    };
    let narrower: BTreeMap<WeightId, Vec<usize>> =
        whole.graph().weight_ids().filter_map(columns).collect();
    let calibrated = Calibrated {
        engine: subject.engine,
        graph: whole.graph(),
        weights: whole,
        passages: subject.passages,
        n_documents: subject.passages.len(),
        watch: subject.watch,
    };
    let of_matrix = |id: WeightId, hessian: &Hessian| Some((id, hessian.shares(&narrower[&id])?));
    let known = moments.iter().filter(|(id, _)| narrower.contains_key(*id));
    let mut shares: Vec<(WeightId, Vec<f32>)> =
        known.filter_map(|(id, hessian)| of_matrix(*id, hessian)).collect();
    let unknown: Vec<WeightId> =
        narrower.keys().filter(|id| !moments.contains_key(id)).copied().collect();
    let mut room = MAX_MOMENTS_BYTES - moments.values().map(Hessian::len_bytes).sum::<usize>();
    second_moments(&calibrated, &unknown, &mut |id, hessian: &Hessian| {
        shares.extend(of_matrix(id, hessian));
        if let Some(rest) = room.checked_sub(hessian.len_bytes()) {
            room = rest;
            moments.insert(id, hessian.clone());
        }
        Ok(())
    })?;
    Ok(shares)
}

#[cfg(test)]
mod tests;
