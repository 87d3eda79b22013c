//! Scores against sums done by hand.

use super::*;
use crate::testing::fold;
use crate::{
    Workload,
    quality::{Reference, Scoring, toy::Bigram},
};
use expect_test::expect;

fn passages(documents: Vec<Vec<u32>>, scoring: Scoring) -> Passages {
    Passages::new(&Workload::new("toy", documents, 20).unwrap(), scoring).unwrap()
}

const WITH_BOS: Scoring = Scoring::Documents { bos: Some(0), n_unscored: 0 };

#[test]
fn mean_and_perplexity_by_hand() {
    let mut model = Bigram::new(4);
    let scores = score(&mut model, &passages(vec![vec![1, 2], vec![3]], WITH_BOS)).unwrap();
    let nll = |from: usize, to| logits::nll(&model.table[from], to);
    let terms = [nll(0, 1), nll(1, 2), nll(0, 3)];
    let mean = terms.iter().sum::<f64>() / 3.0;
    assert!((scores.mean_nll() - mean).abs() < 1e-12);
    assert!((scores.perplexity() - mean.exp()).abs() < 1e-12);
    assert_eq!(scores.n_scored(), 3);
    let spread = crate::stats::stddev(&terms).unwrap() / 3f64.sqrt();
    assert!((scores.stderr_tokens().unwrap() - spread).abs() < 1e-12);
    // Three text tokens over twenty bytes.
    let per_byte = scores.figures().unwrap()[1].value().unwrap();
    assert!((per_byte - mean * 3.0 / 20.0).abs() < 1e-12);
}

#[test]
fn block_stderr_of_equal_lengths_is_the_plain_one() {
    let documents: Vec<Vec<u32>> = (0..8).map(|i| vec![i % 5, (i * 3 + 1) % 5]).collect();
    let scores = score(&mut Bigram::new(5), &passages(documents, WITH_BOS)).unwrap();
    let means: Vec<f64> = scores.passages().iter().map(|p| p.nll / 2.0).collect();
    let plain = crate::stats::stddev(&means).unwrap() / 8f64.sqrt();
    assert!((scores.stderr().unwrap() - plain).abs() < 1e-12);
    let half_width = scores.figures().unwrap()[0].ci95().unwrap().half_width();
    assert!((half_width / (1.96 * plain) - 1.0).abs() < 0.25, "{half_width} {plain}");
}

#[test]
fn windows_score_the_second_half_only() {
    let scoring = Scoring::Windows { n_ctx: 6, bos: Some(0) };
    let mut model = Bigram::new(5);
    let scores = score(&mut model, &passages(vec![vec![1, 2, 3, 4, 1, 2, 3]], scoring)).unwrap();
    // The chunk is [BOS 1 2 3 4 1]; positions 3 and 4 predict tokens 4 and 5.
    let by_hand = logits::nll(&model.table[3], 4) + logits::nll(&model.table[4], 1);
    assert_eq!(scores.n_scored(), 2);
    assert!((scores.mean_nll() - by_hand / 2.0).abs() < 1e-12);
}

#[test]
fn figures_print_with_their_convention() {
    let documents: Vec<Vec<u32>> = (0..6).map(|i| vec![i % 4, (i + 1) % 4]).collect();
    let scores = score(&mut Bigram::new(4), &passages(documents, WITH_BOS)).unwrap();
    let lines: Vec<String> = scores.figures().unwrap().iter().map(Figure::line).collect();
    expect![[r#"
        nll 1.409 nats/token [0.9693, 1.780] (measured, n=12)
        nll_per_byte 0.8457 nats/byte [0.5816, 1.068] (measured, n=12)
        perplexity 4.094 perplexity [2.636, 5.929] (measured, n=12)"#]]
    .assert_eq(&fold(&lines.join("\n")));
    expect![[r#"
        toy (blake3 0cbf667d7b0c): each document alone, BOS, every predicted token scored; 6
          sequences"#]]
    .assert_eq(&fold(scores.method()));
}

#[test]
fn what_cannot_be_scored_says_why() {
    let of = |model: &mut Bigram, documents| {
        score(model, &passages(documents, WITH_BOS)).unwrap_err().to_string()
    };
    let mut small = Bigram { n_context: 3, ..Bigram::new(4) };
    let mut broken = Bigram::new(4);
    broken.table[2][1] = f32::NAN;
    let errors = [
        of(&mut small, vec![vec![1], vec![1; 4]]),
        of(&mut small, vec![vec![9]]),
        of(&mut broken, vec![vec![1], vec![2, 3]]),
    ];
    expect![[r#"
        sequence 1 has 5 tokens but the model takes 3 at once; cut documents at 3 tokens or
          score in windows
        sequence 0 has token 9 but the model's vocabulary ends at 4; the tokenizer belongs to
          another model
        scoring sequence 1 failed: a logit is not finite (sum of NLL NaN)"#]]
    .assert_eq(&fold(&errors.join("\n")));
}

#[test]
fn a_model_that_answers_too_little_is_caught() {
    struct Lazy;
    impl LanguageModel for Lazy {
        fn vocab_len(&self) -> usize {
            4
        }
        fn context_len(&self) -> usize {
            9
        }
        fn score(&mut self, _: &[u32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), String> {
            sink(0, &[0.0; 4]);
            Ok(())
        }
    }
    let error = score(&mut Lazy, &passages(vec![vec![1, 2, 3]], WITH_BOS)).unwrap_err();
    assert!(error.to_string().contains("1 predictions came back where 3 were due"), "{error}");
}

/// A model whose passages are scored by copies of it, at the same time.
struct Twins {
    alone: Bigram,
    copies: Vec<Bigram>,
}

impl Twins {
    fn of(alone: Bigram) -> Self {
        Self { copies: vec![alone.clone(); 3], alone }
    }
}

impl LanguageModel for Twins {
    fn vocab_len(&self) -> usize {
        self.alone.vocab_len()
    }
    fn context_len(&self) -> usize {
        self.alone.context_len()
    }
    fn score(&mut self, _: &[u32], _: &mut dyn FnMut(usize, &[f32])) -> Result<(), String> {
        Err("the copies do the work".into())
    }
    fn at_once(&mut self) -> Vec<&mut (dyn LanguageModel + Send)> {
        self.copies.iter_mut().map(|copy| copy as _).collect()
    }
}

#[test]
fn passages_scored_at_once_are_those_scored_in_turn() {
    let documents: Vec<Vec<u32>> =
        (0..40).map(|i| (0..2 + i % 5).map(|j| (i * 3 + j) % 6).collect()).collect();
    let (mut alone, passages) = (Bigram::new(6), passages(documents, WITH_BOS));
    let mut other = alone.disturbed(0.3);
    let wanted = Reference::record(&mut alone, &passages, None).unwrap();
    let found = Reference::record(&mut Twins::of(alone.clone()), &passages, None).unwrap();
    assert_eq!(found.scores(), wanted.scores());
    assert_eq!(&score(&mut Twins::of(alone), &passages).unwrap(), wanted.scores());
    let wanted = wanted.divergence(&mut other).unwrap();
    let found = found.divergence(&mut Twins::of(other)).unwrap();
    assert_eq!((found.kl(), found.n_flips()), (wanted.kl(), wanted.n_flips()));
    assert_eq!(found.scores(), wanted.scores());
}

#[test]
fn of_several_failures_the_first_passage_tells() {
    let mut documents = vec![vec![1, 2]; 60];
    (documents[20], documents[41]) = (vec![9], vec![8]);
    let passages = passages(documents, WITH_BOS);
    let error = score(&mut Twins::of(Bigram::new(4)), &passages).unwrap_err().to_string();
    assert!(error.starts_with("sequence 20 has token 9"), "{error}");
}
