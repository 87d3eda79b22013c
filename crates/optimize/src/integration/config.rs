//! What an integration is asked for: system 000's config, its three profiles, and what they mean
//! for an optimization.

use crate::error::{OptimizeError, Result};
use crate::pipeline::Settings;
use crate::search::strategies::by_name;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// All fields, by the names and with the defaults of system 000.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Search for an encoding per tensor; else every tensor gets the same.
    pub enable_neural_architecture_search: bool,
    /// Compare one worker with all.
    pub enable_parallel_execution: bool,
    /// Ensembles and robustness.
    pub enable_quantum_safety: bool,
    /// Mixed-precision matrix units of a GPU.
    pub enable_tensor_core_optimization: bool,
    /// Search by simulated annealing instead of the exact strategy.
    pub enable_thermodynamic_modeling: bool,
    /// The device that is expected.
    pub target_gpu: String,
    /// Workers, at most as many as there are CPUs.
    pub gpu_streams: usize,
    /// A target only.
    pub tensor_core_utilization: f64,
    /// Memory that the loaded model may take, in GB.
    pub memory_allocation_gb: f64,
    /// Whether tensors may be stored in 16 bits.
    pub mixed_precision: bool,
    /// Rise of the share of right answers that is wanted, as a fraction.
    pub target_accuracy_improvement: f64,
    /// Time of one worker over that of all that is wanted.
    pub target_parallel_speedup: f64,
    /// Accuracy of an ensemble over a single model's that is wanted.
    pub safety_accuracy_target: f64,
    /// The search ends after this long.
    pub max_optimization_time_minutes: f64,
    /// Whether neighbours stay neighbours.
    pub enable_cognitive_pattern_preservation: bool,
    /// Calibration error and Brier score.
    pub uncertainty_quantification: bool,
    /// Training against perturbed inputs.
    pub adversarial_training: bool,
    /// Progress while it runs.
    pub enable_performance_monitoring: bool,
    /// A log of the search's measurements.
    pub log_optimization_steps: bool,
    /// The report as a file.
    pub save_optimization_history: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enable_neural_architecture_search: true,
            enable_parallel_execution: true,
            enable_quantum_safety: true,
            enable_tensor_core_optimization: true,
            enable_thermodynamic_modeling: true,
            target_gpu: "RTX_4090".into(),
            gpu_streams: 16,
            tensor_core_utilization: 0.92,
            memory_allocation_gb: 22.0,
            mixed_precision: true,
            target_accuracy_improvement: 0.015,
            target_parallel_speedup: 4.0,
            safety_accuracy_target: 1.02,
            max_optimization_time_minutes: 60.0,
            enable_cognitive_pattern_preservation: true,
            uncertainty_quantification: true,
            adversarial_training: true,
            enable_performance_monitoring: true,
            log_optimization_steps: true,
            save_optimization_history: true,
        }
    }
}

/// Configs with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Everything.
    Full,
    /// Without the parallel and thermodynamic parts.
    Conservative,
    /// Without the search, too.
    Minimal,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::Full, Self::Conservative, Self::Minimal];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Conservative => "conservative",
            Self::Minimal => "minimal",
        }
    }

    /// Its config.
    pub fn config(self) -> Config {
        let less = |streams, improvement, memory| Config {
            enable_parallel_execution: false,
            enable_thermodynamic_modeling: false,
            gpu_streams: streams,
            target_accuracy_improvement: improvement,
            memory_allocation_gb: memory,
            ..Config::default()
        };
        match self {
            Self::Full => Config::default(),
            Self::Conservative => less(8, 0.010, 16.0),
            Self::Minimal => {
                Config { enable_neural_architecture_search: false, ..less(4, 0.005, 8.0) }
            }
        }
    }
}

impl Config {
    /// Lays a JSON object's fields over this config.
    ///
    /// # Errors
    /// A sentence that names the field that is unknown, of the wrong kind, or out of range.
    pub fn with(&self, overrides: &Value) -> Result<Self> {
        let bad = |why: String| OptimizeError::Input(format!("the config: {why}"));
        let fields = overrides.as_object().ok_or_else(|| bad("it is no JSON object".into()))?;
        let mut all = serde_json::to_value(self).expect("plain data");
        let known = all.as_object_mut().expect("a struct");
        for (name, value) in fields {
            let names = known.keys().map(String::as_str);
            let nearest = sterna_model::plan::nearest(name, names).map(str::to_owned);
            let Some(old) = known.get_mut(name) else {
                let hint = nearest.map_or(String::new(), |near| format!("; did you mean {near}?"));
                return Err(bad(format!("there is no field {name}{hint}")));
            };
            let (is, wanted) = (kind(value), kind(old));
            if is != wanted {
                return Err(bad(format!("{name} is {is}, and {wanted} is wanted")));
            }
            *old = value.clone();
        }
        let config: Self = serde_json::from_value(all).map_err(|error| bad(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Checks every number's range.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("gpu_streams", self.gpu_streams as f64, 1.0, 1024.0),
            ("tensor_core_utilization", self.tensor_core_utilization, 0.0, 1.0),
            ("memory_allocation_gb", self.memory_allocation_gb, 0.001, 1e6),
            ("target_accuracy_improvement", self.target_accuracy_improvement, -1.0, 1.0),
            ("target_parallel_speedup", self.target_parallel_speedup, 0.0, 1024.0),
            ("safety_accuracy_target", self.safety_accuracy_target, 0.0, 100.0),
            ("max_optimization_time_minutes", self.max_optimization_time_minutes, 0.01, 1e6),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(OptimizeError::Input(format!(
                    "the config: {name} is {value}, and {low} to {high} is possible"
                )));
            }
        }
        Ok(())
    }

    /// Has an optimization do what this config asks for.
    pub fn apply(&self, settings: &mut Settings) {
        let budget = &mut settings.budget;
        budget.max_memory = Some((self.memory_allocation_gb * 1e9) as u64);
        budget.time = Some(Duration::from_secs_f64(self.max_optimization_time_minutes * 60.0));
        let is_allowed = |name: &str| match name {
            "F16" | "BF16" => self.mixed_precision,
            "F32" | "Q8_0" => true,
            _ => self.enable_neural_architecture_search,
        };
        budget.allow.retain(|encoding| is_allowed(encoding.name()));
        if !self.enable_neural_architecture_search {
            // One group: all tensors alike.
            settings.n_bands = Some(1);
        }
        let strategy = if self.enable_thermodynamic_modeling { "anneal" } else { "exact" };
        settings.strategy = by_name(strategy).expect("a strategy");
    }

    /// What is switched on and is no part of this program, or off and done all the same.
    pub fn not_done(&self) -> Vec<String> {
        let all = [
            (self.enable_quantum_safety, "enable_quantum_safety", "ensembles and robustness"),
            (
                self.enable_tensor_core_optimization,
                "enable_tensor_core_optimization",
                "a GPU's matrix units",
            ),
            (
                self.enable_cognitive_pattern_preservation,
                "enable_cognitive_pattern_preservation",
                "cognitive fields",
            ),
            (self.adversarial_training, "adversarial_training", "training against perturbations"),
        ];
        let on = all.into_iter().filter(|(is_on, ..)| *is_on);
        let mut notes: Vec<String> =
            on.map(|(_, name, what)| format!("{name}: {what} are not part of this run")).collect();
        let always = [
            (self.uncertainty_quantification, "uncertainty_quantification"),
            (self.enable_performance_monitoring, "enable_performance_monitoring"),
            (self.log_optimization_steps, "log_optimization_steps"),
            (self.save_optimization_history, "save_optimization_history"),
        ];
        let off = always.into_iter().filter(|(is_on, _)| !is_on);
        notes.extend(off.map(|(_, name)| format!("{name} is off, and is done in any case")));
        notes.push(format!("target_gpu {}: no GPU was used", self.target_gpu));
        notes
    }
}

/// A JSON value's kind, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        _ => "something else",
    }
}
