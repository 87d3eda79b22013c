//! Elementwise pieces shared by kernels, each defined once for all ISAs.

use crate::isa::Isa;

/// `e^x` to about 1 ulp, by range reduction and a degree-6 polynomial (coefficients 1/n!); exactly
/// 0 below -87, and x is capped at 88.
#[inline(always)]
pub fn exp<I: Isa>(isa: I, x: I::F) -> I::F {
    let high = isa.splat(88.0);
    exp_of_capped(isa, x, isa.select_lt(high, x, high, x))
}

/// [`exp`] of what is never above zero, in fewer steps: the same bits.
#[inline(always)]
pub fn exp_of_nonpositive<I: Isa>(isa: I, x: I::F) -> I::F {
    exp_of_capped(isa, x, x)
}

/// `e^x`, where `capped` is `x`, at most 88.
#[inline(always)]
fn exp_of_capped<I: Isa>(isa: I, x: I::F, capped: I::F) -> I::F {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: the first has few enough bits that n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let low = isa.splat(-87.0);
    let capped = isa.max(low, capped);
    let n = isa.round(isa.mul(capped, isa.splat(LOG2_E)));
    let r = isa.fma(n, isa.splat(-LN2_HIGH), capped);
    let r = isa.fma(n, isa.splat(-LN2_LOW), r);
    let mut p = isa.splat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = isa.fma(p, r, isa.splat(c));
    }
    isa.select_lt(x, low, isa.splat(0.0), isa.mul(p, isa.exp2_int(n)))
}
