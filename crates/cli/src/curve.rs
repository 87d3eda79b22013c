//! A curve in one line of text, for beside a progress bar.

/// Columns of the line.
const WIDTH: usize = 24;

/// The values as a line of bars: each the mean of its part of them, the greatest the tallest. Empty
/// until there are as many values as columns.
pub fn line(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if values.len() < WIDTH {
        return String::new();
    }
    let part = |n: usize| &values[n * values.len() / WIDTH..(n + 1) * values.len() / WIDTH];
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let means: Vec<f64> = (0..WIDTH).map(|n| mean(part(n))).collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let height = |mean: &f64| ((mean - least) / (most - least).max(1e-9) * 7.0).round() as usize;
    means.iter().map(|mean| BARS[height(mean).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_loss_is_seen_to_fall() {
        assert_eq!(line(&[1.0; 23]), "");
        assert_eq!(line(&[1.0; 48]), "▁".repeat(24));
        let falling: Vec<f64> = (0..48).map(|step| 8.0 - f64::from(step) / 6.0).collect();
        let text = line(&falling);
        assert!(text.starts_with("██") && text.ends_with("▁▁"), "{text}");
        assert_eq!(text.chars().count(), 24);
    }
}
