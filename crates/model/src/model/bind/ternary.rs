//! BitNet's matrices where files hold them in other forms than the graph computes with.
//!
//! In: such a tensor. Out: the ternary matrix, encoded as TQ2_0 where its rows fit (else F32),
//! which is exact because the scale is rounded to f16. The forms:
//!
//! * Floats that training works on, in Hugging Face checkpoints: rounded to ternary when used.
//! * Codes four to a byte beside their scale, in the packed checkpoints of Hugging Face. Layout and
//!   meaning are those of `transformers`' `AutoBitLinear`: bits `2i` and `2i + 1` of packed row `j`
//!   are 1 more than row `i * n + j` of the matrix, `n` being the packed rows, and codes are
//!   multiplied by the scale.
//! * I2_S, in bitnet.cpp's GGUF files, Microsoft's 2B4T release among them: of 128 values each
//!   byte `p` of 32 holds those at `p`, `32 + p`, `64 + p` and `96 + p`, the highest bits first,
//!   each as 1 more than its code; after all codes comes the scale as f32.

use super::named;
use crate::WeightDecl;
use sterna_formats::encodings::{by_name, float32::F32};
use sterna_formats::{Checkpoint, EncodingRef, FormatError, Stored, TensorInfo, ternarize};

/// Codes in a byte, and in Hugging Face's form rows of the matrix in one packed row.
const PER_BYTE: usize = 4;

/// bitnet.cpp's number for I2_S in GGUF files.
const I2_S: u32 = 36;
/// Values that I2_S packs together.
const I2_S_LEN: usize = 128;

/// A ternary matrix.
pub struct Ternary {
    /// The tensor it is made from.
    pub tensor: Box<TensorInfo>,
    cols: usize,
    form: Form,
}

enum Form {
    /// To be rounded.
    Floats(EncodingRef),
    /// Codes and their scale, an f16.
    Packed { scale: f32, scale_name: String },
    /// Codes and their scale, an f16, in bitnet.cpp's order.
    I2S { scale: f32 },
}

impl Ternary {
    /// Finds the matrix in a GGUF file; `None` where it is stored in an encoding.
    ///
    /// # Errors
    /// When the tensor is misshapen or damaged.
    pub fn find_i2_s(
        checkpoint: &Checkpoint,
        decl: &WeightDecl,
    ) -> Result<Option<Self>, FormatError> {
        let found = checkpoint.tensor(&decl.name);
        let Some(tensor) = found.filter(|t| matches!(t.stored, Stored::Unknown(I2_S))) else {
            return Ok(None);
        };
        let tensor = named(checkpoint, &tensor.name, &decl.shape)?;
        let error = |problem: String| {
            FormatError::new(checkpoint.file_of(tensor).path(), problem, "download it again")
        };
        let (bytes, n) = (checkpoint.bytes(tensor), tensor.n_values());
        let scale = bytes.get(n / PER_BYTE..).and_then(<[u8]>::first_chunk::<4>);
        let Some(scale) = scale.filter(|_| n.is_multiple_of(I2_S_LEN)) else {
            let len = bytes.len();
            let problem = format!("tensor {} has {len} bytes for {n} I2_S values", tensor.name);
            return Err(error(problem));
        };
        check_codes(checkpoint, tensor, &bytes[..n / PER_BYTE])?;
        let scale = f16_scale(f32::from_le_bytes(*scale))
            .map_err(|scale| error(format!("tensor {} has the scale {scale}", tensor.name)))?;
        let form = Form::I2S { scale };
        Ok(Some(Self { tensor: Box::new(tensor.clone()), cols: decl.matrix().1, form }))
    }

    /// Finds the matrix in a Hugging Face checkpoint.
    ///
    /// # Errors
    /// When the tensor or its scale is missing, misshapen or damaged.
    pub fn find(
        checkpoint: &Checkpoint,
        name: String,
        decl: &WeightDecl,
    ) -> Result<Self, FormatError> {
        let (rows, cols) = decl.matrix();
        let scale_name = format!("{name}_scale");
        let scale = checkpoint.tensor(&scale_name);
        let is_packed = |t: &TensorInfo| matches!(t.stored, Stored::Other("U8"));
        match checkpoint.tensor(&name) {
            Some(tensor) if is_packed(tensor) && rows.is_multiple_of(PER_BYTE) => {
                let tensor = named(checkpoint, &name, &[rows / PER_BYTE, cols])?;
                check_codes(checkpoint, tensor, checkpoint.bytes(tensor))?;
                let scale = read_scale(checkpoint, &scale_name)?;
                let form = Form::Packed { scale, scale_name };
                Ok(Self { tensor: Box::new(tensor.clone()), cols, form })
            }
            Some(tensor) if scale.is_some() => {
                let problem = format!(
                    "tensor {name} has a scale beside it but is stored as {}",
                    tensor.stored
                );
                Err(FormatError::new(checkpoint.file_of(tensor).path(), problem, USE_BF16))
            }
            _ => {
                let tensor = named(checkpoint, &name, &decl.shape)?;
                let form = Form::Floats(checkpoint.encoding(tensor)?);
                Ok(Self { tensor: Box::new(tensor.clone()), cols, form })
            }
        }
    }

    /// The name of the tensor that holds its scale, if there is one.
    pub fn scale_name(&self) -> Option<String> {
        match &self.form {
            Form::Packed { scale_name, .. } => Some(scale_name.clone()),
            Form::Floats(_) | Form::I2S { .. } => None,
        }
    }

    /// The encoding of [`Ternary::bytes`].
    pub fn encoding(&self) -> EncodingRef {
        let tq2_0 = by_name("TQ2_0").expect("TQ2_0 is registered");
        if tq2_0.fits(self.cols) { tq2_0 } else { &F32 }
    }

    /// The matrix, encoded.
    pub fn bytes(&self, checkpoint: &Checkpoint) -> Vec<u8> {
        let stored = checkpoint.bytes(&self.tensor);
        let values = match &self.form {
            Form::Floats(encoding) => {
                let mut values = vec![0.0; self.tensor.n_values()];
                encoding.decode(stored, &mut values);
                ternarize(&mut values);
                values
            }
            Form::Packed { scale, .. } => unpack(stored, *scale),
            Form::I2S { scale } => {
                unpack_i2_s(&stored[..self.tensor.n_values() / PER_BYTE], *scale)
            }
        };
        let encoding = self.encoding();
        let mut bytes = vec![0; values.len() / encoding.block_len() * encoding.block_bytes()];
        encoding.encode(&values, None, &mut bytes);
        bytes
    }
}

/// The matrix of packed rows: all first codes of the bytes, then all second ones, ...
fn unpack(packed: &[u8], scale: f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(packed.len() * PER_BYTE);
    for shift in [0, 2, 4, 6] {
        values.extend(packed.iter().map(|byte| (f32::from((byte >> shift) & 3) - 1.0) * scale));
    }
    values
}

/// The matrix of I2_S blocks.
fn unpack_i2_s(packed: &[u8], scale: f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(packed.len() * PER_BYTE);
    for block in packed.chunks_exact(I2_S_LEN / PER_BYTE) {
        for shift in [6, 4, 2, 0] {
            values.extend(block.iter().map(|byte| (f32::from((byte >> shift) & 3) - 1.0) * scale));
        }
    }
    values
}

/// Refuses the code 3, which stands for no ternary number.
fn check_codes(
    checkpoint: &Checkpoint,
    tensor: &TensorInfo,
    bytes: &[u8],
) -> Result<(), FormatError> {
    match bytes.iter().position(|byte| (byte & (byte >> 1)) & 0x55 != 0) {
        None => Ok(()),
        Some(at) => {
            let problem = format!("tensor {} has a code above 2 in byte {at}", tensor.name);
            let fix = "the file is damaged or packed otherwise; use the model's bf16 release";
            Err(FormatError::new(checkpoint.file_of(tensor).path(), problem, fix))
        }
    }
}

/// The one scale of a packed matrix, as an f16.
fn read_scale(checkpoint: &Checkpoint, name: &str) -> Result<f32, FormatError> {
    let tensor = named(checkpoint, name, &[1])?;
    let mut scale = [0.0];
    checkpoint.encoding(tensor)?.decode(checkpoint.bytes(tensor), &mut scale);
    f16_scale(scale[0]).map_err(|scale| {
        let problem = format!("tensor {name} is {scale}, no scale in the range of f16");
        FormatError::new(checkpoint.file_of(tensor).path(), problem, USE_BF16)
    })
}

/// The scale as an f16, or as it is where that is no positive number.
fn f16_scale(scale: f32) -> Result<f32, f32> {
    let rounded = half::f16::from_f32(scale).to_f32();
    if rounded.is_finite() && rounded > 0.0 { Ok(rounded) } else { Err(scale) }
}

const USE_BF16: &str = "use the model's bf16 release";

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the layout's own documentation.
    #[test]
    fn packed_rows_are_four_rows_each() {
        let packed = [0b1010_0001, 0b0001_1000, 0b1001_0000, 0b0000_1010];
        let want = [0, -1, -1, 1, -1, 1, -1, 1, 1, 0, 0, -1, 1, -1, 1, -1];
        assert_eq!(unpack(&packed, 0.5), want.map(|code| code as f32 * 0.5));
    }
}
