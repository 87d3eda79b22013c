//! The drop by hand, and how much pairing narrows it.

use super::*;
use crate::{
    Workload,
    quality::{Passages, Scoring, score, toy::Bigram},
};

fn scores(model: &Bigram, n_documents: u32, bos: Option<u32>) -> Scores {
    let documents = (0..n_documents)
        .map(|d| (0..4 + d % 9).map(|i| (d * 7 + i * i * 5 + i) % 9).collect())
        .collect();
    let workload = Workload::new("toy", documents, 1000).unwrap();
    let passages = Passages::new(&workload, Scoring::Documents { bos, n_unscored: 0 }).unwrap();
    score(&mut model.clone(), &passages).unwrap()
}

#[test]
fn the_drop_is_the_ratio_of_means_and_its_interval_holds_it() {
    let base = Bigram::new(9);
    let (before, after) = (scores(&base, 40, Some(0)), scores(&base.disturbed(0.8), 40, Some(0)));
    let drop = paired_drop(&before, &after).unwrap();
    let percent = (after.mean_nll() / before.mean_nll() - 1.0) * 100.0;
    assert!((drop.nll_percent - percent).abs() < 1e-12);
    let rise = (after.perplexity() / before.perplexity() - 1.0) * 100.0;
    assert!((drop.perplexity_percent - rise).abs() < 1e-9);
    assert!(drop.nll_percent_ci95.unwrap().contains(percent));
    let figures = drop.figures().unwrap();
    assert_eq!(figures[0].name(), "nll_drop_percent");
    assert_eq!(figures[1].value(), Some(drop.perplexity_percent));
    // Unpaired, each mean is far less certain than their paired difference.
    let unpaired = 100.0 * 1.96 * before.stderr().unwrap() / before.mean_nll();
    assert!(drop.nll_percent_ci95.unwrap().half_width() < unpaired);
}

#[test]
fn equal_models_drop_nothing() {
    let base = scores(&Bigram::new(9), 12, Some(0));
    let drop = paired_drop(&base, &base).unwrap();
    assert_eq!((drop.nll_percent, drop.perplexity_percent, drop.sign_test_p), (0.0, 0.0, 1.0));
    assert!(drop.figures().is_ok());
}

#[test]
fn other_text_or_convention_is_refused() {
    let base = scores(&Bigram::new(9), 12, Some(0));
    assert!(paired_drop(&base, &scores(&Bigram::new(9), 13, Some(0))).is_err());
    assert!(paired_drop(&base, &scores(&Bigram::new(9), 12, Some(1))).is_ok());
    let error = paired_drop(&base, &scores(&Bigram::new(9), 12, None)).unwrap_err();
    assert!(error.to_string().contains("cannot be compared"), "{error}");
}
