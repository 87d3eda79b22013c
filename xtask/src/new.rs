//! `cargo xtask new KIND NAME`: writes the file of a new catalogue entry from a template in
//! `xtask/templates/`, and its two lines in the list, so that the result compiles and is tested.
//!
//! In: a kind and a name. Out: changed files, and what to do next. The lists are those of tidy.

mod kinds;
mod trial;

use crate::root;
use crate::tidy::registries::{REGISTRIES, Registry, list_in};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;

pub use trial::run as try_all;

use kinds::{KINDS, Kind};

/// Options of `cargo xtask new`.
#[derive(clap::Args)]
pub struct Args {
    /// What to add: encoding, op, arch, pass, command or isa
    kind: String,
    /// Its name in snake_case, e.g. q5_2
    name: String,
}

/// Adds an entry to the working tree and prints what is left to do.
///
/// # Errors
/// When the kind is unknown, the name is not snake_case, or the entry exists.
pub fn run(args: &Args) -> Result<bool> {
    let names = || KINDS.iter().map(|k| k.what).collect::<Vec<_>>().join(", ");
    let kind = KINDS.iter().find(|k| k.what == args.kind);
    let kind = kind.with_context(|| format!("no kind \"{}\"; there are {}", args.kind, names()))?;
    let changed = add(&root::root(), kind, &args.name.to_lowercase())?;
    // The lists stay in the formatter's order.
    root::output_of(root::cargo().args(["fmt", "--all"]))?;
    for path in &changed {
        println!("wrote {path}");
    }
    println!("next: {}", kind.next);
    Ok(true)
}

/// The catalogue that a kind belongs to.
fn registry_of(kind: &Kind) -> &'static Registry {
    let registry = REGISTRIES.iter().find(|r| r.what == kind.what);
    registry.expect("each kind has a registry")
}

/// Writes the entry's file and list lines under `root`; the paths it changed.
pub fn add(root: &Path, kind: &Kind, name: &str) -> Result<Vec<String>> {
    let is_snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    ensure!(starts_well && name.chars().all(is_snake), "{name} is not snake_case, e.g. q5_2");
    let Registry { folder, list, constant, .. } = *registry_of(kind);
    let file = format!("{folder}{name}.rs");
    ensure!(!root.join(&file).exists(), "{file} exists; choose another name or edit it");
    let modules = format!("{folder}mod.rs");
    let mut edits = Edits::default();
    edits.edit(root, &modules, |text| with_module(text, name), "mod x;")?;
    let entry = fill(kind.entry, name);
    edits.edit(root, list, |text| with_entry(text, constant, &entry), constant)?;
    for (path, before, line) in kind.lines {
        edits.edit(root, path, |text| with_line(text, before, &fill(line, name)), before)?;
    }
    edits.files.push((file, fill(&kind.start.text(root)?, name)));
    for (path, text) in &edits.files {
        fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(edits.files.into_iter().map(|(path, _)| path).collect())
}

/// Files with their new text, written when all edits have found their place.
#[derive(Default)]
struct Edits {
    files: Vec<(String, String)>,
}

impl Edits {
    /// Applies one edit to a file; `place` is what it looks for.
    fn edit(
        &mut self,
        root: &Path,
        path: &str,
        edit: impl Fn(&str) -> Option<String>,
        place: &str,
    ) -> Result<()> {
        let at = self.files.iter().position(|(p, _)| p == path);
        let text = match at {
            Some(at) => self.files.remove(at).1,
            None => fs::read_to_string(root.join(path))
                .with_context(|| format!("cannot read {path}"))?,
        };
        let Some(text) = edit(&text) else {
            bail!("{path} has no place for it ({place}); mend xtask/src/new.rs");
        };
        self.files.push((path.to_owned(), text));
        Ok(())
    }
}

/// Adds a line after the first one that contains `before`.
fn with_line(text: &str, before: &str, line: &str) -> Option<String> {
    let end = text.find(before)? + text[text.find(before)?..].find('\n')? + 1;
    Some(format!("{}{line}\n{}", &text[..end], &text[end..]))
}

/// Replaces the names in a template.
fn fill(template: &str, name: &str) -> String {
    let upper = name.to_uppercase();
    let template = template.replace("{{snake}}", name).replace("{{UPPER}}", &upper);
    template.replace("{{Camel}}", &camel(name)).replace("{{kebab}}", &name.replace('_', "-"))
}

/// `fuse_qkv` -> `FuseQkv`; digits keep their underscore: `q4_0` -> `Q4_0`.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for part in name.split('_').filter(|p| !p.is_empty()) {
        let is_number = part.starts_with(|c: char| c.is_ascii_digit());
        if is_number && out.ends_with(|c: char| c.is_ascii_digit()) {
            out.push('_');
        }
        out.push(part.chars().next().expect("not empty").to_ascii_uppercase());
        out.push_str(&part[1..]);
    }
    out
}

/// Adds `pub mod NAME;` (or `mod`, as its neighbours) in alphabetical order.
fn with_module(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let module = |line: &str| {
        let module = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        module.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    };
    let is_entry = |line: &str| module(line).is_some_and(|m| m != "tests" && m != "shared");
    let first = lines.iter().position(|l| is_entry(l))?;
    let n_entries = lines[first..].iter().take_while(|l| is_entry(l)).count();
    let group = &lines[first..first + n_entries];
    let after = group.iter().filter(|l| module(l).is_some_and(|m| *m < *name)).count();
    let prefix = lines[first].split("mod ").next()?;
    let declared = format!("{prefix}mod {name};");
    let mut out = lines.clone();
    out.insert(first + after, &declared);
    Some(out.join("\n") + "\n")
}

/// Adds an entry at the end of the list.
fn with_entry(text: &str, constant: &str, entry: &str) -> Option<String> {
    let (open, close) = list_in(text, constant)?;
    let is_one_line = !text[open..close].contains('\n');
    let body = text[open..close].trim_end().trim_end_matches(',');
    let separator = if body.is_empty() { "" } else { "," };
    let added = if is_one_line {
        format!("{body}{separator} {entry}")
    } else {
        format!("{body}{separator}\n    {entry},\n")
    };
    let line_len = text[..open].lines().next_back()?.len() + added.len() + 2;
    if is_one_line && line_len > 100 {
        let entries = added.split(", ").map(|e| format!("    {},\n", e.trim()));
        return Some(format!(
            "{}\n{}{}",
            &text[..open],
            entries.collect::<String>(),
            &text[close..]
        ));
    }
    Some(format!("{}{}{}", &text[..open], added.trim_start_matches(' '), &text[close..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_types() {
        assert_eq!(
            ["q4_0", "fuse_qkv", "iq4_nl", "x2_3_y"].map(camel),
            ["Q4_0", "FuseQkv", "Iq4Nl", "X2_3Y"]
        );
    }

    #[test]
    fn the_list_grows_by_two_lines() {
        let text = "//! L.\n\npub mod shared;\n\npub mod a;\npub mod c;\n\n\
                    #[cfg(test)]\nmod tests;\n\
                    pub const ALL: &[&dyn X] = &[\n    &a::A,\n    &c::C,\n];\n";
        let grown = with_entry(&with_module(text, "b").unwrap(), "ALL", "&b::B").unwrap();
        let expected = "//! L.\n\npub mod shared;\n\npub mod a;\npub mod b;\npub mod c;\n\n\
                        #[cfg(test)]\nmod tests;\n\
                        pub const ALL: &[&dyn X] = &[\n    &a::A,\n    &c::C,\n    &b::B,\n];\n";
        assert_eq!(grown, expected);
        let one_line = "pub const ALL: &[X] = &[a::A];\n";
        let grown = with_entry(one_line, "ALL", "b::B").unwrap();
        assert_eq!(grown, "pub const ALL: &[X] = &[a::A, b::B];\n");
        let wide = format!("pub const ALL: &[X] = &[{}];\n", ["a::A"; 12].join(", "));
        assert_eq!(with_entry(&wide, "ALL", "b::B").unwrap().lines().count(), 15);
    }

    #[test]
    fn an_entry_is_written_once_and_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("crates/formats/src/encodings");
        fs::create_dir_all(&folder).unwrap();
        let list = "pub mod q4_0;\npub const ENCODINGS: &[E] = &[\n    of::<q4_0::Q4_0>(),\n];\n";
        fs::write(folder.join("mod.rs"), list).unwrap();
        add(root.path(), &KINDS[0], "q7_0").unwrap();
        let written = fs::read_to_string(folder.join("q7_0.rs")).unwrap();
        assert!(written.contains("pub struct Q7_0 {") && !written.contains("{{"), "{written}");
        assert!(add(root.path(), &KINDS[0], "q7_0").unwrap_err().to_string().contains("exists"));
        assert!(add(root.path(), &KINDS[0], "Q8").is_err());
    }
}
