//! AVX2 with FMA and F16C: two registers per vector, rows 0..8 in the first.

use super::{Isa, Kernel, Line, NoTiles, on_cpu};
use std::arch::x86_64::*;

/// Exists only on a CPU with AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub struct Avx2(());

/// A 16-lane vector in two halves.
#[derive(Clone, Copy)]
pub struct Two<T>(T, T);

impl Avx2 {
    /// The token, if this CPU has the instructions.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(()))
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn run<K: Kernel>(isa: Avx2, kernel: K) -> K::Out {
    kernel.run(isa)
}

/// Folds eight lanes: 4, 2, 1.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_eight(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// The largest of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn max_eight(x: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_extractf128_ps::<1>(x), _mm256_castps256_ps128(x));
    let two = _mm_max_ps(_mm_movehl_ps(four, four), four);
    _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two))
}

/// Nearest, ties to even, no exceptions.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// One half of [`Isa::dot`].
#[inline]
#[target_feature(enable = "avx2")]
fn dot_half(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    // Even and odd bytes apart as 16-bit numbers: products and pair sums fit in i32.
    let w_even = _mm256_and_si256(w, _mm256_set1_epi16(0xff));
    let w_odd = _mm256_srli_epi16::<8>(w);
    let a_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a));
    let a_odd = _mm256_srai_epi16::<8>(a);
    let even = _mm256_madd_epi16(w_even, a_even);
    _mm256_add_epi32(sum, _mm256_add_epi32(even, _mm256_madd_epi16(w_odd, a_odd)))
}

/// Eight f32 from eight bytes, widened by `widen`.
macro_rules! both {
    ($x:ident, $f:expr) => {
        Two(on_cpu!($f($x.0)), on_cpu!($f($x.1)))
    };
    ($x:ident, $y:ident, $f:expr) => {
        Two(on_cpu!($f($x.0, $y.0)), on_cpu!($f($x.1, $y.1)))
    };
}

impl Isa for Avx2 {
    const REGISTERS: usize = 16;
    type F = Two<__m256>;
    type I = Two<__m256i>;
    type B = Two<__m256i>;
    /// Two sums of 16 bits a lane.
    type Short = Two<__m256i>;
    const SHORT_MAX: i32 = i16::MAX as i32;
    type Tiles = NoTiles;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Out {
        on_cpu!(run(self, kernel))
    }

    #[inline(always)]
    fn tiles(self, _quads: usize) -> Option<NoTiles> {
        None
    }
    #[inline(always)]
    fn tiles_bf16(self, _rest: usize) -> Option<NoTiles> {
        None
    }
    #[inline(always)]
    fn prefetch<T>(self, from: &[T], at: usize) {
        on_cpu!(_mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(at).cast()))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        let x = on_cpu!(_mm256_set1_ps(x));
        Two(x, x)
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> Self::F {
        let (low, high) = (from[..8].as_ptr(), from[8..].as_ptr());
        Two(on_cpu!(_mm256_loadu_ps(low)), on_cpu!(_mm256_loadu_ps(high)))
    }
    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; 16]) {
        let (low, high) = to.split_at_mut(8);
        on_cpu!(_mm256_storeu_ps(low.as_mut_ptr(), x.0));
        on_cpu!(_mm256_storeu_ps(high.as_mut_ptr(), x.1));
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> Self::F {
        let (low, high) = (from[..16].as_ptr(), from[16..].as_ptr());
        Two(
            on_cpu!(_mm256_cvtph_ps(_mm_loadu_si128(low.cast()))),
            on_cpu!(_mm256_cvtph_ps(_mm_loadu_si128(high.cast()))),
        )
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> Self::F {
        let (low, high) = (from[..16].as_ptr(), from[16..].as_ptr());
        let wide = on_cpu!(Two(
            _mm256_cvtepu16_epi32(_mm_loadu_si128(low.cast())),
            _mm256_cvtepu16_epi32(_mm_loadu_si128(high.cast())),
        ));
        both!(wide, |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x)))
    }
    #[inline(always)]
    fn to_f16(self, x: Self::F) -> [u16; 16] {
        let mut out = [0u16; 16];
        let (low, high) = out.split_at_mut(8);
        on_cpu!(_mm_storeu_si128(
            low.as_mut_ptr().cast(),
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0)
        ));
        on_cpu!(_mm_storeu_si128(
            high.as_mut_ptr().cast(),
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.1)
        ));
        out
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; 16]) -> Self::F {
        on_cpu!({
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            Two(
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))),
            )
        })
    }
    #[inline(always)]
    fn load_i8(self, from: &[u8; 16]) -> Self::F {
        on_cpu!({
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            Two(
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))),
            )
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(a, b, _mm256_add_ps)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(a, b, _mm256_sub_ps)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(a, b, _mm256_mul_ps)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(a, b, _mm256_div_ps)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        Two(on_cpu!(_mm256_fmadd_ps(a.0, b.0, c.0)), on_cpu!(_mm256_fmadd_ps(a.1, b.1, c.1)))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(a, b, _mm256_max_ps)
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        let mask = both!(a, b, _mm256_cmp_ps::<_CMP_LT_OQ>);
        Two(
            on_cpu!(_mm256_blendv_ps(y.0, x.0, mask.0)),
            on_cpu!(_mm256_blendv_ps(y.1, x.1, mask.1)),
        )
    }
    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        let sign = on_cpu!(_mm256_set1_ps(-0.0));
        Two(on_cpu!(_mm256_andnot_ps(sign, x.0)), on_cpu!(_mm256_andnot_ps(sign, x.1)))
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::F {
        both!(x, _mm256_round_ps::<NEAREST>)
    }
    #[inline(always)]
    fn exp2_int(self, x: Self::F) -> Self::F {
        let bias = on_cpu!(_mm256_set1_epi32(127));
        let exponent = both!(x, _mm256_cvtps_epi32);
        Two(
            on_cpu!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                exponent.0, bias
            )))),
            on_cpu!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                exponent.1, bias
            )))),
        )
    }
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        on_cpu!(sum_eight(_mm256_add_ps(x.0, x.1)))
    }
    #[inline(always)]
    fn max_lane(self, x: Self::F) -> f32 {
        on_cpu!(max_eight(_mm256_max_ps(x.1, x.0)))
    }
    #[inline(always)]
    fn to_i8(self, x: Self::F) -> [i8; 16] {
        let mut out = [0i8; 16];
        on_cpu!({
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.0), _mm256_cvtps_epi32(x.1));
            // packs works within 128-bit halves: put the four quarters back in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_packs_epi16(low, high))
        });
        out
    }

    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        both!(a, b, _mm256_add_epi32)
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        let x = on_cpu!(_mm256_set1_epi32(x));
        Two(x, x)
    }
    #[inline(always)]
    fn as_i(self, x: Self::B) -> Self::I {
        x
    }
    #[inline(always)]
    fn lanes(self, x: Self::I) -> [i32; 16] {
        let mut out = [0; 16];
        let (low, high) = out.split_at_mut(8);
        on_cpu!(_mm256_storeu_si256(low.as_mut_ptr().cast(), x.0));
        on_cpu!(_mm256_storeu_si256(high.as_mut_ptr().cast(), x.1));
        out
    }
    #[inline(always)]
    fn to_f(self, x: Self::I) -> Self::F {
        both!(x, _mm256_cvtepi32_ps)
    }
    #[inline(always)]
    fn dot(self, sum: Self::I, w: Self::B, a: i32) -> Self::I {
        let a = on_cpu!(_mm256_set1_epi32(a));
        Two(on_cpu!(dot_half(sum.0, w.0, a)), on_cpu!(dot_half(sum.1, w.1, a)))
    }
    #[inline(always)]
    fn begin(self, _sum: Self::I) -> Self::Short {
        self.splat_i(0)
    }
    #[inline(always)]
    fn dot_short(self, sums: Self::Short, w: Self::B, a: i32) -> Self::Short {
        let a = on_cpu!(_mm256_set1_epi32(a));
        Two(
            on_cpu!(_mm256_add_epi16(sums.0, _mm256_maddubs_epi16(w.0, a))),
            on_cpu!(_mm256_add_epi16(sums.1, _mm256_maddubs_epi16(w.1, a))),
        )
    }
    #[inline(always)]
    fn end(self, sum: Self::I, sums: Self::Short) -> Self::I {
        self.dot_pairs(sum, sums, 0x0001_0001)
    }
    #[inline(always)]
    fn even(self, x: Self::B) -> Self::B {
        both!(x, |x| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)))
    }
    #[inline(always)]
    fn odd(self, x: Self::B) -> Self::B {
        both!(x, _mm256_srai_epi16::<8>)
    }
    #[inline(always)]
    fn dot_pairs(self, sum: Self::I, w: Self::B, a: i32) -> Self::I {
        let a = on_cpu!(_mm256_set1_epi32(a));
        Two(
            on_cpu!(_mm256_add_epi32(sum.0, _mm256_madd_epi16(w.0, a))),
            on_cpu!(_mm256_add_epi32(sum.1, _mm256_madd_epi16(w.1, a))),
        )
    }

    #[inline(always)]
    fn load_b(self, from: &Line) -> Self::B {
        let (low, high) = (from.half(0).as_ptr(), from.half(1).as_ptr());
        Two(on_cpu!(_mm256_load_si256(low.cast())), on_cpu!(_mm256_load_si256(high.cast())))
    }
    #[inline(always)]
    fn store_b(self, x: Self::B, to: &mut Line) {
        let (low, high) = to.0.split_at_mut(32);
        on_cpu!(_mm256_store_si256(low.as_mut_ptr().cast(), x.0));
        on_cpu!(_mm256_store_si256(high.as_mut_ptr().cast(), x.1));
    }
    #[inline(always)]
    fn shr_and<const SHIFT: u32>(self, x: Self::B, mask: u8) -> Self::B {
        let mask = on_cpu!(_mm256_set1_epi8(mask as i8));
        on_cpu!({
            let count = _mm_cvtsi32_si128(SHIFT as i32);
            Two(
                _mm256_and_si256(_mm256_srl_epi16(x.0, count), mask),
                _mm256_and_si256(_mm256_srl_epi16(x.1, count), mask),
            )
        })
    }
    #[inline(always)]
    fn shl_and<const SHIFT: u32>(self, x: Self::B, mask: u8) -> Self::B {
        let mask = on_cpu!(_mm256_set1_epi8(mask as i8));
        on_cpu!({
            let count = _mm_cvtsi32_si128(SHIFT as i32);
            Two(
                _mm256_and_si256(_mm256_sll_epi16(x.0, count), mask),
                _mm256_and_si256(_mm256_sll_epi16(x.1, count), mask),
            )
        })
    }
    #[inline(always)]
    fn add_b(self, x: Self::B, byte: i8) -> Self::B {
        let byte = on_cpu!(_mm256_set1_epi8(byte));
        Two(on_cpu!(_mm256_add_epi8(x.0, byte)), on_cpu!(_mm256_add_epi8(x.1, byte)))
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        both!(a, b, _mm256_or_si256)
    }
}
