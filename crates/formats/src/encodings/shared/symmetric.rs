//! Searches the scales of codes around zero: `value = (scale * s) * code`, an integer `s` per
//! group.
//!
//! First each group finds the scale that it would like best, then the block finds the scale whose
//! multiples suit the groups, then both are improved in turn, always by the weighted squared error
//! of what will be decoded.

use super::weighted::{Group, Weighted, round};
use super::{Half, signed_max};

/// An encoding's codes and scales, as the search needs to know them.
pub struct Symmetric<'a, F> {
    /// The code nearest to a real number.
    pub nearest: F,
    /// Where to try putting the group's value farthest from zero, in codes.
    pub targets: &'a [f32],
    /// Values per group.
    pub group_len: usize,
    /// The smallest and the largest `s`.
    pub scale_range: (f32, f32),
}

/// What the search found.
pub struct SymmetricBlock {
    /// The block's scale.
    pub scale: Half,
    /// Each group's `s`.
    pub group_scales: [i8; 16],
    /// The codes.
    pub codes: [i8; 256],
}

/// A group's scale and the sums that a better block scale can be computed from.
#[derive(Clone, Copy, Default)]
struct Fit {
    /// The group's own scale, or its integer multiple of the block's.
    scale: f32,
    error: f32,
    code_value: f32,
    code_code: f32,
}

impl Fit {
    /// The one with the smaller error.
    fn or(self, other: Self) -> Self {
        if other.error < self.error { other } else { self }
    }
}

impl<F: Fn(f32) -> f32> Symmetric<'_, F> {
    /// The block nearest to `values`.
    pub fn search(&self, values: &[f32], importance: Option<&[f32]>) -> SymmetricBlock {
        let mut found =
            SymmetricBlock { scale: Half::new(0.0), group_scales: [0; 16], codes: [0; 256] };
        let Some(block) = Weighted::new(values, importance) else { return found };
        let mut wishes = [Fit::default(); 16];
        for (wish, group) in wishes.iter_mut().zip(block.groups(self.group_len)) {
            *wish = self.best_scale(group);
        }
        let wishes = &wishes[..values.len() / self.group_len];
        let mut scale = block.stored(self.block_scale(wishes));
        let (mut fits, mut error) = self.round_scales(&block, wishes, scale, 2);
        for _ in 0..3 {
            let better = block.stored(refit(&fits));
            let (new_fits, new_error) = self.round_scales(&block, wishes, better, 1);
            if new_error >= error {
                break;
            }
            (scale, fits, error) = (better, new_fits, new_error);
        }
        found.scale = block.half(scale);
        let codes = found.codes.chunks_exact_mut(self.group_len);
        for (i, (group, codes)) in block.groups(self.group_len).zip(codes).enumerate() {
            found.group_scales[i] = fits[i].scale as i8;
            let inverse = super::reciprocal(scale * fits[i].scale);
            for (code, x) in codes.iter_mut().zip(group.values) {
                *code = (self.nearest)(x * inverse) as i8;
            }
        }
        found
    }

    /// The scale of a block that is a single group.
    pub fn single_scale(&self, values: &[f32], importance: Option<&[f32]>) -> Half {
        let fit = |block: Weighted| {
            let fit = block.groups(values.len()).map(|group| self.best_scale(group)).next();
            block.half(fit.unwrap_or_default().scale)
        };
        Weighted::new(values, importance).map_or(Half::new(0.0), fit)
    }

    /// The scale with the least error if any real number could be stored.
    fn best_scale(&self, group: Group) -> Fit {
        let largest = signed_max(group.values);
        let mut best = Fit::default();
        if largest == 0.0 {
            return best;
        }
        for target in self.targets {
            best = best.or(self.fit_codes(group, target / largest));
        }
        best.or(self.fit_codes(group, super::reciprocal(best.scale)))
    }

    /// The best scale for the codes that a rough inverse scale leads to. Its error lacks the
    /// constant `sum(w x^2)`.
    fn fit_codes(&self, group: Group, inverse: f32) -> Fit {
        let [code_value, code_code] = group.sums(|x, w| {
            let code = (self.nearest)(x * inverse);
            [w * code * x, w * code * code]
        });
        if code_code <= 0.0 {
            return Fit::default();
        }
        let scale = code_value / code_code;
        Fit { scale, error: -scale * code_value, code_value, code_code }
    }

    /// The block scale whose integer multiples come nearest to the groups' wishes.
    fn block_scale(&self, wishes: &[Fit]) -> f32 {
        let mut scales = [0.0; 16];
        for (scale, wish) in scales.iter_mut().zip(wishes) {
            *scale = wish.scale;
        }
        let largest = signed_max(&scales);
        let mut best = (f32::INFINITY, 0.0);
        for end in [self.scale_range.0, self.scale_range.1] {
            for step in 0..8 {
                let scale = largest / (end * (1.0 - step as f32 / 32.0));
                let miss = |wish: &Fit| {
                    let (min, max) = self.scale_range;
                    let rounded = round((wish.scale / scale).clamp(min, max)) * scale;
                    (wish.scale - rounded).powi(2) * wish.code_code
                };
                let error = wishes.iter().map(miss).sum();
                if error < best.0 {
                    best = (error, scale);
                }
            }
        }
        best.1
    }

    /// Each group's best multiple of the block scale, among those within `reach` of its wish; and
    /// the error of the whole block.
    fn round_scales(
        &self,
        block: &Weighted,
        wishes: &[Fit],
        scale: f32,
        reach: i32,
    ) -> ([Fit; 16], f64) {
        let mut fits = [Fit::default(); 16];
        let mut total = 0.0;
        let groups = block.groups(self.group_len);
        for ((fit, wish), group) in fits.iter_mut().zip(wishes).zip(groups) {
            let (min, max) = self.scale_range;
            let middle = round((wish.scale / scale).clamp(min, max));
            fit.error = f32::INFINITY;
            for step in -reach..=reach {
                let multiple = middle + step as f32;
                if multiple < min || multiple > max {
                    continue;
                }
                *fit = fit.or(self.try_scale(group, scale, multiple));
            }
            total += f64::from(fit.error);
        }
        (fits, total)
    }

    fn try_scale(&self, group: Group, scale: f32, multiple: f32) -> Fit {
        let scale = scale * multiple;
        let inverse = super::reciprocal(scale);
        let [error, code_value, code_code] = group.sums(|x, w| {
            let code = (self.nearest)(x * inverse);
            let miss = x - scale * code;
            [w * miss * miss, w * code * x, w * code * code]
        });
        Fit { scale: multiple, error, code_value, code_code }
    }
}

/// The block scale with the least squared error for the groups' multiples and codes.
fn refit(fits: &[Fit]) -> f32 {
    let (mut up, mut down) = (0.0, 0.0);
    for fit in fits {
        up += f64::from(fit.scale * fit.code_value);
        down += f64::from(fit.scale * fit.scale * fit.code_code);
    }
    if down > 0.0 { (up / down) as f32 } else { 0.0 }
}
