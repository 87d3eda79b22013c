//! How many agents a machine can serve: what a batch takes, and the most that is still in time.
//!
//! In: batches of known shapes with the seconds that each took here. Out: [`BatchCost`], which says
//! what any other batch will take, with its error on shapes that it did not see; and [`most`], the
//! largest number for which something holds. What is simulated with them is the engine's affair.

mod calibration;
mod cost;
mod most;
mod shape;

pub use calibration::Calibration;
pub use cost::{BatchCost, FitError};
pub use most::most;
pub use shape::{BatchShape, TimedShape};
