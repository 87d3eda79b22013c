//! A command as work to be timed or read: run to its end, or stopped when its time is up (S-15).
//!
//! In: a program, its arguments, a time limit. Out: what it printed, or a sentence on the failure.

use crate::Clock;
use std::{
    io::Read,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// How long a command may outlive its own end unnoticed; commands worth timing take far longer.
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// Runs the command to its end and gives its standard output.
///
/// # Errors
/// If it cannot be started, fails, or is not done within `time_limit` and was killed for it.
pub fn run(
    program: &str,
    args: &[&str],
    time_limit: Duration,
    clock: &dyn Clock,
) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} could not be started: {error}"))?;
    // Both pipes are emptied while it runs; a full one would stop it for ever.
    let printed = child.stdout.take().map(read_aside).expect("piped");
    let complained = child.stderr.take().map(read_aside).expect("piped");
    let status = wait(&mut child, time_limit, clock).map_err(|why| format!("{program} {why}"))?;
    let complaint = complained.join().unwrap_or_default();
    if status.success() {
        return Ok(printed.join().unwrap_or_default());
    }
    let last = complaint.lines().last().unwrap_or("(it said nothing)").to_string();
    Err(format!("{program} ended with {status}: {last}"))
}

fn wait(
    child: &mut Child,
    time_limit: Duration,
    clock: &dyn Clock,
) -> Result<std::process::ExitStatus, String> {
    let start = clock.now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if clock.now() - start < time_limit => thread::sleep(POLL_INTERVAL),
            Ok(None) => {
                // It may end in this very moment; then there is nothing to kill or reap.
                _ = child.kill();
                _ = child.wait();
                let seconds = time_limit.as_secs_f64();
                return Err(format!("was not done after {seconds} s and was stopped"));
            }
            Err(error) => return Err(format!("could not be waited for: {error}")),
        }
    }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is to show.
        _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::clock::RealClock;

    fn sh(script: &str, milliseconds: u64) -> Result<String, String> {
        run("sh", &["-c", script], Duration::from_millis(milliseconds), &RealClock::new())
    }

    #[test]
    fn output_and_failures() {
        assert_eq!(sh("echo out; echo err >&2", 60_000), Ok("out\n".into()));
        assert_eq!(
            sh("exit 3", 60_000).unwrap_err(),
            "sh ended with exit status: 3: (it said nothing)"
        );
        assert!(sh("echo a >&2; echo oops >&2; exit 1", 60_000).unwrap_err().ends_with("1: oops"));
        let missing = run("/nonexistent/x", &[], Duration::from_secs(1), &RealClock::new());
        assert!(missing.unwrap_err().contains("could not be started"));
        let much = sh("head -c 300000 /dev/zero | tr '\\0' x", 60_000).unwrap();
        assert_eq!(much.len(), 300_000);
    }

    #[test]
    fn the_time_limit_is_enforced() {
        // proves S-15
        let clock = RealClock::new();
        let error = sh("exec sleep 60", 50).unwrap_err();
        assert_eq!(error, "sh was not done after 0.05 s and was stopped");
        assert!(clock.now() < Duration::from_secs(30));
    }
}
