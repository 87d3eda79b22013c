//! Where tensors live: the CPU always, Vulkan and CUDA where built in and found.

use crate::TrainError;
use crate::config::Run;
use crate::distill::Tutor;
use crate::trainer::{self, Event, Job, Outcome};
use burn::backend::{Autodiff, Flex};
use sterna_model::plan::nearest;

/// The CPU with gradients.
pub type Cpu = Autodiff<Flex>;

/// Every backend's name, and whether this program has it.
const BACKENDS: &[(&str, bool)] =
    &[("cpu", true), ("vulkan", cfg!(feature = "vulkan")), ("cuda", cfg!(feature = "cuda"))];

/// Checks that a run's backend is built in and has the precision.
///
/// # Errors
/// A sentence with the fix.
pub fn check(run: &Run) -> Result<(), TrainError> {
    let name = run.backend.as_str();
    let Some((_, built_in)) = BACKENDS.iter().find(|(known, _)| *known == name) else {
        let near = nearest(name, BACKENDS.iter().map(|b| b.0));
        let fix =
            near.map_or("known are cpu, vulkan, cuda".into(), |n| format!("did you mean {n:?}?"));
        return Err(TrainError::Input(format!("the backend {name:?} is not known; {fix}")));
    };
    if !built_in {
        return Err(TrainError::Input(format!(
            "this sterna was built without {name}; build it with --features {name}, or use cpu"
        )));
    }
    if run.precision != "f32" {
        return Err(TrainError::Input(format!(
            "run.precision is {:?}; all backends train in f32 for now, leave it out",
            run.precision
        )));
    }
    Ok(())
}

/// Trains on the backend of the job's config.
///
/// # Errors
/// As [`trainer::train`].
pub fn train(
    job: &Job<'_>,
    tutor: Option<&mut Tutor>,
    watch: &mut dyn FnMut(Event<'_>) -> bool,
) -> Result<Outcome, TrainError> {
    let threads = job.config.run.threads;
    // A second run in this process keeps the first one's threads.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    match job.config.run.backend.as_str() {
        #[cfg(feature = "vulkan")]
        "vulkan" => {
            type Vulkan = Autodiff<burn::backend::Vulkan<f32, i32>>;
            trainer::train::<Vulkan>(job, tutor, &Default::default(), watch)
        }
        #[cfg(feature = "cuda")]
        "cuda" => {
            type Cuda = Autodiff<burn::backend::Cuda<f32, i32>>;
            trainer::train::<Cuda>(job, tutor, &Default::default(), watch)
        }
        _ => trainer::train::<Cpu>(job, tutor, &Default::default(), watch),
    }
}
