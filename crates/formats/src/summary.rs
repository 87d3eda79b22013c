//! A checkpoint's size in figures: in all, and by how its numbers are stored.

use crate::{Checkpoint, Stored};

/// What `inspect` shows of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// All tensors together.
    pub total: Share,
    /// Bytes of all files, with headers, metadata and padding.
    pub n_file_bytes: u64,
    /// The tensors of one encoding each, the most bytes first.
    pub shares: Vec<(Stored, Share)>,
}

/// Some tensors of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// How many there are.
    pub n_tensors: usize,
    /// How many values they have.
    pub n_values: u64,
    /// How many bytes these take.
    pub n_bytes: u64,
}

impl Share {
    /// Bits per value; `None` without values.
    pub fn bits(&self) -> Option<f64> {
        (self.n_values > 0).then(|| self.n_bytes as f64 * 8.0 / self.n_values as f64)
    }

    fn add(&mut self, n_values: usize, n_bytes: usize) {
        self.n_tensors += 1;
        self.n_values += n_values as u64;
        self.n_bytes += n_bytes as u64;
    }
}

impl Checkpoint {
    /// Sums up the tensors.
    pub fn summary(&self) -> Summary {
        let mut total = Share::default();
        let mut shares: Vec<(Stored, Share)> = Vec::new();
        for tensor in &self.tensors {
            total.add(tensor.n_values(), tensor.n_bytes);
            let at = shares.iter().position(|(stored, _)| *stored == tensor.stored);
            let at = at.unwrap_or_else(|| {
                shares.push((tensor.stored, Share::default()));
                shares.len() - 1
            });
            shares[at].1.add(tensor.n_values(), tensor.n_bytes);
        }
        shares.sort_by_key(|(_, share)| std::cmp::Reverse(share.n_bytes));
        let n_file_bytes = self.files().iter().map(|file| file.bytes().len() as u64).sum();
        Summary { total, n_file_bytes, shares }
    }
}
