//! `cargo xtask test`: checks what the tests need, then runs tidy and every test of the workspace.
//!
//! In: the working tree; Rust and a C compiler (the tokenizer's regular expressions are C). Out:
//! the tests' own output, then one line per stage and the reasons of all skipped tests.

use crate::{clients, new, peers, root, tidy};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Unit tests only: no tests/ folders, documentation examples and trial of the templates
    #[arg(long)]
    quick: bool,
    /// Also run the tests that compare with llama.cpp and the reference encodings
    #[arg(long)]
    peers: bool,
    /// With --peers: download and build them (from PyPI, about 15 minutes) if they are not there
    #[arg(long, requires = "peers")]
    fetch: bool,
    /// Also let clients that others wrote talk to the server: `cargo xtask clients`
    #[arg(long)]
    clients: bool,
    /// Also build training for Vulkan and test it, on a GPU or on lavapipe (Debian:
    /// mesa-vulkan-drivers); minutes more to build
    #[arg(long)]
    vulkan: bool,
    /// Also run the kernels, file mappings and thread team, where unsafe code lives, under
    /// AddressSanitizer; minutes more to build
    #[arg(long)]
    sanitize: bool,
}

/// What a test run printed, counted.
#[derive(Default, Debug, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Names of failed tests.
    failures: Vec<String>,
    /// Reasons with the number of tests that gave them.
    skips: BTreeMap<String, u64>,
}

/// Runs everything; true when all of it passed.
///
/// # Errors
/// When what the tests need is missing or a stage cannot start.
pub fn run(args: &Args) -> Result<bool> {
    require_c_compiler()?;
    let mut stages = Vec::new();
    time_stage("tidy", &mut stages, tidy::run)?;
    let mut summary = Summary::default();
    time_stage("tests", &mut stages, || run_cargo_test(args, &mut summary))?;
    if args.sanitize {
        time_stage("sanitizer", &mut stages, run_sanitized)?;
    }
    if args.clients {
        time_stage("clients", &mut stages, || clients::run(&clients::Args::default()))?;
    }
    if !args.quick {
        time_stage("templates", &mut stages, new::try_all)?;
    }
    print_summary(&stages, &summary);
    Ok(stages.iter().all(|s| s.passed))
}

/// A stage that has ended.
struct Stage {
    name: &'static str,
    passed: bool,
    seconds: f64,
}

#[expect(clippy::disallowed_methods, reason = "how long a chore took; nothing depends on it")]
fn time_stage(
    name: &'static str,
    stages: &mut Vec<Stage>,
    run: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    println!("== {name} ==");
    let start = Instant::now();
    let passed = run()?;
    stages.push(Stage { name, passed, seconds: start.elapsed().as_secs_f64() });
    Ok(())
}

/// `onig` is compiled from C. On Debian as root the compiler is installed, elsewhere named.
fn require_c_compiler() -> Result<()> {
    let works = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    if std::env::var_os("CC").is_some() || works("cc") {
        return Ok(());
    }
    let fix = "install a C compiler (Debian, Ubuntu: apt-get install -y gcc libc6-dev; \
               Fedora: dnf install gcc; macOS: xcode-select --install)";
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !is_root || !works("apt-get") {
        bail!("no `cc` on the path; {fix}");
    }
    println!("no `cc` on the path: installing gcc with apt-get");
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "--no-install-recommends", "gcc", "libc6-dev"]);
    let status = apt.status().context("cannot start apt-get")?;
    if !status.success() || !works("cc") {
        bail!("apt-get could not install a C compiler; {fix}");
    }
    Ok(())
}

/// Runs the workspace's tests, passing their output on while counting it.
fn run_cargo_test(args: &Args, summary: &mut Summary) -> Result<bool> {
    let mut command = root::cargo();
    // With spans, which the default build is without: a second build for them takes minutes.
    command.args(["test", "--workspace", "--no-fail-fast", "--features", "sterna-cli/otel"]);
    if args.peers {
        command.envs(peers::environment(args.fetch)?);
    }
    if args.vulkan {
        command.args(["--features", "sterna-train/vulkan"]);
    }
    if args.quick {
        command.args(["--lib", "--bins"]);
    }
    // Tests that skip print why, which the harness shows for passed tests only when asked.
    command.args(["--", "--show-output"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().expect("stdout was piped");
    let mut in_successes = false;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cargo test printed no UTF-8")?;
        in_successes = match line.as_str() {
            "successes:" => true,
            l if l == "failures:" || l.starts_with("test result: ") => false,
            _ => in_successes,
        };
        if !(in_successes || is_noise(&line)) {
            println!("{line}");
        }
        summary.read(&line);
    }
    let status = child.wait().context("cargo test did not end")?;
    Ok(status.success())
}

/// Runs the tests of the crates with unsafe code under AddressSanitizer. Instrumenting is unstable,
/// which this one build is told to overlook; what users get is built as ever.
fn run_sanitized() -> Result<bool> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let mut command = root::cargo();
    command.args(["test", "--target", TARGET, "--no-fail-fast", "--lib", "--test", "definition"]);
    command.args(["-p", "sterna-kernels", "-p", "sterna-formats", "-p", "sterna-runtime"]);
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    command.env("CARGO_TARGET_DIR", root::target_dir().join("sanitize"));
    let status = command.status().context("cannot start cargo test")?;
    Ok(status.success())
}

/// Passed tests are counted, not listed, and suites without tests are left out.
fn is_noise(line: &str) -> bool {
    let is_pass = line.starts_with("test ") && line.ends_with(" ok");
    let is_empty = line == "running 0 tests" || line.starts_with("test result: ok. 0 passed");
    is_pass || is_empty || line.is_empty() || line.trim_start().starts_with("Doc-tests")
}

impl Summary {
    /// Takes in one line of the test harness.
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let number = |what: &str| {
                let part = counts.split("; ").find_map(|p| p.trim().strip_suffix(what));
                let last = part.and_then(|p| p.trim().split(' ').next_back());
                last.and_then(|n| n.parse().ok()).unwrap_or(0)
            };
            self.passed += number("passed");
            self.failed += number("failed");
            self.ignored += number("ignored");
        } else if let Some(name) = line.strip_suffix(" ... FAILED") {
            self.failures.push(name.trim_start_matches("test ").to_owned());
        } else if let Some((name, reason)) =
            line.strip_prefix("test ").and_then(|l| l.split_once(" ... ignored"))
        {
            let reason = reason.trim_start_matches([',', ' ']);
            let reason = if reason.is_empty() { format!("ignored: {name}") } else { reason.into() };
            *self.skips.entry(reason).or_default() += 1;
        } else if line.get(..4).is_some_and(|l| l.eq_ignore_ascii_case("skip")) {
            let reason = line.split_once(": ").map_or(line, |(_, reason)| reason);
            *self.skips.entry(reason.to_owned()).or_default() += 1;
        }
    }
}

fn print_summary(stages: &[Stage], summary: &Summary) {
    println!("\n== summary ==");
    for Stage { name, passed, seconds } in stages {
        println!("{name:10} {:6} {seconds:7.1} s", if *passed { "ok" } else { "FAILED" });
    }
    let Summary { passed, failed, ignored, .. } = summary;
    println!("{passed} tests passed, {failed} failed, {ignored} ignored");
    for name in &summary.failures {
        println!("  failed: {name}");
    }
    for (reason, n) in &summary.skips {
        println!("  skipped {n}: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_output_is_counted() {
        let output = "test a::b ... ok\ntest a::c ... FAILED\ntest a::d ... ignored, needs a GPU\n\
            skipped: no shared data\nskipped: no shared data\n\
            test result: FAILED. 12 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let mut summary = Summary::default();
        output.lines().for_each(|l| summary.read(l));
        let skips = [("needs a GPU".to_owned(), 1), ("no shared data".to_owned(), 2)];
        let expected = Summary {
            passed: 15,
            failed: 1,
            ignored: 1,
            failures: vec!["a::c".into()],
            skips: skips.into_iter().collect(),
        };
        assert_eq!(summary, expected);
    }
}
