//! Room for many connections: each is an open file, of which many systems allow 1,024 at first.

/// Raises the limit of open files as far as the system lets this process. Without more of them it
/// serves too, to fewer clients at once.
#[cfg(unix)]
pub fn allow_many() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// Some systems allow a process billions; so many clients are none.
    const ENOUGH: u64 = 1 << 20;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    let Some(now) = limit.current.filter(|now| *now < most) else { return };
    let wanted = Rlimit { current: Some(most), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!("at most {now} connections at once, for want of open files: {error}");
    }
}

/// Elsewhere sockets are no files.
#[cfg(not(unix))]
pub fn allow_many() {}
