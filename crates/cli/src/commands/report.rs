//! `sterna report`: the plan and the evidence an artifact carries.

use crate::show::{self, bad_input};
use clap::builder::{PossibleValue, PossibleValuesParser};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use sterna_model::Artifact;
use sterna_optimize::evidence::Manifest;
use sterna_optimize::report::views;

/// Show what an artifact says of itself: its plan, and the measured evidence behind its claims.
#[derive(clap::Args)]
pub struct Args {
    /// An artifact that `sterna optimize` wrote, or the folder: its report.json has every number,
    /// where the artifact carries the most important ones.
    artifact: PathBuf,
    /// Print the plan only, as TOML.
    #[arg(long, conflicts_with = "json")]
    plan: bool,
    /// Write report.html here.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The report in the words of one of the systems that Sterna grew from; with --json as JSON.
    #[arg(long, value_name = "SYSTEM", value_parser = views(),
          conflicts_with_all = ["plan", "html"])]
    view: Option<String>,
    /// Check that the weights are the ones the evidence is about.
    #[arg(long)]
    check: bool,
    /// Print the evidence as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the file is no artifact, or its weights are not those it was written with.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (artifact, whole) = open(&args.artifact)?;
    if args.check {
        artifact.verify_content()?;
        eprintln!("the weights are those the artifact was written with");
    }
    if args.plan {
        print!("{}", artifact.plan.print());
        return Ok(ExitCode::SUCCESS);
    }
    let evidence = whole.unwrap_or(artifact.evidence);
    if let Some(name) = &args.view {
        let view = views::view(name, &evidence, &artifact.plan)?;
        if args.json {
            show::json(&view)?;
        } else {
            print!("{}", views::text(&view));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &args.html {
        std::fs::write(path, sterna_optimize::report::html(&evidence)?)?;
        println!("{}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        show::json(&evidence)?;
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", sterna_optimize::report::text(&evidence)?);
    Ok(ExitCode::SUCCESS)
}

/// Names of views, and what they are.
fn views() -> PossibleValuesParser {
    let all = views::names();
    all.map(|(name, about)| PossibleValue::new(name).help(about)).collect::<Vec<_>>().into()
}

/// The artifact, and the whole report where its folder was given.
fn open(path: &Path) -> anyhow::Result<(Artifact, Option<Value>)> {
    if !path.is_dir() {
        return Ok((Artifact::open(path)?, None));
    }
    let manifest = Manifest::read(path)?;
    let report = path.join("report.json");
    let text = std::fs::read_to_string(&report)
        .map_err(|error| bad_input(format!("{}: {error}", report.display())))?;
    let whole = serde_json::from_str(&text)
        .map_err(|error| bad_input(format!("{}: {error}", report.display())))?;
    Ok((Artifact::open(&path.join(&manifest.artifact))?, Some(whole)))
}
