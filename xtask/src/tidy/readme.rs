//! README.md has the place where the table of the race is put.

use super::{Findings, Tree};
use crate::readme::MARKERS;

/// Reports markers that are missing, doubled or in the wrong order.
pub fn check(tree: &Tree, found: &mut Findings) {
    let readme = tree.file("README.md").map(|f| f.text.as_str()).unwrap_or_default();
    let lines: Vec<&str> = readme.lines().collect();
    let at = MARKERS.map(|marker| lines.iter().filter(|line| **line == marker).count());
    let order = MARKERS.map(|marker| lines.iter().position(|line| *line == marker));
    if at != [1, 1] || order[0] > order[1] {
        let [begin, end] = MARKERS;
        let message = format!("has not once `{begin}` and then `{end}`; put them around the table");
        found.problem("README.md", 0, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_doubled_and_turned_markers_are_found() {
        let [begin, end] = MARKERS;
        let problems = |readme: &str| {
            let mut found = Findings::default();
            check(&Tree::of(&[("README.md", readme)]), &mut found);
            found.problems.len()
        };
        assert_eq!(problems(&format!("{begin}\ntable\n{end}\n")), 0);
        assert_eq!(problems(""), 1);
        assert_eq!(problems(&format!("{end}\n{begin}\n")), 1);
        assert_eq!(problems(&format!("{begin}\n{begin}\n{end}\n")), 1);
    }
}
