//! Edits a draft with passes, searches plans under a budget, builds and proves the artifact.
//!
//! In: a model, text, a budget. Out: an artifact that was reopened and measured against its
//! baseline on text the search never saw, and a report in which every number says where it is from.
#![forbid(unsafe_code)]

pub mod budget;
pub mod calibration;
pub mod error;
pub mod progress;

pub mod draft;
pub mod fit;
pub mod hessian;
pub mod importance;
pub mod mixes;
pub mod observe;
pub mod passes;
pub mod prune;
pub mod ranges;
pub mod recipe;
pub mod recode;
mod sample;
pub mod scan;
pub mod shelf;
pub mod tasks;

pub mod distiller;
pub mod engine;
pub mod evidence;
pub mod footprint;
pub mod gate;
pub mod integration;
pub mod judge;
pub mod runner;
pub mod search;
pub mod yardstick;

pub mod pipeline;
pub mod report;
pub mod size;
pub mod spent;
pub mod statistics;

#[cfg(test)]
mod testing;

pub use budget::Budget;
pub use draft::{Draft, Edit};
pub use error::OptimizeError;
pub use passes::{PASSES, Pass};
pub use pipeline::{Outcome, Settings, optimize};
pub use recipe::Recipe;
