//! A profile as text for people.

use super::{LEAST_ACCOUNTED, MOST_OVERHEAD, Profile, Row};

impl Profile {
    /// Two tables, per op and per layer, and what they come to.
    pub fn table(&self) -> String {
        let row = |row: &Row| self.row(row);
        let ops: String = self.ops.iter().map(row).collect();
        let layers: String = self.layers.iter().map(row).collect();
        format!(
            "{}{ops}{}\n{}{layers}\n{}",
            heading("op"),
            self.ends(),
            heading("layer"),
            self.sums()
        )
    }

    fn row(&self, row: &Row) -> String {
        let rate = |amount: f64| match amount > 0.0 && row.seconds > 0.0 {
            true => format!("{:.2}", amount / row.seconds / 1e9),
            false => "-".into(),
        };
        line([
            &row.name,
            &format!("{:.0}", row.n_calls),
            &format!("{:.3}", row.seconds * 1e3),
            &percent(row.share_of_wall),
            &rate(row.work.bytes),
            &rate(row.work.flops),
            &row.share_of_roofline.map_or("-".into(), percent),
        ])
    }

    /// What is between steps, and the whole.
    fn ends(&self) -> String {
        let ms = format!("{:.3}", self.between_seconds * 1e3);
        let share = percent(self.between_seconds / self.wall_seconds);
        let wall = format!("{:.3}", self.wall_seconds * 1e3);
        let roofline = self.share_of_roofline.map_or("-".into(), percent);
        line(["(between steps)", "", &ms, &share, "", "", ""])
            + &line(["wall", "", &wall, "100.0%", "", "", &roofline])
    }

    /// The sentences below the tables.
    fn sums(&self) -> String {
        let met = if self.accounted >= LEAST_ACCOUNTED { "met" } else { "missed" };
        let mut text = format!(
            "steps account for {} of the wall (wanted: at least {:.0}%, {met})\n\
             per-step overhead, neither linear layers nor attention: {} (wanted of a 110M model: \
             below {:.0}%)\n{}\n",
            percent(self.accounted),
            LEAST_ACCOUNTED * 100.0,
            percent(self.overhead),
            MOST_OVERHEAD * 100.0,
            self.ceilings(),
        );
        let above = |row: &&Row| row.share_of_roofline.is_some_and(|share| share > 1.0);
        if self.ops.iter().chain(&self.layers).any(|row| above(&row)) {
            text += "above 100%: bytes came from a cache, which the read bandwidth of memory does \
                     not bound,\nor AMX tiles computed, which pass the peaks of vectors,\nor the \
                     machine was busy while its ceilings were measured (`sterna \
                     doctor --measure` does it again)\n";
        }
        text
    }

    fn ceilings(&self) -> String {
        let of = |what: &str, rate: Option<f64>, unit: &str| match rate {
            Some(rate) => format!("{what} {:.1} {unit}", rate / 1e9),
            None => format!("{what} not measured"),
        };
        let read = of("read", self.roofs.read, "GB/s");
        let int8 = of("int8", self.roofs.int8, "GOP/s");
        let bf16 = of("bf16", self.roofs.bf16, "GFLOP/s");
        let f32 = of("f32", self.roofs.f32, "GFLOP/s");
        format!("roofline: {read}, {int8}, {bf16}, {f32}")
    }
}

fn heading(what: &str) -> String {
    line([what, "calls", "ms", "of wall", "GB/s", "GOP/s", "of roofline"])
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn line(cells: [&str; 7]) -> String {
    let [name, calls, ms, share, bytes, flops, roofline] = cells;
    let line =
        format!("{name:<28} {calls:>7} {ms:>11} {share:>8} {bytes:>8} {flops:>9} {roofline:>12}");
    format!("{}\n", line.trim_end())
}
