//! The roads that int8 dots take on an ISA, at the largest numbers that each is promised to hold.

use super::{Rng, levels};
use sterna_kernels::isa::short_dots;
use sterna_kernels::{Isa, Kernel, Line};

/// What the sums begin with.
const FIRST: i32 = -12345;

/// One line of codes and a quad of activations.
struct Dots {
    w: Line,
    a: [i8; 4],
    max_code: u8,
}

/// `(sums of a full run of short dots, dots of the run)`, or nothing where runs are empty; and the
/// same dot once, as bytes and, of signed codes, by pairs.
type Found = (Option<([i32; 16], usize)>, [i32; 16], [i32; 16]);

impl Kernel for &Dots {
    type Out = Found;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Found {
        let (w, a) = (isa.load_b(&self.w), i32::from_le_bytes(self.a.map(|a| a as u8)));
        let first = isa.splat_i(FIRST);
        let n_dots = short_dots::<I>(self.max_code).min(64);
        let short = (n_dots > 0).then(|| {
            let dots = (0..n_dots).fold(isa.begin(first), |sums, _| isa.dot_short(sums, w, a));
            (isa.lanes(isa.end(first, dots)), n_dots)
        });
        let quad = isa.load_b(&Line(std::array::from_fn(|i| self.a[i % 4] as u8)));
        let [even, odd] = [isa.even(quad), isa.odd(quad)].map(|x| isa.lanes(isa.as_i(x))[0]);
        let pairs = isa.dot_pairs(first, isa.even(w), even);
        let pairs = isa.dot_pairs(pairs, isa.odd(w), odd);
        (short, isa.lanes(isa.dot(first, w, a)), isa.lanes(pairs))
    }
}

impl Dots {
    /// `times` the dot of each lane, of codes made by `code`.
    fn wanted(&self, times: usize, code: fn(u8) -> i32) -> [i32; 16] {
        let product = |r: usize, k: usize| code(self.w.0[4 * r + k]) * i32::from(self.a[k]);
        std::array::from_fn(|r| FIRST + times as i32 * (0..4).map(|k| product(r, k)).sum::<i32>())
    }
}

#[test]
fn every_road_of_dots_is_exact_at_its_limits() {
    let mut rng = Rng(17);
    for max_code in [2, 15, 31, 63, 127, 255] {
        for a in [[127; 4], [-127; 4], [127, 127, -127, -127], [1, -2, 3, -4]] {
            let random =
                Line(std::array::from_fn(|_| (rng.bits() % (u64::from(max_code) + 1)) as u8));
            for w in [Line([max_code; 64]), random] {
                let dots = Dots { w, a, max_code };
                for level in levels() {
                    let what = format!("codes to {max_code} and {a:?}, {}", level.name());
                    let (short, bytes, pairs) = level.run(&dots);
                    if let Some((sums, n_dots)) = short {
                        assert_eq!(sums, dots.wanted(n_dots, i32::from), "short sums, {what}");
                    }
                    assert_eq!(bytes, dots.wanted(1, i32::from), "bytes, {what}");
                    let signed = dots.wanted(1, |code| i32::from(code as i8));
                    assert_eq!(pairs, signed, "pairs, {what}");
                }
            }
        }
    }
}
