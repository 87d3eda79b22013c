//! Flags of speculative decoding, and the draft model that they name.

use crate::compute::ComputeArgs;
use crate::scoring;
use crate::show::bad_input;
use std::path::PathBuf;
use std::sync::Arc;
use sterna_engine::speculation::{MOST_DRAFTED, MOST_MODELLED};
use sterna_engine::{Drafter, Speculate, When, drafter};
use sterna_model::{Model, Tokenizer};
use sterna_runtime::{Memory, Program, Settings};
use tracing::info;

/// How to guess tokens. Answers are the same, token by token, with any of it.
#[derive(clap::Args, Clone, Debug)]
pub struct SpeculateArgs {
    /// How to guess the next tokens, so that one step checks several: from what followed the last
    /// ones when they came before (lookup), with --draft-model (draft), with both (auto), or not
    /// (off). Answers are the same token by token. Steps are timed and guesses counted, and none
    /// are computed as long as that says that they do not pay.
    #[arg(long, default_value = "auto", value_name = "HOW", value_enum)]
    speculative: How,
    /// A smaller model of the same vocabulary that guesses the next tokens; only where there is one
    /// model.
    #[arg(long, visible_aliases = ["md", "spec-draft-model"], value_name = "MODEL")]
    draft_model: Option<PathBuf>,
    /// Tokens guessed at once, at most.
    #[arg(long, visible_aliases = ["draft", "draft-n", "num-speculative-tokens"],
          default_value_t = 8, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=MOST_DRAFTED as i64))]
    draft_max: u32,
}

/// Who guesses.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Auto,
    Lookup,
    Draft,
    Off,
}

impl SpeculateArgs {
    /// Checks the flags before a model is read.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn check(&self, n_models: usize) -> anyhow::Result<()> {
        let why = match (self.speculative, &self.draft_model) {
            (How::Draft, None) => {
                "--speculative draft guesses with a draft model; name one with --draft-model"
            }
            (How::Lookup | How::Off, Some(_)) => {
                "--draft-model is for --speculative auto or draft; leave one of them out"
            }
            (_, Some(_)) if n_models > 1 => {
                "--draft-model guesses for one model, but there are several; serve them apart"
            }
            _ => return Ok(()),
        };
        Err(bad_input(why))
    }

    /// What the engine is told.
    pub fn how(&self) -> Speculate {
        let when = |is_wanted| if is_wanted { When::Measured } else { When::Never };
        Speculate {
            lookup: when(matches!(self.speculative, How::Auto | How::Lookup)),
            model: when(self.draft_model.is_some()),
            most: self.draft_max as usize,
        }
    }

    /// What the draft model takes, if there is one. Its weights are not read for it.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn memory(&self, compute: &ComputeArgs) -> anyhow::Result<Option<Memory>> {
        let Some(path) = &self.draft_model else { return Ok(None) };
        let (_, _, memory) = scoring::sized(path, &guessing(compute), &positions)?;
        Ok(Some(memory))
    }

    /// Opens the draft model, if there is one, to guess for a model of this tokenizer.
    ///
    /// # Errors
    /// When it cannot be run, or has another vocabulary.
    pub fn draft(
        &self,
        compute: &ComputeArgs,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<Option<Arc<Program>>> {
        let Some(path) = &self.draft_model else { return Ok(None) };
        let (model, program) = scoring::compiled(path, &guessing(compute), &positions)?;
        if program.is_encoder() {
            let why = "it encodes texts and guesses no tokens, so it is no draft model";
            return Err(bad_input(format!("{}: {why}", path.display())));
        }
        drafter::same_vocabulary(tokenizer, model.tokenizer()?)
            .map_err(|why| bad_input(format!("{}: {why}", path.display())))?;
        info!("guesses are of {}: {}", path.display(), scoring::describe(&model));
        Ok(Some(program))
    }
}

/// How a draft model computes beside a model that computes so: nobody asks for its states.
fn guessing(compute: &ComputeArgs) -> ComputeArgs {
    let mut compute = compute.clone();
    (compute.hidden, compute.logits_rows) = (false, Some(MOST_MODELLED));
    compute
}

fn positions(_: &Model, settings: &Settings) -> usize {
    Drafter::positions(settings.context_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        speculate: SpeculateArgs,
    }

    fn read(flags: &[&str]) -> Result<SpeculateArgs, clap::Error> {
        let flags = ["serve"].iter().chain(flags);
        Flags::try_parse_from(flags).map(|flags| flags.speculate)
    }

    #[test]
    fn flags_say_who_guesses_and_how_far() {
        let never = When::Never;
        let how = |flags: &[&str]| read(flags).unwrap().how();
        assert_eq!(how(&[]), Speculate { lookup: When::Measured, model: never, most: 8 });
        let off = how(&["--speculative", "off", "--draft-max", "4"]);
        assert_eq!(off, Speculate { lookup: never, model: never, most: 4 });
        let both = how(&["--md", "small.gguf"]);
        assert_eq!((both.lookup, both.model), (When::Measured, When::Measured));
        let draft = how(&["--speculative", "draft", "--draft-model", "small.gguf"]);
        assert_eq!((draft.lookup, draft.model), (never, When::Measured));
        for wrong in [["--draft-max", "0"], ["--draft-max", "17"], ["--speculative", "maybe"]] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_a_sentence() {
        let check = |flags: &[&str], n_models| read(flags).unwrap().check(n_models);
        assert!(check(&["--md", "small.gguf"], 1).is_ok() && check(&[], 2).is_ok());
        for (flags, n_models, why) in [
            (&["--md", "small.gguf"][..], 2, "serve them apart"),
            (&["--speculative", "draft"], 1, "name one with --draft-model"),
            (&["--speculative", "off", "--md", "small.gguf"], 1, "leave one of them out"),
        ] {
            let said = check(flags, n_models).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
