//! Keys and certificates that change while the server runs: SIGHUP makes it read their files again.

use super::keys;
use std::path::PathBuf;
use sterna_server::{Keys, Tls};
use tracing::{error, info};

/// What can be read again.
pub struct Files {
    /// The keys in use.
    pub keys: Keys,
    /// Those that were given as flags, which stay.
    pub flags: Vec<String>,
    /// The file with the others.
    pub key_file: Option<PathBuf>,
    /// The certificate in use.
    pub tls: Option<Tls>,
}

impl Files {
    /// Reads the files whenever SIGHUP comes, from now on; must be called within a runtime. Where
    /// there is no file, SIGHUP ends the program, as it does any other.
    pub fn follow(self) {
        if self.key_file.is_none() && self.tls.is_none() {
            return;
        }
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
            tokio::spawn(async move {
                while hangup.recv().await.is_some() {
                    self.read();
                }
            });
        }
    }

    /// A file that is wrong now changes nothing.
    #[cfg_attr(not(unix), allow(dead_code, reason = "no signal asks for it"))]
    fn read(&self) {
        if let Some(file) = &self.key_file {
            match keys::read(&self.flags, Some(file)) {
                Ok(keys) => {
                    info!(keys = keys.len(), "the keys were read again");
                    self.keys.replace(keys);
                }
                Err(why) => error!("the keys stay as they were: {why:#}"),
            }
        }
        match self.tls.as_ref().map(Tls::reload) {
            None => {}
            Some(Ok(())) => info!("the certificate was read again"),
            Some(Err(why)) => error!("the certificate stays as it was: {why}"),
        }
    }
}
