//! Divergence by hand, and the damage that equal accuracy hides.

use super::*;
use crate::report::{Bound, Status, Target};
use crate::testing::fold;
use crate::{
    Workload,
    quality::{Scoring, toy::Bigram},
};
use expect_test::expect;

fn passages(n_vocab: u32) -> Passages {
    let documents = (0..12u32)
        .map(|d| (0..5 + d % 3).map(|i| (d * 5 + i * i * 3) % n_vocab).collect())
        .collect();
    let workload = Workload::new("toy", documents, 100).unwrap();
    Passages::new(&workload, Scoring::Documents { bos: Some(0), n_unscored: 0 }).unwrap()
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let mut model = Bigram::new(9);
    let reference = Reference::record(&mut model.clone(), &passages(9), None).unwrap();
    let same = reference.divergence(&mut model).unwrap();
    assert_eq!((same.mean_kl(), same.n_flips(), same.max_abs_delta_logit()), (0.0, 0, 0.0));
    assert_eq!(same.top1_agreement(), 1.0);
    assert_eq!(same.scores(), reference.scores());
    assert_eq!(Reference::bytes_needed(reference.passages(), 9), same.kl().len() * 36);
}

#[test]
fn both_ways_of_running_agree_with_the_definition() {
    let (mut base, passages) = (Bigram::new(9), passages(9));
    let mut candidate = base.disturbed(0.5);
    let reference = Reference::record(&mut base, &passages, None).unwrap();
    let kept = reference.divergence(&mut candidate).unwrap();
    let streamed = divergence_between(&mut base, &mut candidate, &passages).unwrap();
    assert_eq!((kept.kl(), kept.n_flips()), (streamed.kl(), streamed.n_flips()));
    let folder = tempfile::tempdir().unwrap();
    let room = |n_bytes| Scratch::with_room(folder.path(), n_bytes);
    let n_bytes = Reference::bytes_needed(&passages, 9) as u64;
    let on_disk = Reference::record(&mut base, &passages, room(n_bytes)).unwrap();
    let read = on_disk.divergence(&mut candidate).unwrap();
    assert_eq!((kept.kl(), kept.compared()), (read.kl(), read.compared()));
    let full = Reference::record(&mut base, &passages, room(n_bytes - 1)).unwrap_err();
    assert!(full.to_string().contains("no room"), "{full}");
    assert_eq!(streamed.baseline_scores(), reference.scores());
    let (mut kl, mut n_flips) = (vec![], 0);
    for passage in passages.iter() {
        for &token in &passage.tokens[..passage.tokens.len() - 1] {
            let (p, q) = (&base.table[token as usize], &candidate.table[token as usize]);
            kl.push(logits::kl_divergence(p, q));
            n_flips += usize::from(logits::argmax(p) != logits::argmax(q));
        }
    }
    assert_eq!((kept.kl(), kept.n_flips()), (kl.as_slice(), n_flips));
    assert!((kept.max_abs_delta_logit() - 0.5).abs() < 1e-6);
}

#[test]
fn figures_show_flips_that_an_equal_score_hides() {
    // Each row's two best tokens trade places: the NLL of neither matters to the text, whose
    // tokens are others, yet every favourite changes.
    let row = |first: f32, second: f32| vec![first, second, 0.0, 0.0];
    let mut base = Bigram { table: vec![row(2.0, 1.0); 4], n_context: 64 };
    let mut candidate = Bigram { table: vec![row(1.0, 2.0); 4], n_context: 64 };
    let documents = vec![vec![2, 3, 2], vec![3, 3], vec![2], vec![3, 2], vec![2, 2]];
    let workload = Workload::new("toy", documents, 0).unwrap();
    let scoring = Scoring::Documents { bos: Some(0), n_unscored: 0 };
    let passages = Passages::new(&workload, scoring).unwrap();
    let divergence = divergence_between(&mut base, &mut candidate, &passages).unwrap();
    let scores = divergence.baseline_scores();
    assert!((scores.mean_nll() - divergence.scores().mean_nll()).abs() < 1e-12);
    // proves A-5
    let figures = divergence.figures().unwrap();
    let wanted = Target::judge("top1_agreement", Bound::AtLeast, 0.95, Unit::Fraction, &figures);
    assert_eq!(wanted.unwrap().status(), Status::Missed);
    let lines: Vec<String> = figures.iter().map(Figure::line).collect();
    expect![[r#"
        kl_mean 0.3858 nats [0.3858, 0.3858] (measured, n=10)
        kl_median 0.3858 nats (measured, n=10)
        kl_p99 0.3858 nats (measured, n=10)
        kl_max 0.3858 nats (measured, n=10)
        top1_agreement 0.0 fraction [0.0, 0.0] (measured, n=10)
        top1_flips 10 count (measured, n=10)
        max_abs_delta_logit 1.000 logit (measured, n=10)"#]]
    .assert_eq(&fold(&lines.join("\n")));
}

#[test]
fn vocabularies_must_match() {
    let reference = Reference::record(&mut Bigram::new(9), &passages(8), None).unwrap();
    let error = reference.divergence(&mut Bigram::new(8)).unwrap_err().to_string();
    expect![[r#"
        the candidate's vocabulary has 8 entries and the baseline's 9; only models of one
          vocabulary can be compared"#]]
    .assert_eq(&fold(&error));
}
