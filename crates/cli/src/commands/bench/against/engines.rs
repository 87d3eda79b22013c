//! The engines that race, one file each; to add a peer: a file, a line in [`PEERS`] and its name.
//!
//! In: a file and a test. Out: the command that runs it, and the speed in what that prints.

mod llama_cpp;
mod openvino;
pub mod sterna;

use super::peers::Peers;
use std::path::Path;
use std::process::Command;
use sterna_measure::latency::BenchTest as Test;

/// An engine, as the race sees it.
pub trait Engine {
    /// As it is called on the command line and in tables.
    fn name(&self) -> &'static str;

    /// Its version in its own words.
    fn version(&self) -> String;

    /// The process of one run, or why there is none for such a test.
    fn command(&self, file: &Path, test: Test, n_threads: usize) -> Result<Command, String>;

    /// The command as a person would type it.
    fn shown(&self, command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Tokens per second in what the process printed.
    ///
    /// # Errors
    /// When it is not there.
    fn speed(&self, output: &str, test: Test) -> anyhow::Result<f64>;
}

/// How a peer is found.
struct Peer {
    name: &'static str,
    find: fn(&Peers) -> anyhow::Result<Box<dyn Engine>>,
}

const PEERS: [Peer; 2] = [
    Peer { name: llama_cpp::NAME, find: llama_cpp::find },
    Peer { name: openvino::NAME, find: openvino::find },
];

/// The names of all peers.
pub const NAMES: [&str; 2] = [PEERS[0].name, PEERS[1].name];

/// The peer of that name.
///
/// # Errors
/// When it is not installed.
pub fn peer(name: &str, peers: &Peers) -> anyhow::Result<Box<dyn Engine>> {
    let known = PEERS.iter().find(|peer| peer.name == name).expect("clap knows the names");
    (known.find)(peers)
}

/// What a program says of its version: the first line that has the word, on either stream.
fn version_line(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown version".into() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains("version"));
    line.unwrap_or("unknown version").trim().trim_start_matches("version:").trim().to_owned()
}

#[cfg(test)]
mod tests;
