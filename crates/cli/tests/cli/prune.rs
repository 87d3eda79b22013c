//! `sterna prune` and `sterna integrate` on the embedded model: files, numbers, and mistakes.

use super::{refused, sterna};
use serde_json::Value;
use std::path::Path;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/austen-4m.gguf");

/// The novel inside the program, as `demo` writes it.
fn text(folder: &Path) {
    let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/text/held_out.txt.gz");
    let file = std::fs::File::open(packed).unwrap();
    let mut text = std::fs::File::create(folder.join("text.txt")).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

// proves S-6, B11
#[test]
fn a_pruned_model_is_smaller_and_says_what_left() {
    let folder = tempfile::tempdir().unwrap();
    text(folder.path());
    let args = ["prune", MODEL, "--calib", "text.txt", "--channels", "25%", "--no-fit", "-o", "p"];
    let output = sterna(folder.path(), &args);
    // On a busy machine the time saved may be too little: that is code 1, and no failure.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let report = json(&folder.path().join("p/prune.json"));
    let metric = |name: &str| {
        let all = report["metrics"].as_array().unwrap();
        let found = all.iter().find(|metric| metric["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))["value"].as_f64().unwrap()
    };
    let bytes = std::fs::metadata(folder.path().join("p/pruned.gguf")).unwrap().len();
    assert_eq!(metric("pruned_file_bytes"), bytes as f64);
    assert!(bytes < std::fs::metadata(MODEL).unwrap().len() * 9 / 10);
    assert!(metric("pruned_macs_ratio") < 0.87 && metric("pruned_kl_mean") > 0.0);
    let kept = &report["prune"]["cut"]["kept"];
    assert_eq!(kept[4]["channels"].as_array().unwrap().len(), 576);
    assert!(said.contains("192 of 768 hidden channels left, 25.0%"), "{said}");
    assert!(report["prune"]["times"]["runs"][0]["artifact"].as_array().unwrap().len() > 10);
    let mistake = |more: &[&str]| {
        let args = [&["prune", MODEL, "--calib", "text.txt"], more].concat();
        refused(folder.path(), &args)
    };
    assert!(mistake(&[]).contains("--channels 20%"));
    assert!(mistake(&["--layers", "5"]).contains("of 5 layers, 5 cannot leave"));
    assert!(mistake(&["--layers", "1%"]).contains("so few are none"));
    assert!(mistake(&["--channels", "many"]).contains("a share like 20%"));
}

// proves K-15 (a report that follows the schema, of one seeded workload)
#[test]
fn an_integration_is_graded_by_what_it_measured() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["integrate", "--profile", "minimal", "--save-report", "-o", "i"];
    let output = sterna(folder.path(), &args);
    let said = String::from_utf8_lossy(&output.stderr);
    // The share of right answers does not rise by half a point: a missed target is code 1.
    assert_eq!(output.status.code(), Some(1), "{said}");
    let mut report = json(&folder.path().join("i/integration.json"));
    let integration = report.as_object_mut().unwrap().remove("integration").unwrap();
    let run = sterna_measure::RunReport::from_json(&report.to_string()).unwrap();
    let open = integration["summary"]["not_evaluated"].as_array().unwrap();
    assert!(open.iter().any(|name| name == "parallel_speedup"), "it is off in this profile");
    let n_open = run.targets.iter().filter(|target| target.actual().is_none()).count();
    assert_eq!(open.len(), n_open);
    let fields = integration["optimization_results"].as_array().unwrap();
    let gpu = fields.iter().find(|field| field["name"] == "gpu_utilization_percent").unwrap();
    assert!(gpu["value"].is_null() && gpu["how"] == "no GPU was used");
    std::fs::write(folder.path().join("c.json"), "{\"gpu_streams\": 0}").unwrap();
    let wrong = refused(folder.path(), &["integrate", "--config", "c.json"]);
    assert!(wrong.contains("gpu_streams is 0"), "{wrong}");
}
