//! A run as a whole: what was measured, where, on what, against which targets.
//!
//! In: figures and their circumstances, the time of day included. Out: `report.json`, and the
//! comparison of two runs, refused where the circumstances differ (S-15).

use crate::{Figure, MeasureError, Unit};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
};

/// One run; `to_json` is the report schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// Names this run among others.
    pub run_id: String,
    /// When it ended, as [`crate::clock::timestamp_utc`] writes it.
    pub timestamp: String,
    /// Where it ran.
    pub machine: MachineSummary,
    /// The program: version, commit, build kind.
    pub build: String,
    /// The seed of everything random in it.
    pub seed: u64,
    /// What it ran on.
    pub workload: WorkloadSummary,
    /// What came out; names are unique.
    pub metrics: Vec<Figure>,
    /// What was wanted, and whether it was met.
    pub targets: Vec<Target>,
    /// Files the run wrote.
    pub artefacts: Vec<Artefact>,
}

/// The machine and the part of it that the run used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSummary {
    /// Identity hash of the machine profile.
    pub id: String,
    /// The CPU's own name.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// Threads that the run used.
    pub threads: usize,
    /// The kernels chosen: `scalar`, `avx2`, `avx512`.
    pub isa: String,
    /// Memory that this process may use.
    pub ram_bytes: u64,
    /// The accelerator, if any.
    pub gpu: Option<String>,
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSummary {
    /// Its name.
    pub name: String,
    /// The blake3 hash of its content.
    pub hash: String,
    /// Sizes in the workload's own words, such as `documents` and `tokens`.
    pub sizes: BTreeMap<String, u64>,
}

impl From<&crate::Workload> for WorkloadSummary {
    fn from(workload: &crate::Workload) -> Self {
        let sizes = [
            ("documents", workload.documents().len()),
            ("tokens", workload.n_tokens()),
            ("bytes", workload.n_bytes()),
        ];
        Self {
            name: workload.name().into(),
            hash: workload.hash().into(),
            sizes: sizes.map(|(name, size)| (name.into(), size as u64)).into_iter().collect(),
        }
    }
}

/// A file with its content's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// Where it is.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// The blake3 hash of its content, in hex.
    pub blake3: String,
}

impl Artefact {
    /// Reads and hashes the file; nothing but its hash stays in memory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
        let blake3 = hasher.finalize().to_hex().to_string();
        Ok(Self { path: path.display().to_string(), bytes, blake3 })
    }
}

/// Which side of a wanted value is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Met by this value or less.
    AtMost,
    /// Met by this value or more.
    AtLeast,
}

/// Whether a target was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The value is on the good side.
    Met,
    /// It is not.
    Missed,
    /// There is no value: this is not a pass.
    NotEvaluated,
}

/// What was wanted of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TargetFields", into = "TargetFields")]
pub struct Target(TargetFields);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetFields {
    name: String,
    bound: Bound,
    wanted: f64,
    unit: Unit,
    actual: Option<f64>,
    status: Status,
}

impl Target {
    /// Judges the metric called `name` of `metrics`; without it, or without a value, the target
    /// is not evaluated.
    ///
    /// # Errors
    /// If `wanted` is no finite number, or the metric is in another unit.
    pub fn judge(
        name: &str,
        bound: Bound,
        wanted: f64,
        unit: Unit,
        metrics: &[Figure],
    ) -> Result<Self, MeasureError> {
        let metric = metrics.iter().find(|metric| metric.name() == name);
        if let Some(metric) = metric
            && metric.unit() != unit
        {
            let (actual, wanted) = (metric.unit().name(), unit.name());
            let why = format!("{name} is measured in {actual} but its target is in {wanted}");
            return Err(MeasureError::Data(why));
        }
        let actual = metric.and_then(Figure::value);
        let status = TargetFields::status_of(bound, wanted, actual);
        TargetFields { name: name.into(), bound, wanted, unit, actual, status }.try_into()
    }

    /// The metric's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The value that is the limit.
    pub fn wanted(&self) -> f64 {
        self.0.wanted
    }

    /// The value it has.
    pub fn actual(&self) -> Option<f64> {
        self.0.actual
    }

    /// Whether it was met.
    pub fn status(&self) -> Status {
        self.0.status
    }

    /// One line for a terminal: `missed: drop_percent 1.4 %, wanted at most 1 %`.
    pub fn line(&self) -> String {
        let TargetFields { name, bound, wanted, unit, actual, status } = &self.0;
        let side = if *bound == Bound::AtMost { "at most" } else { "at least" };
        let unit = unit.name();
        let (status, actual) = match (status, actual) {
            (Status::Met, Some(actual)) => ("met", format!("{actual} {unit}")),
            (Status::Missed, Some(actual)) => ("missed", format!("{actual} {unit}")),
            _ => ("not evaluated", "has no value".into()),
        };
        format!("{status}: {name} {actual}, wanted {side} {wanted} {unit}")
    }
}

impl TargetFields {
    fn status_of(bound: Bound, wanted: f64, actual: Option<f64>) -> Status {
        let is_met = |actual: f64| match bound {
            Bound::AtMost => actual <= wanted,
            Bound::AtLeast => actual >= wanted,
        };
        match actual {
            None => Status::NotEvaluated,
            Some(actual) if is_met(actual) => Status::Met,
            Some(_) => Status::Missed,
        }
    }
}

impl TryFrom<TargetFields> for Target {
    type Error = MeasureError;

    fn try_from(fields: TargetFields) -> Result<Self, MeasureError> {
        let TargetFields { name, bound, wanted, actual, .. } = &fields;
        if !wanted.is_finite() || actual.is_some_and(|actual| !actual.is_finite()) {
            let why = format!("target {name}: {wanted} wanted, {actual:?} had; say finite numbers");
            return Err(MeasureError::Data(why));
        }
        let status = TargetFields::status_of(*bound, *wanted, *actual);
        if status != fields.status {
            let why = format!("target {name} claims {:?} but is {status:?}", fields.status);
            return Err(MeasureError::Data(why));
        }
        Ok(Self(fields))
    }
}

impl From<Target> for TargetFields {
    fn from(target: Target) -> Self {
        target.0
    }
}

/// One metric of two comparable runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The metric.
    pub name: String,
    /// Its value in the first run.
    pub before: f64,
    /// Its value in the second.
    pub after: f64,
    /// Whether `|after - before|` exceeds both 1% and three standard errors of the difference;
    /// `None` where a run gave no interval, so that nobody can tell.
    pub is_beyond_noise: Option<bool>,
}

/// Changes below this share of the value are not news, however certain.
pub const CHANGE_FLOOR: f64 = 0.01;

impl RunReport {
    /// The targets in one word: all met, one missed, or not all evaluated; `None` without targets.
    pub fn grade(&self) -> Option<Status> {
        let any = |status| self.targets.iter().any(|target| target.status() == status);
        match (self.targets.is_empty(), any(Status::Missed), any(Status::NotEvaluated)) {
            (true, ..) => None,
            (_, true, _) => Some(Status::Missed),
            (_, _, true) => Some(Status::NotEvaluated),
            _ => Some(Status::Met),
        }
    }

    /// The metric of that name.
    pub fn metric(&self, name: &str) -> Option<&Figure> {
        self.metrics.iter().find(|metric| metric.name() == name)
    }

    /// The report schema as indented JSON.
    ///
    /// # Errors
    /// If two metrics share a name.
    pub fn to_json(&self) -> Result<String, MeasureError> {
        self.check_names()?;
        let mut json = serde_json::to_value(self).expect("plain data");
        let grade = serde_json::to_value(self.grade()).expect("plain data");
        json.as_object_mut().expect("a struct").insert("grade".into(), grade);
        Ok(serde_json::to_string_pretty(&json).expect("plain data") + "\n")
    }

    fn check_names(&self) -> Result<(), MeasureError> {
        let mut names = HashSet::new();
        match self.metrics.iter().find(|metric| !names.insert(metric.name())) {
            Some(twice) => {
                let why = format!("two metrics are called {}; name them apart", twice.name());
                Err(MeasureError::Data(why))
            }
            None => Ok(()),
        }
    }

    /// Reads a report back; every figure and target is checked again.
    ///
    /// # Errors
    /// If it is no report, or claims what does not follow from its numbers.
    pub fn from_json(text: &str) -> Result<Self, MeasureError> {
        let data = |why: String| MeasureError::Data(format!("report: {why}"));
        let mut json: serde_json::Value =
            serde_json::from_str(text).map_err(|e| data(e.to_string()))?;
        let claimed = json.as_object_mut().and_then(|fields| fields.shift_remove("grade"));
        let report: Self = serde_json::from_value(json).map_err(|e| data(e.to_string()))?;
        report.check_names()?;
        let grade = serde_json::to_value(report.grade()).expect("plain data");
        let claimed = claimed.ok_or_else(|| data("it has no grade".into()))?;
        if claimed != grade {
            return Err(data(format!("its grade is {claimed} but its targets give {grade}")));
        }
        Ok(report)
    }

    /// The metrics that both runs have, this one first.
    ///
    /// # Errors
    /// If the runs differ in machine, threads, kernels or workload.
    pub fn changes(&self, later: &Self) -> Result<Vec<Change>, MeasureError> {
        self.comparable(later)?;
        let both =
            self.metrics.iter().filter_map(|before| Some((before, later.metric(before.name())?)));
        Ok(both.filter_map(|(before, after)| change(before, after)).collect())
    }

    fn comparable(&self, other: &Self) -> Result<(), MeasureError> {
        let (here, there) = (&self.machine, &other.machine);
        let pairs = [
            ("machine", here.id.clone(), there.id.clone()),
            ("cpu", here.cpu.clone(), there.cpu.clone()),
            ("cores", here.cores.to_string(), there.cores.to_string()),
            ("threads", here.threads.to_string(), there.threads.to_string()),
            ("isa", here.isa.clone(), there.isa.clone()),
            ("gpu", format!("{:?}", here.gpu), format!("{:?}", there.gpu)),
            ("workload", self.workload.hash.clone(), other.workload.hash.clone()),
        ];
        let differing = pairs.iter().find(|(_, before, after)| before != after);
        differing.map_or(Ok(()), |(what, before, after)| {
            let why = format!("{what} was {before} in one and {after} in the other");
            Err(MeasureError::Incomparable { why })
        })
    }
}

fn change(before: &Figure, after: &Figure) -> Option<Change> {
    let (old, new) = (before.value()?, after.value()?);
    if before.unit() != after.unit() {
        return None;
    }
    let error = |figure: &Figure| Some(figure.ci95()?.half_width() / 1.96);
    let noise = error(before).zip(error(after)).map(|(a, b)| 3.0 * a.hypot(b));
    let is_beyond_noise =
        noise.map(|noise| (new - old).abs() > noise.max(CHANGE_FLOOR * old.abs()));
    Some(Change { name: before.name().into(), before: old, after: new, is_beyond_noise })
}

#[cfg(test)]
mod tests;
