//! How errors in a matrix's columns work together: second moments of its inputs, factored.
//!
//! In: the rows that a matrix reads. Out: a [`Factor`], which says how the columns that are not yet
//! rounded make up for the error of those that are (GPTQ, Frantar et al. 2022; the closed form is
//! Optimal Brain Surgeon's).

use rayon::prelude::*;

/// Sums of products of a matrix's inputs, `[n, n]`; of two equal halves only the upper is kept.
#[derive(Clone, Debug)]
pub struct Hessian {
    n: usize,
    sums: Vec<f64>,
    n_rows: u64,
}

/// Added to the diagonal, of its mean, so that inputs that always go together are no trouble.
const DAMPING: f64 = 0.01;
/// Rows that are added together.
const CACHED_ROWS: usize = 32;
/// Rows of sums that a thread takes at least.
const MIN_SUMS: usize = 16;
/// Added where an input may have been always zero.
const LEAST_DAMPING: f64 = 1e-6;

impl Hessian {
    /// Bytes of one of `n` inputs.
    pub fn bytes(n: usize) -> usize {
        n * n * size_of::<f64>()
    }

    /// Bytes of this one.
    pub fn len_bytes(&self) -> usize {
        Self::bytes(self.n)
    }

    /// Of nothing yet.
    pub fn new(n: usize) -> Self {
        Self { n, sums: vec![0.0; n * n], n_rows: 0 }
    }

    /// Adds inputs, `[rows, n]`. The sums have the same bits whatever the number of threads.
    pub fn add(&mut self, rows: &[f32]) {
        let n = self.n;
        self.n_rows += (rows.len() / n) as u64;
        // So few rows at a time stay in cache while every sum meets them.
        for rows in rows.chunks(CACHED_ROWS * n) {
            self.sums.par_chunks_exact_mut(n).with_min_len(MIN_SUMS).enumerate().for_each(
                |(i, sums)| {
                    let sums = &mut sums[i..];
                    let (fours, rest) = rows.split_at(rows.len() / (4 * n) * (4 * n));
                    for four in fours.chunks_exact(4 * n) {
                        add_four(sums, std::array::from_fn(|r| &four[r * n + i..(r + 1) * n]));
                    }
                    for row in rest.chunks_exact(n) {
                        let x = f64::from(row[i]);
                        let each = sums.iter_mut().zip(&row[i..]);
                        each.for_each(|(sum, &y)| *sum += x * f64::from(y));
                    }
                },
            );
        }
    }

    /// The same of inputs that were divided by `factors`.
    pub fn divided(&self, factors: &[f32]) -> Self {
        let mut divided = self.clone();
        let rows = divided.sums.chunks_exact_mut(self.n).zip(factors);
        rows.for_each(|(row, &f)| {
            row.iter_mut().zip(factors).for_each(|(sum, &g)| *sum /= f64::from(f) * f64::from(g));
        });
        divided
    }

    /// Factored for rows of `cols` values, of which those beyond its inputs are always zero, in
    /// blocks of `block_len`. `None` where the inputs were all zero or no numbers.
    pub fn factor(&self, cols: usize, block_len: usize) -> Option<Factor> {
        assert!(cols >= self.n && cols.is_multiple_of(block_len));
        let diagonal = |i: usize| self.sums[i * self.n + i];
        let mean = (0..self.n).map(diagonal).sum::<f64>() / self.n as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        let mut root = vec![0.0; cols * cols];
        for (i, row) in root.chunks_exact_mut(cols).enumerate() {
            if i < self.n {
                row[i..self.n].copy_from_slice(&self.sums[i * self.n + i..(i + 1) * self.n]);
            }
            row[i] += if i < self.n { DAMPING * mean } else { mean };
        }
        let mean_root = mean.sqrt();
        take_root(&mut root, cols).then(|| Factor::new(&root, cols, block_len, mean_root))
    }
}

impl Hessian {
    /// For inputs of which only `kept` (ascending) stay, how much of each other one goes to each of
    /// them, `[left out, kept]`: the least-squares fit of the others by them. `None` where the
    /// inputs were all zero or no numbers.
    pub fn shares(&self, kept: &[usize]) -> Option<Vec<f32>> {
        let n = kept.len();
        let at = |i: usize, j: usize| self.sums[i.min(j) * self.n + i.max(j)];
        let mean = (0..self.n).map(|i| at(i, i)).sum::<f64>() / self.n as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return None;
        }
        let mut root = vec![0.0; n * n];
        for (i, row) in root.chunks_exact_mut(n).enumerate() {
            (i..n).for_each(|j| row[j] = at(kept[i], kept[j]));
            // In proportion to each, for those that leave are mostly small ones.
            row[i] += DAMPING * row[i] + LEAST_DAMPING * mean;
        }
        if !take_root(&mut root, n) {
            return None;
        }
        let left_out: Vec<usize> =
            (0..self.n).filter(|input| kept.binary_search(input).is_err()).collect();
        let mut shares = vec![0.0f32; left_out.len() * n];
        shares.par_chunks_exact_mut(n).zip(left_out).for_each(|(shares, input)| {
            let mut x: Vec<f64> = kept.iter().map(|&column| at(column, input)).collect();
            solve(&root, &mut x);
            shares.iter_mut().zip(x).for_each(|(share, x)| *share = x as f32);
        });
        Some(shares)
    }
}

/// Adds four rows, from one input on, times that input: each sum in the order of rows.
fn add_four(sums: &mut [f64], rows: [&[f32]; 4]) {
    let [a, b, c, d] = rows.map(|row| &row[..sums.len()]);
    let x = rows.map(|row| f64::from(row[0]));
    for (j, sum) in sums.iter_mut().enumerate() {
        let mut s = *sum + x[0] * f64::from(a[j]);
        s += x[1] * f64::from(b[j]);
        s += x[2] * f64::from(c[j]);
        *sum = s + x[3] * f64::from(d[j]);
    }
}

/// From `b` to the `x` with `m m^T x = b`, for an upper triangular `m`.
fn solve(m: &[f64], x: &mut [f64]) {
    let n = x.len();
    for i in (0..n).rev() {
        let row = &m[i * n..][..n];
        x[i] = (x[i] - dot(&row[i + 1..], &x[i + 1..])) / row[i];
    }
    for i in 0..n {
        let row = &m[i * n..][..n];
        x[i] /= row[i];
        let (done, rest) = x.split_at_mut(i + 1);
        rest.iter_mut().zip(&row[i + 1..]).for_each(|(x, m)| *x -= m * done[i]);
    }
}

/// From the upper half of a symmetric matrix to the upper triangular `m` with `m m^T` equal to it;
/// whether it has one.
fn take_root(m: &mut [f64], n: usize) -> bool {
    for j in (0..n).rev() {
        let (above, rest) = m.split_at_mut(j * n);
        let row = &mut rest[..n];
        let square = row[j] - dot(&row[j + 1..], &row[j + 1..]);
        if !(square.is_finite() && square > 0.0) {
            return false;
        }
        row[j] = square.sqrt();
        let row = &*row;
        above.par_chunks_exact_mut(n).for_each(|other| {
            other[j] = (other[j] - dot(&other[j + 1..], &row[j + 1..])) / row[j];
        });
    }
    true
}

/// In eight sums, which have one order whatever the machine.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.0.iter().zip(b.0) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// What is to be added to columns for the errors of columns before them.
#[derive(Clone, Debug)]
pub struct Factor {
    cols: usize,
    block_len: usize,
    /// `[cols, block_len]`: the root's blocks on the diagonal.
    blocks: Vec<f32>,
    /// `[cols, cols]`: the root's inverse.
    inverse: Vec<f32>,
    /// How much a column's error costs after all that columns behind its block can do about it.
    importance: Vec<f32>,
}

impl Factor {
    fn new(root: &[f64], cols: usize, block_len: usize, scale: f64) -> Self {
        let block = |i: usize| i / block_len * block_len;
        let mut blocks = vec![0.0; cols * block_len];
        let mut importance = vec![0.0; cols];
        for (i, out) in blocks.chunks_exact_mut(block_len).enumerate() {
            let row = &root[i * cols + block(i)..][..block_len];
            out.iter_mut().zip(row).for_each(|(out, &x)| *out = (x / scale) as f32);
            // Below the diagonal there is what the symmetric matrix had: nothing.
            importance[i] = dot(row, row) as f32;
        }
        let mut inverse = vec![0.0f32; cols * cols];
        inverse.par_chunks_exact_mut(cols).enumerate().for_each(|(i, out)| {
            let mut left = vec![0.0; cols];
            left[i] = 1.0;
            for k in i..cols {
                let row = &root[k * cols..][..cols];
                let x = left[k] / row[k];
                out[k] = (x * scale) as f32;
                for (left, &m) in left[k + 1..].iter_mut().zip(&row[k + 1..]) {
                    *left -= x * m;
                }
            }
        });
        Self { cols, block_len, blocks, inverse, importance }
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Columns that are rounded together.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Of the block that starts at a column, how much each column's error costs.
    pub fn importance(&self, first: usize) -> &[f32] {
        &self.importance[first..][..self.block_len]
    }

    /// From the errors of the block that starts at `first` to what [`Factor::make_up`] takes.
    pub fn spread(&self, first: usize, errors: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        let rows = self.blocks[first * self.block_len..].chunks_exact(self.block_len);
        for (&error, row) in errors.iter().zip(rows) {
            out.iter_mut().zip(row).for_each(|(out, m)| *out += error * m);
        }
    }

    /// Makes up in a row of values, behind the block that starts at `first`, for column `i` of it.
    pub fn make_up(&self, first: usize, i: usize, spread: f32, row: &mut [f32]) {
        let behind = first + self.block_len;
        let inverse = &self.inverse[(first + i) * self.cols..][behind..self.cols];
        let left = row[behind..].iter_mut().zip(inverse);
        left.for_each(|(value, u)| *value -= spread * u);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the errors of a row cost, under the damped second moments.
    fn cost(hessian: &Hessian, errors: &[f32]) -> f64 {
        let n = hessian.n;
        let mean = (0..n).map(|i| hessian.sums[i * n + i]).sum::<f64>() / n as f64;
        let entry = |i: usize, j: usize| {
            let damped = if i == j { DAMPING * mean } else { 0.0 };
            hessian.sums[i.min(j) * n + i.max(j)] + damped
        };
        let each = |i: usize| -> f64 {
            (0..n).map(|j| f64::from(errors[i]) * entry(i, j) * f64::from(errors[j])).sum()
        };
        (0..n).map(each).sum()
    }

    #[test]
    fn divided_moments_are_those_of_divided_inputs() {
        let rows = [1.0f32, -2.0, 3.0, 0.5, 4.0, -1.0];
        let factors = [2.0f32, 0.5, 4.0];
        let divided: Vec<f32> =
            rows.iter().zip(factors.iter().cycle()).map(|(x, f)| x / f).collect();
        let moments = |rows: &[f32]| {
            let mut hessian = Hessian::new(3);
            hessian.add(rows);
            hessian
        };
        assert_eq!(moments(&rows).divided(&factors).sums, moments(&divided).sums);
    }

    #[test]
    fn no_other_change_of_the_columns_behind_costs_less() {
        let n = 12;
        let mut hessian = Hessian::new(n);
        let value = |i: usize| ((i * 37 + i * i * 11) % 101) as f32 / 50.0 - 1.0;
        let rows: Vec<f32> = (0..40 * n).map(|i| value(i) + value(i / n)).collect();
        hessian.add(&rows);
        let factor = hessian.factor(n, 4).unwrap();
        // The first block is off by so much; the others may change.
        let errors = [0.3, -0.2, 0.1, 0.25];
        let (mut spread, mut change) = ([0.0; 4], [0.0f32; 12]);
        factor.spread(0, &errors, &mut spread);
        (0..4).for_each(|i| factor.make_up(0, i, spread[i], &mut change));
        // An error is what was wanted less what there is.
        let all = |change: &[f32]| -> Vec<f32> {
            errors.iter().copied().chain(change[4..].iter().map(|c| -c)).collect()
        };
        let best = cost(&hessian, &all(&change));
        assert!(best < 0.9 * cost(&hessian, &all(&[0.0; 12])));
        for i in 4..12 {
            for step in [-0.02, 0.02] {
                let mut other = change;
                other[i] += step;
                assert!(cost(&hessian, &all(&other)) > best, "column {i}");
            }
        }
        let sum: f32 = (0..4).map(|i| factor.importance(0)[i]).sum();
        assert!(sum > 0.0);
    }

    #[test]
    fn inputs_that_are_always_zero_have_no_factor() {
        let mut hessian = Hessian::new(4);
        assert!(hessian.factor(4, 4).is_none());
        hessian.add(&[0.0; 8]);
        assert!(hessian.factor(8, 4).is_none());
        hessian.add(&[f32::NAN; 4]);
        assert!(hessian.factor(4, 4).is_none());
    }

    #[test]
    fn what_leaves_goes_to_what_says_the_same() {
        let mut hessian = Hessian::new(4);
        // The third input is the first, the fourth the sum of the first two.
        let row = |i: usize| {
            let (a, b) = (((i * 37) % 11) as f32 - 5.0, ((i * 53) % 7) as f32 - 3.0);
            [a, b, a, a + b]
        };
        hessian.add(&(0..200).flat_map(row).collect::<Vec<f32>>());
        let shares = hessian.shares(&[0, 1]).unwrap();
        let wanted = [1.0, 0.0, 1.0, 1.0];
        let worst = shares.iter().zip(wanted).map(|(share, wanted)| (share - wanted).abs());
        assert!(worst.fold(0.0, f32::max) < 0.02, "{shares:?}");
        assert_eq!(Hessian::new(4).shares(&[0, 1]), None, "nothing was seen");
    }
}
