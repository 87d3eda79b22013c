//! Searches the scales and mins of codes from a min upwards:
//! `value = (scale * s) * code - (min * m)`, integers `s` and `m` per group.
//!
//! The same three steps as in `symmetric.rs`, for two numbers per group instead of one.

use super::Half;
use super::weighted::{Group, Weighted, round};

/// An encoding's codes and scales, as the search needs to know them. Codes reach from 0 to
/// `MAX_CODE`, a constant so that the inner loops are vector code.
pub struct Affine<'a, const MAX_CODE: u8> {
    /// How far inside a group's range to try putting its ends, in steps between codes.
    pub insets: &'a [f32],
    /// Values per group.
    pub group_len: usize,
    /// The largest `s` and `m`; the smallest is 0.
    pub max_scale: f32,
}

/// What the search found.
pub struct AffineBlock {
    /// The block's scale.
    pub scale: Half,
    /// The block's min.
    pub min: Half,
    /// Each group's `s`.
    pub group_scales: [u8; 16],
    /// Each group's `m`.
    pub group_mins: [u8; 16],
    /// The codes.
    pub codes: [u8; 256],
}

/// A group's scale and min, and the sums that better block ones can be computed from.
#[derive(Clone, Copy, Default)]
struct Fit {
    /// The group's own scale, or its integer multiple of the block's.
    scale: f32,
    /// What is subtracted: the group's own min, or its integer multiple of the block's.
    min: f32,
    error: f32,
    code: f32,
    code_code: f32,
    code_value: f32,
    value: f32,
    weight: f32,
}

impl Fit {
    /// The one with the smaller error.
    fn or(self, other: Self) -> Self {
        if other.error < self.error { other } else { self }
    }
}

impl<const MAX_CODE: u8> Affine<'_, MAX_CODE> {
    /// The block nearest to `values`.
    pub fn search(&self, values: &[f32], importance: Option<&[f32]>) -> AffineBlock {
        let zero = Half::new(0.0);
        let (group_scales, group_mins) = ([0; 16], [0; 16]);
        let mut found =
            AffineBlock { scale: zero, min: zero, group_scales, group_mins, codes: [0; 256] };
        let Some(block) = Weighted::new(values, importance) else { return found };
        let mut wishes = [Fit::default(); 16];
        for (wish, group) in wishes.iter_mut().zip(block.groups(self.group_len)) {
            *wish = self.best_fit(group);
        }
        let wishes = &wishes[..values.len() / self.group_len];
        let scale = self.block_scale(wishes.iter().map(|wish| (wish.scale, wish.code_code)));
        let min = self.block_scale(wishes.iter().map(|wish| (wish.min, wish.weight)));
        let mut scales = stored(&block, scale, min);
        let (mut fits, mut error) = self.round_scales(&block, wishes, scales);
        for _ in 0..3 {
            let (scale, min) = refit(&fits);
            let better = stored(&block, scale, min);
            let (new_fits, new_error) = self.round_scales(&block, wishes, better);
            if new_error >= error {
                break;
            }
            (scales, fits, error) = (better, new_fits, new_error);
        }
        found.scale = block.half(scales.0);
        found.min = if scales.1 == 0.0 { zero } else { block.half(scales.1) };
        let codes = found.codes.chunks_exact_mut(self.group_len);
        for (i, (group, codes)) in block.groups(self.group_len).zip(codes).enumerate() {
            found.group_scales[i] = fits[i].scale as u8;
            found.group_mins[i] = fits[i].min as u8;
            let inverse = super::reciprocal(scales.0 * fits[i].scale);
            let min = scales.1 * fits[i].min;
            for (code, x) in codes.iter_mut().zip(group.values) {
                *code = Self::nearest((x + min) * inverse) as u8;
            }
        }
        found
    }

    /// The scale and the min of a block that is a single group. This min may have either sign and
    /// is added.
    pub fn single_scales(&self, values: &[f32], importance: Option<&[f32]>) -> (f32, f32) {
        // Seen from the largest value the others lie below zero, where the search wants its min.
        let largest = values.iter().copied().fold(values[0], f32::max);
        let below = &mut [0.0; 256][..values.len()];
        for (below, x) in below.iter_mut().zip(values) {
            *below = x - largest;
        }
        let fit = |block: Weighted| {
            let fit = block.groups(values.len()).map(|group| self.best_fit(group)).next();
            let Fit { scale, min, .. } = fit.unwrap_or_default();
            (block.half(scale), Half::new(largest - block.restored(min)))
        };
        let (scale, min) =
            Weighted::new(below, importance).map_or((Half::new(0.0), Half::new(largest)), fit);
        (scale.get(), min.get())
    }

    fn nearest(x: f32) -> f32 {
        round(x.clamp(0.0, f32::from(MAX_CODE)))
    }

    /// The scale and min with the least error if any real numbers could be stored.
    fn best_fit(&self, group: Group) -> Fit {
        let (low, high) = group.range();
        let low = low.min(0.0);
        let [value, weight] = group.sums(|x, w| [w * x, w]);
        let constant = Fit { min: -low, value, weight, ..Fit::default() };
        if high <= low {
            return constant;
        }
        let step = (high - low) / f32::from(MAX_CODE);
        let mut best = Fit { error: f32::INFINITY, ..constant };
        for lower in self.insets {
            for upper in self.insets {
                let inverse = 1.0 / (step * (1.0 - (lower + upper) / f32::from(MAX_CODE)));
                best = best.or(self.fit_codes(group, constant, low + lower * step, inverse));
            }
        }
        for _ in 0..2 {
            let inverse = super::reciprocal(best.scale);
            best = best.or(self.fit_codes(group, constant, -best.min, inverse));
        }
        best
    }

    /// The best scale and min for the codes that a rough `low` and inverse scale lead to.
    fn fit_codes(&self, group: Group, base: Fit, low: f32, inverse: f32) -> Fit {
        let [code, code_code, code_value] = group.sums(|x, w| {
            let code = Self::nearest((x - low) * inverse);
            [w * code, w * code * code, w * code * x]
        });
        least_squares(Fit { code, code_code, code_value, ..base })
    }

    /// The block number whose integer multiples come nearest to what the groups wish, where each
    /// group says how much a miss costs.
    fn block_scale(&self, wishes: impl Iterator<Item = (f32, f32)> + Clone) -> f32 {
        let largest = wishes.clone().fold(0.0, |max: f32, (wish, _)| max.max(wish));
        let mut best = (f32::INFINITY, 0.0);
        for step in 0..12 {
            let scale = largest / (self.max_scale * (1.0 - step as f32 / 32.0));
            let miss = |(wish, cost): (f32, f32)| {
                let rounded = round((wish / scale).min(self.max_scale)) * scale;
                (wish - rounded).powi(2) * cost
            };
            let error = wishes.clone().map(miss).sum();
            if error < best.0 {
                best = (error, scale);
            }
        }
        best.1
    }

    /// Each group's best multiples of the block's scale and min, next to its wish; and the error of
    /// the whole block.
    fn round_scales(
        &self,
        block: &Weighted,
        wishes: &[Fit],
        scales: (f32, f32),
    ) -> ([Fit; 16], f64) {
        let mut fits = [Fit::default(); 16];
        let mut total = 0.0;
        let groups = block.groups(self.group_len);
        for ((fit, wish), group) in fits.iter_mut().zip(wishes).zip(groups) {
            *fit = self.round_group(group, wish, scales);
            total += f64::from(fit.error);
        }
        (fits, total)
    }

    fn round_group(&self, group: Group, wish: &Fit, (scale, min): (f32, f32)) -> Fit {
        let mut best = Fit { error: f32::INFINITY, ..Fit::default() };
        let middle = round((wish.scale * super::reciprocal(scale)).min(self.max_scale));
        for step in -1..=1 {
            let s = middle + step as f32;
            if s < 0.0 || s > self.max_scale {
                continue;
            }
            // The min that keeps the mean where it was, for the codes of the wish.
            let mean_min = (scale * s * wish.code - wish.value) / wish.weight;
            let m = (mean_min * super::reciprocal(min)).clamp(0.0, self.max_scale).floor();
            for m in [m, m + 1.0] {
                if m > self.max_scale {
                    continue;
                }
                let new = self.try_scales(group, wish, (scale * s, min * m));
                best = best.or(Fit { scale: s, min: m, ..new });
            }
        }
        best
    }

    fn try_scales(&self, group: Group, wish: &Fit, (scale, min): (f32, f32)) -> Fit {
        let inverse = super::reciprocal(scale);
        let [error, code, code_code, code_value] = group.sums(|x, w| {
            let code = Self::nearest((x + min) * inverse);
            let miss = x + min - scale * code;
            [w * miss * miss, w * code, w * code * code, w * code * x]
        });
        Fit { error, code, code_code, code_value, ..*wish }
    }
}

/// The scale and min that suit the fit's codes best. Its error then lacks the constant
/// `sum(w x^2)`.
fn least_squares(fit: Fit) -> Fit {
    let determinant = fit.weight * fit.code_code - fit.code * fit.code;
    if determinant > 0.0 {
        let scale = (fit.weight * fit.code_value - fit.value * fit.code) / determinant;
        let min = (fit.code * fit.code_value - fit.code_code * fit.value) / determinant;
        if min >= 0.0 {
            let error = min * fit.value - scale * fit.code_value;
            return Fit { scale, min, error, ..fit };
        }
    }
    if fit.code_code <= 0.0 {
        return Fit { error: f32::INFINITY, ..fit };
    }
    let scale = fit.code_value / fit.code_code;
    Fit { scale, min: 0.0, error: -scale * fit.code_value, ..fit }
}

/// The block scale and min with the least squared error for the groups' multiples and codes.
fn refit(fits: &[Fit]) -> (f32, f32) {
    // Minimizes sum(w (x - scale * u + min * v)^2) with u = s * code and v = m.
    let (mut uu, mut uv, mut vv, mut ux, mut vx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for fit in fits {
        let (s, m) = (f64::from(fit.scale), f64::from(fit.min));
        uu += s * s * f64::from(fit.code_code);
        uv += s * m * f64::from(fit.code);
        vv += m * m * f64::from(fit.weight);
        ux += s * f64::from(fit.code_value);
        vx += m * f64::from(fit.value);
    }
    let determinant = uu * vv - uv * uv;
    if determinant > 0.0 {
        let scale = (ux * vv - uv * vx) / determinant;
        let min = (uv * ux - uu * vx) / determinant;
        if scale > 0.0 && min > 0.0 {
            return (scale as f32, min as f32);
        }
    }
    if uu > 0.0 { ((ux / uu) as f32, 0.0) } else { (0.0, 0.0) }
}

fn stored(block: &Weighted, scale: f32, min: f32) -> (f32, f32) {
    (block.stored(scale), if min > 0.0 { block.stored(min) } else { 0.0 })
}
