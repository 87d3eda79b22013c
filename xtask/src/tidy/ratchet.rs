//! Size limits of files, functions and lines, with exceptions in `xtask/ratchet.toml` that may only
//! shrink: one that is larger than the thing it excuses, or no longer needed, is a problem too.

use super::{Findings, Source, Tree};
use std::collections::BTreeMap;

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_COLUMNS: usize = 100;
/// Where the exceptions are: `"path" = lines` under `[files]`, `"path::function" = lines` under
/// `[functions]`, `"path" = columns` under `[columns]`.
const EXCEPTIONS: &str = "xtask/ratchet.toml";

/// One measured size.
struct Size {
    path: String,
    line: usize,
    /// Key in the exceptions' table.
    key: String,
    size: usize,
}

/// Reports what is over its limit and not excused, and excuses that are too large.
pub fn check(tree: &Tree, found: &mut Findings) {
    let exceptions = match tree.file(EXCEPTIONS).map(|f| f.text.parse::<toml::Table>()) {
        Some(Ok(table)) => table,
        Some(Err(error)) => {
            return found.problem(EXCEPTIONS, 0, format!("is not TOML: {error}; mend it"));
        }
        None => toml::Table::new(),
    };
    let files: Vec<Size> = tree.rust().map(file_size).collect();
    let functions: Vec<Size> = tree.rust().flat_map(function_sizes).collect();
    let columns: Vec<Size> = tree.rust().flat_map(line_sizes).collect();
    let split = "split it where the idea ends";
    hold("files", "lines", MAX_FILE_LINES, &files, split, &exceptions, found);
    hold("functions", "lines", MAX_FUNCTION_LINES, &functions, split, &exceptions, found);
    hold("columns", "columns", MAX_COLUMNS, &columns, "wrap it", &exceptions, found);
}

/// Compares sizes of one kind with their limit and exceptions.
fn hold(
    kind: &str,
    unit: &str,
    limit: usize,
    sizes: &[Size],
    fix: &str,
    exceptions: &toml::Table,
    found: &mut Findings,
) {
    let excused: BTreeMap<&str, usize> = exceptions
        .get(kind)
        .and_then(|t| t.as_table())
        .map(|t| t.iter().map(|(k, v)| (k.as_str(), v.as_integer().unwrap_or(0) as usize)))
        .into_iter()
        .flatten()
        .collect();
    let mut largest: BTreeMap<&str, usize> = BTreeMap::new();
    for Size { path, line, key, size } in sizes {
        let allowed = excused.get(key.as_str()).copied().unwrap_or(limit);
        if *size > allowed {
            let name = key.rsplit("::").next().unwrap_or(key);
            let what = if kind == "functions" { format!("{name} has") } else { "has".into() };
            let message = format!("{what} {size} {unit}, the limit is {allowed}; {fix}");
            found.problem(path, *line, message);
        }
        let entry = largest.entry(key).or_default();
        *entry = (*entry).max(*size);
    }
    for (key, allowed) in excused {
        let now = largest.get(key).copied().unwrap_or(0);
        if now <= limit {
            let message = format!("[{kind}] \"{key}\" is no longer needed; remove the line");
            found.problem(EXCEPTIONS, 0, message);
        } else if now < allowed {
            let message = format!("[{kind}] \"{key}\" allows {allowed}; lower it to {now}");
            found.problem(EXCEPTIONS, 0, message);
        }
    }
}

fn file_size(file: &Source) -> Size {
    let size = file.text.lines().count();
    Size { path: file.path.clone(), line: 0, key: file.path.clone(), size }
}

fn line_sizes(file: &Source) -> Vec<Size> {
    // Golden text in tests is as wide as it is; there only code counts.
    let width = |line: &str, code: &str| match is_test(file) {
        true => code.split_whitespace().collect::<Vec<_>>().join(" ").chars().count(),
        false => line.chars().count(),
    };
    let lines = file.text.lines().zip(file.code.lines());
    let long = lines.enumerate().map(|(i, (line, code))| Size {
        path: file.path.clone(),
        line: i + 1,
        key: file.path.clone(),
        size: width(line, code),
    });
    long.filter(|s| s.size > MAX_COLUMNS).collect()
}

fn is_test(file: &Source) -> bool {
    file.path.contains("/tests/") || file.path.ends_with("tests.rs")
}

/// Functions with their lines, from the signature to the closing brace. The code is formatted, so a
/// function ends at the first `}` that stands as far in as its `fn` line.
fn function_sizes(file: &Source) -> Vec<Size> {
    let lines: Vec<&str> = file.code.lines().collect();
    let mut sizes = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let ends = |l: &&str| {
            let l = l.trim_end();
            l.len() - l.trim_start().len() == indent
                && (l[indent.min(l.len())..].starts_with('}') || l.ends_with([';', '}']))
        };
        let all = lines[start..].iter().position(ends).map_or(1, |n| n + 1);
        // Golden text in tests is no code.
        let is_blank = |l: &&&str| is_test(file) && l.trim().is_empty();
        let n_lines = all - lines[start..start + all].iter().filter(is_blank).count();
        let key = format!("{}::{name}", file.path);
        sizes.push(Size { path: file.path.clone(), line: start + 1, key, size: n_lines });
    }
    sizes
}

/// The name after `fn` when the line declares a function.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let is_modifier = |w: &str| {
        ["const", "async", "unsafe", "extern"].contains(&w) || w.starts_with("pub") || w == "in"
    };
    if !before.split_whitespace().all(|w| is_modifier(w.trim_end_matches(')'))) {
        return None;
    }
    after.split(['(', '<']).next().filter(|n| !n.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<(String, usize, String)> {
        let mut found = Findings::default();
        check(&Tree::of(files), &mut found);
        found.problems.into_iter().map(|p| (p.path, p.line, p.message)).collect()
    }

    #[test]
    fn what_is_too_long_is_found_where_it_starts() {
        let long_fn = format!(
            "impl X {{\n    pub(crate) fn go(\n        a: u8,\n    ) -> u8 {{\n{}    }}\n}}\n",
            "        a;\n".repeat(70)
        );
        let short_fn = format!("fn a() {{\n{}}}\nfn b() {{}}\n", "    a;\n".repeat(68));
        let got = problems(&[("f.rs", &long_fn), ("g.rs", &short_fn)]);
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!((got[0].0.as_str(), got[0].1), ("f.rs", 2));
        assert!(got[0].2.starts_with("go has 74 lines"), "{}", got[0].2);
        let got = problems(&[("f.rs", &"//\n".repeat(501)), ("g.rs", &"ä".repeat(101))]);
        assert_eq!(got.len(), 2, "{got:?}");
    }

    #[test]
    fn an_exception_excuses_exactly_what_is_there() {
        let file = "//\n".repeat(520);
        let with = |n: usize| problems(&[("f.rs", &file), (EXCEPTIONS, &exception(n))]);
        assert!(with(520).is_empty());
        assert!(with(519)[0].2.contains("the limit is 519"));
        assert!(with(521)[0].2.contains("lower it to 520"));
        let stale = problems(&[("f.rs", "//\n"), (EXCEPTIONS, &exception(520))]);
        assert!(stale[0].2.contains("no longer needed"));
    }

    fn exception(n: usize) -> String {
        format!("[files]\n\"f.rs\" = {n}\n")
    }
}
