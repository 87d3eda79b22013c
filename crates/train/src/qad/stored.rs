//! A weight as it is stored, and what of it learns.
//!
//! In: its bytes, and its numbers before they were rounded. Out: what the forward pass sees,
//! gradients of the parts that learn, and bytes.

use crate::matrix::{matrix, numbers};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use half::f16;
use rayon::prelude::*;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::{Codes, Tunable};
use sterna_model::{WeightId, WeightSource, WeightView};

/// What of a weight learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The factors of blocks.
    Factors,
    /// What is rounded to codes.
    Codes,
}

/// A weight.
pub enum Stored<B: Backend> {
    /// Learns nothing: `[rows, cols]`.
    Fixed(Tensor<B, 2>),
    /// Learns.
    Blocks(Blocks<B>),
}

/// A weight in blocks.
pub struct Blocks<B: Backend> {
    encoding: EncodingRef,
    codes: Codes,
    /// What factors are multiplied by, `[blocks, factors of a block]`.
    by: Tensor<B, 2>,
    /// What is rounded to codes, in steps between codes, `[rows, cols]`.
    latent: Tensor<B, 2>,
    /// What a step is worth with the first factor as it was, `[rows, cols]`.
    unit: Tensor<B, 2>,
    /// What the second factor adds, where there is one, `[rows, cols]`.
    min: Option<Tensor<B, 2>>,
}

/// Nothing starts nearer to where its code changes than this part of a step.
const MARGIN: f32 = 0.01;

impl<B: Backend> Stored<B> {
    /// A weight, and its numbers before rounding.
    pub fn new(
        id: WeightId,
        stored: &dyn WeightSource,
        original: &dyn WeightSource,
        device: &B::Device,
    ) -> Self {
        let view = stored.weight(id);
        let this = match view.encoding.tunable() {
            None => Stored::Fixed(matrix(view.to_f32(), [view.rows, view.cols], device)),
            Some(tunable) => {
                let before = original.weight(id).to_f32();
                original.release(id);
                Stored::Blocks(Blocks::new(&view, tunable, &before, device))
            }
        };
        stored.release(id);
        this
    }

    /// As the forward pass sees it, `[rows, cols]`.
    pub fn seen(&self) -> Tensor<B, 2> {
        match self {
            Stored::Fixed(values) => values.clone(),
            Stored::Blocks(blocks) => {
                let by = |factor| blocks.by.clone().narrow(1, factor, 1);
                let shape = blocks.unit.dims();
                let scaled = blocks.per_block(blocks.coded()) * by(0);
                let min = blocks.min.clone().map(|min| blocks.per_block(min) * by(1));
                min.map_or(scaled.clone(), |min| scaled + min).reshape(shape)
            }
        }
    }

    /// The gradients of factors and of what is rounded to codes, from that of the weight.
    pub fn gradients(&self, of_weight: Tensor<B, 2>) -> Option<(Tensor<B, 2>, Tensor<B, 2>)> {
        let Stored::Blocks(blocks) = self else { return None };
        let of_blocks = blocks.per_block(of_weight);
        let sum = |part: Tensor<B, 2>| (blocks.per_block(part) * of_blocks.clone()).sum_dim(1);
        let parts = [Some(blocks.coded()), blocks.min.clone()];
        let factors = Tensor::cat(parts.into_iter().flatten().map(sum).collect(), 1);
        let scaled = of_blocks.clone() * blocks.by.clone().narrow(1, 0, 1);
        let codes = scaled.reshape(blocks.unit.dims()) * blocks.unit.clone();
        Some((factors, codes))
    }

    /// What of it learns; of what learns nothing, all.
    pub fn get(&self, part: Part) -> Tensor<B, 2> {
        match (self, part) {
            (Stored::Fixed(values), _) => values.clone(),
            (Stored::Blocks(blocks), Part::Factors) => blocks.by.clone(),
            (Stored::Blocks(blocks), Part::Codes) => blocks.latent.clone(),
        }
    }

    /// Puts it at another place; what is rounded stays between the first code and the last.
    pub fn set(&mut self, part: Part, value: Tensor<B, 2>) {
        match (self, part) {
            (Stored::Fixed(_), _) => {}
            (Stored::Blocks(blocks), Part::Factors) => blocks.by = value,
            (Stored::Blocks(blocks), Part::Codes) => {
                let (first, last) = blocks.codes.ends();
                let [first, last] = [first, last].map(|end| f32::from(end) / blocks.codes.step());
                blocks.latent = value.clamp(first, last);
            }
        }
    }

    /// Its bytes as they are now, if they are not those of `view`, as which it was stored.
    pub fn bytes(&self, view: &WeightView<'_>) -> Option<Vec<u8>> {
        let (Stored::Blocks(blocks), Some(tunable)) = (self, view.encoding.tunable()) else {
            return None;
        };
        let mut bytes = view.bytes.to_vec();
        tunable.write_codes(&blocks.rounded(), &mut bytes);
        let by = numbers(&blocks.by);
        let factors = tunable.factors();
        let all = bytes.chunks_exact_mut(view.encoding.block_bytes()).zip(by.chunks(factors.len()));
        for (block, by) in all {
            for (&at, by) in factors.iter().zip(by) {
                let half = [block[at], block[at + 1]];
                let learned = f16::from_f32(f16::from_le_bytes(half).to_f32() * by);
                // What half precision cannot hold stays what it was.
                if learned.is_finite() {
                    block[at..at + 2].copy_from_slice(&learned.to_le_bytes());
                }
            }
        }
        (bytes != *view.bytes).then_some(bytes)
    }
}

impl<B: Backend> Blocks<B> {
    fn new(
        view: &WeightView<'_>,
        tunable: &dyn Tunable,
        before: &[f32],
        device: &B::Device,
    ) -> Self {
        let WeightView { encoding, rows, cols, .. } = *view;
        let grid = encoding.grid().expect("what has codes has an integer view");
        let (n, shape) = (rows * cols, [rows, cols]);
        let n_groups = n / grid.group_len;
        let (mut found, mut scales) = (vec![0; n], vec![0.0; n_groups]);
        let mut mins = vec![0.0; if grid.has_min { n_groups } else { 0 }];
        encoding.read_grid(&view.bytes, &mut found, &mut scales, &mut mins);
        let (codes, step) = (tunable.codes(), tunable.codes().step());
        let latent = |(i, &code): (usize, &i8)| {
            let group = i / grid.group_len;
            let exact = (before[i] - mins.get(group).unwrap_or(&0.0)) / scales[group];
            // Within what is rounded to the code that was chosen, perhaps for other reasons than
            // that it is the nearest.
            let (low, high) = codes.cell(code);
            let margin = MARGIN * step;
            let latent = if exact.is_finite() { exact } else { f32::from(code) };
            latent.clamp(low + margin, high - margin) / step
        };
        let latent = found.par_iter().enumerate().map(latent).collect();
        let spread = |of: &[f32], by: f32| (0..n).map(|i| of[i / grid.group_len] * by).collect();
        let factors = [n / encoding.block_len(), tunable.factors().len()];
        Self {
            encoding,
            codes,
            by: Tensor::ones(factors, device),
            latent: matrix(latent, shape, device),
            unit: matrix(spread(&scales, step), shape, device),
            min: grid.has_min.then(|| matrix(spread(&mins, 1.0), shape, device)),
        }
    }

    /// Rows of as many values as a block has.
    fn per_block(&self, values: Tensor<B, 2>) -> Tensor<B, 2> {
        let ([rows, cols], len) = (values.dims(), self.encoding.block_len());
        values.reshape([rows * cols / len, len])
    }

    /// The codes.
    fn rounded(&self) -> Vec<i8> {
        let step = self.codes.step();
        numbers(&self.latent).par_iter().map(|x| self.codes.nearest(x * step)).collect()
    }

    /// What codes are worth with the first factor as it was, `[rows, cols]`.
    fn coded(&self) -> Tensor<B, 2> {
        let step = self.codes.step();
        let latent = numbers(&self.latent);
        let rounded =
            latent.par_iter().map(|x| f32::from(self.codes.nearest(x * step)) / step).collect();
        matrix(rounded, self.unit.dims(), &self.unit.device()) * self.unit.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use std::borrow::Cow;
    use sterna_formats::encodings::ENCODINGS;
    use sterna_formats::encodings::float32::F32;

    const SHAPE: [usize; 2] = [3, 512];
    const ID: WeightId = WeightId(0);

    /// One matrix in an encoding.
    struct One(EncodingRef, Vec<u8>);

    impl One {
        fn new(encoding: EncodingRef, values: &[f32]) -> Self {
            let mut bytes = vec![0; SHAPE[0] * encoding.row_bytes(SHAPE[1])];
            encoding.encode(values, None, &mut bytes);
            Self(encoding, bytes)
        }
    }

    impl WeightSource for One {
        fn weight(&self, _id: WeightId) -> WeightView<'_> {
            let [rows, cols] = SHAPE;
            WeightView { encoding: self.0, rows, cols, bytes: Cow::Borrowed(&self.1) }
        }

        fn encoding(&self, _id: WeightId) -> EncodingRef {
            self.0
        }
    }

    fn wave(seed: usize) -> Vec<f32> {
        let n = SHAPE[0] * SHAPE[1];
        (0..n).map(|i| ((i * 7919 + seed * 31) % 1009) as f32 / 1009.0 - 0.5).collect()
    }

    fn near(a: &[f32], b: &[f32], least: f32) {
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= least;
        assert!(a.iter().zip(b).all(is_near), "{:?} {:?}", &a[..8], &b[..8]);
    }

    /// Every encoding that learns, as stored and as read.
    fn each(check: impl Fn(EncodingRef, &One, Stored<Flex>)) {
        for encoding in ENCODINGS.iter().filter(|encoding| encoding.tunable().is_some()) {
            let stored = One::new(*encoding, &wave(1));
            let original = One::new(&F32, &wave(1));
            let read = Stored::<Flex>::new(ID, &stored, &original, &Default::default());
            check(*encoding, &stored, read);
        }
    }

    #[test]
    fn what_has_learned_nothing_is_what_was_stored() {
        each(|encoding, stored, read| {
            near(&numbers(&read.seen()), &stored.weight(ID).to_f32(), 1e-6);
            assert_eq!(read.bytes(&stored.weight(ID)), None, "{encoding:?}");
        });
        let float = One::new(&F32, &wave(1));
        let fixed = Stored::<Flex>::new(ID, &float, &float, &Default::default());
        assert_eq!(numbers(&fixed.seen()), wave(1));
        assert!(
            fixed.gradients(fixed.seen()).is_none() && fixed.bytes(&float.weight(ID)).is_none()
        );
    }

    // proves S-7 (a quantized student): the file holds what the forward pass saw when it learned.
    #[test]
    fn what_was_learned_is_what_is_stored_then() {
        each(|encoding, stored, mut read| {
            let before = numbers(&read.seen());
            let latent = read.get(Part::Codes);
            let moved = matrix(wave(2), SHAPE, &latent.device()) * 1.5;
            read.set(Part::Codes, latent + moved);
            let by = read.get(Part::Factors);
            let cycle = (0..by.dims()[0] * by.dims()[1]).map(|i| 1.0 + (i % 5) as f32 * 0.01);
            read.set(Part::Factors, matrix(cycle.collect(), by.dims(), &by.device()));
            let seen = numbers(&read.seen());
            assert_ne!(seen, before);
            let bytes = read.bytes(&stored.weight(ID)).expect("it has learned");
            let after = One(encoding, bytes).weight(ID).to_f32();
            // Factors are rounded to half precision.
            near(&seen, &after, 2e-3 * seen.iter().fold(0.0, |max, v| v.abs().max(max)));
        });
    }

    #[test]
    fn gradients_are_those_of_what_is_seen() {
        each(|encoding, _, mut read| {
            let of_weight = matrix::<Flex>(wave(3), SHAPE, &Default::default());
            let (factors, codes) = read.gradients(of_weight.clone()).expect("it learns");
            let loss = |read: &Stored<Flex>| -> f32 {
                numbers(&(read.seen() * of_weight.clone()).sum().reshape([1, 1]))[0]
            };
            let (start, by) = (loss(&read), read.get(Part::Factors));
            // All factors a hundredth larger.
            read.set(Part::Factors, by.clone() * 1.01);
            let foretold = numbers(&factors).iter().sum::<f32>() * 0.01;
            assert!((loss(&read) - start - foretold).abs() < 1e-3, "{encoding:?}");
            read.set(Part::Factors, by);
            // One value a code lower or higher, to where it is not clipped.
            let (latent, place) = (numbers(&read.get(Part::Codes)), 700);
            let mut moved = latent.clone();
            moved[place] += if latent[place] > 0.5 { -1.0 } else { 1.0 };
            read.set(Part::Codes, matrix(moved.clone(), SHAPE, &Default::default()));
            let Stored::Blocks(blocks) = &read else { unreachable!() };
            // By how many steps the code really went, which a table has of several lengths.
            let step = blocks.codes.step();
            let code = |x: f32| f32::from(blocks.codes.nearest(x * step)) / step;
            let foretold = numbers(&codes)[place] * (code(moved[place]) - code(latent[place]));
            assert!((loss(&read) - start - foretold).abs() < 1e-4, "{encoding:?}");
        });
    }
}
