//! System 000's view of an optimization: profiles in, a result with a grade out (K-1, K-15, K-16).
//!
//! In: a [`config::Config`], by a profile's name and what the user lays over it. Out: what it asks
//! of an optimization, and [`results::Results`]: its fields, each measured in that run or absent
//! with a reason. What the profile switches on and this program does not do is said.

pub mod config;
pub mod grade;
pub mod parallel;
pub mod results;

pub use config::{Config, Profile};
pub use grade::Grade;
pub use results::Results;

#[cfg(test)]
mod tests;
