//! The run-time table: which ISA this process computes with, and the borrow of output columns that
//! lets many workers write one buffer.

use crate::isa::{Isa, Kernel, avx2::Avx2, avx512::Avx512, scalar::Scalar};
use std::marker::PhantomData;
use std::ops::Range;

/// An instruction set that this CPU was found to have.
#[derive(Clone, Copy)]
pub struct Level(Token);

#[derive(Clone, Copy)]
enum Token {
    Scalar(Scalar),
    Avx2(Avx2),
    Avx512(Avx512<false>),
    Avx512Vnni(Avx512<true>),
    Amx(Avx512<true, true, true>),
}

/// The features of the levels with AVX-512, each with more of them.
const AVX512: [&str; 8] = [
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
];

/// The names `STERNA_ISA` takes, slowest first.
pub const ISAS: &[&str] = &["scalar", "avx2", "avx512", "amx"];

impl Level {
    /// The best this CPU has.
    pub fn detect() -> Self {
        ["amx", "avx512", "avx2"]
            .iter()
            .find_map(|name| Self::by_name(name).ok())
            .unwrap_or(Self::scalar())
    }

    /// The plain definition.
    pub fn scalar() -> Self {
        Level(Token::Scalar(Scalar))
    }

    /// The ISA of that name: `scalar`, `avx2`, `avx512` (with VNNI where present), `amx` (AVX-512
    /// with tiles of int8 and bf16).
    ///
    /// # Errors
    /// When the name is unknown or the CPU lacks the instructions.
    pub fn by_name(name: &str) -> Result<Self, String> {
        let token = match name {
            "scalar" => Some(Token::Scalar(Scalar)),
            "avx2" => Avx2::detect().map(Token::Avx2),
            "avx512" => Avx512::detect()
                .map(Token::Avx512Vnni)
                .or_else(|| Avx512::detect().map(Token::Avx512)),
            "amx" => Avx512::detect().map(Token::Amx),
            // For tests of the road without VNNI on a CPU that has it.
            "avx512-no-vnni" => Avx512::detect().map(Token::Avx512),
            _ => return Err(format!("no ISA is called {name}; choose one of {}", ISAS.join(", "))),
        };
        token.map(Level).ok_or_else(|| {
            format!(
                "this CPU lacks the instructions of {name}; leave STERNA_ISA unset to use the best"
            )
        })
    }

    /// Its name, as users give it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Token::Scalar(_) => "scalar",
            Token::Avx2(_) => "avx2",
            Token::Avx512(_) | Token::Avx512Vnni(_) => "avx512",
            Token::Amx(_) => "amx",
        }
    }

    /// The CPU features its kernels use.
    pub fn features(self) -> &'static [&'static str] {
        match self.0 {
            Token::Scalar(_) => &[],
            Token::Avx2(_) => &["avx2", "fma", "f16c"],
            Token::Avx512(_) => &AVX512[..4],
            Token::Avx512Vnni(_) if self.with_bf16().is_none() => &AVX512[..5],
            Token::Avx512Vnni(_) => &AVX512[..6],
            Token::Amx(_) => &AVX512,
        }
    }

    /// Whether dots of bf16 are worth their rounding here: the CPU and the ISA have them, or
    /// everything is computed in plain Rust.
    pub fn has_bf16_dots(self) -> bool {
        matches!(self.0, Token::Scalar(_) | Token::Amx(_)) || self.with_bf16().is_some()
    }

    /// AVX-512 with the instructions for bf16, which only kernels that need them are compiled for.
    fn with_bf16(self) -> Option<Avx512<true, false, true>> {
        match self.0 {
            Token::Avx512Vnni(_) => Avx512::detect(),
            _ => None,
        }
    }

    /// Runs a kernel with the instructions for bf16, where this ISA has them.
    #[inline]
    pub fn run_bf16<K: Kernel>(self, kernel: K) -> K::Out {
        match self.with_bf16() {
            Some(isa) => isa.run(kernel),
            None => self.run(kernel),
        }
    }

    /// Runs a kernel on this ISA.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self.0 {
            Token::Scalar(isa) => isa.run(kernel),
            Token::Avx2(isa) => isa.run(kernel),
            Token::Avx512(isa) => isa.run(kernel),
            Token::Avx512Vnni(isa) => isa.run(kernel),
            Token::Amx(isa) => isa.run(kernel),
        }
    }
}

/// Columns `columns` of a row-major `[n_rows, stride]` buffer, borrowed for writing. Workers hold
/// disjoint columns of one buffer at the same time.
pub struct ColumnsMut<'a> {
    first: *mut f32,
    n_rows: usize,
    stride: usize,
    n_columns: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a mutable borrow of its columns, and f32 may be written from any thread.
unsafe impl Send for ColumnsMut<'_> {}

impl<'a> ColumnsMut<'a> {
    /// Some columns of a buffer that nobody else uses meanwhile.
    pub fn new(buffer: &'a mut [f32], n_rows: usize, stride: usize, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= stride);
        assert!(n_rows * stride <= buffer.len());
        // SAFETY: the asserted range lies in `buffer`, which is borrowed for `'a`.
        unsafe { Self::from_raw(buffer.as_mut_ptr(), n_rows, stride, columns) }
    }

    /// Some columns of a buffer shared with other workers.
    ///
    /// # Safety
    /// `buffer` points to `n_rows * stride` values that live for `'a`; `columns` lie within the
    /// stride; and during `'a` nobody else touches these columns of these rows.
    pub unsafe fn from_raw(
        buffer: *mut f32,
        n_rows: usize,
        stride: usize,
        columns: Range<usize>,
    ) -> Self {
        // SAFETY: the start of the columns is in the buffer, by the caller's promise.
        let first = unsafe { buffer.add(columns.start) };
        Self { first, n_rows, stride, n_columns: columns.len(), life: PhantomData }
    }

    /// The columns of one row.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.n_rows);
        // SAFETY: the row is in the buffer, its columns are ours, and `&mut self` makes the borrow
        // the only one.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.n_columns) }
    }

    /// Some of the columns, for a shorter time.
    pub fn part(&mut self, columns: Range<usize>) -> ColumnsMut<'_> {
        assert!(columns.start <= columns.end && columns.end <= self.n_columns);
        // SAFETY: the columns are among ours, and `&mut self` lends them exclusively.
        let first = unsafe { self.first.add(columns.start) };
        let (n_rows, stride, n_columns) = (self.n_rows, self.stride, columns.len());
        ColumnsMut { first, n_rows, stride, n_columns, life: PhantomData }
    }

    /// Number of columns.
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Writes (or adds) lanes to columns `16 * group..`, as many as there are.
    #[inline(always)]
    pub(crate) fn store<I: Isa>(&mut self, isa: I, x: I::F, row: usize, group: usize, add: bool) {
        let to = &mut self.row(row)[group * 16..];
        if let Some(to) = to.first_chunk_mut::<16>() {
            let x = if add { isa.add(isa.load(to), x) } else { x };
            isa.store(x, to);
            return;
        }
        let mut lanes = [0.0; 16];
        isa.store(x, &mut lanes);
        for (to, lane) in to.iter_mut().zip(lanes) {
            *to = if add { *to + lane } else { lane };
        }
    }
}
