//! A long build with its output in a log, and a line on the terminal at every tenth.

use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `command`, whose output is `[done/all] ...` lines as ninja prints them.
///
/// # Errors
/// When it fails; the message ends with the last lines of the log.
pub fn run(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let mut file = open().with_context(|| format!("cannot write {}", log.display()))?;
    writeln!(file, "$ {command:?}")?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(file.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let stdout = child.stdout.take().expect("stdout was piped");
    let mut tenths = 0;
    let mut last: Vec<String> = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("a build printed no UTF-8")?;
        writeln!(file, "{line}")?;
        if let Some((done, all)) = counts(&line)
            && 10 * done / all > tenths
        {
            tenths = 10 * done / all;
            println!("{what}: {done} of {all} steps");
        }
        last.push(line);
        if last.len() > 12 {
            last.remove(0);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        let end = last.join("\n");
        bail!("{what} ended with {status}; {} has all of it:\n{end}", log.display());
    }
    Ok(())
}

/// `[12/340] Building ...`.
fn counts(line: &str) -> Option<(usize, usize)> {
    let (done, all) = line.strip_prefix('[')?.split_once(']')?.0.split_once('/')?;
    let (done, all) = (done.trim().parse().ok()?, all.trim().parse().ok()?);
    (all > 0).then_some((done, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_and_a_failure_quotes_the_log() {
        assert_eq!(counts("[12/340] Building CXX object"), Some((12, 340)));
        assert_eq!((counts("[0/0] x"), counts("-- Found"), counts("[x/2] y")), (None, None, None));
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo '[1/2] one'; echo no such header; echo sad >&2; exit 7"]);
        let error = format!("{:#}", run("a build", &mut shell, &log).unwrap_err());
        assert!(error.contains("exit status: 7") && error.contains("no such header"), "{error}");
        assert!(std::fs::read_to_string(&log).unwrap().contains("sad"));
    }
}
