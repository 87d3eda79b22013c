//! `cargo xtask readme-table`: the table of README.md under "Measured", from the JSON of races.
//!
//! In: files that `sterna bench --against --save` wrote. Out: the text between two marker lines of
//! README.md, wins, losses and what was unavailable alike.

use crate::root;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;

/// What the text stands between.
pub const MARKERS: [&str; 2] =
    ["<!-- race: made by `cargo xtask readme-table` -->", "<!-- race: end -->"];

/// Options of `cargo xtask readme-table`.
#[derive(clap::Args)]
pub struct Args {
    /// JSON of races (sterna bench --against ... --save FILE), in the order of the tables
    #[arg(required = true)]
    races: Vec<PathBuf>,
}

/// Writes the table.
///
/// # Errors
/// As [`write`].
pub fn run(args: &Args) -> Result<bool> {
    write(&args.races).map(|()| true)
}

/// Replaces README.md's table by that of these races.
///
/// # Errors
/// When a file is not a race, or README.md has no markers.
pub fn write(races: &[PathBuf]) -> Result<()> {
    let mut tables = Vec::new();
    for path in races {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let race = serde_json::from_str(&text).context("it is not JSON");
        let table = race.and_then(|race| table(&race));
        tables.push(table.with_context(|| format!("{} is no race", path.display()))?);
    }
    let readme = root::root().join("README.md");
    let text = std::fs::read_to_string(&readme).context("cannot read README.md")?;
    let text = replaced(&text, &tables.join("\n"))?;
    std::fs::write(&readme, text).context("cannot write README.md")?;
    println!("README.md has the table of {} races", races.len());
    Ok(())
}

/// `text` with `table` between the markers.
fn replaced(text: &str, table: &str) -> Result<String> {
    let [begin, end] = MARKERS;
    let parts = text.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("README.md has no lines `{begin}` and `{end}`; put them around the table");
    };
    Ok(format!("{before}{begin}\n{}\n{end}{after}", table.trim_end()))
}

/// Facts, one line per file and test, and how to read them.
fn table(race: &Value) -> Result<String> {
    let text = |value: &Value, key: &str| -> Result<String> {
        let found = value[key].as_str().with_context(|| format!("it has no \"{key}\""))?;
        Ok(found.to_owned())
    };
    let engines = race["engines"].as_array().context("it has no \"engines\"")?;
    let named = |engine: &Value| -> Result<String> {
        Ok(format!("{} {}", text(engine, "name")?, text(engine, "version")?))
    };
    let names = engines.iter().map(named).collect::<Result<Vec<_>>>()?.join(", ");
    let date = text(race, "date")?;
    let day = date.split('T').next().unwrap_or_default();
    let machine = &race["machine"];
    let mut out = format!(
        "{day}, {}, {} CPUs, {} threads; {names}. Tokens/s, median (least to greatest) of {} runs \
         in turn, and the share of the ceiling probed around them; the ratio is Sterna's over the \
         peer's:\n\n    {}\n\n",
        text(machine, "cpu")?,
        machine["n_cpus"],
        race["n_threads"],
        2 * race["rounds"].as_u64().context("it has no \"rounds\"")?,
        without_folders(&text(race, "command")?),
    );
    let (mut head, mut rule) = ("| file | test |".to_owned(), "|---|---|".to_owned());
    for (index, engine) in engines.iter().enumerate() {
        let ratio = if index == 0 { "" } else { " ratio |" };
        head += &format!(" {} | share |{ratio}", text(engine, "name")?);
        rule += if index == 0 { "---|---|" } else { "---|---|---|" };
    }
    out += &format!("{head}\n{rule}\n");
    for row in race["rows"].as_array().context("it has no \"rows\"")? {
        let megabytes = row["file_bytes"].as_f64().context("a row has no \"file_bytes\"")? / 1e6;
        let file = text(row, "file")?;
        out += &format!(
            "| {}, {megabytes:.0} MB | {} |",
            file.trim_end_matches(".gguf"),
            text(row, "test")?
        );
        for (index, entrant) in
            row["entrants"].as_array().context("no entrants")?.iter().enumerate()
        {
            out += &cells(entrant, index > 0)?;
        }
        out += "\n";
    }
    Ok(out + &reasons(race)?)
}

/// A command with the names of files instead of this machine's paths.
fn without_folders(command: &str) -> String {
    let words = command.split(' ').map(|word| word.rsplit('/').next().unwrap_or(word));
    words.collect::<Vec<_>>().join(" ")
}

/// Speed, share and, for a peer, ratio.
fn cells(entrant: &Value, is_peer: bool) -> Result<String> {
    if entrant["unavailable"].is_string() {
        return Ok(if is_peer { " unavailable | - | - |" } else { " unavailable | - |" }.into());
    }
    let summary = &entrant["summary"];
    let number = |key: &str| summary[key].as_f64().with_context(|| format!("no \"{key}\""));
    let [median, least, greatest] = [number("median")?, number("least")?, number("greatest")?];
    let mut cells =
        format!(" {median:.1} ({least:.1} to {greatest:.1}) | {:.0}% |", 100.0 * number("share")?);
    if is_peer {
        // Sterna may be what is unavailable.
        let ratio = summary["ratio"].as_f64().map_or("-".into(), |ratio| format!("{ratio:.2}"));
        cells += &format!(" {ratio} |");
    }
    Ok(cells)
}

/// Why cells are unavailable, each reason once.
fn reasons(race: &Value) -> Result<String> {
    let mut lines: Vec<String> = Vec::new();
    for row in race["rows"].as_array().context("it has no \"rows\"")? {
        for entrant in row["entrants"].as_array().context("no entrants")? {
            if let Some(reason) = entrant["unavailable"].as_str() {
                let file = row["file"].as_str().unwrap_or_default().trim_end_matches(".gguf");
                let engine = entrant["engine"].as_str().unwrap_or_default();
                let line = format!("- unavailable, {engine} on {file}: {reason}\n");
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
        }
    }
    Ok(if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_wins_losses_and_reasons() {
        let ran = |engine: &str, median: f64, ratio: Option<f64>| {
            let summary = json!({
                "median": median, "least": 1.0, "greatest": 400.0, "share": 0.5, "ratio": ratio,
            });
            json!({"engine": engine, "unavailable": null, "summary": summary})
        };
        let crashed = json!({"engine": "llama.cpp", "unavailable": "it crashed", "summary": null});
        let row = |test: &str, entrants: [&Value; 2]| -> Value {
            let (file, bytes) = ("m.gguf", 2_000_000);
            json!({"file": file, "file_bytes": bytes, "test": test, "entrants": entrants})
        };
        let race = json!({
            "date": "2026-11-21T12:00:00Z",
            "command": "/here/sterna bench a/m.gguf",
            "n_threads": 2,
            "rounds": 3,
            "machine": {"cpu": "a CPU", "n_cpus": 2},
            "engines": [
                {"name": "sterna", "version": "0.1.0"},
                {"name": "llama.cpp", "version": "9"},
            ],
            "rows": [
                row("pp512", [&ran("sterna", 300.0, None), &ran("llama.cpp", 320.0, Some(0.9375))]),
                row("tg8", [&ran("sterna", 30.0, None), &crashed]),
            ],
        });
        let text = table(&race).unwrap();
        let wanted = [
            "| file | test | sterna | share | llama.cpp | share | ratio |\n|---|---|---|---|---|",
            "| m, 2 MB | pp512 | 300.0 (1.0 to 400.0) | 50% | 320.0 (1.0 to 400.0) | 50% | 0.94 |",
            "| m, 2 MB | tg8 | 30.0 (1.0 to 400.0) | 50% | unavailable | - | - |",
            "- unavailable, llama.cpp on m: it crashed",
            "2026-11-21, a CPU, 2 CPUs, 2 threads; sterna 0.1.0, llama.cpp 9.",
            "of 6 runs",
            "    sterna bench m.gguf\n",
        ];
        for wanted in wanted {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(table(&json!({})).is_err());
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let [begin, end] = MARKERS;
        let text = format!("before\n{begin}\nold\n{end}\nafter\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{begin}\nnew\n{end}\nafter\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("no markers", "new").is_err());
    }
}
