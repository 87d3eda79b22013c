//! The gate: an artifact whose own evidence misses what was asked of it is not served (A4).
//!
//! In: an opened model. Out: where it stands. What carries no evidence claims nothing and passes.

use crate::budget::Budget;
use crate::report::{self, ARTIFACT_HASH, PLAN_HASH, Report};
use sterna_measure::Figure;
use sterna_measure::report::{RunReport, Status};
use sterna_model::artifact::{CONTENT_KEY, EVIDENCE_KEY, PLAN_KEY};
use sterna_model::{Model, Plan, plan};

/// Where a model stands by its own evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is no artifact: nothing is claimed.
    NoEvidence,
    /// Every cap was kept, by measurement.
    Met,
    /// A cap was missed or could not be measured, or the evidence cannot be read: in words.
    NotMet(String),
}

impl Standing {
    /// Its name in lists and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::NoEvidence => "none",
            Standing::Met => "met",
            Standing::NotMet(_) => "not_met",
        }
    }
}

/// Holds a report's targets to what a plan says was asked for: each cap has its target, judged by
/// its own metric. Gives those that are not met, as lines.
///
/// # Errors
/// When a cap has no target, or a target another number than its metric.
pub fn unmet(budget: &plan::Budget, run: &RunReport) -> Result<Vec<String>, String> {
    let asked = Budget::of_plan(budget).caps();
    if asked.is_empty() {
        return Err("nothing was capped, so nothing was shown".into());
    }
    let mut unmet = Vec::new();
    for (name, cap, _) in asked {
        let target = run.targets.iter().find(|target| target.name() == name);
        let target = target.ok_or_else(|| format!("{name} was capped and has no target"))?;
        // A percentage was divided by a hundred on its way into the plan.
        if (target.wanted() - cap).abs() > cap.abs() * 1e-12 {
            return Err(format!("{name} is held to {}, and {cap} was asked for", target.wanted()));
        }
        if run.metric(name).and_then(Figure::value) != target.actual() {
            return Err(format!("{name} is judged by a number that is not its metric"));
        }
        if target.status() != Status::Met {
            unmet.push(report::target_line(target));
        }
    }
    Ok(unmet)
}

/// Reads a model's evidence.
pub fn standing(model: &Model) -> Standing {
    let Some(evidence) = model.metadata.str(EVIDENCE_KEY) else {
        // An artifact that lost its evidence is not one that never claimed anything.
        return match model.metadata.str(PLAN_KEY) {
            Some(_) => Standing::NotMet("it has a plan and no evidence".into()),
            None => Standing::NoEvidence,
        };
    };
    let report = serde_json::from_str(evidence).map_err(|error| error.to_string());
    let report = report.and_then(|value| Report::from_value(&value).map_err(|e| e.to_string()));
    let text = model.metadata.str(PLAN_KEY).unwrap_or_default();
    let plan = Plan::parse(model.path(), text).map_err(|error| error.to_string());
    let unmet = report.and_then(|report| {
        let plan = plan?;
        let hashes = &report.details.hashes;
        let hash = |of: &str| hashes.iter().find(|(what, _)| what == of).map(|(_, hash)| &**hash);
        if hash(ARTIFACT_HASH) != model.metadata.str(CONTENT_KEY) {
            return Err("it is about other weights".into());
        }
        let unmet = unmet(&plan.budget, &report.run)?;
        // A Plan says how the weights are run.
        match hash(PLAN_HASH) == Some(&plan.hash()) {
            true => Ok(unmet),
            false => Err("it is about another plan".into()),
        }
    });
    match unmet {
        Ok(unmet) if unmet.is_empty() => Standing::Met,
        Ok(unmet) => Standing::NotMet(unmet.join("; ")),
        Err(error) => Standing::NotMet(format!("its evidence does not hold: {error}")),
    }
}
