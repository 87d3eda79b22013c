//! How thorough a run is: three levels, and every name that people know them by.
//!
//! In: a name. Out: a [`Level`]. The commands that take a level share this map, so that no name is
//! taken for another level, or for the default, by one of them.

/// How much is tried and measured; never what counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Quick, for trying things out. Also called `basic` and `conservative`.
    Development,
    /// The usual. Also called `standard`.
    Balanced,
    /// Thorough, for what is published. Also called `comprehensive` and `aggressive`.
    Production,
}

/// Every name, the canonical ones first (`spec` §5.1.1).
pub const NAMES: &[(&str, Level)] = &[
    ("development", Level::Development),
    ("balanced", Level::Balanced),
    ("production", Level::Production),
    ("basic", Level::Development),
    ("standard", Level::Balanced),
    ("comprehensive", Level::Production),
    ("conservative", Level::Development),
    ("aggressive", Level::Production),
];

impl Level {
    /// Its canonical name.
    pub fn name(self) -> &'static str {
        let named = NAMES.iter().find(|(_, level)| *level == self);
        named.expect("every level has a name").0
    }

    /// What to choose, for a level or each of three in order.
    pub fn choose<T>(self, [development, balanced, production]: [T; 3]) -> T {
        match self {
            Level::Development => development,
            Level::Balanced => balanced,
            Level::Production => production,
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    /// Reads a name, whatever its case.
    ///
    /// # Errors
    /// For any other name: a sentence with the nearest of [`NAMES`] and all of them.
    fn from_str(name: &str) -> Result<Self, String> {
        let lower = name.trim().to_lowercase();
        if let Some((_, level)) = NAMES.iter().find(|(known, _)| *known == lower) {
            return Ok(*level);
        }
        let names: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
        let hint = match nearest(&lower) {
            Some(known) => format!("did you mean {known:?}? The levels are"),
            None => "the levels are".to_owned(),
        };
        Err(format!("{name:?} is no level; {hint} {}", names.join(", ")))
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The name that begins so, or the one that is at most a third of its letters away.
fn nearest(typed: &str) -> Option<&'static str> {
    let mut names = NAMES.iter().map(|(known, _)| *known);
    let begins = |known: &&str| typed.len() >= 3 && known.starts_with(typed);
    if let Some(known) = names.clone().find(begins) {
        return Some(known);
    }
    names.find(|known| distance(typed, known) <= known.len().div_ceil(3))
}

/// How many letters must be put in, left out or changed to make `a` from `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves B-21
    #[test]
    fn every_name_is_a_level_and_any_other_an_error() {
        let level = |name: &str| name.parse::<Level>();
        for (group, expected) in [
            (&["development", "basic", "conservative"][..], Level::Development),
            (&["balanced", "standard"], Level::Balanced),
            (&["production", "comprehensive", "aggressive"], Level::Production),
        ] {
            group.iter().for_each(|name| assert_eq!(level(name), Ok(expected), "{name}"));
        }
        for (typed, meant) in
            [("prod", "production"), ("standart", "standard"), ("BASICS", "basic")]
        {
            let said = level(typed).expect_err("no level");
            assert!(said.contains(&format!("did you mean {meant:?}")), "{typed}: {said}");
            assert!(NAMES.iter().all(|(name, _)| said.contains(name)), "{said}");
        }
        assert_eq!(level(" Production "), Ok(Level::Production));
        for typed in ["", "fast", &"x".repeat(10_000)] {
            assert!(!level(typed).expect_err("no level").contains("did you mean"), "{typed}");
        }
    }

    #[test]
    fn names_are_canonical() {
        for (_, level) in NAMES {
            assert_eq!(level.name().parse(), Ok(*level));
        }
        assert_eq!(Level::Production.to_string(), "production");
        assert_eq!(Level::Balanced.choose([1, 2, 3]), 2);
    }

    #[test]
    fn distances_of_known_words() {
        let known = [("", "", 0), ("abc", "abc", 0), ("kitten", "sitting", 3), ("", "ab", 2)];
        known.iter().for_each(|(a, b, n)| assert_eq!(distance(a, b), *n, "{a} {b}"));
    }
}
