//! A report in the words of the five systems: projections of its metrics, with no number of their
//! own. What a system names and this run did not measure is `null`, with the reason.
//!
//! In: a report and the Plan it is about. Out: JSON of `{group: {field: {value, how}}}`.

use super::Report;
use crate::error::{OptimizeError, Result};
use serde_json::{Map, Value, json};
use sterna_measure::figure::short;
use sterna_measure::{Figure, RunReport};
use sterna_model::Plan;
use sterna_runtime::flags::{FLAGS, OptLevel};

/// Where a field comes from.
enum From {
    /// A metric as it is.
    Is(&'static str),
    /// A metric times a constant.
    Times(&'static str, f64),
    /// One metric over another.
    Over(&'static str, &'static str),
    /// One over a metric.
    Inverse(&'static str),
    /// One metric less another.
    Less(&'static str, &'static str),
    /// What one metric is less than another, as a share of the other.
    Saved(&'static str, &'static str),
    /// The 95th percentile of a metric's samples.
    P95(&'static str),
    /// The 99th.
    P99(&'static str),
    /// Nothing here measures it, and why.
    Not(&'static str),
}

use From::{Inverse, Is, Less, Not, Over, P95, P99, Saved, Times};

/// Group, field, source.
type Field = (&'static str, &'static str, From);

/// A system's view.
struct View {
    name: &'static str,
    about: &'static str,
    fields: &'static [Field],
}

const BYTES_TO_MB: f64 = 1e-6;
const SERVED: &str = "several requests at once are measured by `sterna bench serve`";
const PLANNED: &str = "memory is planned before the run, so there is no pool or cache to count";
const NO_GPU: &str = "no GPU was used";

const SUTAZ: &[Field] = &[
    ("quantization", "original_size_mb", Times("baseline_file_bytes", BYTES_TO_MB)),
    ("quantization", "quantized_size_mb", Times("file_bytes", BYTES_TO_MB)),
    ("quantization", "compression_ratio", Is("size_ratio")),
    ("quantization", "inference_speedup", Inverse("decode_time_ratio")),
    ("quantization", "accuracy_loss", Less("baseline_accuracy", "artifact_accuracy")),
    ("latency_metrics", "median_ms", Is("artifact_itl_ms")),
    ("latency_metrics", "p95_ms", P95("artifact_itl_ms")),
    ("latency_metrics", "p99_ms", P99("artifact_itl_ms")),
    ("throughput_metrics", "batch_1_tokens_per_s", Is("artifact_decode_tokens_per_s")),
    ("throughput_metrics", "batch_16_tokens_per_s", Not(SERVED)),
    ("benchmark", "memory_usage_mb", Times("artifact_memory_bytes", BYTES_TO_MB)),
    ("benchmark", "accuracy_score", Is("artifact_accuracy")),
    ("benchmark", "perplexity", Is("artifact_perplexity")),
    ("benchmark", "speedup_vs_baseline", Inverse("decode_time_ratio")),
    (
        "benchmark",
        "memory_reduction_vs_baseline",
        Saved("artifact_memory_bytes", "baseline_memory_bytes"),
    ),
    ("benchmark", "quality_preservation", Over("artifact_accuracy", "baseline_accuracy")),
    ("benchmark", "cpu_utilization", Not("it is not sampled while models are compared")),
];

const PIMOE: &[Field] = &[
    ("model_compiler", "average_time_ms", Is("artifact_itl_ms")),
    ("model_compiler", "throughput_tokens_per_s", Is("artifact_decode_tokens_per_s")),
    ("model_compiler", "memory_usage_bytes", Is("artifact_memory_bytes")),
    ("model_compiler", "fusion_time_ratio", Is("without_ultra_fusion_time_ratio")),
    ("zero_copy", "memory_pooling_time_ratio", Is("without_memory_pooling_time_ratio")),
    ("zero_copy", "cache_hit_rate", Not(PLANNED)),
    ("quantization", "compression_ratio", Is("size_ratio")),
    ("quantization", "bits_per_weight", Is("artifact_bits_per_weight")),
    ("dynamic_batching", "throughput", Not(SERVED)),
    ("gpu", "utilization", Not(NO_GPU)),
];

const BITNET: &[Field] = &[
    ("key_metrics", "memory_reduction", Over("baseline_memory_bytes", "artifact_memory_bytes")),
    ("key_metrics", "model_size_mb", Times("file_bytes", BYTES_TO_MB)),
    ("key_metrics", "speedup_achieved", Inverse("decode_time_ratio")),
    ("key_metrics", "inference_time_ms", Is("artifact_itl_ms")),
    ("key_metrics", "accuracy_degradation", Less("baseline_accuracy", "artifact_accuracy")),
];

const TRUTHGPT: &[Field] = &[
    ("performance_metrics", "inference_time_ms", Is("artifact_itl_ms")),
    ("performance_metrics", "memory_usage_bytes", Is("artifact_memory_bytes")),
    ("performance_metrics", "total_flops", Not("`sterna inspect` counts the multiply-adds")),
    ("model", "model_size_mb", Times("file_bytes", BYTES_TO_MB)),
    ("cache_stats", "embedding_cache_size", Not(PLANNED)),
    ("cache_stats", "optimal_batch_sizes", Not("`sterna tune` measures them")),
];

const KIMERA: &[Field] = &[
    ("performance", "accuracy_improvement", Less("artifact_accuracy", "baseline_accuracy")),
    ("performance", "parallel_speedup", Not("`sterna integrate` measures it")),
    ("performance", "safety_accuracy", Not("no ensemble was trained")),
    ("hardware", "gpu_utilization_percent", Not(NO_GPU)),
    ("hardware", "tensor_core_utilization", Not(NO_GPU)),
    ("hardware", "memory_efficiency", Not(PLANNED)),
    ("optimization", "decode_improvement", Saved("artifact_itl_ms", "baseline_itl_ms")),
    ("optimization", "thermodynamic_efficiency", Not("no energy counter is read in this run")),
];

const VIEWS: &[View] = &[
    View {
        name: "kimera",
        about: "system 000, Kimera: result; `sterna integrate` grades it",
        fields: KIMERA,
    },
    View { name: "sutaz", about: "system 001, Sutaz: quantization and benchmark", fields: SUTAZ },
    View { name: "pimoe", about: "system 002, PiMoE: demo results", fields: PIMOE },
    View { name: "bitnet", about: "system 003, BitNet: executive summary", fields: BITNET },
    View { name: "truthgpt", about: "system 004, TruthGPT: performance metrics", fields: TRUTHGPT },
];

/// The views by name, with what they are.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    VIEWS.iter().map(|view| (view.name, view.about))
}

/// A report as a system would state it.
///
/// # Errors
/// When there is no such view, or the report is no report.
pub fn view(name: &str, report: &Value, plan: &Plan) -> Result<Value> {
    let view = VIEWS.iter().find(|view| view.name == name).ok_or_else(|| {
        let names: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
        OptimizeError::Input(format!("there is no view {name}; there are {}", names.join(", ")))
    })?;
    let report = Report::from_value(report)?;
    let run = &report.run;
    let mut groups = Map::new();
    for (group, field, from) in view.fields {
        let (value, how) = from.value(run);
        add(&mut groups, group, field, json!(value), &how);
    }
    match view.name {
        "bitnet" => summarize(&mut groups),
        "truthgpt" => features(&mut groups, plan, &report),
        _ => {}
    }
    Ok(json!({
        "view": view.name,
        "about": view.about,
        "run_id": run.run_id,
        "timestamp": run.timestamp,
        "machine": run.machine,
        "fields": groups,
    }))
}

fn add(groups: &mut Map<String, Value>, group: &str, field: &str, value: Value, how: &str) {
    let group = groups.entry(group).or_insert_with(|| json!({}));
    group[field] = json!({ "value": value, "how": how });
}

impl From {
    /// The number, and how it comes about, or why there is none.
    fn value(&self, run: &RunReport) -> (Option<f64>, String) {
        let figure = |name: &str| run.metric(name);
        let lost = |name: &str| match figure(name).and_then(Figure::reason) {
            Some(reason) => format!("{name}: {reason}"),
            None => format!("{name} is not in this report"),
        };
        let one = |name: &str, how: String, of: &dyn Fn(f64) -> f64| match figure(name)
            .and_then(Figure::value)
            .map(of)
            .filter(|value| value.is_finite())
        {
            Some(value) => (Some(value), how),
            None => (None, lost(name)),
        };
        let two = |a: &str, b: &str, how: String, of: &dyn Fn(f64, f64) -> f64| {
            let value = |name| figure(name).and_then(Figure::value);
            match (value(a), value(b)) {
                (Some(x), Some(y)) if of(x, y).is_finite() => (Some(of(x, y)), how),
                (None, _) => (None, lost(a)),
                _ => (None, lost(b)),
            }
        };
        let percentile = |name: &str, rank: &str, value: Option<f64>| match value {
            Some(value) => (Some(value), format!("{rank} of {name}")),
            None => (None, lost(name)),
        };
        match *self {
            Is(name) => one(name, name.into(), &|x| x),
            Times(name, by) => one(name, format!("{name} times {by:e}"), &|x| x * by),
            Inverse(name) => one(name, format!("1 over {name}"), &|x| 1.0 / x),
            Over(a, b) => two(a, b, format!("{a} over {b}"), &|x, y| x / y),
            Less(a, b) => two(a, b, format!("{a} less {b}"), &|x, y| x - y),
            Saved(a, b) => two(a, b, format!("1 less {a} over {b}"), &|x, y| 1.0 - x / y),
            P95(name) => percentile(name, "p95", figure(name).and_then(Figure::p95)),
            P99(name) => percentile(name, "p99", figure(name).and_then(Figure::p99)),
            Not(why) => (None, why.into()),
        }
    }
}

/// System 003's targets: field, the least or most it may be, and whether it must be met.
const TARGETS: [(&str, &str, f64, bool, bool); 4] = [
    ("memory_8x_reduction", "memory_reduction", 8.0, true, true),
    ("speed_2x_minimum", "speedup_achieved", 2.0, true, true),
    ("speed_4x_optimal", "speedup_achieved", 4.0, true, false),
    ("accuracy_degradation_limit", "accuracy_degradation", 0.05, false, true),
];

/// System 003's summary: a verdict from measured fields only.
fn summarize(groups: &mut Map<String, Value>) {
    let mut met = Vec::new();
    for (target, field, limit, is_least, is_critical) in TARGETS {
        let value = groups["key_metrics"][field]["value"].as_f64();
        let is_met = value.map(|value| if is_least { value >= limit } else { value <= limit });
        let sign = if is_least { "at least" } else { "at most" };
        let how = format!("{field} {sign} {limit}");
        add(groups, "targets_achieved", target, json!(is_met), &how);
        met.push((is_met, is_critical));
    }
    let n_met = met.iter().filter(|(is_met, _)| *is_met == Some(true)).count();
    let n = met.iter().filter(|(is_met, _)| is_met.is_some()).count();
    let is_ready = met.iter().all(|(is_met, is_critical)| !is_critical || *is_met == Some(true));
    let status = if is_ready { "PASS" } else { "CONDITIONAL" };
    let words = "of the targets that were measured; what is not measured is not met";
    let summary = "executive_summary";
    add(
        groups,
        summary,
        "validation_status",
        json!(status),
        "PASS if every critical target is met",
    );
    add(groups, summary, "targets_achieved", json!(format!("{n_met}/{n}")), words);
    add(groups, summary, "production_ready", json!(is_ready), "every critical target is met");
}

/// System 004's switches, as the artifact is run by default, and its parameters.
fn features(groups: &mut Map<String, Value>, plan: &Plan, report: &Report) {
    let flags = OptLevel::Default.flags();
    for flag in FLAGS {
        let is_off = plan.off.iter().any(|name| name == flag.name);
        let how = match is_off {
            true => "off in the Plan: it measured to cost time",
            false => "as artifacts run by default",
        };
        let is_on = (flag.get)(&flags) && !is_off;
        add(groups, "optimization_features", flag.name, json!(is_on), how);
    }
    let n = report.details.model.n_parameters;
    add(groups, "model", "model_parameters", json!(n), "counted in the source");
}

/// A view as a page of text.
pub fn text(view: &Value) -> String {
    let mut text = format!("{}\n", view["about"].as_str().unwrap_or_default());
    let groups = view["fields"].as_object().into_iter().flatten();
    for (group, fields) in groups {
        text += &format!("\n{group}\n");
        for (field, entry) in fields.as_object().into_iter().flatten() {
            let value = match &entry["value"] {
                Value::Number(number) => short(number.as_f64().unwrap_or(f64::NAN)),
                Value::Null => "-".into(),
                Value::String(words) => words.clone(),
                other => other.to_string(),
            };
            let how = entry["how"].as_str().unwrap_or_default();
            text += &format!("  {field:<30} {value:>12}  {how}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use sterna_measure::Unit;
    use sterna_model::plan::Source;

    fn plan(off: &[&str]) -> Plan {
        let source = Source {
            name: "tiny".into(),
            architecture: "llama".into(),
            content: format!("blake3:{}", "0".repeat(64)),
        };
        let off = off.iter().map(|&name| name.to_owned()).collect();
        Plan { off, ..Plan::unchanged(source) }
    }

    fn measured() -> Value {
        let mut report = report(0.5, 0);
        let numbers = [
            ("decode_time_ratio", Unit::Ratio, 0.4),
            ("baseline_memory_bytes", Unit::Bytes, 9e6),
            ("artifact_memory_bytes", Unit::Bytes, 1e6),
            ("baseline_accuracy", Unit::Fraction, 0.4),
            ("artifact_accuracy", Unit::Fraction, 0.3),
        ];
        for (name, unit, value) in numbers {
            report.run.metrics.push(Figure::computed(name, unit, "test", value).unwrap());
        }
        report.to_value().unwrap()
    }

    #[test]
    fn what_was_not_measured_is_null_with_the_reason() {
        let view = view("sutaz", &measured(), &plan(&[])).unwrap();
        let field = |group: &str, name: &str| view["fields"][group][name].clone();
        assert_eq!(field("quantization", "compression_ratio")["value"], 3.9);
        assert_eq!(field("quantization", "inference_speedup")["value"], 2.5);
        let absent = field("latency_metrics", "median_ms");
        assert!(absent["value"].is_null());
        assert_eq!(absent["how"], "artifact_itl_ms is not in this report");
        assert!(text(&view).contains("compression_ratio"));
        assert!(super::view("sutax", &measured(), &plan(&[])).is_err());
    }

    #[test]
    fn a_summary_passes_only_by_measured_targets() {
        let view = view("bitnet", &measured(), &plan(&[])).unwrap();
        let summary = &view["fields"]["executive_summary"];
        assert_eq!(summary["validation_status"]["value"], "CONDITIONAL", "accuracy fell by 0.1");
        assert_eq!(summary["targets_achieved"]["value"], "2/4");
        let empty = super::view("bitnet", &report(0.5, 0).to_value().unwrap(), &plan(&[])).unwrap();
        let summary = &empty["fields"]["executive_summary"];
        assert_eq!(summary["production_ready"]["value"], false, "nothing was measured");
        assert_eq!(summary["targets_achieved"]["value"], "0/0");
    }

    #[test]
    fn switches_are_those_of_the_plan() {
        let view = view("truthgpt", &measured(), &plan(&["ultra_fusion"])).unwrap();
        let features = &view["fields"]["optimization_features"];
        assert_eq!(features["ultra_fusion"]["value"], false);
        assert_eq!(features["memory_pooling"]["value"], true);
        assert_eq!(view["fields"]["model"]["model_parameters"]["value"], 12_345);
        for (name, _) in names() {
            assert!(super::view(name, &measured(), &plan(&[])).is_ok(), "{name}");
        }
    }
}
