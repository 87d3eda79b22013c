//! Mistakes a user makes: one sentence that helps, exit code 2, nothing lost.

use crate::{refused, tiny};

// Output that nobody reads to its end is no error and no panic.
#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny::write(folder.path(), "tiny.gguf", &tiny::SMALL);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sterna"))
        .args(["inspect", "tiny.gguf", "--json"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary was built");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
}

#[test]
fn mistakes_get_a_sentence_and_code_2() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    tiny::write(at, "tiny.gguf", &tiny::SMALL);
    std::fs::write(at.join("text.txt"), "hello there").expect("writable");
    std::fs::write(at.join("junk.gguf"), b"GGUF but not really").expect("writable");
    std::fs::write(at.join("page.gguf"), "<!DOCTYPE html><html>not found</html>")
        .expect("writable");
    let cases: &[(&[&str], &str)] = &[
        (&["inspect", "missing.gguf"], "missing.gguf"),
        (&["inspect", "junk.gguf"], "junk.gguf"),
        (&["inspect", "page.gguf"], "HTML"),
        (&["run", "tiny.gguf", "hi", "--temp", "-1"], "temperature"),
        (&["run", "tiny.gguf", "hi", "--isa", "avx1024"], "avx1024"),
        (&["run", "tiny.gguf", "hi", "--isa", "avx2", "--bf16-dot"], "avx2"),
        (&["bench", "kernels", "--isa", "avx2", "--bf16-dot"], "avx2"),
        (&["run", "tiny.gguf", "hi", "--threads", "0"], "--threads"),
        (&["run", "tiny.gguf", "hi", "--kv-cache-dtype", "q8_0"], "multiple of 32"),
        (&["run", "tiny.gguf", "hi", "--kv-cache-dtype", "int4"], "q8_0"),
        (&["quantize", "tiny.gguf", "out.gguf", "Q4_9"], "Q4_9"),
        (&["quantize", "tiny.gguf", "tiny.gguf", "Q8_0"], "--force"),
        (
            &["quantize", "tiny.gguf", "out.gguf", "Q8_0", "--tensor-type", "nothing=Q4_0"],
            "nothing",
        ),
        (&["eval", "tiny.gguf", "--text", "missing.txt"], "missing.txt"),
        (&["bench", "tiny.gguf", "-p", "0", "-n", "0"], "nothing to measure"),
        (&["bench", "tiny.gguf", "--sequences", "4,0"], "--sequences"),
        (&["bench", "tiny.gguf", "-d", "500"], "--ctx-size"),
        (&["bench", "start", "missing.gguf"], "missing.gguf"),
        (&["bench", "start", "tiny.gguf", "-c", "0"], "--ctx-size"),
        (&["profile", "tiny.gguf", "-p", "0", "-n", "0"], "nothing to profile"),
        (&["profile", "tiny.gguf", "-r", "0"], "--repetitions"),
        (&["report", "tiny.gguf"], "tiny.gguf"),
        (&["optimize", "tiny.gguf"], "--calib"),
        (&["frobnicate"], "frobnicate"),
        (&["run", "tiny.gguf", "--tempo", "1"], "--temp"),
    ];
    for (args, word) in cases {
        let said = refused(at, args);
        assert!(said.contains(word), "sterna {args:?} said: {said}");
    }
    let kept = sterna_formats::Checkpoint::open(&at.join("tiny.gguf"));
    assert!(kept.is_ok(), "the model survived every mistake");
    assert!(!at.join("out.gguf").exists(), "nothing half-written is left");
}
