//! The 6-bit scale and min of 8 groups in 12 bytes, as Q4_K and Q5_K store them.
//!
//! Bytes 0..4 hold the scales and bytes 4..8 the mins of groups 0..4 in their low 6 bits. Bytes
//! 8..12 hold the low nibbles (scale low, min high) of groups 4..8, whose two highest bits lie on
//! top of bytes 0..4 and 4..8.

/// The scales and mins of the 8 groups.
pub fn unpack_group_scales(bytes: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = bytes[i] & 63;
        mins[i] = bytes[i + 4] & 63;
        scales[i + 4] = bytes[i + 8] & 15 | bytes[i] >> 6 << 4;
        mins[i + 4] = bytes[i + 8] >> 4 | bytes[i + 4] >> 6 << 4;
    }
    (scales, mins)
}

/// The inverse of [`unpack_group_scales`], for numbers below 64.
pub fn pack_group_scales(scales: &[u8], mins: &[u8]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for i in 0..4 {
        bytes[i] = scales[i] | scales[i + 4] >> 4 << 6;
        bytes[i + 4] = mins[i] | mins[i + 4] >> 4 << 6;
        bytes[i + 8] = scales[i + 4] & 15 | mins[i + 4] << 4;
    }
    bytes
}
