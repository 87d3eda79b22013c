//! AMX: tiles of 16 columns of int8 and bf16 beside AVX-512's vectors.

use super::{Line, TILE_ROWS, TileOut, TileUnit};
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Whether CPU and kernel have int8 and bf16 tiles and let this process use them. Asks for the
/// permission.
pub fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(ask)
}

/// Asks CPU, kernel and permission, in this order.
fn ask() -> bool {
    // Leaf 7: bit 22 of edx is AMX-BF16, 24 AMX-TILE, 25 AMX-INT8; leaf 1: bit 27 of ecx is
    // OSXSAVE.
    const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    let has_osxsave = || __cpuid(1).ecx >> 27 & 1 == 1;
    if __cpuid(0).eax < 7 || !has_osxsave() || __cpuid_count(7, 0).edx & TILES != TILES {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE says that xgetbv exists; it reads a register.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    let _ = high;
    // Bits 17 and 18: the kernel saves tile configuration and tile data.
    low >> 17 & 3 == 3 && permitted()
}

/// Asks Linux to let this process use tile data: `arch_prctl(ARCH_REQ_XCOMP_PERM, 18)`.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    let result: i64;
    // SAFETY: the call takes two numbers, touches no memory of ours, and clobbers rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") 158i64 => result, in("rdi") 0x1023, in("rsi") 18,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// A configuration for `ldtilecfg`: palette 1, and bytes per row and rows of eight tiles.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Tiles 0 to 3 take dots, 4 and 5 rows of activations, 6 and 7 weights, `quads` quads each.
    const fn of(quads: u8) -> Self {
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        let mut i = 0;
        while i < 8 {
            (row_bytes[i], rows[i]) = match i {
                0..4 => (64, TILE_ROWS as u8),
                4..6 => (quads as u16 * 4, TILE_ROWS as u8),
                _ => (64, quads),
            };
            i += 1;
        }
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }

    /// For bf16: tiles 0 and 1 take sums of full tiles of rows, 2 and 3 those of `rest` rows, 4 and
    /// 5 the rows of either, 6 and 7 weights, 16 words each.
    const fn of_bf16(rest: usize) -> Self {
        let mut config = Self::of(16);
        (config.rows[2], config.rows[3], config.rows[5]) = (rest as u8, rest as u8, rest as u8);
        config
    }
}

/// For products of 4, 8 and 16 quads.
static CONFIGS: [Config; 3] = [Config::of(4), Config::of(8), Config::of(16)];

/// Tiles of this thread, configured for products of so many quads; dropping it lets them go.
pub struct AmxTiles {
    quads: usize,
    /// Rows of the smaller tiles.
    rest: usize,
    /// They belong to the thread that configured them.
    of_this_thread: PhantomData<*const ()>,
}

impl AmxTiles {
    /// Configures the tiles for groups of `quads` quads: 4, 8, or a multiple of 16.
    ///
    /// # Safety
    /// [`usable`] was true.
    #[inline(always)]
    pub(super) unsafe fn new(quads: usize) -> Self {
        assert!(quads == 4 || quads == 8 || quads > 0 && quads.is_multiple_of(16));
        let quads = quads.min(16);
        let config = &CONFIGS[quads / 8];
        // SAFETY: AMX is there and permitted, by the caller's promise; the configuration is valid.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) config, options(nostack, readonly)) };
        Self { quads, rest: TILE_ROWS, of_this_thread: PhantomData }
    }

    /// Tiles for bf16, of [`TILE_ROWS`] rows and of `rest` rows.
    ///
    /// # Safety
    /// [`usable`] was true.
    #[inline(always)]
    pub(super) unsafe fn for_bf16(rest: usize) -> Self {
        assert!(rest > 0 && rest <= TILE_ROWS);
        let config = Config::of_bf16(rest);
        // SAFETY: AMX is there and permitted, by the caller's promise; the configuration is valid.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) &config, options(nostack, readonly)) };
        Self { quads: 16, rest, of_this_thread: PhantomData }
    }
}

impl Drop for AmxTiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the tiles were configured on this thread; nothing else uses them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

impl TileUnit for AmxTiles {
    #[inline(always)]
    fn dots_of_two(
        &self,
        a: [&[i32]; 2],
        stride: usize,
        w: [&[[Line; 2]]; 2],
        out: &mut [TileOut; 2],
    ) {
        for i in 0..2 {
            assert!(w[i].len() == self.quads);
            assert!(a[i].len() >= (TILE_ROWS - 1) * stride + self.quads);
        }
        // SAFETY: the tiles are configured while `self` lives. A product reads `4 * quads` bytes of
        // TILE_ROWS rows `stride` quads apart, and `quads` pairs of lines: what the slices hold, as
        // asserted. Each tile of dots is one panel of `out`.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tileloadd tmm4, [{a0} + {stride}]",
                "tileloadd tmm6, [{w0} + {pair}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w0} + {pair} + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm5, [{a1} + {stride}]",
                "tileloadd tmm6, [{w1} + {pair}]",
                "tdpbssd tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{w1} + {pair} + 64]",
                "tdpbssd tmm3, tmm5, tmm7",
                "tilestored [{out} + {line}], tmm0",
                "tilestored [{out} + {line} + 64 * {rows}], tmm1",
                "tilestored [{out} + {line} + 128 * {rows}], tmm2",
                "tilestored [{out} + {line} + 192 * {rows}], tmm3",
                a0 = in(reg) a[0].as_ptr(),
                a1 = in(reg) a[1].as_ptr(),
                stride = in(reg) stride * 4,
                w0 = in(reg) w[0].as_ptr(),
                w1 = in(reg) w[1].as_ptr(),
                pair = in(reg) 128usize,
                line = in(reg) 64usize,
                out = in(reg) out.as_mut_ptr(),
                rows = const TILE_ROWS,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    fn dots(&self, a: &[i32], stride: usize, w: &[[Line; 2]], out: &mut TileOut) {
        let n = w.len() / self.quads;
        assert!(n > 0 && w.len() == n * self.quads);
        assert!(a.len() >= (TILE_ROWS - 1) * stride + w.len());
        // SAFETY: as above; `n` products read what the slices hold, and all of `out` is written.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{a} + {stride}]",
                "tileloadd tmm6, [{w} + {pair}]",
                "tdpbssd tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{w} + {pair} + 64]",
                "tdpbssd tmm1, tmm4, tmm7",
                "add {a}, {a_step}",
                "add {w}, {w_step}",
                "dec {n}",
                "jnz 2b",
                "tilestored [{out} + {line}], tmm0",
                "tilestored [{out} + {line} + 64 * {rows}], tmm1",
                a = inout(reg) a.as_ptr() => _,
                a_step = in(reg) self.quads * 4,
                stride = in(reg) stride * 4,
                w = inout(reg) w.as_ptr() => _,
                w_step = in(reg) self.quads * 128,
                pair = in(reg) 128usize,
                n = inout(reg) n => _,
                line = in(reg) 64usize,
                out = in(reg) out.as_mut_ptr(),
                rows = const TILE_ROWS,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    #[inline(always)]
    fn add_bf16(&self, a: &[i32], w: &[[Line; 2]], sums: &mut [[Line; 2]]) {
        let (rows, n) = (sums.len(), w.len() / 16);
        assert!(self.quads == 16 && n > 0 && w.len() == n * 16 && a.len() == n * rows * 16);
        // The loop over tiles of some numbers: sums, rows, and sums' rows are all that differs.
        macro_rules! steps {
            ($one:literal, $other:literal, $rows:literal) => {
                // SAFETY: the tiles are configured while `self` lives, with so many rows. A step
                // reads 64 bytes of each row, one after the other, and 16 pairs of lines: what the
                // slices hold, as asserted. The sums' pairs are read and written whole.
                unsafe {
                    asm!(
                        concat!("tileloadd ", $one, ", [{sums} + {pair}]"),
                        concat!("tileloadd ", $other, ", [{sums} + {pair} + 64]"),
                        "2:",
                        concat!("tileloadd ", $rows, ", [{a} + {line}]"),
                        "tileloadd tmm6, [{w} + {pair}]",
                        concat!("tdpbf16ps ", $one, ", ", $rows, ", tmm6"),
                        "tileloadd tmm7, [{w} + {pair} + 64]",
                        concat!("tdpbf16ps ", $other, ", ", $rows, ", tmm7"),
                        "add {a}, {a_step}",
                        "add {w}, 2048",
                        "dec {n}",
                        "jnz 2b",
                        concat!("tilestored [{sums} + {pair}], ", $one),
                        concat!("tilestored [{sums} + {pair} + 64], ", $other),
                        a = inout(reg) a.as_ptr() => _,
                        a_step = in(reg) rows * 64,
                        w = inout(reg) w.as_ptr() => _,
                        n = inout(reg) n => _,
                        pair = in(reg) 128usize,
                        line = in(reg) 64usize,
                        sums = in(reg) sums.as_mut_ptr(),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    )
                }
            };
        }
        if rows == TILE_ROWS {
            steps!("tmm0", "tmm1", "tmm4");
        } else {
            assert!(rows == self.rest);
            steps!("tmm2", "tmm3", "tmm5");
        }
    }
}
