//! What llama.cpp makes of a model: uniform encodings, its mixes, and its mixes by importance.

use super::texts::Texts;
use super::{Place, Row};
use crate::root;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Encodings for every matrix alike.
const UNIFORM: [&str; 9] =
    ["Q8_0", "Q6_K", "Q5_K", "Q5_0", "Q4_K", "Q4_0", "IQ4_NL", "Q3_K", "Q2_K"];
/// Its mixes, with and without an importance matrix.
const MIXES: [&str; 11] = [
    "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_NL", "Q3_K_L", "Q3_K_M", "Q3_K_S",
    "Q2_K",
];

/// The rivals of one model.
pub struct Rivals<'a> {
    /// Tools and folder.
    pub place: &'a Place,
    /// The model.
    pub source: &'a Path,
    /// Its texts.
    pub texts: &'a Texts,
}

impl Rivals<'_> {
    /// All of them, measured; those measured before are read.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn rows(&self) -> Result<Vec<Row>> {
        let kept = self.place.folder.join("rivals.json");
        let mut rows: Vec<Row> = match std::fs::read_to_string(&kept) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => Vec::new(),
        };
        let uniform = UNIFORM.iter().map(|name| ("uniform", *name));
        let mixes = ["mix", "imatrix"].map(|kind| MIXES.iter().map(move |name| (kind, *name)));
        let wanted: Vec<(&str, &str)> = uniform.chain(mixes.into_iter().flatten()).collect();
        for (at, (kind, name)) in wanted.iter().enumerate() {
            if rows.iter().any(|row| row.kind == *kind && row.name == *name) {
                continue;
            }
            let model = self.quantize(kind, name)?;
            let row = self.place.judge(name, kind, &model, self.source, self.texts)?;
            println!("{}/{}: {kind} {name} has KL {:.5}", at + 1, wanted.len(), row.kl);
            rows.push(row);
            std::fs::write(&kept, serde_json::to_string_pretty(&rows)? + "\n")?;
            std::fs::remove_file(model)?;
        }
        Ok(rows)
    }

    fn quantize(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let path = self.place.folder.join("rival.gguf");
        let mut command = self.tool("llama-quantize");
        match kind {
            "uniform" => drop(command.arg("--pure")),
            "imatrix" => drop(command.arg("--imatrix").arg(self.imatrix()?)),
            _ => {}
        }
        root::output_of(command.arg(self.source).arg(&path).arg(name))?;
        Ok(path)
    }

    fn imatrix(&self) -> Result<PathBuf> {
        let path = self.place.folder.join("imatrix.gguf");
        if !path.is_file() {
            let mut command = self.tool("llama-imatrix");
            command.arg("-m").arg(self.source).arg("-f").arg(&self.texts.plain);
            root::output_of(command.arg("-o").arg(&path).args(["-c", "256", "--chunks", "300"]))?;
        }
        Ok(path)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.place.tools.join(name));
        command.env("LD_LIBRARY_PATH", &self.place.tools);
        command
    }
}
