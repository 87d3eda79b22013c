//! Ctrl-C and SIGTERM: the first asks long work to stop and clean up, the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set when the user has asked to stop.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C from now on.
///
/// # Errors
/// When the system refuses the handler.
pub fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping; press Ctrl-C again to end at once");
    })?;
    Ok(())
}

/// Whether the user has asked to stop.
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Ctrl-C and SIGTERM, for work within a runtime: from the moment this is made they are heard here,
/// and do not end the program.
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens from now on; must be called within a runtime.
    ///
    /// # Errors
    /// When the system refuses the handler.
    #[cfg(unix)]
    pub fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    /// As above; here the handler is made when [`next`](Self::next) first waits.
    #[cfg(not(unix))]
    pub fn listen() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }

    /// From now on the next one ends the program.
    pub async fn end_at_once(mut self) {
        self.next().await;
        std::process::exit(130);
    }
}

/// As [`listen`], for work within a runtime, which hears SIGTERM too.
pub async fn heed(mut signals: Signals) {
    signals.next().await;
    STOP.store(true, Ordering::Relaxed);
    eprintln!("\nstopping; press Ctrl-C again to end at once");
    signals.end_at_once().await;
}
