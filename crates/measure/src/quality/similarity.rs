//! How well embeddings say what people say: texts in pairs with a human score of how alike they
//! are, against the cosine of their vectors, by rank (Spearman), as the STS benchmarks do.
//!
//! In: pairs, and the vectors of a model and perhaps of a baseline. Out: figures with intervals
//! over pairs, which stay paired between the two models (of how near vectors are: over texts).

use crate::stats::{Bootstrap, Interval, mean};
use crate::{Figure, MeasureError, Unit};

/// Two texts, and how alike people find them, on any scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// One text.
    pub first: String,
    /// The other.
    pub second: String,
    /// The human score.
    pub score: f64,
}

/// Columns of the STS benchmark's files: genre, file, year, number, score and two texts; sources
/// may follow.
const STS_COLUMNS: usize = 7;

/// Reads tab-separated lines: `text, text, score`, or the columns of the STS benchmark.
///
/// # Errors
/// When a line has other columns, a text is empty, or a score is no number: the message names the
/// line.
pub fn parse_pairs(text: &str) -> Result<Vec<Pair>, MeasureError> {
    let mut pairs = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
        let (first, second, score) = match columns.as_slice() {
            [first, second, score] => (first, second, score),
            [_, _, _, _, score, first, second, ..] => (first, second, score),
            _ => {
                let why = format!(
                    "line {} has {} columns: it takes two texts and a score, or the {STS_COLUMNS} \
                     columns of the STS benchmark, parted by tabs",
                    n + 1,
                    columns.len()
                );
                return Err(MeasureError::Data(why));
            }
        };
        let number = score.parse().ok().filter(|score: &f64| score.is_finite());
        let Some(score) = number.filter(|_| !first.is_empty() && !second.is_empty()) else {
            let why = format!("line {}: {score:?} is no score of two texts", n + 1);
            return Err(MeasureError::Data(why));
        };
        pairs.push(Pair { first: (*first).to_owned(), second: (*second).to_owned(), score });
    }
    match pairs.len() {
        0 => Err(MeasureError::Data("there are no pairs".into())),
        _ => Ok(pairs),
    }
}

/// The cosine of two vectors; 0 where one has no direction.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { (dot(a, b) / norms).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Spearman's rank correlation, equal values sharing the mean of their ranks; not a number where
/// one side has a single value.
///
/// # Panics
/// When the sides are not of one length.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len(), "paired values");
    let (x, y) = (ranks(x), ranks(y));
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        let (x, y) = (x - mean_x, y - mean_y);
        (xy, xx, yy) = (xy + x * y, xx + x * x, yy + y * y);
    }
    xy / (xx * yy).sqrt()
}

/// The rank of each value, from 1.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let first = values[order[start]];
        let same = order[start..].iter().take_while(|&&at| values[at].total_cmp(&first).is_eq());
        let end = start + same.count();
        // Ranks start + 1 to end.
        let shared = (start + 1 + end) as f64 / 2.0;
        order[start..end].iter().for_each(|&at| ranks[at] = shared);
        start = end;
    }
    ranks
}

/// What a model's vectors say of pairs.
pub struct Similarity<'a> {
    /// The pairs.
    pub pairs: &'a [Pair],
    /// The vectors of each pair's texts, in order: first, second, first, ...
    pub vectors: &'a [Vec<f32>],
}

impl Similarity<'_> {
    fn cosines(&self) -> Vec<f64> {
        self.vectors.chunks_exact(2).map(|pair| cosine(&pair[0], &pair[1])).collect()
    }

    fn scores(&self) -> Vec<f64> {
        self.pairs.iter().map(|pair| pair.score).collect()
    }

    /// `similarity_spearman`.
    ///
    /// # Errors
    /// When all pairs have one score, or all vectors one direction.
    pub fn figures(&self) -> Result<Vec<Figure>, MeasureError> {
        let (cosines, scores) = (self.cosines(), self.scores());
        Ok(vec![correlation("similarity_spearman", &cosines, &scores)?])
    }

    /// The same of model and baseline, with what the model loses, in points (hundredths), and how
    /// near its vectors are to the baseline's.
    ///
    /// # Errors
    /// As [`Similarity::figures`].
    pub fn against(&self, baseline: &Similarity<'_>) -> Result<Vec<Figure>, MeasureError> {
        let scores = self.scores();
        let (own, theirs) = (self.cosines(), baseline.cosines());
        let drop = |own: &[f64], theirs: &[f64], scores: &[f64]| {
            100.0 * (spearman(theirs, scores) - spearman(own, scores))
        };
        let value = drop(&own, &theirs, &scores);
        let interval = Bootstrap::default().interval(scores.len(), &mut |drawn| {
            let pick = |of: &[f64]| -> Vec<f64> { drawn.iter().map(|&at| of[at]).collect() };
            drop(&pick(&own), &pick(&theirs), &pick(&scores))
        });
        let near: Vec<f64> =
            self.vectors.iter().zip(baseline.vectors).map(|(a, b)| cosine(a, b)).collect();
        let least = near.iter().copied().fold(1.0, f64::min);
        let of_vectors = "cosine of each text's vector with the baseline's";
        let near_interval = Bootstrap::default().mean(&near).map(|i| i.holding(mean(&near)));
        Ok(vec![
            correlation("similarity_spearman", &own, &scores)?,
            correlation("baseline_similarity_spearman", &theirs, &scores)?,
            Figure::estimated(
                "similarity_spearman_drop",
                Unit::Points,
                "Spearman of the baseline less the model's, in hundredths; paired by pair",
                value,
                scores.len(),
                interval.map(|i| i.holding(value)),
            )?,
            Figure::estimated(
                "embedding_cosine_mean",
                Unit::Correlation,
                of_vectors,
                mean(&near),
                near.len(),
                near_interval,
            )?,
            Figure::read("embedding_cosine_least", Unit::Correlation, of_vectors, least)?,
        ])
    }
}

fn correlation(name: &str, cosines: &[f64], scores: &[f64]) -> Result<Figure, MeasureError> {
    let value = spearman(cosines, scores);
    if !value.is_finite() {
        let why = "all scores, or all cosines, are the same: there are no ranks to compare";
        return Err(MeasureError::Data(why.into()));
    }
    let method = "rank correlation of the cosine of two texts' vectors with what people said";
    let interval = Bootstrap::default().interval(scores.len(), &mut |drawn| {
        let pick = |of: &[f64]| -> Vec<f64> { drawn.iter().map(|&at| of[at]).collect() };
        spearman(&pick(cosines), &pick(scores))
    });
    let interval: Option<Interval> = interval.map(|i| i.holding(value));
    Figure::estimated(name, Unit::Correlation, method, value, scores.len(), interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_shared_by_equal_values() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!((spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 15.0]) - 0.5).abs() < 1e-12);
        assert_eq!(spearman(&[1.0, 2.0], &[2.0, 1.0]), -1.0);
        assert!(spearman(&[1.0, 1.0], &[2.0, 1.0]).is_nan());
        // scipy.stats.spearmanr([1, 2, 2, 4, 5], [2, 1, 4, 4, 5]) is 0.76315789...
        let known = spearman(&[1.0, 2.0, 2.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 4.0, 5.0]);
        assert!((known - 0.763_157_894_736_842_1).abs() < 1e-12, "{known}");
    }

    #[test]
    fn pairs_are_read_in_both_forms_and_bad_lines_are_named() {
        let text = "a b\tc\t2.5\n\ng\tf\t2012\t1\t5.000\tx\ty\tsource\n";
        let pairs = parse_pairs(text).unwrap();
        assert_eq!((pairs.len(), pairs[0].score, pairs[1].score), (2, 2.5, 5.0));
        assert_eq!((pairs[1].first.as_str(), pairs[1].second.as_str()), ("x", "y"));
        for (bad, why) in [
            ("", "no pairs"),
            ("a\tb\t1\na\tb", "line 2"),
            ("a\tb\tNaN", "line 1"),
            ("\tb\t1", "1"),
        ] {
            let error = parse_pairs(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_a_worse_model_loses_is_told_in_points() {
        let score = |n: usize| n as f64 / 10.0;
        let pairs: Vec<Pair> = (0..40)
            .map(|n| Pair { first: "a".into(), second: "b".into(), score: score(n) })
            .collect();
        // Angles that shrink with the score, and some of them swapped.
        let vectors = |swap: bool| -> Vec<Vec<f32>> {
            let of = |n: usize| {
                let n = if swap && n < 4 { 3 - n } else { n };
                let angle = 1.5 - score(n) as f32 / 4.0;
                [vec![1.0, 0.0], vec![angle.cos(), angle.sin()]]
            };
            (0..40).flat_map(of).collect()
        };
        let (good, bad) = (vectors(false), vectors(true));
        let baseline = Similarity { pairs: &pairs, vectors: &good };
        let worse = Similarity { pairs: &pairs, vectors: &bad };
        assert_eq!(baseline.figures().unwrap()[0].value(), Some(1.0));
        let figures = worse.against(&baseline).unwrap();
        let drop = figures[2].value().unwrap();
        assert!(drop > 0.0 && drop < 1.0, "{drop}");
        assert!(figures[4].value().unwrap() < 1.0);
        assert_eq!(baseline.against(&baseline).unwrap()[2].value(), Some(0.0));
    }
}
