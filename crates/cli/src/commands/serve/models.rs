//! Which models there are: those named, which are loaded at the start, and those of a folder.

use super::Args;
use super::open::Loader;
use crate::show::{self, bad_input};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use sterna_fleet::{Facts, Fleet, Item, KeepAlive, Known, Limits, Watch, catalog};
use sterna_measure::machine::Machine;
use sterna_server::{Evidence, Options};
use tracing::warn;

/// A model of a folder stays so long unless something else is said, as with Ollama.
const KEEP_ALIVE: KeepAlive = KeepAlive::For(Duration::from_secs(5 * 60));

/// The models, with those that are named in memory.
///
/// # Errors
/// When one that is named cannot be run, the folder cannot be read, or names do not go together.
pub fn start(
    args: &Args,
    keep_alive: Option<KeepAlive>,
    loader: Loader,
    options: &Options,
) -> anyhow::Result<Fleet> {
    let limits = limits(args)?;
    let mut known = named(args, &loader, limits, keep_alive)?;
    let first = fitting(&known, limits);
    let is_pinned = known.iter().all(|known| known.is_pinned);
    if let Some(folder) = &args.models_dir {
        let seen: HashSet<_> = known.iter().map(|known| known.item.path.clone()).collect();
        let found = in_folder(folder, &loader, keep_alive.unwrap_or(KEEP_ALIVE))?;
        known.extend(found.into_iter().filter(|known| !seen.contains(&known.item.path)));
    }
    let agents = options.agents.clone();
    let fleet = Fleet::new(known, Box::new(loader), limits, agents, options.now, Watch::default())
        .map_err(|error| bad_input(error.to_string()))?;
    if !is_pinned {
        warn!("the models do not fit --max-memory and --models-max together; they take turns");
    } else if keep_alive.is_some() && args.models_dir.is_none() {
        warn!("--keep-alive has no effect: models named here fit together, and stay in memory");
    }
    for name in first {
        fleet.load_now(&name).map_err(bad_input)?;
    }
    Ok(fleet)
}

/// The names of as many as fit together, from the first on; loading more would only let them go.
fn fitting(known: &[Known], limits: Limits) -> Vec<String> {
    let mut left = limits.bytes;
    let fits = |known: &&Known| {
        let bytes = known.facts.as_ref().map_or(0, Facts::bytes);
        let rest = left.checked_sub(bytes);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    known.iter().take(limits.models).take_while(fits).map(|known| known.item.name.clone()).collect()
}

fn limits(args: &Args) -> anyhow::Result<Limits> {
    let machine = || Machine::detect().usable_memory_bytes().unwrap_or(u64::MAX);
    let bytes = match args.max_memory()? {
        Some(bytes) => bytes,
        None if args.models_dir.is_some() => machine(),
        None => u64::MAX,
    };
    let models = args.models_max.unwrap_or(usize::MAX);
    let (waiting, eviction) = (args.sizes.max_queue.max(1), args.models_evict);
    Ok(Limits { bytes, models, waiting, eviction })
}

/// The models that are named: pinned where all of them fit.
fn named(
    args: &Args,
    loader: &Loader,
    limits: Limits,
    keep_alive: Option<KeepAlive>,
) -> anyhow::Result<Vec<Known>> {
    let paths: Vec<_> = args.models.iter().chain(&args.model).collect();
    let mut known = Vec::with_capacity(paths.len());
    let mut sum = 0u64;
    for path in paths {
        let item = Item::new(path);
        let (facts, evidence) = loader.look(&item)?;
        loader.gate(&item, &evidence)?;
        if facts.bytes() > limits.bytes {
            let (name, bytes) = (&item.name, show::bytes(facts.bytes()));
            return Err(bad_input(format!(
                "model `{name}` takes {bytes} and --max-memory allows {}: raise it, or lower \
                 --kv-size, --ctx-size or --response-cache",
                show::bytes(limits.bytes)
            )));
        }
        sum = sum.saturating_add(facts.bytes());
        let keep_alive = keep_alive.unwrap_or(KeepAlive::Forever);
        let (aliases, facts) = (args.alias.clone(), Ok(facts));
        known.push(Known { item, aliases, facts, evidence, is_pinned: true, keep_alive });
    }
    if sum > limits.bytes || known.len() > limits.models {
        known.iter_mut().for_each(|known| known.is_pinned = false);
    }
    Ok(known)
}

/// The models of a folder. One that cannot be run is listed with the reason.
fn in_folder(folder: &Path, loader: &Loader, keep_alive: KeepAlive) -> anyhow::Result<Vec<Known>> {
    let items = catalog::of_folder(folder)
        .map_err(|error| bad_input(format!("--models-dir {}: {error}", folder.display())))?;
    if items.is_empty() {
        return Err(bad_input(format!("--models-dir {}: holds no model", folder.display())));
    }
    let known = items.into_iter().map(|item| {
        let (facts, evidence) = match loader.look(&item) {
            Ok((facts, evidence)) => (loader.gate(&item, &evidence).map(|()| facts), evidence),
            Err(error) => (Err(error), Evidence::NONE),
        };
        let facts = facts.map_err(|error| format!("{error:#}"));
        Known { item, aliases: Vec::new(), facts, evidence, is_pinned: false, keep_alive }
    });
    Ok(known.collect())
}
