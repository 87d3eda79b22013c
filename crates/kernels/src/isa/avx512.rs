//! AVX-512 (F, BW, VL, DQ): one register per vector; int8 dots through VNNI and bf16 dots through
//! BF16 where present.

use super::amx::{self, AmxTiles};
use super::{Isa, Kernel, Line, on_cpu, scalar};
use std::arch::x86_64::*;
use std::mem::transmute;

/// Exists only on a CPU with AVX-512 F, BW, VL and DQ (and VNNI, usable AMX tiles, and BF16, where
/// so named).
#[derive(Clone, Copy)]
pub struct Avx512<const VNNI: bool, const TILES: bool = false, const BF16: bool = false>(());

impl<const VNNI: bool, const TILES: bool, const BF16: bool> Avx512<VNNI, TILES, BF16> {
    /// The token, if this CPU has the instructions.
    pub fn detect() -> Option<Self> {
        let base = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let vnni = !(VNNI || BF16) || is_x86_feature_detected!("avx512vnni");
        let bf16 = !BF16 || is_x86_feature_detected!("avx512bf16");
        (base && vnni && bf16 && (!TILES || amx::usable())).then_some(Self(()))
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c")]
fn run_bf16<K: Kernel, const TILES: bool>(isa: Avx512<true, TILES, true>, kernel: K) -> K::Out {
    kernel.run(isa)
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn run_vnni<K: Kernel, const TILES: bool>(isa: Avx512<true, TILES>, kernel: K) -> K::Out {
    kernel.run(isa)
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
fn run_plain<K: Kernel, const TILES: bool>(isa: Avx512<false, TILES>, kernel: K) -> K::Out {
    kernel.run(isa)
}

/// Nearest, ties to even, no exceptions.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

impl<const VNNI: bool, const TILES: bool, const BF16: bool> Isa for Avx512<VNNI, TILES, BF16> {
    const REGISTERS: usize = 32;
    const TILES: bool = TILES;
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    /// Sums of 32 bits with VNNI; two of 16 bits a lane without.
    type Short = __m512i;
    const SHORT_MAX: i32 = if VNNI { i32::MAX } else { i16::MAX as i32 };
    type Tiles = AmxTiles;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> K::Out {
        // Every CPU with BF16 has VNNI.
        if BF16 && K::UNITS {
            on_cpu!(run_bf16(Avx512::<true, TILES, true>(()), kernel))
        } else if VNNI && K::UNITS {
            on_cpu!(run_vnni(Avx512::<true, TILES>(()), kernel))
        } else if VNNI {
            on_cpu!(run_vnni(Avx512::<true, false>(()), kernel))
        } else {
            on_cpu!(run_plain(Avx512::<false, TILES>(()), kernel))
        }
    }

    #[inline(always)]
    fn tiles(self, quads: usize) -> Option<AmxTiles> {
        // Where the token says so, the tiles were found usable.
        TILES.then(|| on_cpu!(AmxTiles::new(quads)))
    }
    #[inline(always)]
    fn tiles_bf16(self, rest: usize) -> Option<AmxTiles> {
        TILES.then(|| on_cpu!(AmxTiles::for_bf16(rest)))
    }
    #[inline(always)]
    fn prefetch<T>(self, from: &[T], at: usize) {
        on_cpu!(_mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(at).cast()))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        on_cpu!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> __m512 {
        on_cpu!(_mm512_loadu_ps(from.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; 16]) {
        on_cpu!(_mm512_storeu_ps(to.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> __m512 {
        on_cpu!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> __m512 {
        on_cpu!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn to_f16(self, x: __m512) -> [u16; 16] {
        let mut out = [0u16; 16];
        on_cpu!({
            let half = _mm512_cvtps_ph::<NEAREST>(x);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), half)
        });
        out
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; 16]) -> __m512 {
        on_cpu!(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_i8(self, from: &[u8; 16]) -> __m512 {
        on_cpu!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        on_cpu!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        on_cpu!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        on_cpu!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        on_cpu!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        on_cpu!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        on_cpu!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        on_cpu!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn abs(self, x: __m512) -> __m512 {
        on_cpu!(_mm512_abs_ps(x))
    }
    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        on_cpu!(_mm512_roundscale_ps::<NEAREST>(x))
    }
    #[inline(always)]
    fn exp2_int(self, x: __m512) -> __m512 {
        on_cpu!({
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        on_cpu!({
            let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            super::avx2::sum_eight(eight)
        })
    }
    #[inline(always)]
    fn max_lane(self, x: __m512) -> f32 {
        on_cpu!({
            let eight = _mm256_max_ps(_mm512_extractf32x8_ps::<1>(x), _mm512_castps512_ps256(x));
            super::avx2::max_eight(eight)
        })
    }
    #[inline(always)]
    fn to_i8(self, x: __m512) -> [i8; 16] {
        let mut out = [0i8; 16];
        on_cpu!({
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes)
        });
        out
    }

    #[inline(always)]
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        on_cpu!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> __m512i {
        on_cpu!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn as_i(self, x: __m512i) -> __m512i {
        x
    }
    #[inline(always)]
    fn lanes(self, x: __m512i) -> [i32; 16] {
        let mut out = [0; 16];
        on_cpu!(_mm512_storeu_si512(out.as_mut_ptr().cast(), x));
        out
    }
    #[inline(always)]
    fn to_f(self, x: __m512i) -> __m512 {
        on_cpu!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn dot(self, sum: __m512i, w: __m512i, a: i32) -> __m512i {
        on_cpu!({
            let a = _mm512_set1_epi32(a);
            if VNNI {
                return _mm512_dpbusd_epi32(sum, w, a);
            }
            // Even and odd bytes apart as 16-bit numbers: products and pair sums fit in i32.
            let w_even = _mm512_and_si512(w, _mm512_set1_epi16(0xff));
            let w_odd = _mm512_srli_epi16::<8>(w);
            let a_even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(a));
            let a_odd = _mm512_srai_epi16::<8>(a);
            let even = _mm512_madd_epi16(w_even, a_even);
            _mm512_add_epi32(sum, _mm512_add_epi32(even, _mm512_madd_epi16(w_odd, a_odd)))
        })
    }
    #[inline(always)]
    fn begin(self, sum: __m512i) -> __m512i {
        if VNNI { sum } else { self.splat_i(0) }
    }
    #[inline(always)]
    fn dot_short(self, sums: __m512i, w: __m512i, a: i32) -> __m512i {
        if VNNI {
            return self.dot(sums, w, a);
        }
        on_cpu!(_mm512_add_epi16(sums, _mm512_maddubs_epi16(w, _mm512_set1_epi32(a))))
    }
    #[inline(always)]
    fn end(self, sum: __m512i, sums: __m512i) -> __m512i {
        if VNNI { sums } else { self.dot_pairs(sum, sums, 0x0001_0001) }
    }
    #[inline(always)]
    fn even(self, x: __m512i) -> __m512i {
        on_cpu!(_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x)))
    }
    #[inline(always)]
    fn odd(self, x: __m512i) -> __m512i {
        on_cpu!(_mm512_srai_epi16::<8>(x))
    }
    #[inline(always)]
    fn dot_pairs(self, sum: __m512i, w: __m512i, a: i32) -> __m512i {
        on_cpu!(_mm512_add_epi32(sum, _mm512_madd_epi16(w, _mm512_set1_epi32(a))))
    }

    #[inline(always)]
    fn dot_bf16(self, sum: __m512, w: __m512i, x: i32) -> __m512 {
        if BF16 {
            // 32 bf16 each, which is another type of the same register.
            let bf16 = |x| on_cpu!(transmute::<__m512i, __m512bh>(x));
            return on_cpu!(_mm512_dpbf16_ps(sum, bf16(w), bf16(_mm512_set1_epi32(x))));
        }
        scalar::dot_bf16_on(self, sum, w, x)
    }
    #[inline(always)]
    fn join_halves(self, a: __m512i, b: __m512i) -> [__m512i; 2] {
        let upper = 0xaaaa_aaaa;
        on_cpu!([
            _mm512_mask_blend_epi16(upper, _mm512_srli_epi32::<16>(a), b),
            _mm512_mask_blend_epi16(upper, a, _mm512_slli_epi32::<16>(b)),
        ])
    }
    #[inline(always)]
    fn load_b(self, from: &Line) -> __m512i {
        on_cpu!(_mm512_load_si512(from.0.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_b(self, x: __m512i, to: &mut Line) {
        on_cpu!(_mm512_store_si512(to.0.as_mut_ptr().cast(), x))
    }
    #[inline(always)]
    fn shr_and<const SHIFT: u32>(self, x: __m512i, mask: u8) -> __m512i {
        on_cpu!(_mm512_and_si512(_mm512_srli_epi16::<SHIFT>(x), _mm512_set1_epi8(mask as i8)))
    }
    #[inline(always)]
    fn shl_and<const SHIFT: u32>(self, x: __m512i, mask: u8) -> __m512i {
        on_cpu!(_mm512_and_si512(_mm512_slli_epi16::<SHIFT>(x), _mm512_set1_epi8(mask as i8)))
    }
    #[inline(always)]
    fn add_b(self, x: __m512i, byte: i8) -> __m512i {
        on_cpu!(_mm512_add_epi8(x, _mm512_set1_epi8(byte)))
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        on_cpu!(_mm512_or_si512(a, b))
    }
}
