//! Keeps many models in the memory there is, for many agents. Knows no tensors and no tokens.
//!
//! In: model files, a budget of bytes, requests for models, readings of the machine's memory. Out:
//! models loaded and unloaded, and who waits for one answered. The [`Manager`] is deterministic:
//! time and all that happens are arguments, so that it runs under seeded schedules as it runs on a
//! machine. [`Fleet`] is the shell around it: threads that load, a clock, the server's
//! [`sterna_server::Models`].
//!
//! Reading order: [`score`] says who goes first; [`entry`] is a model as the manager sees it;
//! [`manager`] goes from events to actions; [`predict`] and [`trial`] decide what is loaded before
//! anybody asks; [`pressure`] reads the machine; [`catalog`] finds files; [`known`] is what a
//! [`fleet`], the shell, is made of; [`agents`] reads who asks.
#![forbid(unsafe_code)]

pub mod score;

pub mod entry;
pub mod manager;

pub mod predict;
pub mod trial;

pub mod pressure;

pub mod catalog;
pub mod known;

pub mod fleet;

pub mod agents;

pub use catalog::Item;
pub use entry::{KeepAlive, ModelId, Spec};
pub use fleet::{Fleet, Watch};
pub use known::{Facts, Known, Load, LoadError, Loaded, Running, SetupError};
pub use manager::{Action, Event, Limits, Manager, Reason, Refusal, Ticket};
pub use score::Eviction;
