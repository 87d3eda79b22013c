//! The page of a race. The words and their order are in the template; what is here counts.

use super::outcome::{Entrant, Race, Row, Summary};
use super::{plots, table};
use anyhow::Context;
use minijinja::{Environment, Value, context};
use sterna_optimize::report::page::STYLE;

const TEMPLATE: &str = include_str!("race.html");

/// Renders the page.
///
/// # Errors
/// Never, but for a broken template.
pub fn render(race: &Race) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.add_template("style.css", STYLE)?;
    environment.add_template("race.html", TEMPLATE)?;
    environment.get_template("race.html")?.render(content(race)).context("the page of the race")
}

/// Everything that the template names.
fn content(race: &Race) -> Value {
    let mut tests: Vec<&str> = Vec::new();
    for row in &race.rows {
        if !tests.contains(&row.test.as_str()) {
            tests.push(&row.test);
        }
    }
    let sections: Vec<Value> = tests.iter().map(|test| section(race, test)).collect();
    let engines = race.engines.iter().enumerate().map(|(index, engine)| {
        let (name, version) = (engine.name.clone(), engine.version.clone());
        context! { name => name, version => version, color => plots::color(index) }
    });
    let commands = race.rows.iter().flat_map(|row| &row.entrants);
    let machine = &race.machine;
    context! {
        date => race.date.clone(),
        command => race.command.clone(),
        cpu => machine.cpu.clone(),
        n_cpus => machine.n_cpus,
        ram => machine.ram_bytes.map(crate::show::bytes),
        isa => machine.isa.clone(),
        n_threads => race.n_threads,
        rounds => race.rounds,
        n_runs => race.rounds * super::rounds::RUNS_PER_ROUND,
        engines => engines.collect::<Vec<_>>(),
        tiles => tiles(race),
        losses => losses(race),
        sections => sections,
        spread => plots::spread(race),
        commands => commands.filter_map(|e| e.command.clone()).collect::<Vec<_>>(),
    }
}

/// One test over all files.
fn section(race: &Race, test: &str) -> Value {
    let rows: Vec<&Row> = race.rows.iter().filter(|row| row.test == test).collect();
    let ceilings: Vec<&str> = rows.iter().map(|row| row.ceiling.words()).collect();
    let counts = rows[0].counts;
    let what = match counts.n_prompt {
        0 => format!("generating {} tokens", counts.n_gen),
        n => format!("reading a prompt of {n} tokens"),
    };
    let lines = rows.iter().flat_map(|row| row.entrants.iter().map(|e| line(row, e)));
    context! {
        test => test,
        what => what,
        ceiling => if ceilings.iter().all(|c| *c == ceilings[0]) { ceilings[0] } else { "ceiling" },
        speeds => plots::speeds(&rows),
        shares => plots::shares(&rows),
        lines => lines.collect::<Vec<_>>(),
    }
}

/// One engine on one file, as a line of the table.
fn line(row: &Row, entrant: &Entrant) -> Value {
    let summary = entrant.summary.as_ref();
    let words = |of: fn(&Summary) -> f64| summary.map(|s| table::speed(of(s)));
    context! {
        file => row.file.clone(),
        bytes => crate::show::bytes(row.file_bytes),
        engine => entrant.engine.clone(),
        reason => entrant.unavailable.clone(),
        median => words(|s| s.median),
        least => words(|s| s.least),
        greatest => words(|s| s.greatest),
        ratio => summary.and_then(|s| Some(table::ratio_words(s.ratio?, s.ratio_ci95))),
        share => summary.map(|s| format!("{:.0}%", 100.0 * s.share)),
        ceiling => row.ceiling.shown(),
        n => entrant.samples.len(),
    }
}

/// For each peer: by how much Sterna is faster at prompts, and at generation.
fn tiles(race: &Race) -> Vec<Value> {
    let mut tiles = Vec::new();
    for (index, engine) in race.engines.iter().enumerate().skip(1) {
        for (what, is_prompt) in [("prompts", true), ("generation", false)] {
            let rows = race.rows.iter().filter(|row| (row.counts.n_prompt > 0) == is_prompt);
            let ratios: Vec<f64> =
                rows.filter_map(|row| row.entrants[index].summary.as_ref()?.ratio).collect();
            let Some(mean) = geometric_mean(&ratios) else { continue };
            let n_won = ratios.iter().filter(|ratio| **ratio > 1.0).count();
            tiles.push(context! {
                value => format!("{mean:.2}×"),
                label => format!("{} at {what}", engine.name),
                note => format!("geometric mean; faster in {n_won} of {}", ratios.len()),
            });
        }
    }
    tiles
}

fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

/// Where a peer was faster.
fn losses(race: &Race) -> Vec<String> {
    let all = race.rows.iter().flat_map(|row| row.entrants.iter().map(move |e| (row, e)));
    let lost = all.filter_map(|(row, entrant)| {
        let ratio = entrant.summary.as_ref()?.ratio.filter(|ratio| *ratio < 1.0)?;
        let (file, test, engine) = (&row.file, &row.test, &entrant.engine);
        Some(format!("{file}, {test}: {engine} is {:.2} times as fast", 1.0 / ratio))
    });
    lost.collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::example;
    use super::*;

    #[test]
    fn the_page_is_whole_and_tells_losses_and_reasons() {
        let page = render(&example()).unwrap();
        let wanted = [
            "model-Q4_0.gguf, pp512: openvino is 1.07 times as fast",
            "it has &lt;no&gt; such encoding",
            "sterna bench model-Q4_0.gguf --against llama.cpp,openvino",
            "0.5.0 (abc)",
            "a CPU",
            "reading a prompt of 512 tokens",
            "generating 128 tokens",
            "read bandwidth",
        ];
        for wanted in wanted {
            assert!(page.contains(wanted), "{wanted} in {page}");
        }
        assert_eq!(page.matches("<svg").count(), 5);
        let loads = ["src=", "href=", "@import", "url("];
        assert!(loads.iter().all(|word| !page.contains(word)), "the page loads nothing");
    }

    #[test]
    fn means_of_ratios_are_geometric() {
        assert_eq!(geometric_mean(&[]), None);
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-12);
    }
}
