//! One model in a process of its own: the parent's side of a validation.
//!
//! In: a model's path. Out: answers. The child is this program again, with a hidden command.

use super::worker::{Ready, Request};
use anyhow::Context;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use sterna_measure::Figure;

/// A child, and the pipes to it.
pub struct Process {
    child: Child,
    /// `None` once its end has been asked for.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl Process {
    /// Starts a child that knows its model but has not opened it.
    ///
    /// # Errors
    /// When the program cannot start itself.
    pub fn start(model: &Path, flags: &[OsString]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new(program)
            .arg("validate-worker")
            .arg(model)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a process for the model")?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Self { child, requests, answers, name: model.display().to_string() })
    }

    /// Starts a child and lets it open its model.
    ///
    /// # Errors
    /// When that fails.
    pub fn loaded(model: &Path, flags: &[OsString]) -> anyhow::Result<(Self, Ready)> {
        let mut process = Self::start(model, flags)?;
        let ready = process.ask(&Request::Load).map_err(anyhow::Error::msg)?;
        Ok((process, ready))
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The child's own words, or that it has ended.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, String> {
        let ended = |why: &dyn std::fmt::Display| {
            format!("{}: the process that measures it has ended: {why}", self.name)
        };
        let request = serde_json::to_string(request).expect("plain data");
        let pipe = self.requests.as_mut().expect("only dropping closes it");
        writeln!(pipe, "{request}").map_err(|e| ended(&e))?;
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => return Err(ended(&"see above")),
            Ok(_) => {}
            Err(e) => return Err(ended(&e)),
        }
        let answer: Result<T, String> = serde_json::from_str(&line).map_err(|e| ended(&e))?;
        answer.map_err(|why| format!("{}: {why}", self.name))
    }

    /// Its PSS in bytes, or why the system does not tell.
    pub fn pss(&mut self) -> Result<f64, String> {
        self.bytes(&Request::Memory)
    }

    /// What of it is no file's, in bytes, or why the system does not tell.
    pub fn own(&mut self) -> Result<f64, String> {
        self.bytes(&Request::Own)
    }

    /// Its greatest RSS so far in bytes, or why the system does not tell.
    pub fn peak_rss(&mut self) -> Result<f64, String> {
        self.bytes(&Request::Peak)
    }

    fn bytes(&mut self, request: &Request) -> Result<f64, String> {
        let figure: Figure = self.ask(request)?;
        figure.value().ok_or_else(|| figure.reason().unwrap_or("unknown").to_owned())
    }
}

impl Drop for Process {
    /// The child ends with its input.
    fn drop(&mut self) {
        drop(self.requests.take());
        // There is nothing to be done about a child that cannot be waited for.
        let _ = self.child.wait();
    }
}
