//! The README's tour: inspect, convert, quantize, run, eval, optimize, report, doctor.

use crate::{ok, sterna_with, tiny};
use serde_json::Value;
use std::borrow::Cow;
use sterna_model::{Model, WeightSource};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

#[test]
fn a_model_is_inspected_converted_quantized_and_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    std::fs::write(at.join("text.txt"), tiny::text(6)).expect("writable");
    let seen = ok(at, &["inspect", "tiny.gguf", "--tensors"]);
    assert!(seen.contains("blk.1.ffn_down.weight") && seen.contains("2 layers"), "{seen}");

    ok(at, &["convert", "tiny.gguf", "f16.gguf", "--outtype", "F16"]);
    ok(at, &["quantize", "tiny.gguf", "q8.gguf", "Q8_0"]);
    let (f16, q8) = (size(at, "f16.gguf"), size(at, "q8.gguf"));
    // proves K-9: half precision halves the bytes of the matrices.
    assert!(f16 < size(at, "tiny.gguf") * 6 / 10 && q8 < f16);

    let args = ["eval", "q8.gguf", "--text", "text.txt", "--separator", "<|endoftext|>"];
    let figures = json(&ok(at, &[&args[..], &["--baseline", "tiny.gguf", "--json"]].concat()));
    let value = |name: &str| {
        let all = figures.as_array().expect("a list of figures");
        let figure = all.iter().find(|f| f["name"].as_str().is_some_and(|n| n.contains(name)));
        figure.unwrap_or_else(|| panic!("no {name} in {figures}"))["value"].as_f64()
    };
    // proves S-1: the divergence that int8 costs is measured and small.
    let kl = value("kl").expect("a measured divergence");
    assert!((0.0..0.01).contains(&kl), "KL divergence {kl}");
}

fn size(at: &std::path::Path, name: &str) -> u64 {
    std::fs::metadata(at.join(name)).expect("written").len()
}

// proves A-15 (its core): the tokens never depend on ISA or threads.
#[test]
fn text_is_the_same_on_every_isa_and_thread_count() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::WIDE);
    ok(at, &["quantize", "tiny.gguf", "q4.gguf", "Q4_K"]);
    let args = ["run", "q4.gguf", "the cat", "-n", "24", "--seed", "5", "--ignore-eos", "-q"];
    let wanted = ok(at, &args);
    assert!(wanted.starts_with("the cat") && wanted.len() > 20, "{wanted}");
    for isa in ["scalar", "avx2", "avx512"] {
        for threads in ["1", "2", "3"] {
            let env = [("STERNA_ISA", isa), ("STERNA_THREADS", threads)];
            let output = sterna_with(at, &args, &env);
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(why.contains("CPU lacks"), "{why}");
                eprintln!("skipped {isa}: {why}");
                continue;
            }
            assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{isa}, {threads} threads");
        }
    }
}

// proves C-34 (in part), B-20.
#[test]
fn doctor_names_what_it_sees() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = ok(folder.path(), &["doctor", "--quick", "--threads", "999"]);
    assert!(text.contains("SLOW  threads"), "{text}");
    let facts = json(&ok(folder.path(), &["doctor", "--quick", "--json"]));
    assert!(facts["machine"]["n_online"].as_u64().is_some_and(|n| n > 0), "{facts}");
}

#[test]
fn optimize_builds_an_artifact_that_carries_its_evidence() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    std::fs::write(at.join("text.txt"), tiny::text(60)).expect("writable");
    ok(
        at,
        &[
            "optimize",
            "tiny.gguf",
            "--calib",
            "text.txt",
            "--max-drop",
            "5%",
            "--out",
            "best",
            "--level",
            "development",
        ],
    );
    assert!(size(at, "best/tiny.sterna.gguf") < size(at, "tiny.gguf"));
    let plan = ok(at, &["report", "best/tiny.sterna.gguf", "--plan"]);
    assert!(plan.contains("[encodings]"), "{plan}");
    let evidence = json(&ok(at, &["report", "best/tiny.sterna.gguf", "--json", "--check"]));
    assert!(evidence["metrics"].as_array().is_some_and(|m| !m.is_empty()), "{evidence}");
    let html = std::fs::read_to_string(at.join("best/report.html")).expect("a report");
    assert!(html.contains("<svg") && !html.contains("http://cdn"), "self-contained, with plots");
    ok(at, &["run", "best/tiny.sterna.gguf", "the", "-n", "4", "-q"]);
}

// proves B-9: what rounding the KV cache changes is measured, and nothing where nothing is rounded.
#[test]
fn what_a_smaller_kv_cache_changes_is_measured() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "wide.gguf", &tiny::WIDE);
    std::fs::write(at.join("text.txt"), "the heart of the matter ".repeat(8)).expect("writable");
    let divergence = |kv: &str, baseline: &str| {
        let kv = ["--kv-cache-dtype", kv, "--baseline-kv", baseline, "--json"];
        let figures = json(&ok(at, &[&["eval", "wide.gguf", "-f", "text.txt"][..], &kv].concat()));
        let find = |f: &&serde_json::Value| f["name"] == "kl_mean";
        let kl = figures.as_array().and_then(|all| all.iter().find(find)).expect("it is named");
        kl["value"].as_f64().expect("a number")
    };
    assert_eq!(divergence("f32", "f32"), 0.0);
    let (half, eighth) = (divergence("f16", "f32"), divergence("q8_0", "f32"));
    assert!(half > 0.0 && half < eighth && eighth < 1e-3, "f16 {half}, q8_0 {eighth}");
}

// proves P-1 (as far as weights go): a weight, and rows of it, are views of the mapped file.
#[test]
fn weights_are_views_of_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = tiny::write(folder.path(), "tiny.gguf", &tiny::SMALL);
    let model = Model::open(&path).expect("our own file");
    let file = model.checkpoint().files()[0].bytes().as_ptr_range();
    let id = model.graph.find_weight("blk.1.ffn_up.weight").expect("it was declared");
    let view = model.weight(id);
    assert!(matches!(view.bytes, Cow::Borrowed(_)), "nothing is copied");
    assert!(file.contains(&view.bytes.as_ptr()), "it points into the mapping");
    let rows = view.row_bytes(3..5);
    assert_eq!(rows.as_ptr(), view.bytes[3 * rows.len() / 2..].as_ptr());
}

// proves C-33 (in part): at run time the binary needs what every Linux has, and nothing else.
#[test]
fn the_binary_needs_only_libc() {
    let Ok(output) = std::process::Command::new("ldd").arg(env!("CARGO_BIN_EXE_sterna")).output()
    else {
        println!("skipped: this machine has no ldd");
        return;
    };
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let base = ["linux-vdso", "libgcc_s", "libm.so", "libc.so", "ld-linux", "libpthread", "libdl"];
    for line in listed.lines() {
        assert!(base.iter().any(|name| line.contains(name)), "an unexpected library: {line}");
    }
}

// proves B-10 (the bound's shape): quantizing holds a tensor at a time, not the model.
#[test]
fn quantizing_holds_one_tensor_at_a_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shape = tiny::Shape { layers: 24, dim: 512, ffn: 1536, ..tiny::WIDE };
    tiny::write(folder.path(), "deep.gguf", &shape);
    let script = format!(
        "{} quantize deep.gguf q8.gguf Q8_0 & pid=$!; peak=0; while kill -0 $pid 2>/dev/null; do \
         now=$(awk '/^VmHWM/ {{print $2}}' /proc/$pid/status 2>/dev/null); peak=${{now:-$peak}}; \
         done; wait $pid; echo $peak",
        env!("CARGO_BIN_EXE_sterna")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let peak_kb: u64 = text.lines().last().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    let model_kb = size(folder.path(), "deep.gguf") / 1024;
    assert!(peak_kb > 0, "the peak was read: {text}");
    assert!(peak_kb < model_kb / 2, "peak {peak_kb} kB for a model of {model_kb} kB");
}
