//! Codes of 1, 2 or 4 bits side by side in bytes, in the one pattern that all of ggml's layouts
//! use.
//!
//! `WIDTH` bytes hold `8 / BITS` planes of `WIDTH` codes each: plane 0 lies in the lowest bits of
//! the bytes and is the first `WIDTH` codes, plane 1 in the next bits and is the next `WIDTH`
//! codes, and so on. `unpack::<4, 16>` is the layout of Q4_0; `WIDTH` 1 is plain little-endian bit
//! order.

/// Spreads packed bytes into `bytes.len() * 8 / BITS` codes.
pub fn unpack<const BITS: usize, const WIDTH: usize>(bytes: &[u8], codes: &mut [i8]) {
    debug_assert_eq!(bytes.len() * 8 / BITS, codes.len());
    let mask = ((1u32 << BITS) - 1) as u8;
    let runs = codes.chunks_exact_mut(WIDTH * 8 / BITS);
    for (bytes, codes) in bytes.chunks_exact(WIDTH).zip(runs) {
        for (plane, codes) in codes.chunks_exact_mut(WIDTH).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = (byte >> (plane * BITS) & mask) as i8;
            }
        }
    }
}

/// The inverse of [`unpack`]: keeps the lowest `BITS` bits of each code.
pub fn pack<const BITS: usize, const WIDTH: usize>(codes: &[u8], bytes: &mut [u8]) {
    debug_assert_eq!(bytes.len() * 8 / BITS, codes.len());
    let mask = ((1u32 << BITS) - 1) as u8;
    bytes.fill(0);
    let runs = codes.chunks_exact(WIDTH * 8 / BITS);
    for (bytes, codes) in bytes.chunks_exact_mut(WIDTH).zip(runs) {
        for (plane, codes) in codes.chunks_exact(WIDTH).enumerate() {
            for (byte, code) in bytes.iter_mut().zip(codes) {
                *byte |= (code & mask) << (plane * BITS);
            }
        }
    }
}

/// Codes as packings keep them: how far each is above the least.
pub fn above<const N: usize>(least: i8, codes: &[i8]) -> [u8; N] {
    std::array::from_fn(|i| (codes[i] - least) as u8)
}
