//! Keys and values that survive the server, as flags.

use super::open::clock;
use crate::probes;
use crate::show::{self, bad_input};
use std::path::{Path, PathBuf};
use sterna_engine::disk::store::Room;
use sterna_engine::disk::{self, Config, Kept};
use sterna_formats::MappedFile;
use sterna_model::Model;
use sterna_optimize::budget::parse_bytes;
use sterna_runtime::Runner;
use sterna_runtime::cache::content_of;
use tracing::info;

/// The flags.
#[derive(clap::Args, Clone)]
pub struct DiskArgs {
    /// Disk space for keys and values of prompts and answers, which then survive a restart; the
    /// least recently used make room. Files tell what was asked, and only you can read them
    /// [default: none are kept].
    #[arg(long, value_name = "SIZE")]
    kv_disk_size: Option<String>,
    /// The folder they are kept in, which several models and servers may share
    /// [default: beside the prepared weights].
    #[arg(long, value_name = "DIR", requires = "kv_disk_size")]
    kv_disk: Option<PathBuf>,
    /// What all models share of that space.
    #[arg(skip)]
    room: Room,
}

impl DiskArgs {
    /// Opens the folder for a model, where one is wanted, and says what it has.
    ///
    /// # Errors
    /// When the size is none, or the folder cannot be used.
    pub fn open(
        &self,
        model: &Model,
        name: &str,
        runner: &mut Runner,
    ) -> anyhow::Result<Option<Kept>> {
        let Some(size) = &self.kv_disk_size else { return Ok(None) };
        let folder = self.kv_disk.clone().or_else(|| Some(probes::cache_folder()?.join("kv")));
        let missing = "neither XDG_CACHE_HOME nor HOME is set; give a folder with --kv-disk";
        let folder = folder.ok_or_else(|| bad_input(missing))?;
        let limit = parse_bytes(size)?;
        let files: Vec<&Path> = model.checkpoint().files().iter().map(MappedFile::path).collect();
        let identity = content_of(&files)?.as_bytes().to_vec();
        let log = Box::new(|said: &str| show::warn(said));
        let (place, room) = (folder.clone(), self.room.clone());
        let config = Config { folder: place, limit, room, identity, clock: clock(), log };
        let kept = disk::open(config, runner)?;
        let (n_tokens, space, folder) = (kept.n_tokens(), show::bytes(limit), folder.display());
        info!(
            "{name}: keys and values of {n_tokens} tokens are in {folder}, which may take {space}"
        );
        Ok(Some(kept))
    }
}
