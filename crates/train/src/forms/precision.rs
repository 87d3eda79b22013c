//! Mixed precision: which numbers matrix products are computed in.
//!
//! Weights, moments, norms, softmax and losses are f32 always; only the operands and results of
//! matrix products are rounded (Micikevicius et al. 2018). bfloat16 has the range of f32, so that
//! losses need no scaling.

use crate::TrainError;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16: 8 bits of exponent, 7 of fraction.
    Bf16,
}

impl Precision {
    /// Checks that a backend's device computes in it.
    ///
    /// # Errors
    /// A sentence with the fix.
    pub fn check<B: Backend>(self, device: &B::Device) -> Result<(), TrainError> {
        if self == Self::Bf16 && !B::supports_dtype(device, DType::BF16) {
            return Err(TrainError::Input(format!(
                "the device {device:?} does not compute in bf16; leave out run.precision"
            )));
        }
        Ok(())
    }

    /// A product of matrices, as f32.
    pub fn matmul<B: Backend, const D: usize>(
        self,
        a: Tensor<B, D>,
        b: Tensor<B, D>,
    ) -> Tensor<B, D> {
        match self {
            Self::F32 => a.matmul(b),
            Self::Bf16 => {
                let (a, b) = (a.cast(FloatDType::BF16), b.cast(FloatDType::BF16));
                a.matmul(b).cast(FloatDType::F32)
            }
        }
    }
}
