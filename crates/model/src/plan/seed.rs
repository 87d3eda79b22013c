//! A Plan's seed as TOML has it: integers there are signed, and seeds use all 64 bits.

use serde::{Deserialize, Deserializer, Serializer};

pub fn serialize<S: Serializer>(seed: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(*seed as i64)
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    i64::deserialize(from).map(|seed| seed as u64)
}
