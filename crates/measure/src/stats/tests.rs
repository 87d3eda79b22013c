//! The statistics against closed forms, and the intervals against how often they cover the truth.

use super::*;

/// A standard normal draw by Box and Muller.
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[test]
fn medians_of_random_slices_agree_with_sorting() {
    let mut rng = StdRng::seed_from_u64(1);
    for n in 1..60 {
        let values: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let direct = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
        assert_eq!(median(&values), direct, "n={n}");
        assert!((percentile_of_sorted(&sorted, 50.0) - direct).abs() < 1e-12, "n={n}");
    }
}

#[test]
fn percentiles_never_decrease() {
    let mut rng = StdRng::seed_from_u64(2);
    for n in 1..40 {
        let mut sorted: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
        sorted.sort_by(f64::total_cmp);
        let all: Vec<f64> =
            (0..=200).map(|half| percentile_of_sorted(&sorted, f64::from(half) / 2.0)).collect();
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]), "n={n}");
    }
}

#[test]
fn intervals_cover_the_truth_about_95_times_in_100() {
    let mut rng = StdRng::seed_from_u64(3);
    let n_trials = 400;
    let (mut mean_hits, mut median_hits) = (0, 0);
    for trial in 0..n_trials {
        let values: Vec<f64> = (0..40).map(|_| 10.0 + normal(&mut rng)).collect();
        let bootstrap = Bootstrap { n_resamples: 500, seed: trial };
        mean_hits += usize::from(bootstrap.mean(&values).unwrap().contains(10.0));
        median_hits += usize::from(bootstrap.median(&values).unwrap().contains(10.0));
    }
    // 95% of 400 is 380; the binomial spread is 4.4, and the percentile method is a little narrow.
    assert!((362..=396).contains(&mean_hits), "{mean_hits}");
    assert!((362..=396).contains(&median_hits), "{median_hits}");
}

#[test]
fn the_exact_interval_of_the_median() {
    assert_eq!(median_interval(&[1.0; 5]), None);
    // Tables of the sign test: n = 6 keeps all, n = 10 drops one a side, n = 20 drops five.
    for (n, n_dropped) in [(6, 0), (8, 0), (9, 1), (10, 1), (20, 5), (100, 39)] {
        let values: Vec<f64> = (0..n).rev().map(f64::from).collect();
        let low = f64::from(n_dropped);
        let expected = Interval { low, high: f64::from(n) - 1.0 - low };
        assert_eq!(median_interval(&values), Some(expected), "n={n}");
    }
    let mut rng = StdRng::seed_from_u64(6);
    let covers = |_: &i32| {
        let values: Vec<f64> = (0..25).map(|_| normal(&mut rng).exp()).collect();
        median_interval(&values).unwrap().contains(1.0)
    };
    let n_hits = (0..2000).filter(covers).count();
    assert!((1890..=1960).contains(&n_hits), "{n_hits} of 2000");
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let values: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17)).collect();
    let of = |seed| Bootstrap { seed, ..Bootstrap::default() }.mean(&values).unwrap();
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn paired_resampling_cancels_what_pairs_share() {
    // Each pair shares a large common factor; the ratio is exactly 1.1 in every pair.
    let bottom: Vec<f64> = (1..30).map(|i| f64::from(i * 37 % 29 + 1)).collect();
    let top: Vec<f64> = bottom.iter().map(|b| b * 1.1).collect();
    for interval in [
        Bootstrap::default().ratio_of_medians(&top, &bottom).unwrap(),
        Bootstrap::default().ratio_of_sums(&top, &bottom).unwrap(),
    ] {
        assert!((interval.low - 1.1).abs() < 1e-12 && (interval.high - 1.1).abs() < 1e-12);
    }
}

#[test]
fn few_samples_give_no_interval() {
    assert_eq!(Bootstrap::default().mean(&[1.0, 2.0, 3.0, 4.0]), None);
    assert!(Bootstrap::default().mean(&[1.0, 2.0, 3.0, 4.0, 5.0]).is_some());
    // A resample of zeros divides by zero: that is no interval either.
    assert_eq!(Bootstrap::default().ratio_of_sums(&[1.0; 5], &[0.0, 0.0, 0.0, 0.0, 1.0]), None);
}

#[test]
fn sign_test_matches_the_binomial_tail() {
    assert_eq!(sign_test(0, 0), 1.0);
    assert!((sign_test(10, 0) - 2.0 / 1024.0).abs() < 1e-12);
    assert!((sign_test(8, 2) - 2.0 * 56.0 / 1024.0).abs() < 1e-12);
    assert_eq!(sign_test(5, 5), 1.0);
    assert!(sign_test(1100, 900) < 1e-4 && sign_test(1100, 900) > 1e-7);
}

#[test]
fn permutation_test_sees_a_shift_and_not_its_absence() {
    let mut rng = StdRng::seed_from_u64(4);
    let shifted: Vec<f64> = (0..40).map(|_| 1.0 + normal(&mut rng)).collect();
    assert!(permutation_test(&shifted, 2000, 5) < 0.01);
    let balanced: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    assert_eq!(permutation_test(&balanced, 2000, 5), 1.0);
    assert_eq!(permutation_test(&[1.0], 99, 1), 1.0);
}
