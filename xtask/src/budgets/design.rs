//! `models/budgets.toml`: which models, which texts, which budgets.

use crate::root;
use anyhow::{Context, Result};
use serde::Deserialize;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// Bits per weight.
    pub budgets: Vec<f64>,
    /// The models.
    pub model: Vec<Subject>,
}

/// A model and its texts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// Its file, unless it is trained first.
    pub model: Option<String>,
    /// Its tokenizer, where that is apart.
    pub tokenizer: Option<String>,
    /// The text it is trained on, where that is not the calibration text.
    pub train: Option<String>,
    /// How it is trained.
    pub config: Option<String>,
    /// What the search may look at.
    pub calibration: String,
    /// What all are judged by; without it the last part of the calibration text.
    pub held_out: Option<String>,
    /// That part, which the search is then not shown.
    pub held_out_fraction: Option<f64>,
    /// Whether documents begin at lines like ` = Title = `.
    #[serde(default)]
    pub titles: bool,
}

impl Design {
    /// Reads it.
    ///
    /// # Errors
    /// When it is not as it should be.
    pub fn read() -> Result<Self> {
        let path = root::root().join("models/budgets.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is wrong", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_and_each_model_can_be_had() {
        let design = Design::read().unwrap();
        for subject in &design.model {
            assert!(subject.model.is_some() != subject.config.is_some(), "{}", subject.name);
            assert!(subject.held_out.is_some() != subject.held_out_fraction.is_some());
        }
    }
}
