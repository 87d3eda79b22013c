//! `sterna optimize --low-memory` on the embedded model: the same artifact from weights that pass
//! through memory.

use super::learned::write_text;
use super::serve::MODEL;
use super::tiny::{self, Shape};
use super::{ok, refused, sterna};
use serde_json::Value;
use sterna_model::Artifact;

// proves B10 (the search): the files that weights were read from are gone, and the artifact is the
// one that a search in memory makes.
#[test]
fn weights_that_pass_through_memory_make_the_same_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_text(&at.join("text.txt"));
    let args = ["optimize", MODEL, "--calib", "text.txt", "--level", "development"];
    let args = [
        &args[..],
        &[
            "--calib-samples",
            "5",
            "--eval-samples",
            "24",
            "--calib-seqlen",
            "32",
            "--allow",
            "int4,int6",
        ],
    ]
    .concat();
    let run = |out: &str, more: &[&str]| -> (String, Value) {
        let asked = ["--target-bpw", "5", "--json", "-o", out];
        let output = sterna(at, &[&args[..], &asked, more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let path = at.join(report["artefacts"][0]["path"].as_str().unwrap());
        (Artifact::open(&path).unwrap().content_hash, report)
    };
    let (usual, _) = run("usual", &["--rounding", "weighed"]);
    let (passed, report) = run("passed", &["--low-memory"]);
    assert_eq!(passed, usual);
    let figures = report["metrics"].as_array().unwrap();
    let speeds =
        figures.iter().filter(|figure| figure["name"].as_str().unwrap().contains("tokens_per_s"));
    assert!(speeds.clone().all(|figure| figure["value"].is_null()), "{report}");
    let left = std::fs::read_dir(at.join("passed")).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.contains("weights")), "what was aside is gone");
    ok(at, &["verify", "passed"]);
    for (flags, why) in [
        (&["--tokens-per-s", "100"][..], "times are those of a model in memory"),
        (&["--target-bpw", "5", "--allow", "distill"], "what learns is in memory"),
        (&["--target-bpw", "5", "--allow", "prune"], "leave prune out"),
        (&["--target-bpw", "5", "--rounding", "compensated"], "--rounding weighed"),
        (&["--max-memory", "100MB"], "give --max-size instead"),
    ] {
        let args = ["optimize", MODEL, "--calib", "text.txt", "--low-memory"];
        let said = refused(at, &[&args[..], flags].concat());
        assert!(said.contains(why), "{said}");
    }
}

// proves B10 (memory): a model is searched, built and proven in less memory than its file is long.
#[test]
fn the_whole_model_is_never_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let shape = Shape { dim: 512, ffn: 1536, layers: 20, heads: 8, ..tiny::WIDE };
    let model = tiny::write(at, "large.gguf", &shape);
    std::fs::write(at.join("text.txt"), tiny::text(40)).unwrap();
    let args = ["optimize", "large.gguf", "--calib", "text.txt", "--level", "development"];
    let few = ["--calib-samples", "5", "--eval-samples", "8", "--calib-seqlen", "32"];
    let asked = ["--target-bpw", "5", "--allow", "int4,int6", "--time-budget", "4s"];
    let how = ["--low-memory", "--json", "-o", "out"];
    let output = sterna(at, &[&args[..], &few, &asked, &how].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = report["metrics"].as_array().unwrap();
    let peak = figures.iter().find(|figure| figure["name"] == "optimize_peak_rss_bytes").unwrap();
    let length = std::fs::metadata(model).unwrap().len() as f64;
    // Where there is no /proc it says so.
    if let Some(peak) = peak["value"].as_f64() {
        assert!(peak < 0.75 * length, "{peak} bytes of {length}");
    }
}
