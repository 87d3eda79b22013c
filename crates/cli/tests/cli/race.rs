//! The race against other engines, with shell scripts in their place.

use crate::{ok, refused, sterna_with, tiny};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A program of a few lines of shell.
fn script(path: &Path, lines: &str) {
    std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("writable");
    std::fs::write(path, format!("#!/bin/sh\n{lines}\n")).expect("writable");
    let all_may_run = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, all_may_run).expect("our own file");
}

/// A llama-bench that reads 1000 tokens/s and crashes when it is to generate, and a Python whose
/// OpenVINO does not know the encoding; both note that they ran.
fn peers(at: &Path) -> PathBuf {
    let folder = at.join("peers");
    script(
        &folder.join("build/bin/llama-bench"),
        "case \"$*\" in *--version*) echo 'version: 9 (fake)' >&2; exit 0;; esac\n\
         echo \"llama.cpp $*\" >> \"$(dirname \"$0\")/ran\"\n\
         case \"$*\" in *'-n 8'*) kill -ILL $$;; esac\n\
         echo '[{\"n_prompt\": 16, \"n_gen\": 0, \"n_depth\": 0, \"avg_ts\": 1000.0}]'",
    );
    script(
        &folder.join("venv/bin/python"),
        "case \"$*\" in *__version__*) echo 2099.1; exit 0;; esac\n\
         echo 'IndexError: unordered_map::at' >&2; exit 1",
    );
    folder
}

// proves S-19 (in part): peers run in turn with Sterna on the same file, and nothing is dropped.
#[test]
fn peers_race_in_turn_and_failures_keep_their_row() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let peers = peers(at);
    let race = ["bench", "tiny.gguf", "-p", "16", "-n", "8", "--against", "llama.cpp,openvino"];
    let files = ["--html", "race.html", "--save", "race.json", "--rounds", "2", "--threads", "1"];
    let env = [("STERNA_PEERS_DIR", peers.to_str().expect("UTF-8"))];
    let output = sterna_with(at, &[&race[..], &files].concat(), &env);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for wanted in ["llama.cpp 9 (fake)", "openvino 2099.1", "1000 (1000 to 1000)", "signal: 4"] {
        assert!(table.contains(wanted), "{wanted} in {table}");
    }
    let said = std::fs::read_to_string(at.join("race.json")).expect("it was saved");
    let race: Value = serde_json::from_str(&said).expect("JSON");
    let rows = race["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), &race["n_threads"]), (2, &Value::from(1)));
    let entrant = |row: usize, i: usize| &rows[row]["entrants"][i];
    let n_samples = |row, i| entrant(row, i)["samples"].as_array().map(Vec::len);
    assert_eq!([n_samples(0, 0), n_samples(0, 1), n_samples(1, 1)], [Some(4), Some(4), Some(0)]);
    let ours = entrant(0, 0)["summary"]["median"].as_f64().expect("a speed");
    let ratio = entrant(0, 1)["summary"]["ratio"].as_f64().expect("a ratio");
    assert!((ratio - ours / 1000.0).abs() < 1e-9, "{ratio} of {ours}");
    assert!(entrant(1, 0)["summary"]["share"].as_f64().is_some_and(|share| share > 0.0));
    let reason = entrant(0, 2)["unavailable"].as_str().expect("a reason");
    assert_eq!(reason, "it ended with exit status: 1: IndexError: unordered_map::at");
    // Forth and back: they, theirs twice in a row, we.
    let turns: Vec<&str> = stderr.lines().filter(|l| l.contains("pp16, round 1")).collect();
    let engines: Vec<&str> = turns.iter().map(|l| l.split(": ").nth(1).unwrap_or("")).collect();
    let starts = ["sterna", "llama.cpp", "openvino", "openvino", "llama.cpp", "sterna"];
    assert!(engines.iter().zip(starts).all(|(said, name)| said.starts_with(name)), "{turns:?}");
    let ran = std::fs::read_to_string(peers.join("build/bin/ran")).expect("it ran");
    // Four prompts, and one generation: what crashed is not started again.
    assert_eq!(ran.lines().count(), 5, "{ran}");
    assert!(ran.contains("tiny.gguf -t 1 -p 16 -n 0 -d 0 -r 1 -o json"), "{ran}");
    let page = std::fs::read_to_string(at.join("race.html")).expect("a page");
    assert!(page.contains("<svg") && page.contains("unordered_map::at"), "plots and reasons");
}

#[test]
fn json_is_the_race_and_mistakes_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let peers = peers(at);
    let race = ["bench", "tiny.gguf", "-p", "16", "-n", "0", "-t", "1", "--rounds", "1"];
    let named = ["--against", "llama.cpp", "--peers", peers.to_str().expect("UTF-8"), "--json"];
    let said: Value = serde_json::from_str(&ok(at, &[&race[..], &named].concat())).expect("JSON");
    assert_eq!(said["rows"][0]["test"], "pp16");
    assert_eq!(said["format"], "sterna-race 1");
    let nowhere = ["--against", "llama.cpp", "--peers", "nowhere"];
    let error = refused(at, &[&race[..], &nowhere].concat());
    assert!(error.contains("cargo xtask peers --only llama.cpp"), "{error}");
    let error = refused(at, &["bench", "tiny.gguf", "--against", "lama.cpp"]);
    assert!(error.contains("llama.cpp"), "{error}");
    let error = refused(at, &["bench", "tiny.gguf", "--html", "race.html"]);
    assert!(error.contains("--against"), "{error}");
    let error = refused(at, &["bench", "tiny.gguf", "-r", "2", "--against", "llama.cpp"]);
    assert!(error.contains("--repetitions"), "{error}");
    let no_rounds = ["--against", "llama.cpp", "--rounds", "0"];
    assert!(refused(at, &[&race[..8], &no_rounds].concat()).contains("--rounds 0"));
}
