//! The vocabulary every kernel is written in: 16 lanes of f32 or i32 and lines of 64 bytes.
//!
//! A kernel is a [`Kernel`]: one generic body over an [`Isa`] token. A token exists only on a CPU
//! that has the instructions, so register arithmetic through it is sound; memory is reached through
//! fixed-size array references only. Every operation is defined by [`scalar::Scalar`], and the
//! other tokens return the same bits. This folder is the only home of SIMD intrinsics.

pub mod amx;
pub mod avx2;
pub mod avx512;
pub mod scalar;

/// The unit of packed weights: 64 bytes, four for each of 16 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

impl Line {
    /// All zeros.
    pub const ZERO: Line = Line([0; 64]);

    /// The first or second 32 bytes.
    #[inline(always)]
    pub fn half(&self, index: usize) -> &[u8; 32] {
        self.0[index * 32..][..32].try_into().expect("a line has two halves")
    }

    /// One of four 16-byte quarters.
    #[inline(always)]
    pub fn quarter(&self, index: usize) -> &[u8; 16] {
        self.0[index * 16..][..16].try_into().expect("a line has four quarters")
    }

    /// The line as 16 f32.
    #[inline(always)]
    pub fn floats(&self) -> &[f32; 16] {
        bytemuck::cast_ref(self)
    }

    /// The line as 16 f32, to write.
    #[inline(always)]
    pub fn floats_mut(&mut self) -> &mut [f32; 16] {
        bytemuck::cast_mut(self)
    }
}

/// Rows of activations in a full tile, on every ISA.
pub const TILE_ROWS: usize = 12;

/// The dots of a tile of rows with a pair of panels: `[panel][row]`, a lane per row of the panel.
pub type TileOut = [[Line; TILE_ROWS]; 2];

/// A unit that multiplies tiles of int8 or bf16, configured for groups of so many quads as long as
/// the value lives.
pub trait TileUnit {
    /// `out[p][t]`, lane `r`, becomes the sum over quads `q` of the dots of the four signed bytes
    /// `a[t * stride + q]` with the four signed bytes `4 * r..` of `w[q][p]`.
    fn dots(&self, a: &[i32], stride: usize, w: &[[Line; 2]], out: &mut TileOut);
    /// The dots of two groups of at most 16 quads, which overlap in time.
    fn dots_of_two(
        &self,
        a: [&[i32]; 2],
        stride: usize,
        w: [&[[Line; 2]]; 2],
        out: &mut [TileOut; 2],
    );
    /// Adds the dots of bf16 to the sums `[row][panel]` of a full tile of rows, or of as many as
    /// [`Isa::tiles_bf16`] was told of. A step is 16 words of each row, `a` being
    /// `[step][row][word]` and `w` `[step][word]`; a word is a number of either chain. The chains
    /// of a step, from zero and each sum flushed, are added up and then to the sum: see
    /// [`Isa::dot_bf16`].
    fn add_bf16(&self, a: &[i32], w: &[[Line; 2]], sums: &mut [[Line; 2]]);
}

/// Where there is no such unit.
pub enum NoTiles {}

impl TileUnit for NoTiles {
    fn dots(&self, _: &[i32], _: usize, _: &[[Line; 2]], _: &mut TileOut) {
        match *self {}
    }
    fn dots_of_two(&self, _: [&[i32]; 2], _: usize, _: [&[[Line; 2]]; 2], _: &mut [TileOut; 2]) {
        match *self {}
    }
    fn add_bf16(&self, _: &[i32], _: &[[Line; 2]], _: &mut [[Line; 2]]) {
        match *self {}
    }
}

/// A kernel body, generic over the ISA it runs on.
pub trait Kernel {
    /// What it returns.
    type Out;
    /// Whether it asks for units that only some CPUs with AVX-512 have: tiles, dots of bf16. Where
    /// not, it is compiled once for the tokens that differ in nothing else.
    const UNITS: bool = false;
    /// The body. Implementations and all they call are `#[inline(always)]`, so that the whole body
    /// is compiled with the features of [`Isa::run`].
    fn run<I: Isa>(self, isa: I) -> Self::Out;
}

/// An instruction set: a token, its vector types, and the operations on them.
pub trait Isa: Copy + Send + Sync + 'static {
    /// Vector registers: how many rows a kernel may keep in flight.
    const REGISTERS: usize;
    /// Whether there is a tile unit; codes of full tiles of rows then lie row by row.
    const TILES: bool = false;
    /// 16 lanes of f32.
    type F: Copy;
    /// 16 lanes of i32.
    type I: Copy;
    /// 64 bytes.
    type B: Copy;
    /// 16 lanes of sums of dots, each in two halves of perhaps few bits.
    type Short: Copy;
    /// The largest number that half a lane of [`Isa::Short`] holds: see [`Isa::dot_short`].
    const SHORT_MAX: i32;
    /// The tile unit.
    type Tiles: TileUnit;

    /// Runs a kernel compiled for this ISA.
    fn run<K: Kernel>(self, kernel: K) -> K::Out;

    /// The tile unit for groups of 4, 8, or a multiple of 16 quads, where [`Isa::TILES`].
    fn tiles(self, quads: usize) -> Option<Self::Tiles>;
    /// The tile unit for bf16, where [`Isa::TILES`]: for full tiles of rows, and for tiles of
    /// `rest` rows, 1 to [`TILE_ROWS`].
    fn tiles_bf16(self, rest: usize) -> Option<Self::Tiles>;
    /// Asks for the line of memory with entry `at`, which will be read soon; a place past the end
    /// is no error.
    fn prefetch<T>(self, from: &[T], at: usize);

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// Loads 16 values.
    fn load(self, from: &[f32; 16]) -> Self::F;
    /// Stores 16 values.
    fn store(self, x: Self::F, to: &mut [f32; 16]);
    /// Loads 16 little-endian f16.
    fn load_f16(self, from: &[u8; 32]) -> Self::F;
    /// Loads 16 little-endian bf16.
    fn load_bf16(self, from: &[u8; 32]) -> Self::F;
    /// Rounds 16 values to f16 (nearest, ties to even).
    fn to_f16(self, x: Self::F) -> [u16; 16];
    /// 16 unsigned bytes as f32.
    fn load_u8(self, from: &[u8; 16]) -> Self::F;
    /// 16 signed bytes as f32.
    fn load_i8(self, from: &[u8; 16]) -> Self::F;
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; `b` where the comparison fails (as x86 `max`).
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { x } else { y }`.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// `|x|`.
    fn abs(self, x: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, x: Self::F) -> Self::F;
    /// `2^x` for integral `x` in `[-126, 127]`.
    fn exp2_int(self, x: Self::F) -> Self::F;
    /// Lanes folded by halves: 8, 4, 2, 1.
    fn sum(self, x: Self::F) -> f32;
    /// The largest lane.
    fn max_lane(self, x: Self::F) -> f32;
    /// Rounds (ties to even) to i8; every lane is within `[-127, 127]`.
    fn to_i8(self, x: Self::F) -> [i8; 16];

    /// `a + b`, wrapping.
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// All lanes `x`.
    fn splat_i(self, x: i32) -> Self::I;
    /// 64 bytes as 16 little-endian i32.
    fn as_i(self, x: Self::B) -> Self::I;
    /// The lanes.
    fn lanes(self, x: Self::I) -> [i32; 16];
    /// Each lane as f32, rounded to nearest.
    fn to_f(self, x: Self::I) -> Self::F;
    /// Lane `r` gains the dot product of bytes `4r..4r+4` of `w` (unsigned) with the four bytes of
    /// `a` (signed). Exact: no intermediate saturates.
    fn dot(self, sum: Self::I, w: Self::B, a: i32) -> Self::I;
    /// What `sum` and some dots are summed in; [`Isa::end`] gives it back.
    fn begin(self, sum: Self::I) -> Self::Short;
    /// As [`Isa::dot`], as often between [`Isa::begin`] and [`Isa::end`] as [`short_dots`] allows:
    /// without VNNI it takes two instructions where [`Isa::dot`] takes more than four.
    fn dot_short(self, sums: Self::Short, w: Self::B, a: i32) -> Self::Short;
    /// `sum`, which [`Isa::begin`] was given, and the dots since.
    fn end(self, sum: Self::I, sums: Self::Short) -> Self::I;
    /// The even bytes, signed, as numbers of 16 bits.
    fn even(self, x: Self::B) -> Self::B;
    /// The odd bytes, signed, as numbers of 16 bits.
    fn odd(self, x: Self::B) -> Self::B;
    /// Lane `r` gains the dot product of the signed numbers of 16 bits `2r..2r+2` of `w` with the
    /// two of `a`; what they add fits a lane.
    fn dot_pairs(self, sum: Self::I, w: Self::B, a: i32) -> Self::I;

    /// Lane `r` gains the products of two pairs of bf16, one in bytes `4r..4r+4` of `w`, one in
    /// `x`: first that of their upper halves, then that of the lower. Each sum is rounded once, and
    /// flushed to zero where that leaves it below the least normal number. Inputs are normal or
    /// zero.
    #[inline(always)]
    fn dot_bf16(self, sum: Self::F, w: Self::B, x: i32) -> Self::F {
        scalar::dot_bf16_on(self, sum, w, x)
    }
    /// The upper halves of 16 words, those of `a` below those of `b`; then the lower halves.
    #[inline(always)]
    fn join_halves(self, a: Self::B, b: Self::B) -> [Self::B; 2] {
        let mut lines = [Line::ZERO; 4];
        self.store_b(a, &mut lines[0]);
        self.store_b(b, &mut lines[1]);
        let [a, b, upper, lower]: &mut [[u32; 16]; 4] = bytemuck::cast_mut(&mut lines);
        for r in 0..16 {
            upper[r] = a[r] >> 16 | b[r] & 0xffff_0000;
            lower[r] = a[r] & 0xffff | b[r] << 16;
        }
        [self.load_b(&lines[2]), self.load_b(&lines[3])]
    }
    /// Subnormal numbers as zeros of their sign, all others as they are.
    #[inline(always)]
    fn flush(self, x: Self::F) -> Self::F {
        let zero = self.mul(x, self.splat(0.0));
        self.select_lt(self.abs(x), self.splat(f32::MIN_POSITIVE), zero, x)
    }

    /// Loads 64 bytes.
    fn load_b(self, from: &Line) -> Self::B;
    /// Stores 64 bytes.
    fn store_b(self, x: Self::B, to: &mut Line);
    /// Each byte `(x >> SHIFT) & mask`.
    fn shr_and<const SHIFT: u32>(self, x: Self::B, mask: u8) -> Self::B;
    /// Each byte `(x << SHIFT) & mask`.
    fn shl_and<const SHIFT: u32>(self, x: Self::B, mask: u8) -> Self::B;
    /// Each byte plus `byte`, wrapping.
    fn add_b(self, x: Self::B, byte: i8) -> Self::B;
    /// Bitwise or.
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
}

/// How many dots with codes up to `max_code` an ISA's short sums hold. Half a lane gains two
/// products of a code with an activation of at most 127. At 0 there are none, and dots with such
/// codes go by pairs of 16-bit numbers where they are many. A power of two, as groups are.
pub const fn short_dots<I: Isa>(max_code: u8) -> usize {
    match I::SHORT_MAX / (2 * 127 * max_code as i32) {
        0 => 0,
        dots => 1 << dots.ilog2(),
    }
}

/// Evaluates intrinsics inside a token's method.
macro_rules! on_cpu {
    ($body:expr) => {
        // SAFETY: the method has `self`, a token that is made only after the CPU was found to have
        // the features, and references carry the sizes that loads and stores touch.
        unsafe { $body }
    };
}
pub(crate) use on_cpu;
