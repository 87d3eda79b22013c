//! What batches of a model took on a machine: the part of the machine profile that `sterna
//! capacity` measures, in a file of its own for each program.

use super::shape::TimedShape;
use crate::machine::{Machine, read_json, write_json};
use crate::{Figure, MeasureError, Samples, Unit, stats};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Batches of one program on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Names the form of this file.
    pub format: String,
    /// The machine's identity.
    pub machine_id: String,
    /// Its CPU, for people.
    pub cpu: String,
    /// The ISA that it ran on.
    pub isa: String,
    /// Threads.
    pub threads: usize,
    /// The version of Sterna: another one has other kernels.
    pub version: String,
    /// The model's file, for people.
    pub model: String,
    /// A hash of the model's file and of everything that says how it runs.
    pub program: String,
    /// When.
    pub timestamp_utc: String,
    /// Every shape.
    pub shapes: Vec<TimedShape>,
}

impl Calibration {
    /// The form that this version writes and reads.
    pub const FORMAT: &'static str = "sterna-calibration 1";

    /// Where it lies: `batches-<machine>-<program>.json` under the cache folder.
    pub fn path(cache: &Path, machine: &Machine, program: &str) -> PathBuf {
        cache.join(format!("batches-{}-{program}.json", machine.id()))
    }

    /// What was measured on exactly this machine with this program and version; `None` if nothing
    /// was.
    ///
    /// # Errors
    /// If the file is there but is no calibration.
    pub fn load(
        cache: &Path,
        machine: &Machine,
        program: &str,
        version: &str,
    ) -> Result<Option<Self>, MeasureError> {
        let path = Self::path(cache, machine, program);
        let found = Self::read(&path, "delete it, and it is measured again")?;
        Ok(found.filter(|found| {
            found.machine_id == machine.id() && found.program == program && found.version == version
        }))
    }

    /// Any file; `None` if there is none. `fix` says what to do about a damaged one.
    ///
    /// # Errors
    /// If it is no calibration.
    pub fn read(path: &Path, fix: &str) -> Result<Option<Self>, MeasureError> {
        let found: Option<Self> = read_json(path, fix)?;
        let Some(found) = found else { return Ok(None) };
        let wrong = match &found {
            Self { format, .. } if format != Self::FORMAT => {
                Some(format!("its format is {format:?}, not {:?}", Self::FORMAT))
            }
            Self { shapes, .. } => shapes.iter().find_map(TimedShape::wrong),
        };
        match wrong {
            Some(why) => Err(MeasureError::Data(format!("{}: {why}; {fix}", path.display()))),
            None => Ok(Some(found)),
        }
    }

    /// Writes it beside its place and renames it into it.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn save(&self, cache: &Path, machine: &Machine) -> Result<PathBuf, MeasureError> {
        let path = Self::path(cache, machine, &self.program);
        write_json(&path, self)?;
        Ok(path)
    }

    /// What each shape took.
    ///
    /// # Errors
    /// Never for one that [`Calibration::read`] gave or that was measured.
    pub fn figures(&self) -> Result<Vec<Figure>, MeasureError> {
        let figure = |timed: &TimedShape| {
            let method = format!(
                "{}: forward pass and choice of tokens, interleaved with all other shapes; {}",
                timed.name,
                if timed.is_held_out { "held out of the fit" } else { "fitted" }
            );
            let samples = Samples::new("batch_seconds", timed.seconds.clone())?;
            Figure::measured("batch_seconds", Unit::Seconds, &method, &samples)
        };
        self.shapes.iter().map(figure).collect()
    }
}

impl TimedShape {
    /// The median of its runs.
    pub fn median(&self) -> f64 {
        stats::median(&self.seconds)
    }

    /// What no measurement gives.
    fn wrong(&self) -> Option<String> {
        let is_time = |seconds: &f64| *seconds > 0.0 && seconds.is_finite();
        let is_right = !self.seconds.is_empty() && self.seconds.iter().all(is_time);
        (!is_right).then(|| format!("the shape {:?} has no seconds, or impossible ones", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::BatchShape;

    fn calibration(machine: &Machine) -> Calibration {
        let shape = BatchShape::default().with_decodes(4, 64);
        let timed = |seconds| TimedShape {
            name: "generate 4 @ 64".into(),
            shape,
            is_held_out: false,
            seconds,
        };
        Calibration {
            format: Calibration::FORMAT.into(),
            machine_id: machine.id(),
            cpu: machine.cpu.clone(),
            isa: "avx2".into(),
            threads: 2,
            version: "1".into(),
            model: "tiny.gguf".into(),
            program: "abc".into(),
            timestamp_utc: "2026-01-01T00:00:00Z".into(),
            shapes: vec![timed(vec![0.25, 0.5, 0.125])],
        }
    }

    #[test]
    fn it_is_found_by_machine_program_and_version() {
        let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::detect());
        let load = |program, version| Calibration::load(folder.path(), &machine, program, version);
        assert_eq!(load("abc", "1").unwrap(), None);
        let known = calibration(&machine);
        let path = known.save(folder.path(), &machine).unwrap();
        assert_eq!(load("abc", "1").unwrap(), Some(known.clone()));
        assert_eq!(load("abc", "2").unwrap(), None);
        std::fs::copy(&path, Calibration::path(folder.path(), &machine, "other")).unwrap();
        assert_eq!(load("other", "1").unwrap(), None, "a copied file is another program's");
        let figures = known.figures().unwrap();
        assert_eq!((figures[0].value(), figures[0].n()), (Some(0.25), 3));
    }

    #[test]
    fn what_is_no_calibration_is_refused() {
        let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::detect());
        let path = folder.path().join("c.json");
        let refused = |calibration: &Calibration| {
            write_json(&path, calibration).unwrap();
            Calibration::read(&path, "measure again").unwrap_err().to_string()
        };
        let good = calibration(&machine);
        let other = Calibration { format: "x".into(), ..good.clone() };
        assert!(refused(&other).contains("sterna-calibration 1"));
        for seconds in [vec![], vec![0.0], vec![-1.0]] {
            let mut wrong = good.clone();
            wrong.shapes[0].seconds = seconds;
            let said = refused(&wrong);
            assert!(said.contains("generate 4 @ 64") && said.contains("measure again"), "{said}");
        }
        std::fs::write(&path, "{}").unwrap();
        assert!(Calibration::read(&path, "measure again").is_err());
    }
}
