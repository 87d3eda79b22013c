//! The real binary, as a user runs it, on a tiny model made here.

mod browser;
mod calibrate;
mod capacity;
mod demo;
mod disk;
mod encoder;
mod errors;
mod faults;
mod fleet;
mod gate;
mod learned;
mod levels;
mod load;
mod low_memory;
mod ops;
mod programs;
mod prune;
mod race;
mod serve;
#[cfg(feature = "otel")]
mod spans;
mod speed;
mod tiny;
mod tokenizer;
mod tour;
mod train;
mod validate;

use std::path::Path;
use std::process::{Command, Output};

/// Runs `sterna` and returns what it printed.
fn sterna(folder: &Path, args: &[&str]) -> Output {
    sterna_with(folder, args, &[])
}

/// The same with environment variables.
fn sterna_with(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(args).current_dir(folder);
    command.env("XDG_CACHE_HOME", folder.join("cache"));
    command.env_remove("STERNA_ISA").env_remove("STERNA_THREADS");
    command.envs(env.iter().copied());
    command.output().expect("the binary was built")
}

/// Standard output of a run that must succeed.
fn ok(folder: &Path, args: &[&str]) -> String {
    let output = sterna(folder, args);
    assert!(
        output.status.success(),
        "sterna {args:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

/// Standard error of a run that must end with code 2 and one sentence.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = sterna(folder, args);
    let stderr = String::from_utf8(output.stderr).expect("errors are UTF-8");
    assert_eq!(output.status.code(), Some(2), "sterna {args:?} said: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}
