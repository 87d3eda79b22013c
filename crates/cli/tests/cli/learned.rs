//! `sterna optimize --allow distill` on the embedded model: a plan whose codes learned.

use super::serve::MODEL;
use super::{ok, refused, sterna};
use serde_json::Value;
use std::path::Path;
use sterna_model::Artifact;

/// Text that the model did not learn from.
pub fn write_text(path: &Path) {
    let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/text/held_out.txt.gz");
    let mut packed = flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap());
    std::io::copy(&mut packed, &mut std::fs::File::create(path).unwrap()).unwrap();
}

// proves S-7 (distillation into what was quantized): it measures better on text that neither the
// search nor the lessons had, the Plan says how it learned, and the same is learned again.
#[test]
fn a_plan_that_learned_is_nearer_to_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_text(&at.join("text.txt"));
    let run = |out: &str, threads: &str| -> Artifact {
        let little = ["--calib-samples", "5", "--eval-samples", "24", "--calib-seqlen", "32"];
        let args = ["optimize", MODEL, "--calib", "text.txt", "--target-bpw", "3.5", "-o", out];
        let how = ["--allow", "int3,int2,distill", "--rounding", "plain", "--threads", threads];
        let level = ["--level", "development", "--json"];
        let output = sterna(at, &[&args[..], &how, &little, &level].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let points = json["optimize"]["held_out"].as_array().unwrap();
        let kl = |kind: &str| {
            let point = points.iter().find(|point| point["kind"] == kind);
            point.unwrap_or_else(|| panic!("no {kind}: {json}"))["kl"].as_f64().unwrap()
        };
        assert!(kl("chosen") < 0.8 * kl("ablation"), "{points:?}");
        let path = at.join(json["artefacts"][0]["path"].as_str().unwrap());
        Artifact::open(&path).unwrap()
    };
    let artifact = run("learned", "2");
    let how = artifact.plan.distilled.clone().expect("it has learned");
    assert!(how.documents > 100 && how.done == how.steps, "{how:?}");
    ok(at, &["verify", "learned"]);
    let again = run("again", "1");
    assert_eq!((again.plan, again.content_hash), (artifact.plan, artifact.content_hash));
    let args = ["optimize", MODEL, "--calib", "text.txt", "--target-bpw", "4", "--allow", "learn"];
    let why = refused(at, &args);
    assert!(why.contains("distill has codes learn from the source"), "{why}");
}
