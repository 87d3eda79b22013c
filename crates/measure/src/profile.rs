//! Where a step's time goes: per op its time, bytes and FLOPs, with the sum held against the wall.
//!
//! In: what the runner counted per op, and the time on the wall. Out: a table whose parts add up to
//! the whole within a tenth, or an error (P-10).

use crate::{MeasureError, figure::short};
use serde::{Deserialize, Serialize};

/// The sum of the parts may miss the whole by this share.
pub const PROFILE_TOLERANCE: f64 = 0.10;

/// One op's share of the work, over all its calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpProfile {
    /// The op, such as `linear Q4_0` or `attention`.
    pub name: String,
    /// How often it ran.
    pub n_calls: u64,
    /// Time in it, measured.
    pub seconds: f64,
    /// Bytes that it must read and write, computed from shapes.
    pub bytes: u64,
    /// Operations that it must do (a multiply-add is two), computed from shapes.
    pub flops: u64,
}

/// The ops of a run, the most expensive first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    wall_seconds: f64,
    ops: Vec<OpProfile>,
}

impl Profile {
    /// Joins ops of one name, sorts by time, and checks the sum.
    ///
    /// # Errors
    /// If the ops' times miss `wall_seconds` by more than [`PROFILE_TOLERANCE`]: a table that
    /// leaves out a fifth of the time sends people to the wrong place.
    pub fn new(wall_seconds: f64, rows: Vec<OpProfile>) -> Result<Self, MeasureError> {
        let mut ops: Vec<OpProfile> = Vec::new();
        for row in rows {
            match ops.iter_mut().find(|op| op.name == row.name) {
                Some(op) => op.add(&row),
                None => ops.push(row),
            }
        }
        ops.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then(a.name.cmp(&b.name)));
        let sum: f64 = ops.iter().map(|op| op.seconds).sum();
        let share = sum / wall_seconds;
        if !((1.0 - PROFILE_TOLERANCE)..=(1.0 + PROFILE_TOLERANCE)).contains(&share) {
            return Err(MeasureError::Data(format!(
                "profile: the ops take {} s of {} s on the wall ({:.0}%); they must account for \
                 it within {:.0}%, so something is left out or counted twice",
                short(sum),
                short(wall_seconds),
                share * 100.0,
                PROFILE_TOLERANCE * 100.0
            )));
        }
        Ok(Self { wall_seconds, ops })
    }

    /// The time on the wall.
    pub fn wall_seconds(&self) -> f64 {
        self.wall_seconds
    }

    /// The ops, the most expensive first.
    pub fn ops(&self) -> &[OpProfile] {
        &self.ops
    }

    /// The table as text, with the rate of each op and what no op accounts for.
    pub fn table(&self) -> String {
        let mut table = line(["op", "calls", "ms", "share", "GB/s", "GFLOP/s"]);
        for op in &self.ops {
            table.push_str(&line([
                &op.name,
                &op.n_calls.to_string(),
                &format!("{:.3}", op.seconds * 1e3),
                &format!("{:.1}%", op.seconds / self.wall_seconds * 100.0),
                &rate(op.bytes, op.seconds),
                &rate(op.flops, op.seconds),
            ]));
        }
        let rest = self.wall_seconds - self.ops.iter().map(|op| op.seconds).sum::<f64>();
        let (ms, share) = (rest * 1e3, rest / self.wall_seconds * 100.0);
        let (ms, share) = (format!("{ms:.3}"), format!("{share:.1}%"));
        table.push_str(&line(["(between ops)", "", &ms, &share, "", ""]));
        let wall = format!("{:.3}", self.wall_seconds * 1e3);
        table + &line(["wall", "", &wall, "100.0%", "", ""])
    }
}

impl OpProfile {
    fn add(&mut self, other: &Self) {
        self.n_calls += other.n_calls;
        self.seconds += other.seconds;
        self.bytes += other.bytes;
        self.flops += other.flops;
    }
}

fn rate(amount: u64, seconds: f64) -> String {
    // An op too short for the clock has no rate.
    if seconds > 0.0 { format!("{:.2}", amount as f64 / seconds / 1e9) } else { "-".into() }
}

fn line(cells: [&str; 6]) -> String {
    let [op, calls, ms, share, bytes, flops] = cells;
    let line = format!("{op:<24} {calls:>8} {ms:>12} {share:>7} {bytes:>9} {flops:>9}");
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn op(name: &str, seconds: f64) -> OpProfile {
        OpProfile { name: name.into(), n_calls: 4, seconds, bytes: 1 << 30, flops: 2 << 30 }
    }

    #[test]
    fn a_table_that_adds_up() {
        // proves P-10
        let rows = vec![op("attention", 0.02), op("linear Q4_0", 0.05), op("linear Q4_0", 0.03)];
        let profile = Profile::new(0.105, rows).unwrap();
        expect![[r#"
            op                          calls           ms   share      GB/s   GFLOP/s
            linear Q4_0                     8       80.000   76.2%     26.84     53.69
            attention                       4       20.000   19.0%     53.69    107.37
            (between ops)                            5.000    4.8%
            wall                                   105.000  100.0%
        "#]]
        .assert_eq(&profile.table());
        assert_eq!(profile.ops()[0].n_calls, 8);
        expect![[r#"
            {
              "wall_seconds": 0.105,
              "ops": [
                {
                  "name": "linear Q4_0",
                  "n_calls": 8,
                  "seconds": 0.08,
                  "bytes": 2147483648,
                  "flops": 4294967296
                },
                {
                  "name": "attention",
                  "n_calls": 4,
                  "seconds": 0.02,
                  "bytes": 1073741824,
                  "flops": 2147483648
                }
              ]
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&profile).unwrap());
    }

    #[test]
    fn a_table_that_does_not_is_refused() {
        // proves P-10
        let of = |wall| Profile::new(wall, vec![op("linear", 0.08), op("idle", 0.0)]);
        assert!(of(0.0885).is_ok() && of(0.0730).is_ok());
        assert!(of(0.0895).is_err() && of(0.0720).is_err());
        let error = of(0.1).unwrap_err().to_string();
        assert!(error.contains("0.08000 s of 0.1000 s on the wall (80%)"), "{error}");
        assert!(Profile::new(0.0, vec![]).is_err());
    }
}
