//! Machines of known prices, and whether they are found.

use super::*;
use crate::load::draw_for_tests as draw;

/// A machine that reads weights in 2 ms, computes a row in 0.1 ms where there are many, and reads
/// 100 positions in 10 µs.
fn known(shape: &BatchShape) -> f64 {
    let rows = shape.rows() as f64;
    let linear = 2e-3 + 1e-4 * (rows - 16.0).max(0.0);
    linear
        + 2e-5 * shape.logit_rows as f64
        + 1e-7 * shape.decode_positions as f64
        + 3e-8 * shape.prompt_positions as f64
        + 5e-6 * shape.pages as f64
        + 1e-4 * shape.copies as f64
}

fn timed(shape: BatchShape, is_held_out: bool) -> TimedShape {
    let seconds = vec![known(&shape) * 1.5, known(&shape), known(&shape) * 0.9];
    TimedShape { name: "t".into(), shape, is_held_out, seconds }
}

fn shapes() -> Vec<TimedShape> {
    let none = BatchShape::default();
    let decodes = [1, 4, 16, 64, 128].map(|n| none.with_decodes(n, 64));
    let deep = [1, 4, 16].map(|n| none.with_decodes(n, 1024));
    let prompts = [16, 64, 256, 512].map(|n| none.with_prompt(n, 0, 1));
    let silent = [none.with_prompt(64, 0, 0), none.with_prompt(256, 1024, 0)];
    let copied = [BatchShape { copies: 8, ..none.with_prompt(16, 0, 1) }];
    let seen = decodes.into_iter().chain(deep).chain(prompts).chain(silent).chain(copied);
    // Pages of their own, and the same for all.
    let own = |n: usize| BatchShape { pages: n * 10, ..none.with_decodes(n, 320) };
    let shared = |n: usize| BatchShape { pages: n + 9, ..none.with_decodes(n, 320) };
    let seen = seen.chain([own(8), shared(8), own(32), shared(32)]);
    let held_out = [2, 8, 32].map(|n| BatchShape {
        pages: 2 * n + 5,
        ..none.with_decodes(n, 300).with_prompt(n, 100, 1)
    });
    let seen = seen.map(|shape| timed(shape, false));
    seen.chain(held_out.map(|shape| timed(shape, true))).collect()
}

// proves A22 (in part: the fit finds known prices)
#[test]
fn a_machine_of_known_prices_is_found() {
    let cost = BatchCost::fit(&shapes()).unwrap();
    let seen = cost.error(&shapes(), false).unwrap();
    assert!(seen.n == 19 && seen.max < 1e-3, "{seen:?}");
    let held_out = cost.error(&shapes(), true).unwrap();
    assert!(held_out.n == 3 && held_out.max < 1e-2, "{held_out:?}");
    let shape = BatchShape { copies: 3, ..BatchShape::default().with_decodes(40, 500) };
    let (says, is) = (cost.time(&shape).as_secs_f64(), known(&shape));
    assert!((says / is - 1.0).abs() < 1e-2, "{says} {is}");
    assert_eq!(cost.time(&BatchShape::default()), Duration::ZERO);
}

// proves A22 (in part: whatever was measured, more never costs less)
#[test]
fn more_of_anything_never_costs_less() {
    let mut draw = draw(11);
    for case in 0..200 {
        let mut noisy = shapes();
        for shape in &mut noisy {
            let factor = 0.2 + 3.0 * draw.unit();
            shape.seconds.iter_mut().for_each(|seconds| *seconds *= factor);
        }
        let cost = BatchCost::fit(&noisy).unwrap();
        let mut below = |n: u64| draw.below(n) as usize;
        let shape = BatchShape {
            prompt_rows: below(600),
            decode_rows: below(200),
            prompt_positions: below(100_000),
            decode_positions: below(100_000),
            pages: below(5_000),
            logit_rows: below(200),
            copies: below(30),
        };
        for more in [
            BatchShape { prompt_rows: shape.prompt_rows + 1, ..shape },
            BatchShape { decode_rows: shape.decode_rows + 1, ..shape },
            BatchShape { prompt_positions: shape.prompt_positions + 1, ..shape },
            BatchShape { decode_positions: shape.decode_positions + 1, ..shape },
            BatchShape { pages: shape.pages + 1, ..shape },
            BatchShape { logit_rows: shape.logit_rows + 1, ..shape },
            BatchShape { copies: shape.copies + 1, ..shape },
        ] {
            assert!(cost.time(&more) >= cost.time(&shape), "seed 11, case {case}: {more:?}");
        }
    }
}

#[test]
fn no_shapes_are_no_fit() {
    let only_held_out: Vec<_> = shapes().into_iter().filter(|timed| timed.is_held_out).collect();
    let error = BatchCost::fit(&only_held_out).unwrap_err().to_string();
    assert!(error.contains("no samples"), "{error}");
}
