//! Ctrl-C: the first asks long work to stop and clean up, the second ends the program.

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
