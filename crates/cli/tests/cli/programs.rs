//! The program cache through the real binary: several starts, kills, damage, limits.

use crate::{ok, sterna, tiny};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Large enough to be kept in a file.
const LARGE: tiny::Shape = tiny::Shape { dim: 512, ffn: 2048, layers: 5, ..tiny::WIDE };

const ARGS: &[&str] = &["run", "large.gguf", "the cat", "-n", "3", "--ignore-eos", "-q"];

fn start(at: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(ARGS).current_dir(at).env("XDG_CACHE_HOME", at.join("cache"));
    command.env_remove("STERNA_ISA").env_remove("STERNA_THREADS");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The files of the cache, by how they end.
fn files(at: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(at.join("cache/sterna/programs")) else { return Vec::new() };
    let paths = found.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.to_string_lossy().ends_with(end)).collect()
}

// proves P-9, P-3: a kill -9 while packing leaves nothing that the next start trusts or keeps.
#[test]
fn a_start_after_a_kill_is_clean() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "large.gguf", &LARGE);
    let wanted = ok(at, &[ARGS, &["--no-program-cache"]].concat());
    assert!(files(at, "").is_empty(), "--no-program-cache writes nothing");
    let mut n_killed = 0;
    for _ in 0..5 {
        let _ = std::fs::remove_dir_all(at.join("cache"));
        let mut child = start(at).spawn().expect("the binary was built");
        while files(at, ".tmp").is_empty() && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().expect("a child");
        child.wait().expect("a child");
        n_killed += usize::from(!files(at, ".tmp").is_empty());
        let output = start(at).output().expect("the binary was built");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
        assert!(files(at, ".tmp").is_empty(), "what the killed one left is gone");
        assert_eq!(files(at, ".program").len(), 1);
    }
    assert!(n_killed > 0, "no process was caught while it packed");
}

// proves P-9
#[test]
fn concurrent_starts_make_one_program_and_damage_is_mended_with_a_note() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "large.gguf", &LARGE);
    let children: Vec<_> = (0..3).map(|_| start(at).spawn().expect("it starts")).collect();
    let mut texts = Vec::new();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        texts.push(output.stdout);
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "all say the same");
    let programs = files(at, ".program");
    assert!(programs.len() == 1 && files(at, ".tmp").is_empty(), "{programs:?}");
    let listed = ok(at, &["doctor", "--program-cache"]);
    assert!(listed.contains("1 prepared programs, 0 damaged"), "{listed}");

    let mut bytes = std::fs::read(&programs[0]).expect("readable");
    bytes[100] ^= 1;
    std::fs::write(&programs[0], &bytes).expect("writable");
    let output = start(at).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("was damaged") && said.contains("packed again"), "{said}");
    assert_eq!(output.stdout, texts[0]);

    // A bit between those that loading looks at is found by looking at all.
    let mut bytes = std::fs::read(&programs[0]).expect("readable");
    let middle = 4096 + 64 + 7;
    bytes[middle] ^= 1;
    std::fs::write(&programs[0], &bytes).expect("writable");
    let found = sterna(at, &["doctor", "--program-cache"]);
    let listed = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{listed}");
    assert!(listed.contains("1 damaged") && files(at, ".program").is_empty(), "{listed}");

    let small = sterna(at, &[ARGS, &["--program-cache-size", "1MB"]].concat());
    let said = String::from_utf8_lossy(&small.stderr).into_owned();
    assert!(said.contains("raise --program-cache-size"), "{said}");
    assert!(small.stdout == texts[0] && files(at, ".program").is_empty());
}
