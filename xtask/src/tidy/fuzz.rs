//! Every parser of strangers' bytes has a fuzz target, and cargo-fuzz knows every target file.

use super::{Findings, Tree};

const MANIFEST: &str = "fuzz/Cargo.toml";
const FOLDER: &str = "fuzz/fuzz_targets/";
/// What must be fuzzed.
const REQUIRED: &[&str] =
    &["gguf", "safetensors", "llama2c", "tokenizer_json", "plan", "tool_calls", "kv_segment"];

/// Reports parsers without a target, and targets and `[[bin]]` entries without each other.
pub fn check(tree: &Tree, found: &mut Findings) {
    let Some(manifest) = tree.file(MANIFEST) else {
        let fix = "list there a [[bin]] for each target";
        return found.problem(MANIFEST, 0, format!("does not exist; {fix}"));
    };
    let listed = bins(&manifest.text);
    let files: Vec<&str> =
        tree.rust().filter_map(|f| f.path.strip_prefix(FOLDER)?.strip_suffix(".rs")).collect();
    for name in REQUIRED.iter().filter(|n| !listed.iter().any(|l| l == *n)) {
        let fix = format!("write {FOLDER}{name}.rs and list it as a [[bin]]");
        found.problem(MANIFEST, 0, format!("no fuzz target {name}; {fix}"));
    }
    for name in files.iter().filter(|n| !listed.iter().any(|l| l == *n)) {
        let path = format!("{FOLDER}{name}.rs");
        found.problem(&path, 1, format!("is no [[bin]] of {MANIFEST}; list it"));
    }
    for name in listed.iter().filter(|n| !files.contains(&n.as_str())) {
        found.problem(MANIFEST, 0, format!("[[bin]] {name} has no {FOLDER}{name}.rs; remove it"));
    }
}

fn bins(manifest: &str) -> Vec<String> {
    let table = manifest.parse::<toml::Table>().unwrap_or_default();
    let bins = table.get("bin").and_then(|b| b.as_array()).cloned().unwrap_or_default();
    bins.iter().filter_map(|b| b.get("name")?.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_targets_and_strays_are_found() {
        let bin = |n: &str| format!("[[bin]]\nname = \"{n}\"\n");
        let names = ["gguf", "safetensors", "llama2c", "plan", "tool_calls", "kv_segment"];
        let manifest: String = names.map(bin).concat();
        let mut files = vec![(MANIFEST.to_owned(), manifest)];
        for name in ["gguf", "safetensors", "llama2c", "tool_calls", "kv_segment", "stray"] {
            files.push((format!("{FOLDER}{name}.rs"), "//! F.\n".into()));
        }
        let files: Vec<_> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        let mut found = Findings::default();
        check(&Tree::of(&files), &mut found);
        let messages: Vec<_> = found.problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].contains("no fuzz target tokenizer_json"));
        assert!(found.problems[1].path.ends_with("stray.rs"));
        assert!(messages[2].contains("[[bin]] plan has no"));
    }
}
