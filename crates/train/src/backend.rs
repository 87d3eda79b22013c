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

/// Checks that a run's backend is built in.
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
            require_device::<Vulkan>("Vulkan")?;
            trainer::train::<Vulkan>(job, tutor, &Default::default(), watch)
        }
        #[cfg(feature = "cuda")]
        "cuda" => {
            type Cuda = Autodiff<burn::backend::Cuda<f32, i32>>;
            require_device::<Cuda>("CUDA")?;
            trainer::train::<Cuda>(job, tutor, &Default::default(), watch)
        }
        _ => trainer::train::<Cpu>(job, tutor, &Default::default(), watch),
    }
}

/// Makes a first tensor: a backend without a device panics there.
#[cfg(any(feature = "vulkan", feature = "cuda"))]
fn require_device<B: burn::tensor::backend::Backend>(name: &str) -> Result<(), TrainError> {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let first = || burn::tensor::Tensor::<B, 1>::zeros([1], &Default::default()).into_data();
    let outcome = std::panic::catch_unwind(first);
    std::panic::set_hook(usual);
    match outcome {
        Ok(_) => Ok(()),
        Err(_) => Err(TrainError::Input(format!(
            "no {name} device was found on this machine; install its driver, or use run.backend=cpu"
        ))),
    }
}
