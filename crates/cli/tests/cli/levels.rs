//! Levels, flags, ablation and tuning through the real binary, on tiny models.

use crate::{ok, refused, sterna, tiny};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

const GENERATE: &[&str] = &["run", "tiny.gguf", "the cat", "-n", "12", "--ignore-eos", "-q"];

// proves T-9, T-12
#[test]
fn text_is_the_same_at_every_level_and_flag() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let wanted = ok(at, GENERATE);
    for more in [
        ["--opt-level", "memory"],
        ["--opt-level", "aggressive"],
        ["--flags", "ultra_fusion=off,memory_pooling=off,dynamic-batching=off"],
        ["--flags", "compute_overlap=off,kernel_optimization"],
        ["--flags", "auto"],
    ] {
        assert_eq!(ok(at, &[GENERATE, &more].concat()), wanted, "{more:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let cases: &[(&[&str], &str)] = &[
        (&["--flags", "ultra_fuson=off"], "ultra_fusion"),
        (&["--flags", "ultra_fusion=perhaps"], "on, off or auto"),
        (&["--flags", "adaptive_precision=auto"], "changes numbers"),
        (&["--opt-level", "agressive"], "aggressive"),
        (&["--program-cache-size", "much"], "700MB"),
    ];
    for (more, word) in cases {
        let said = refused(at, &[GENERATE, more].concat());
        assert!(said.contains(word), "{more:?} said: {said}");
    }
    let untuned = sterna(at, &[GENERATE, &["--opt-level", "aggressive"]].concat());
    let said = String::from_utf8_lossy(&untuned.stderr).into_owned();
    assert!(untuned.status.success() && said.contains("sterna tune"), "{said}");
    let precise = sterna(at, &[GENERATE, &["--flags", "adaptive_precision"]].concat());
    let said = String::from_utf8_lossy(&precise.stderr).into_owned();
    // proves T-4: the choices are logged.
    assert!(said.contains("packed in 8 bits, relative error at most"), "{said}");
}

// proves T-9, A6 (the table)
#[test]
fn every_flag_is_measured_on_and_off() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let args = ["bench", "--ablate", "tiny.gguf", "-p", "16", "-n", "4"];
    let models = json(&ok(at, &[&args[..], &["--json"]].concat()));
    let rows = models[0]["rows"].as_array().expect("a row per flag");
    assert_eq!(rows.len(), 6 + 2, "six flags and two levels");
    for row in rows {
        let name = row["name"].as_str().expect("a name");
        let value = |way: &str, what: &str| row[way][what].as_f64().expect("a number");
        for what in ["prefill_ms", "decode_ms", "batched_ms", "working_bytes", "n_steps"] {
            assert!(value("on", what) > 0.0 && value("off", what) > 0.0, "{name}: {what}");
        }
        let pss = row["on"]["pss_bytes"]["Ok"].as_f64();
        assert!(pss.is_some_and(|bytes| bytes > 1e6), "{name}: {}", row["on"]["pss_bytes"]);
        let far = row["max_logit_difference"].as_f64().expect("a number");
        match name {
            "adaptive_precision" => {
                assert!(far > 0.0 && row["auto_keeps"].is_null(), "{row}");
            }
            "kernel_optimization" => {
                assert!(row["outcome"].is_null() && far == 0.0, "nothing is tuned: {row}");
            }
            "memory" | "aggressive" => assert!(far == 0.0 && row["auto_keeps"].is_null(), "{row}"),
            _ => assert!(far == 0.0 && row["auto_keeps"].is_boolean(), "{row}"),
        }
        match name {
            "ultra_fusion" => assert!(value("on", "n_steps") < value("off", "n_steps")),
            "memory_pooling" => {
                assert!(value("on", "working_bytes") < value("off", "working_bytes"));
            }
            "memory" => assert!(value("on", "working_bytes") < value("off", "working_bytes") / 2.0),
            "compute_overlap" => {
                let why = row["cold"]["Err"].as_str().expect("a small model has no file");
                assert!(why.contains("no effect"), "{why}");
            }
            _ => {}
        }
    }
    let text = ok(at, &args);
    assert!(text.contains("ultra_fusion") && text.contains("auto switches"), "{text}");
}

// proves T-8, T-12
#[test]
fn a_machine_is_tuned_once_and_the_result_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    let args = ["tune", "tiny.gguf", "--time-budget", "2s"];
    let dry = json(&ok(at, &[&args[..], &["--dry-run", "--json"]].concat()));
    assert!(dry["file"].is_null() && dry["trials"].as_array().is_some_and(|t| !t.is_empty()));
    let before = ok(at, &["doctor", "--quick"]);
    assert!(before.contains("the defaults are used"), "{before}");
    let text = ok(at, &args);
    assert!(text.contains("claims") && text.contains("kept in"), "{text}");
    let after = ok(at, &["doctor", "--quick"]);
    assert!(after.contains("--opt-level aggressive uses it"), "{after}");
    let wanted = ok(at, GENERATE);
    let used = sterna(at, &[GENERATE, &["--opt-level", "aggressive"]].concat());
    assert_eq!(String::from_utf8_lossy(&used.stdout), wanted);
    assert!(used.stderr.is_empty(), "{}", String::from_utf8_lossy(&used.stderr));
    let said = refused(at, &["tune", "tiny.gguf", "--time-budget", "soon"]);
    assert!(said.contains("soon"), "{said}");
}
