//! `cargo xtask experiment`: training claims, re-derived: every arm with every seed.
//!
//! In: a file of `models/experiments/`, and the real texts it names. Out: a table of held-out loss
//! per arm (mean, spread over seeds, change against another arm seed by seed, and whether that is
//! within what was promised), and in `experiments/NAME/` of the target folder `results.json`,
//! `curves.csv` and every run. Opt-in: it takes minutes to hours. Every model is judged by
//! `sterna eval` in the runtime, not by its own training loop.

mod design;
mod queue;
mod table;
mod trial;

use crate::budgets::texts;
use crate::root;
use anyhow::Result;
use design::Experiment;
use std::path::PathBuf;
use trial::Place;

/// Options of `cargo xtask experiment`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of a file in models/experiments/, without .toml
    name: String,
    /// Runs at a time, each on the threads that the file gives it
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// A built sterna to use [default: builds the release binary]
    #[arg(long)]
    sterna: Option<PathBuf>,
}

/// Runs an experiment; `false` where a promise is not kept.
///
/// # Errors
/// When the file, a text or a run is not as it should be.
pub fn run(args: &Args) -> Result<bool> {
    let experiment = Experiment::read(&args.name)?;
    let place = prepare(&experiment, args)?;
    let runs = queue::run_all(&experiment, args.jobs.max(1), &|arm, seed| {
        let run = trial::run(&experiment, arm, seed, &place)?;
        println!("{} seed {seed}: {:.4} nats/token", arm.name, run.held_out_nats_per_token);
        Ok(run)
    })?;
    let results = place.folder.join("results.json");
    std::fs::write(&results, serde_json::to_string_pretty(&runs)? + "\n")?;
    std::fs::write(place.folder.join("curves.csv"), trial::curves(&runs, &place)?)?;
    let (text, all_kept) = table::table(&experiment, &runs);
    println!("\n{}\n\n{text}\n\nevery run is in {}", experiment.about, results.display());
    Ok(all_kept)
}

/// Splits the texts and trains the tokenizer.
fn prepare(experiment: &Experiment, args: &Args) -> Result<Place> {
    let sterna = crate::bench::sterna(args.sterna.as_deref())?;
    let folder = root::target_dir().join("experiments").join(&args.name);
    std::fs::create_dir_all(&folder)?;
    let place = Place { sterna, folder };
    let (mut train, mut held_out) = (String::new(), String::new());
    for name in &experiment.texts {
        let text = texts::read(&texts::find(name)?)?;
        let mut cut = (text.len() as f64 * (1.0 - experiment.held_out_fraction)) as usize;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        // At a line's end, so that no word is in both.
        cut = text[..cut].rfind('\n').map_or(cut, |at| at + 1);
        train.push_str(&text[..cut]);
        held_out.push_str(&text[cut..]);
    }
    std::fs::write(place.train_text(), train)?;
    // The judge reads plain text, in which the mark between documents would be words.
    std::fs::write(place.judged_text(), held_out.replace(trial::END_OF_TEXT, "\n"))?;
    std::fs::write(place.held_out_text(), held_out)?;
    place.train_tokenizer(experiment.vocab_size)?;
    Ok(place)
}
