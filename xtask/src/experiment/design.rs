//! An experiment file: what is compared, and what is promised of it.

use crate::root;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// An experiment file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What it shows, for the table.
    pub about: String,
    /// Texts, relative to the data folder (or to the repository, when they lie in it).
    pub texts: Vec<String>,
    /// The last part of each text, which nobody trains on.
    pub held_out_fraction: f64,
    /// Tokens of the tokenizer that is trained on the texts.
    pub vocab_size: usize,
    /// Tokens the judge sees at once.
    pub window: usize,
    /// Seeds of weights and data order.
    pub seeds: Vec<u64>,
    /// Arguments of every `sterna train`.
    pub args: Vec<String>,
    /// What is compared.
    pub arm: Vec<Arm>,
}

/// One way to make a model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// Arguments of `sterna train`; `{NAME}` is the model of that arm with the same seed, or with
    /// its only one.
    #[serde(default)]
    pub train: Vec<String>,
    /// Instead of training: that arm's model in this encoding, `NAME:TYPE`.
    #[serde(default)]
    pub quantize: Option<String>,
    /// Its own seeds, where they are not the experiment's.
    #[serde(default)]
    pub seeds: Option<Vec<u64>>,
    /// The arm it is compared with.
    #[serde(default)]
    pub against: Option<String>,
    /// The promise: the mean loss is at most so many percent above that arm's.
    #[serde(default)]
    pub at_most_percent: Option<f64>,
}

impl Experiment {
    /// Reads a file of `models/experiments/`.
    ///
    /// # Errors
    /// When it cannot be read, or an arm names one that does not come before it.
    pub fn read(name: &str) -> Result<Self> {
        let path = root::root().join("models/experiments").join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let parsed = toml::from_str(&text).map_err(anyhow::Error::from);
        let checked = parsed.and_then(|experiment: Self| {
            experiment.check()?;
            Ok(experiment)
        });
        checked.with_context(|| format!("{} is wrong", path.display()))
    }

    fn check(&self) -> Result<()> {
        ensure!(self.seeds.len() >= 3, "claims need three seeds");
        let mut known: Vec<&str> = Vec::new();
        for arm in &self.arm {
            for name in arm.needs().iter().chain(&arm.against) {
                let name = name.as_str();
                ensure!(known.contains(&name), "arm {} needs {name} before it", arm.name);
            }
            ensure!(!known.contains(&arm.name.as_str()), "two arms are named {}", arm.name);
            known.push(&arm.name);
        }
        Ok(())
    }

    /// The seeds of an arm.
    pub fn seeds_of<'a>(&'a self, arm: &'a Arm) -> &'a [u64] {
        arm.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// The seed of the run of arm `name` that belongs to one with `seed`.
    pub fn partner_seed(&self, name: &str, seed: u64) -> u64 {
        let arm = self.arm.iter().find(|arm| arm.name == name).expect("checked when read");
        let own = self.seeds_of(arm);
        if own.contains(&seed) { seed } else { own[0] }
    }
}

impl Arm {
    /// The arms whose models it is made from.
    pub fn needs(&self) -> Vec<String> {
        let named = |a: &String| Some(a.split_once('{')?.1.split_once('}')?.0.to_owned());
        let from = self.quantize.iter().filter_map(|q| Some(q.split_once(':')?.0.to_owned()));
        self.train.iter().filter_map(named).chain(from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_reads() {
        for entry in std::fs::read_dir(root::root().join("models/experiments")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "toml") {
                Experiment::read(path.file_stem().unwrap().to_str().unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn an_arm_must_come_after_those_it_needs() {
        let arm = |name: &str, train: &str| Arm {
            name: name.into(),
            train: vec![train.into()],
            quantize: None,
            seeds: None,
            against: None,
            at_most_percent: None,
        };
        let mut experiment = Experiment {
            about: String::new(),
            texts: Vec::new(),
            held_out_fraction: 0.1,
            vocab_size: 1,
            window: 1,
            seeds: vec![1, 2, 3],
            args: Vec::new(),
            arm: vec![arm("a", "--x"), arm("b", "model.init={a}")],
        };
        experiment.check().unwrap();
        experiment.arm.reverse();
        let error = experiment.check().unwrap_err().to_string();
        assert_eq!(error, "arm b needs a before it");
    }
}
