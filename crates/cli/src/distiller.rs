//! Has models that were searched for learn, by what trains models here.

use crate::show;
use std::sync::Arc;
use sterna_measure::machine::Machine;
use sterna_model::plan::Distilled;
use sterna_model::{Graph, WeightId};
use sterna_optimize::distiller::{Distiller, Learned, Lessons, hash_of};
use sterna_optimize::{OptimizeError, error::Result};
use sterna_train::TrainError;
use sterna_train::backend::Cpu;
use sterna_train::qad::{self, Pace};

/// Trains on the CPU.
pub struct Trainer;

impl Distiller for Trainer {
    fn check(&self, graph: &Graph) -> Result<()> {
        qad::check::<Cpu>(&Arc::new(graph.clone()), &Default::default()).map_err(refused)
    }

    fn lacks(&self, graph: &Graph, documents: &[&[u32]]) -> Option<String> {
        let needed = qad::memory_bytes(graph, documents, &Pace::gentle(0, documents.len()));
        // The other half is for what the search holds, and for others.
        let has = Machine::detect().usable_memory_bytes()? / 2;
        let (takes, may) = (show::bytes(needed), show::bytes(has));
        (needed > has).then(|| format!("it would take about {takes} of memory, and may {may}"))
    }

    fn learn(&self, lessons: Lessons<'_>) -> Result<Learned> {
        let Lessons { graph, stored, original, documents, teacher, seed, told } = lessons;
        let pace = Pace::gentle(seed, documents.len());
        let n_tokens: usize = documents.iter().map(|document| document.len()).sum();
        let mut how = Distilled {
            hash: hash_of(&documents),
            documents: documents.len() as u64,
            tokens: n_tokens as u64,
            batch: pace.batch as u64,
            steps: pace.n_steps(documents.len()) as u64,
            done: 0,
            factor_rate: pace.factor_rate,
            code_rate: pace.code_rate,
        };
        // What fails on the other side of the seam is told as it was said there.
        let (mut failed, mut ended) = (None, None);
        let learned = qad::learn::<Cpu>(
            qad::Lessons {
                graph: Arc::new(graph.clone()),
                stored,
                original,
                documents,
                teacher: &mut |document| {
                    teacher(document).map_err(|error| {
                        let said = TrainError::Input(error.to_string());
                        failed = Some(error);
                        said
                    })
                },
            },
            &pace,
            &Default::default(),
            &mut |step| {
                how.done = step.done as u64;
                told(step.done, step.of, step.kl).unwrap_or_else(|error| {
                    ended = Some(error);
                    0
                })
            },
        );
        if let Some(error) = failed.or(ended) {
            return Err(error);
        }
        let weights: Vec<(WeightId, Vec<u8>)> =
            learned.map_err(|error| OptimizeError::failed("distilling", error))?;
        Ok(Learned { weights, how })
    }
}

fn refused(error: TrainError) -> OptimizeError {
    OptimizeError::Input(format!("--allow distill: {error}"))
}
