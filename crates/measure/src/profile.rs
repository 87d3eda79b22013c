//! Where a run's time goes: exclusive time, bytes, operations and share of the roofline per op and
//! per layer, with the sum held against the wall (P-10).
//!
//! In: what the runner counted per step, the time on the wall, and the machine's roofs. Out: rows
//! that add up to the wall, the time of no step being a row of its own.

mod table;
pub mod trace;

use crate::{MeasureError, figure::short};
use serde::Serialize;

/// The steps' times must be at least this share of the wall, or the table misleads.
pub const LEAST_ACCOUNTED: f64 = 0.90;

/// What is neither linear layers nor attention may take this share of a 110M model's time.
pub const MOST_OVERHEAD: f64 = 0.08;

/// What one step moved and computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Work {
    /// Bytes of weights and cached keys and values that it must read, computed from shapes.
    pub bytes: f64,
    /// Operations that it must do (a multiply-add is two), computed from shapes. Only linear layers
    /// and attention count any.
    pub flops: f64,
    /// Those of them on int8 codes.
    pub int8_flops: f64,
    /// Those of them on bf16; what is on neither is on f32.
    pub bf16_flops: f64,
}

/// One step of a program over a whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// The node it belongs to, such as `blk.3.ffn_down`.
    pub name: String,
    /// Its kind, such as `linear`.
    pub kind: String,
    /// Its layer, if it belongs to one.
    pub layer: Option<usize>,
    /// How often it ran.
    pub n_calls: f64,
    /// Wall time in it alone, measured.
    pub seconds: f64,
    /// What it did.
    pub work: Work,
}

/// What the machine can do at most with the threads of the run; `None` where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Roofs {
    /// Bytes read from memory per second.
    pub read: Option<f64>,
    /// Operations on int8 codes per second.
    pub int8: Option<f64>,
    /// Operations on bf16 per second.
    pub bf16: Option<f64>,
    /// Operations on f32 per second.
    pub f32: Option<f64>,
}

impl Roofs {
    /// The least seconds that some work can take: what bounds it is reading or computing, whichever
    /// takes longer. `None` for work that counts nothing, or where a roof is not known.
    pub fn seconds(&self, work: &Work) -> Option<f64> {
        let time = |amount: f64, roof: Option<f64>| match (amount > 0.0, roof) {
            (false, _) => Some(0.0),
            (true, roof) => Some(amount / roof?),
        };
        let reading = time(work.bytes, self.read)?;
        let f32_flops = work.flops - work.int8_flops - work.bf16_flops;
        let computing = time(work.int8_flops, self.int8)?
            + time(work.bf16_flops, self.bf16)?
            + time(f32_flops, self.f32)?;
        let least = reading.max(computing);
        (least > 0.0).then_some(least)
    }
}

/// Some steps together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What they have in common: `linear ffn_down`, `prepare`, `layer 3`.
    pub name: String,
    /// How often they ran.
    pub n_calls: f64,
    /// Wall time in them alone.
    pub seconds: f64,
    /// That over the run's wall time.
    pub share_of_wall: f64,
    /// What they did.
    pub work: Work,
    /// The least time that the work can take over the time it took; `None` where they count no
    /// work, or a roof is not known.
    pub share_of_roofline: Option<f64>,
}

/// Where the time of a run went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Wall time of the run.
    pub wall_seconds: f64,
    /// The steps' share of it.
    pub accounted: f64,
    /// What no step accounts for.
    pub between_seconds: f64,
    /// The share of the wall that is neither linear layers nor attention, with what is between
    /// steps.
    pub overhead: f64,
    /// The least time that all work can take, over the wall.
    pub share_of_roofline: Option<f64>,
    /// The ceilings in use.
    pub roofs: Roofs,
    /// Per op, the longest first.
    pub ops: Vec<Row>,
    /// Per layer in order, then what is outside of layers.
    pub layers: Vec<Row>,
    /// Every step in the order of the program.
    pub steps: Vec<StepTime>,
}

impl Profile {
    /// Groups the steps of a run that took `wall_seconds`.
    ///
    /// # Errors
    /// If the steps' exclusive times sum to more than the wall: something is counted twice.
    pub fn new(
        wall_seconds: f64,
        steps: Vec<StepTime>,
        roofs: Roofs,
    ) -> Result<Self, MeasureError> {
        let sum: f64 = steps.iter().map(|step| step.seconds).sum();
        // Nanoseconds become floats on the way.
        if wall_seconds <= 0.0 || sum > wall_seconds * (1.0 + 1e-9) {
            return Err(MeasureError::Data(format!(
                "profile: the steps take {} s of {} s on the wall; exclusive times sum to at most \
                 the wall, so something is counted twice",
                short(sum),
                short(wall_seconds),
            )));
        }
        let group =
            |name: &dyn Fn(&StepTime) -> String| grouped(&steps, name, wall_seconds, &roofs);
        let mut ops = group(&StepTime::op);
        ops.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then(a.name.cmp(&b.name)));
        let mut layers = group(&StepTime::layer_name);
        // Embedding and head come first and last; together they stand last.
        layers.sort_by_key(|row| row.name == OUTSIDE);
        let computing = steps.iter().filter(|step| step.work.flops > 0.0);
        let computing: f64 = computing.map(|step| step.seconds).sum();
        let least = least_seconds(steps.iter(), &roofs);
        Ok(Self {
            wall_seconds,
            accounted: sum / wall_seconds,
            between_seconds: (wall_seconds - sum).max(0.0),
            overhead: 1.0 - computing / wall_seconds,
            share_of_roofline: least.map(|least| least / wall_seconds),
            roofs,
            ops,
            layers,
            steps,
        })
    }
}

/// The name of what belongs to no layer.
const OUTSIDE: &str = "(outside layers)";

impl StepTime {
    /// Its op: the kind, and for what computes, which of the layer's nodes it is.
    fn op(&self) -> String {
        let inside = self.layer.and_then(|layer| self.name.split_once(&format!(".{layer}.")));
        let node = inside.map_or(self.name.as_str(), |(_, node)| node);
        if self.work.flops > 0.0 && node != self.kind {
            format!("{} {node}", self.kind)
        } else {
            self.kind.clone()
        }
    }

    fn layer_name(&self) -> String {
        self.layer.map_or_else(|| OUTSIDE.to_owned(), |layer| format!("layer {layer}"))
    }
}

/// Steps that share a name, in order of first appearance.
fn grouped(
    steps: &[StepTime],
    name: &dyn Fn(&StepTime) -> String,
    wall_seconds: f64,
    roofs: &Roofs,
) -> Vec<Row> {
    let mut groups: Vec<(String, Vec<&StepTime>)> = Vec::new();
    for step in steps {
        let name = name(step);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(step),
            None => groups.push((name, vec![step])),
        }
    }
    let row = |(name, group): (String, Vec<&StepTime>)| {
        let sum = |of: &dyn Fn(&StepTime) -> f64| group.iter().map(|step| of(step)).sum::<f64>();
        let seconds = sum(&|step| step.seconds);
        let least = least_seconds(group.iter().copied(), roofs);
        Row {
            name,
            n_calls: sum(&|step| step.n_calls),
            seconds,
            share_of_wall: seconds / wall_seconds,
            work: Work {
                bytes: sum(&|step| step.work.bytes),
                flops: sum(&|step| step.work.flops),
                int8_flops: sum(&|step| step.work.int8_flops),
                bf16_flops: sum(&|step| step.work.bf16_flops),
            },
            // Steps too short for the clock have no rate.
            share_of_roofline: least.filter(|_| seconds > 0.0).map(|least| least / seconds),
        }
    };
    groups.into_iter().map(row).collect()
}

/// The least time of steps that follow each other; those that count no work can take none.
fn least_seconds<'s>(steps: impl Iterator<Item = &'s StepTime>, roofs: &Roofs) -> Option<f64> {
    let counting = steps.filter(|step| step.work.bytes > 0.0 || step.work.flops > 0.0);
    let sum: f64 = counting.map(|step| roofs.seconds(&step.work)).sum::<Option<f64>>()?;
    (sum > 0.0).then_some(sum)
}

#[cfg(test)]
mod tests;
