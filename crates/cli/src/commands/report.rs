//! `sterna report`: the plan and the evidence an artifact carries.

use crate::show;
use std::path::PathBuf;
use std::process::ExitCode;
use sterna_model::Artifact;

/// Show what an artifact says of itself: its plan, and the measured evidence behind its claims.
#[derive(clap::Args)]
pub struct Args {
    /// An artifact that `sterna optimize` wrote.
    artifact: PathBuf,
    /// Print the plan only, as TOML.
    #[arg(long, conflicts_with = "json")]
    plan: bool,
    /// Write report.html here.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
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
    let artifact = Artifact::open(&args.artifact)?;
    if args.check {
        artifact.verify_content()?;
        eprintln!("the weights are those the artifact was written with");
    }
    if args.plan {
        print!("{}", artifact.plan.print());
        return Ok(ExitCode::SUCCESS);
    }
    let evidence = artifact.evidence;
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
