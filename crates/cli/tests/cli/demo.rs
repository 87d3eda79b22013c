//! The main job: the bare call, its folder, Ctrl-C, a second run.

use crate::{refused, sterna};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use sterna_model::Artifact;

/// The printed JSON of a quick run into `best`, and the artifact's content hash.
fn quick(at: &Path) -> (Value, String) {
    let output = sterna(at, &["demo", "--quick", "-o", "best", "--json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("--quick: 16 documents") && stderr.contains("before  She was"));
    let json: Value = serde_json::from_slice(&output.stdout).expect("only JSON on stdout");
    let path = json["files"]["artifact"].as_str().expect("a path");
    let artifact = Artifact::open(&at.join(path)).expect("an artifact");
    artifact.verify_content().expect("its own hash");
    (json, artifact.content_hash)
}

#[test]
fn the_main_job_is_whole_and_can_be_done_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (json, hash) = quick(folder.path());
    assert_eq!(json["is_quick"], true);
    let sample = |which: &str| json["sample"][which].as_str().expect("a text").to_owned();
    assert!(sample("before").starts_with("She was") && sample("after").starts_with("She was"));
    assert!(sample("after").len() > 40, "{json}");
    let report = &json["report"];
    assert_eq!(report["targets"][0]["name"], "perplexity_drop_percent_high");
    assert_eq!(report["targets"][0]["status"], "met");
    let points = report["optimize"]["held_out"].as_array().expect("a list");
    let kinds: Vec<&str> = points.iter().filter_map(|point| point["kind"].as_str()).collect();
    assert_eq!(kinds, ["baseline", "chosen", "ablation", "uniform", "uniform"]);
    let bytes = |i: usize| points[i]["bytes"].as_u64().expect("a size");
    assert!(bytes(1) * 10 < bytes(0) * 7, "the artifact is smaller: {points:?}");
    let best = folder.path().join("best");
    let html = std::fs::read_to_string(best.join("report.html")).expect("a report");
    assert!(html.contains("<svg") && html.contains("attn_q"), "with plots and tensors");
    verified_to_the_last_byte(folder.path());
    // Once more into the same folder: the same plan, and nothing besides.
    let files = |at: &Path| {
        let entries = std::fs::read_dir(at).expect("a folder").map(|e| e.expect("an entry"));
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = files(&best);
    assert_eq!(quick(folder.path()).1, hash);
    assert_eq!(files(&best), before);
}

// proves A-3: every number follows from the bundle, the models say the same bits again, and no byte
// of any file can change unseen.
fn verified_to_the_last_byte(at: &Path) {
    let verify = |more: &[&str]| {
        let output = sterna(at, &[&["verify", "best", "--json"], more].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let found: Value = serde_json::from_slice(&output.stdout).expect(&stderr);
        assert_eq!(output.status.success(), found["holds"] == true, "{stderr}");
        found
    };
    let outcome_of = |found: &Value, what: &str| {
        let checks = found["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["what"] == what);
        check.map_or(String::new(), |check| check["outcome"].as_str().unwrap_or("").to_owned())
    };
    let found = verify(&["--rerun"]);
    assert_eq!(found["holds"], true, "{found}");
    for what in ["metrics", "tables and plots", "report.html", "predictions of artifact"] {
        assert_eq!(outcome_of(&found, what), "holds", "{what} in {found}");
    }
    let manifest = at.join("best/evidence/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("a manifest");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let files = json["files"].as_array().expect("a list").iter();
    let mut names: Vec<&str> = files.filter_map(|file| file["path"].as_str()).collect();
    assert!(names.contains(&"evidence/artifact.jsonl.gz") && names.contains(&"report.json"));
    names.push("evidence/manifest.json");
    for (index, name) in names.into_iter().enumerate() {
        let path = at.join("best").join(name);
        let before = std::fs::read(&path).expect("a file of the bundle");
        let mut changed = before.clone();
        let place = before.len() * (index + 1) / 14;
        changed[place] ^= 1;
        std::fs::write(&path, changed).expect("writable");
        let found = verify(&[]);
        assert_eq!(found["holds"], false, "byte {place} of {name}");
        std::fs::write(&path, before).expect("writable");
    }
    assert_eq!(verify(&[])["holds"], true);
    let said = refused(at, &["verify", "elsewhere"]);
    assert!(said.contains("no such folder"), "{said}");
}

// The bare call is the main job; Ctrl-C ends it without a trace.
#[test]
fn the_bare_call_starts_the_main_job_and_stops_cleanly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = String::new();
    for line in lines.by_ref() {
        let line = line.expect("UTF-8");
        said += &format!("{line}\n");
        // A stage is named when it ends.
        if line.starts_with("baseline") {
            break;
        }
    }
    assert!(said.contains("perplexity rises at most 1%"), "{said}");
    assert!(folder.path().join("sterna-demo").is_dir());
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let rest: String = lines.map(|line| line.expect("UTF-8") + "\n").collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(1), "{rest}");
    assert!(rest.contains("nothing was left behind"), "{rest}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn a_folder_with_other_files_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("mine")).expect("a folder");
    std::fs::write(folder.path().join("mine/report.html"), "my own").expect("writable");
    let said = refused(folder.path(), &["demo", "--quick", "-o", "mine"]);
    assert!(said.contains("not of an earlier demo") && said.contains("-o FOLDER"), "{said}");
    let said = refused(folder.path(), &["demo", "--max-drop", "0%", "-o", "new"]);
    assert!(said.contains("--max-drop"), "{said}");
    let left = std::fs::read_to_string(folder.path().join("mine/report.html"));
    assert_eq!(left.expect("still there"), "my own");
    assert!(!folder.path().join("new").exists());
}
