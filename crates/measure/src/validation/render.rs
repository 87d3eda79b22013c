//! A validation as JSON, CSV, Markdown and one self-contained HTML page.
//!
//! In: a [`Validation`]. Out: text. All four say the same; none says more than was measured.

use super::{Check, Validation, Weight};
use crate::MeasureError;
use crate::figure::short;
use crate::report::{Bound, Status, Target};
use crate::{Figure, Unit};
use serde_json::{Value, json};

impl Validation {
    /// The executive summary in the BitNet suite's words, with the whole run beside it.
    ///
    /// # Errors
    /// If two metrics share a name.
    pub fn to_json(&self) -> Result<String, MeasureError> {
        let run: Value = serde_json::from_str(&self.run.to_json()?).expect("our own JSON");
        let statuses: serde_json::Map<String, Value> = self
            .checks()
            .map(|(check, target)| (check.name.into(), json!(target.status())))
            .collect();
        let realtime = self.checks().find(|(check, _)| check.name == "realtime_inference");
        let realtime = realtime.and_then(|(_, target)| match target.status() {
            Status::NotEvaluated => None,
            status => Some(status == Status::Met),
        });
        let summary = json!({
            "model_name": self.model,
            "baseline_name": self.baseline,
            "validation_level": self.level.name(),
            "validation_status": self.status(),
            "targets_achieved": format!("{}/{}", self.n_met(), self.run.targets.len()),
            "achievement_rate_percent":
                100.0 * self.n_met() as f64 / self.run.targets.len() as f64,
            "production_ready": self.production_ready(),
            "key_metrics": {
                "memory_reduction": self.value("memory_reduction"),
                "model_size_mb": self.value("bitnet_file_bytes").map(|bytes| bytes / 1e6),
                "speedup_achieved": self.value("decode_b1_speedup"),
                "inference_time_ms": self.value("bitnet_token_ms"),
                "realtime_capable": realtime,
            },
        });
        let all = json!({
            "executive_summary": summary,
            "targets_achieved": statuses,
            "critical_issues": self.issues(),
            "notes": self.notes,
            "run": run,
        });
        Ok(serde_json::to_string_pretty(&all).expect("plain data") + "\n")
    }

    /// `Metric,Value,Target,Achieved`: one row per metric, or per target where it has several.
    pub fn to_csv(&self) -> String {
        let mut csv = "Metric,Value,Target,Achieved\n".to_owned();
        for metric in &self.run.metrics {
            let value = metric.value().map_or(String::new(), |value| value.to_string());
            let mut is_judged = false;
            for (check, target) in self.checks().filter(|(check, _)| check.metric == metric.name())
            {
                let wanted = format!("{} {}", side(check), check.wanted);
                let row = [metric.name(), &value, &wanted, word(target.status())];
                csv.push_str(&csv_row(row));
                is_judged = true;
            }
            if !is_judged {
                csv.push_str(&csv_row([metric.name(), &value, "", ""]));
            }
        }
        csv
    }

    /// A page of Markdown.
    pub fn to_markdown(&self) -> String {
        let mut page = format!("# BitNet validation of {}\n\n", self.model);
        for line in self.head() {
            page.push_str(&format!("{line}  \n"));
        }
        page.push_str("\n| Target | Wanted | Measured | Status |\n|---|---|---|---|\n");
        for [name, wanted, actual, status] in self.target_rows() {
            page.push_str(&format!("| {name} | {wanted} | {actual} | **{status}** |\n"));
        }
        let lists = [("What is in the way", self.issues()), ("To know", self.notes.clone())];
        for (title, lines) in lists.iter().filter(|(_, lines)| !lines.is_empty()) {
            page.push_str(&format!("\n## {title}\n\n"));
            lines.iter().for_each(|line| page.push_str(&format!("- {line}\n")));
        }
        page.push_str("\n## Everything measured\n\n");
        self.run.metrics.iter().for_each(|metric| page.push_str(&format!("- {}\n", metric.line())));
        page
    }

    /// The same as one HTML page without scripts or links.
    pub fn to_html(&self) -> String {
        let mut body = format!("<h1>BitNet validation of {}</h1>\n<p>", escape(&self.model));
        let head: Vec<String> = self.head().iter().map(|line| escape(line)).collect();
        body.push_str(&format!("{}</p>\n", head.join("<br>\n")));
        let rows: Vec<Vec<String>> = self.target_rows().map(Vec::from).collect();
        body.push_str(&html_table(&["Target", "Wanted", "Measured", "Status"], &rows));
        let lists = [("What is in the way", self.issues()), ("To know", self.notes.clone())];
        for (title, lines) in lists.iter().filter(|(_, lines)| !lines.is_empty()) {
            let items: String =
                lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect();
            body.push_str(&format!("<h2>{title}</h2>\n<ul>\n{items}</ul>\n"));
        }
        let rows: Vec<Vec<String>> = self.run.metrics.iter().map(metric_row).collect();
        body.push_str("<h2>Everything measured</h2>\n");
        body.push_str(&html_table(&["Metric", "Value", "95% interval", "n", "How"], &rows));
        format!("{HTML_HEAD}<title>BitNet validation</title>\n{body}</html>\n")
    }

    /// What stands above the table: verdict, models, machine.
    fn head(&self) -> Vec<String> {
        let machine = &self.run.machine;
        let ready = if self.production_ready() { "yes" } else { "no" };
        let (n_met, n) = (self.n_met(), self.run.targets.len());
        vec![
            format!("{}: production ready: {ready}; {n_met} of {n} targets met", self.status()),
            match &self.baseline {
                Some(baseline) => format!("Baseline: {baseline}, each model in its own process"),
                None => "Baseline: none".into(),
            },
            format!(
                "{}, {} threads, {}; level {}; {}",
                machine.cpu, machine.threads, machine.isa, self.level, self.run.timestamp
            ),
        ]
    }

    fn target_rows(&self) -> impl Iterator<Item = [String; 4]> {
        self.checks().map(|(check, target)| {
            let actual = match (target.actual(), self.reason(check)) {
                (Some(value), _) => with_unit(value, check.unit),
                (None, Some(reason)) => reason.to_owned(),
                (None, None) => "not measured".to_owned(),
            };
            [check.name.into(), wanted(check), actual, word(target.status()).into()]
        })
    }

    fn n_met(&self) -> usize {
        self.run.targets.iter().filter(|target| target.status() == Status::Met).count()
    }

    /// What keeps the model from production, as sentences: critical checks that are not met, and
    /// the others where none of them is.
    fn issues(&self) -> Vec<String> {
        let is_met = |target: &Target| target.status() == Status::Met;
        let mut others = self.checks().filter(|(check, _)| check.weight == Weight::OneOf);
        let has_other = others.any(|(_, target)| is_met(target));
        let issue = |(check, target): (&Check, &Target)| {
            let wanted = wanted(check);
            match (target.status(), target.actual()) {
                (Status::Met, _) => None,
                (Status::Missed, Some(value)) => {
                    let value = with_unit(value, check.unit);
                    Some(format!("{} is missed: {value}, wanted {wanted}", check.name))
                }
                _ => {
                    let reason = self.reason(check).unwrap_or("it was not measured");
                    Some(format!("{} is not evaluated: {reason}", check.name))
                }
            }
        };
        let counts = |(check, _): &(&Check, &Target)| match check.weight {
            Weight::Critical => true,
            Weight::OneOf => !has_other,
        };
        self.unfit.iter().cloned().chain(self.checks().filter(counts).filter_map(issue)).collect()
    }
}

const HTML_HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<style>\
body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2em .6em;text-align:left}\
</style>\n";

fn html_table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
    };
    let headings: Vec<String> = headings.iter().map(|h| h.to_string()).collect();
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
    format!("<table>\n<tr>{}</tr>\n{rows}</table>\n", cells("th", &headings))
}

fn metric_row(metric: &Figure) -> Vec<String> {
    let value = match metric.value() {
        Some(value) => with_unit(value, metric.unit()),
        None => "unavailable".into(),
    };
    let interval = metric.ci95().map(|i| format!("{} to {}", short(i.low), short(i.high)));
    let how = match metric.reason() {
        Some(reason) => reason.to_owned(),
        None => format!("{}: {}", metric.source().name(), metric.method()),
    };
    vec![metric.name().into(), value, interval.unwrap_or_default(), metric.n().to_string(), how]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A cell is quoted where it must be.
fn csv_row(cells: [&str; 4]) -> String {
    let quoted = |cell: &str| match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    };
    cells.map(quoted).join(",") + "\n"
}

fn wanted(check: &Check) -> String {
    format!("{} {}", side(check), with_unit(check.wanted, check.unit))
}

fn side(check: &Check) -> &'static str {
    if check.bound == Bound::AtMost { "at most" } else { "at least" }
}

fn with_unit(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ratio => format!("{value:.2}x"),
        Unit::Percent => format!("{value:.2}%"),
        Unit::Bytes | Unit::Count => format!("{value:.0} {}", unit.name()),
        _ => format!("{} {}", short(value), unit.name()),
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Met => "met",
        Status::Missed => "missed",
        Status::NotEvaluated => "not evaluated",
    }
}
