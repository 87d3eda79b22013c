//! The keys that clients must have.

use crate::show::bad_input;
use std::path::Path;

/// A key shorter than this can be guessed.
const LEAST: usize = 8;

/// The keys given as flags and in a file; comments begin with `#`.
///
/// # Errors
/// When the file cannot be read or holds no key, or a key is too short.
pub fn read(flags: &[String], file: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let mut keys = flags.to_vec();
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| bad_input(format!("{}: {error}", file.display())))?;
        let lines = text.lines().map(str::trim);
        let before = keys.len();
        keys.extend(
            lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(Into::into),
        );
        if keys.len() == before {
            return Err(bad_input(format!("{}: holds no key", file.display())));
        }
    }
    match keys.iter().find(|key| key.len() < LEAST) {
        Some(_) => Err(bad_input(format!("an API key has fewer than {LEAST} characters"))),
        None => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_flags_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "# ours\n\nsecret-one\n  secret-two \n").unwrap();
        let keys = read(&["secret-zero".into()], Some(&file)).unwrap();
        assert_eq!(keys, ["secret-zero", "secret-one", "secret-two"]);
        std::fs::write(&file, "#\n").unwrap();
        assert!(read(&[], Some(&file)).unwrap_err().to_string().contains("holds no key"));
        assert!(read(&["short".into()], None).is_err());
        assert_eq!(read(&[], None).unwrap(), Vec::<String>::new());
    }
}
