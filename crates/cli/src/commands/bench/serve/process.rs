//! A server that was started for a run, and waiting until it is ready.
//!
//! What it prints goes to a temporary file, which stays only if it died.

use super::client::{Client, Health};
use super::server::Server;
use crate::interrupt;
use crate::show::bad_input;
use anyhow::Context;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use sterna_measure::clock::{Clock, RealClock};

/// How long a server may take to load its model.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// How long it may take to end once asked.
const END_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks.
const POLL: Duration = Duration::from_millis(50);

/// A running server; it ends when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    has_died: bool,
}

impl Process {
    /// Starts a server's command.
    ///
    /// # Errors
    /// When something else answers at its address, or the program cannot be started.
    pub async fn start(server: &Server, client: &Client) -> anyhow::Result<Self> {
        let Server { name, url, command } = server;
        if client.health().await != Health::Absent {
            return Err(bad_input(format!(
                "{name}: something answers at {url} already and would be measured in its place; \
                 end it, or leave the command out to measure it"
            )));
        }
        let (program, arguments) = command.split_first().expect("a server with a command");
        let log = log_file(name);
        let output = OpenOptions::new().write(true).create_new(true).open(&log);
        let output = output.with_context(|| format!("creating {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        match command.spawn() {
            Ok(child) => Ok(Self { child, log, has_died: false }),
            Err(error) => {
                // It is empty, and its name is of this process.
                let _ = std::fs::remove_file(&log);
                Err(bad_input(format!("{name}: {program} could not be started: {error}")))
            }
        }
    }

    /// How it ended, if it did by itself.
    pub fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        self.has_died = true;
        let output = std::fs::read(&self.log).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let last = output.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let last: String = last.unwrap_or("(it said nothing)").chars().take(200).collect();
        let log = self.log.display();
        Some(format!("the server ended with {status}: {last} (all it said: {log})"))
    }

    /// Asks it to end, and waits until it has; what does not listen is killed.
    pub fn stop(mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // std can only kill; a server that is asked to end leaves its files in order.
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        if asked.is_ok_and(|status| status.success()) {
            let clock = RealClock::new();
            while clock.now() < END_WITHIN && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(POLL);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.has_died {
            // What stays is the system's to clean up: it lies in its temporary folder.
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// A name that no other run of this or another process has.
fn log_file(name: &str) -> PathBuf {
    static N_STARTED: AtomicUsize = AtomicUsize::new(0);
    let n = N_STARTED.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("sterna-serve-{}-{n}-{name}.log", std::process::id()))
}

/// Waits until the server can answer.
///
/// # Errors
/// When nothing is there, it died or takes too long, or the user stops.
pub async fn wait_ready(
    server: &Server,
    client: &Client,
    mut process: Option<&mut Process>,
) -> anyhow::Result<()> {
    let Server { name, url, .. } = server;
    let clock = RealClock::new();
    while clock.now() < READY_WITHIN {
        match client.health().await {
            Health::Ready => return Ok(()),
            Health::Absent if process.is_none() => {
                return Err(bad_input(format!(
                    "{name}: nothing answers at {url}; start the server, or give its command with \
                     --server"
                )));
            }
            Health::Absent | Health::Loading => {}
        }
        if let Some(death) = process.as_mut().and_then(|process| process.death()) {
            return Err(bad_input(format!("{name}: {death}")));
        }
        anyhow::ensure!(!interrupt::stopped(), "stopped while {name} was starting");
        tokio::time::sleep(POLL).await;
    }
    let seconds = READY_WITHIN.as_secs();
    anyhow::bail!("{name}: {url}/health did not say that it is ready within {seconds} s");
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// A process of a shell, without a server behind it.
    fn shell(script: &str) -> anyhow::Result<Process> {
        let command = ["sh", "-c", script].map(String::from).to_vec();
        // Nobody listens on port 1.
        let server = Server { name: "test".into(), url: "http://127.0.0.1:1".into(), command };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(&server.url, None, Duration::from_secs(1))?;
        runtime.block_on(Process::start(&server, &client))
    }

    fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let clock = RealClock::new();
        while clock.now() < Duration::from_secs(20) {
            if let Some(found) = look() {
                return found;
            }
            std::thread::sleep(POLL);
        }
        panic!("it did not come within 20 s");
    }

    #[test]
    fn a_dead_server_leaves_its_words() {
        let mut process = shell("echo fine; echo no such model >&2; exit 3").unwrap();
        let death = until(|| process.death());
        assert!(death.contains("exit status: 3: no such model"), "{death}");
        let log = process.log.clone();
        drop(process);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "fine\nno such model\n");
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_server_is_asked_to_end_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (ready, ended) = (folder.path().join("ready"), folder.path().join("ended"));
        let (asked, shown) = (ended.display(), ready.display());
        let script = format!(
            "trap 'touch {asked}; exit 0' TERM; touch {shown}; while :; do sleep 0.05; done"
        );
        let mut process = shell(&script).unwrap();
        until(|| ready.exists().then_some(()));
        assert_eq!(process.death(), None);
        let log = process.log.clone();
        process.stop();
        assert!(ended.exists() && !log.exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_bad_input() {
        let server: Server = "a=http://127.0.0.1:1 /nonexistent/server".parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&server.url, None, Duration::from_secs(1)).unwrap();
        let error = runtime.block_on(Process::start(&server, &client)).err().unwrap();
        assert!(error.to_string().contains("could not be started"), "{error}");
        assert_eq!(crate::show::exit_code(&error), 2);
    }
}
