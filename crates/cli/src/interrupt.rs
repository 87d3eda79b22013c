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

/// As [`listen`], for work within a runtime, which hears SIGTERM too.
pub async fn heed() {
    signal().await;
    STOP.store(true, Ordering::Relaxed);
    eprintln!("\nstopping; press Ctrl-C again to end at once");
    signal().await;
    std::process::exit(130);
}

/// Waits for Ctrl-C or SIGTERM.
#[cfg(unix)]
pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub async fn signal() {
    let _ = tokio::signal::ctrl_c().await;
}
