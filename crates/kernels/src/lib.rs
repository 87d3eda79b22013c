//! Sterna: kernels.
