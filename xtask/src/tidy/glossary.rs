//! The glossary of ARCHITECTURE.md describes what is: each of its words is used in the code, except
//! those marked *later*; and the words that name the pipeline are all there.

use super::{Findings, Tree};

const HOME: &str = "ARCHITECTURE.md";
/// Words that must be explained.
const REQUIRED: &[&str] = &[
    "artifact",
    "baseline",
    "budget",
    "checkpoint",
    "draft",
    "encoding",
    "evidence",
    "flip",
    "machine profile",
    "pass",
    "plan",
    "program",
    "role",
    "sequence",
];

/// Reports required words without an entry, and entries whose word is in no Rust file.
pub fn check(tree: &Tree, found: &mut Findings) {
    let Some(file) = tree.file(HOME) else {
        return found.problem(HOME, 0, "does not exist; write the map of the code");
    };
    let entries: Vec<(usize, &str, bool)> = entries(&file.text).collect();
    for word in REQUIRED.iter().filter(|w| !entries.iter().any(|(_, e, _)| e == *w)) {
        let fix = format!("add `**{word}**: ...` to its Glossary section");
        found.problem(HOME, 0, format!("does not explain \"{word}\"; {fix}"));
    }
    let code: Vec<String> = tree
        .rust()
        .filter(|f| f.path.starts_with("crates/"))
        .map(|f| f.text.to_lowercase().replace(['_', '-'], " "))
        .collect();
    for (line, word, _) in entries.iter().filter(|(_, _, later)| !later) {
        let plain = word.to_lowercase().replace('-', " ");
        let joined = plain.replace(' ', "");
        if !code.iter().any(|text| text.contains(&plain) || text.contains(&joined)) {
            let fix = "use it, mark it `(later)`, or remove the entry";
            found.problem(HOME, *line, format!("no code uses the word \"{word}\"; {fix}"));
        }
    }
}

/// `(line, word, later)` of each `**word**` that opens an entry of the Glossary section.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let lines = text.lines().enumerate();
    let section = lines.skip_while(|(_, l)| !l.ends_with("Glossary")).skip(1);
    section.take_while(|(_, l)| !l.starts_with("## ")).filter_map(|(i, line)| {
        let (word, rest) = line.strip_prefix("- **")?.split_once("**")?;
        Some((i + 1, word, rest.starts_with(" (later)")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unexplained_and_unused_words_are_found() {
        let entry = |w: &&str| format!("- **{w}**: what it is.\n");
        let all: String = REQUIRED.iter().skip(1).map(entry).collect();
        let page =
            format!("# A\n- **x**\n## Glossary\n{all}- **zebra**: z\n- **agent** (later): a\n");
        let code = REQUIRED.join(" ").replace("machine profile", "MachineProfile");
        let mut found = Findings::default();
        let tree = Tree::of(&[(HOME, &page), ("crates/a/src/lib.rs", &code)]);
        check(&tree, &mut found);
        let messages: Vec<_> = found.problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(messages[0].contains("\"artifact\"") && messages[1].contains("\"zebra\""));
    }
}
