//! What a model makes of a text, as one vector: the state before its head, of one token or the mean
//! of all, with length 1.

/// Which tokens' states make an embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The last one's, the only one that has seen all of the text where attention is causal.
    #[default]
    Last,
    /// The mean of all.
    Mean,
    /// The first one's, which an encoder learns to make the text's (BERT's `[CLS]`).
    First,
}

/// A sum of states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    // Sums of thousands of states keep what a single one has.
    sum: Vec<f64>,
}

impl Pool {
    /// Adds a state.
    pub fn add(&mut self, state: &[f32]) {
        self.sum.resize(state.len(), 0.0);
        for (sum, &x) in self.sum.iter_mut().zip(state) {
            *sum += f64::from(x);
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.sum.is_empty()
    }

    /// Forgets what was added.
    pub fn clear(&mut self) {
        self.sum.clear();
    }

    /// The direction of the sum, which is that of the mean. Nothing but zeros stays so.
    pub fn embedding(&self) -> Vec<f32> {
        unit(&self.sum)
    }
}

/// The vector of length 1 in the direction of another.
pub fn unit(vector: &[f64]) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    vector.iter().map(|x| (x * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_the_direction_of_the_mean() {
        let mut pool = Pool::default();
        assert!(pool.embedding().is_empty());
        pool.add(&[3.0, 0.0]);
        assert_eq!(pool.embedding(), [1.0, 0.0]);
        pool.add(&[0.0, 4.0]);
        assert_eq!(pool.embedding(), [0.6, 0.8]);
        pool.clear();
        pool.add(&[0.0, 0.0]);
        assert_eq!(pool.embedding(), [0.0, 0.0]);
    }
}
