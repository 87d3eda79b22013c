//! What of stored numbers can be changed in its place, where they are not to be encoded anew.
//!
//! In: the bytes of blocks. Out: the same blocks with other codes, or with other factors.
//! Distillation into a quantized model learns just these, so that its size and its kernels stay
//! what they are.

/// The codes that a value may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// From the first to the last, every one.
    Range(i8, i8),
    /// These, rising.
    Table(&'static [i8]),
}

/// A block encoding as far as it can be changed. Its group scales are not among that.
pub trait Tunable {
    /// The codes that a value may have.
    fn codes(&self) -> Codes;
    /// Replaces the codes of whole blocks by others of [`Tunable::codes`], one per value.
    fn write_codes(&self, codes: &[i8], bytes: &mut [u8]);
    /// Byte offsets in a block of its factors, little-endian numbers in half precision. Each value
    /// is a sum over them of the factor times what the other bytes say: the first times the code
    /// and its group's scale, the second, if there is one, times the group's min.
    fn factors(&self) -> &'static [usize];
}

impl Codes {
    /// The smallest and the largest.
    pub fn ends(self) -> (i8, i8) {
        match self {
            Codes::Range(first, last) => (first, last),
            Codes::Table(table) => (table[0], table[table.len() - 1]),
        }
    }

    /// How far a code is from the next one, on average.
    pub fn step(self) -> f32 {
        let (first, last) = self.ends();
        match self {
            Codes::Range(..) => 1.0,
            Codes::Table(table) => (f32::from(last) - f32::from(first)) / (table.len() - 1) as f32,
        }
    }

    /// The code nearest to a number; of two, the one farther from zero, or the larger of a table's.
    pub fn nearest(self, x: f32) -> i8 {
        match self {
            Codes::Range(first, last) => x.round().clamp(f32::from(first), f32::from(last)) as i8,
            Codes::Table(table) => {
                let is_before = |pair: &&[i8]| middle(pair[0], pair[1]) <= x;
                table[table.windows(2).take_while(is_before).count()]
            }
        }
    }

    /// The numbers around a code that are not nearer to another one; at either end of the codes, as
    /// far beyond as a step.
    pub fn cell(self, code: i8) -> (f32, f32) {
        let (half, at) = (self.step() / 2.0, f32::from(code));
        match self {
            Codes::Range(..) => (at - half, at + half),
            Codes::Table(table) => {
                let place = table.partition_point(|&below| below < code);
                let low = place.checked_sub(1).map_or(at - half, |i| middle(table[i], code));
                let high = table.get(place + 1).map_or(at + half, |&next| middle(code, next));
                (low, high)
            }
        }
    }
}

fn middle(a: i8, b: i8) -> f32 {
    (f32::from(a) + f32::from(b)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::super::super::ENCODINGS;

    #[test]
    fn every_number_has_a_nearest_code_in_whose_cell_it_is() {
        for encoding in ENCODINGS.iter().filter_map(|encoding| encoding.tunable()) {
            let codes = encoding.codes();
            let (first, last) = codes.ends();
            for i in -300..300 {
                let x = i as f32 * 0.4373;
                let code = codes.nearest(x);
                let (low, high) = codes.cell(code);
                let is_inside = (low..=high).contains(&x);
                let is_beyond = (code == first && x < low) || (code == last && x > high);
                assert!(is_inside || is_beyond, "{x} is {code} of {codes:?}");
                assert_eq!(codes.nearest(f32::from(code)), code);
            }
            assert_eq!((codes.nearest(-1e9), codes.nearest(1e9)), (first, last));
        }
    }
}
