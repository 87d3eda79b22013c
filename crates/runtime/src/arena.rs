//! The arena: where the values of a program lie in one block of memory.
//!
//! In: buffers with the steps between which they are alive. Out: offsets at which buffers that are
//! alive at the same time do not overlap. Planned once, for the largest batch.

use std::cmp::Reverse;
use std::ops::RangeInclusive;

/// f32 per line: offsets are multiples of it, so every buffer is 64-byte aligned.
const LINE: usize = 16;

/// A buffer to place.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Its size in f32.
    pub len: usize,
    /// The first step that writes it to the last that reads it.
    pub alive: RangeInclusive<usize>,
}

/// The offset of each buffer, and the length of the arena, both in f32: the shortest of a few
/// orders of placing.
pub fn plan(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let life = |b: usize| buffers[b].alive.end() - buffers[b].alive.start();
    let mut orders: [Vec<usize>; 3] = std::array::from_fn(|_| (0..buffers.len()).collect());
    orders[0].sort_by_key(|&b| (Reverse(buffers[b].len), b));
    orders[1].sort_by_key(|&b| (Reverse(life(b)), Reverse(buffers[b].len), b));
    orders[2].sort_by_key(|&b| (*buffers[b].alive.start(), Reverse(buffers[b].len), b));
    let plans = orders.iter().map(|order| place(buffers, order));
    plans.min_by_key(|(_, total)| *total).expect("there are orders")
}

/// Offsets for buffers that share nothing.
pub fn plan_apart(buffers: &[Buffer]) -> (Vec<usize>, usize) {
    let (mut offsets, mut total) = (Vec::with_capacity(buffers.len()), 0);
    for buffer in buffers {
        offsets.push(total);
        total = end(total, buffer.len);
    }
    (offsets, total)
}

/// Places buffers in this order, each at the lowest offset that is free during its whole life.
fn place(buffers: &[Buffer], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for &b in order {
        let mut neighbours: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| meet(&buffers[other].alive, &buffers[b].alive))
            .map(|&other| (offsets[other], end(offsets[other], buffers[other].len)))
            .collect();
        neighbours.sort_unstable();
        let mut offset = 0;
        for (start, end) in neighbours {
            if offset + buffers[b].len <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[b] = offset;
        total = total.max(end(offset, buffers[b].len));
        placed.push(b);
    }
    (offsets, total)
}

fn end(offset: usize, len: usize) -> usize {
    (offset + len).next_multiple_of(LINE)
}

fn meet(a: &RangeInclusive<usize>, b: &RangeInclusive<usize>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves T-6
    #[test]
    fn buffers_alive_together_do_not_overlap() {
        let mut state = 7u32;
        let mut below = |n: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % n
        };
        for _ in 0..50 {
            let buffers: Vec<Buffer> = (0..40)
                .map(|_| {
                    let first = below(60);
                    Buffer { len: 1 + below(3000), alive: first..=first + below(6) }
                })
                .collect();
            let (offsets, total) = plan(&buffers);
            for (a, x) in buffers.iter().enumerate() {
                assert!(offsets[a] % LINE == 0 && offsets[a] + x.len <= total);
                for (b, y) in buffers.iter().enumerate().skip(a + 1) {
                    let apart =
                        offsets[a] + x.len <= offsets[b] || offsets[b] + y.len <= offsets[a];
                    assert!(apart || !meet(&x.alive, &y.alive), "{a} and {b}");
                }
            }
            let sum: usize = buffers.iter().map(|b| b.len).sum();
            assert!(total < sum, "lives that do not meet share memory");
            let (apart, all) = plan_apart(&buffers);
            assert!(all >= sum && apart.is_sorted(), "nothing is shared");
        }
    }
}
