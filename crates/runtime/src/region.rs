//! Memory from the system: zeroed, 64-byte aligned, and resident only where it was touched.

use crate::RuntimeError;
use memmap2::{Advice, MmapMut};
use sterna_kernels::Line;

/// Anonymous memory.
pub struct Lines {
    map: MmapMut,
    n_lines: usize,
}

impl Lines {
    /// `n_lines` of zeros, of which nothing is resident yet; `what` names them in the error.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn zeroed(n_lines: usize, what: &'static str) -> Result<Self, RuntimeError> {
        let bytes = n_lines.max(1) * size_of::<Line>();
        let map = MmapMut::map_anon(bytes).map_err(|e| RuntimeError::Memory {
            bytes,
            what,
            reason: e.to_string(),
        })?;
        Ok(Self { map, n_lines })
    }

    /// Asks for huge pages, which save page-table walks in what is read as a whole again and again.
    /// Advice that the system does not take changes nothing.
    pub fn advise_huge_pages(&self) {
        let _ = self.map.advise(Advice::HugePage);
    }

    /// To read.
    pub fn lines(&self) -> &[Line] {
        &bytemuck::cast_slice(&self.map)[..self.n_lines]
    }

    /// To write.
    pub fn lines_mut(&mut self) -> &mut [Line] {
        &mut bytemuck::cast_slice_mut(&mut self.map)[..self.n_lines]
    }

    /// To write, as f32.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.lines_mut())
    }

    /// Bytes, resident or not.
    pub fn bytes(&self) -> usize {
        self.n_lines * size_of::<Line>()
    }
}
