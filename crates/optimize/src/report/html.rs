//! `report.html`: one self-contained page. The words and their order are in the template; what is
//! here puts numbers into readable form.

use super::details::Point;
use super::{Report, damage, page::STYLE, plots, text, waterfall};
use crate::error::{OptimizeError, Result};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use sterna_measure::Figure;
use sterna_measure::figure::short;
use sterna_measure::report::{RunReport, Status, Target};

/// The page.
const TEMPLATE: &str = include_str!("report.html");

/// Renders the page.
///
/// # Errors
/// Never, but for a broken template.
pub fn render(report: &Report) -> Result<String> {
    let mut environment = Environment::new();
    let failed = |error: minijinja::Error| OptimizeError::failed("report.html", error);
    environment.add_filter("bytes", bytes);
    environment.add_filter("short", short);
    environment.add_filter("thousands", thousands);
    environment.add_template("style.css", STYLE).map_err(failed)?;
    environment.add_template("report.html", TEMPLATE).map_err(failed)?;
    let template = environment.get_template("report.html").map_err(failed)?;
    template.render(content(report)).map_err(failed)
}

/// Everything that the template names.
fn content(report: &Report) -> Value {
    let (run, details) = (&report.run, &report.details);
    let (word, meaning) = text::verdict(report);
    let held_out: Vec<&Point> = details.held_out.iter().collect();
    // The plan that changes nothing has no divergence and would stretch the axes.
    let mut tried: Vec<&Point> = details.tried.iter().filter(|point| point.kl > 0.0).collect();
    tried.sort_by_key(|point| point.bytes);
    let histograms: Vec<Value> = details
        .series
        .iter()
        .map(|series| context! { name => series.name.clone(), plot => plots::latency(series) })
        .collect();
    let decode = run.metric("decode_time_ratio");
    let decode = decode.and_then(|figure| Some((figure.value()?, figure.ci95())));
    context! {
        run => Value::from(Serde(run)),
        details => Value::from(Serde(details)),
        verdict => context! { word => word, class => word.replace(' ', "-"), meaning => meaning },
        targets => run.targets.iter().map(target).collect::<Vec<_>>(),
        warnings => damage::warnings(run),
        headlines => headlines(report),
        metrics => run.metrics.iter().map(metric).collect::<Vec<_>>(),
        front_held_out => plots::front(&held_out, "On held-out text"),
        front_tried => plots::front(&tried, "Plans measured on calibration text"),
        reliability => plots::reliability(&details.reliability),
        layers => plots::layers(&details.tensors),
        tasks => tasks(run),
        histograms => histograms,
        step_quality => waterfall::quality(&details.held_out),
        step_speed => waterfall::speed(decode, &details.ablations),
    }
}

/// The few numbers that people look for first.
fn headlines(report: &Report) -> Vec<Value> {
    const NAMES: [(&str, &str); 6] = [
        ("file_bytes", "file"),
        ("size_ratio", "times smaller"),
        ("perplexity_drop_percent", "perplexity rise"),
        ("top1_agreement", "same favourite token"),
        ("prefill_time_ratio", "prefill time, of baseline's"),
        ("decode_time_ratio", "decode time, of baseline's"),
    ];
    let find = |(name, label): &(&str, &str)| {
        let figure = report.run.metric(name)?;
        let mut shown = metric(figure);
        if let Some(value) = figure.value() {
            let text = match *name {
                "file_bytes" => bytes(value),
                "perplexity_drop_percent" => format!("{value:+.2}%"),
                "top1_agreement" => format!("{:.1}%", value * 100.0),
                // An interval around 1 says that nobody can tell.
                _ if figure.ci95().is_some_and(|i| i.contains(1.0)) => "no change".into(),
                _ => format!("{value:.2}×"),
            };
            shown = context! { value => text, ..shown };
        }
        Some(context! { label => *label, figure => shown })
    };
    NAMES.iter().filter_map(find).collect()
}

/// A row per task that both models were asked.
fn tasks(run: &RunReport) -> Vec<Value> {
    let row = |change: &Figure| {
        let name = change.name().strip_suffix("_score_change_points")?;
        let figure = |name: String| run.metric(&name).map(metric);
        Some(context! {
            name => name,
            change => metric(change),
            baseline => figure(format!("baseline_{name}_accuracy")),
            artifact => figure(format!("artifact_{name}_accuracy")),
            flips => figure(format!("{name}{}", damage::FLIPS)),
        })
    };
    run.metrics.iter().filter_map(row).collect()
}

fn metric(figure: &Figure) -> Value {
    let interval = figure.ci95().map(|i| format!("{} to {}", short(i.low), short(i.high)));
    context! {
        name => figure.name(),
        value => figure.value().map(short),
        unit => figure.unit().name(),
        interval => interval,
        n => figure.n(),
        source => figure.source().name(),
        method => figure.method(),
        reason => figure.reason(),
        p95 => figure.p95().map(short),
        p99 => figure.p99().map(short),
    }
}

fn target(target: &Target) -> Value {
    let class = match target.status() {
        Status::Met => "met",
        Status::Missed => "missed",
        Status::NotEvaluated => "not-evaluated",
    };
    context! { line => text::target(target), class => class }
}

/// Bytes as people say them, with the exact count where it is short.
fn bytes(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} GB", v / 1e9),
        v if v >= 1e6 => format!("{:.2} MB", v / 1e6),
        v if v >= 1e3 => format!("{:.1} kB", v / 1e3),
        v => format!("{v:.0} B"),
    }
}

/// `1234567` as `1 234 567`.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}
