//! Questions with known answers: how often a model is right, and how often another model of it is
//! right or answers otherwise (A5).
//!
//! In: questions as tokens, and a model. Out: [`Answer`]s, which are plain data, and what follows
//! from those of two models. A choice counts as a language model's answer when its tokens are the
//! likeliest after its context (as in lm-eval's `acc`); a question of one choice counts as right
//! when every token of it is the favourite (`greedy match`).

use super::logits;
use crate::stats::{Bootstrap, Interval};
use crate::{Figure, LanguageModel, MeasureError, Unit};
use serde::{Deserialize, Serialize};

/// What a model is asked to continue a context with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Context and continuation.
    pub tokens: Vec<u32>,
    /// Tokens of the context, at least one.
    pub n_context: usize,
    /// Bytes of the continuation's text.
    pub n_bytes: usize,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What it may be answered with.
    pub choices: Vec<Choice>,
    /// The right one; of a single choice it is that one.
    pub gold: usize,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Minus the log-probability of each choice after its context, nats.
    pub nll: Vec<f64>,
    /// The favourite at each token of the first choice, the tokens before it given.
    pub favourites: Vec<u32>,
}

/// Two models on the questions of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name, of letters, digits and `_`.
    pub name: String,
    /// The questions.
    pub questions: Vec<Question>,
    /// The baseline's answers.
    pub baseline: Vec<Answer>,
    /// The artifact's.
    pub artifact: Vec<Answer>,
}

/// Asks a model.
///
/// # Errors
/// When it cannot be run.
pub fn answer(model: &mut dyn LanguageModel, question: &Question) -> Result<Answer, MeasureError> {
    let mut answer = Answer { nll: Vec::new(), favourites: Vec::new() };
    for (index, Choice { tokens, n_context, .. }) in question.choices.iter().enumerate() {
        let mut nll = 0.0;
        let favourites = &mut answer.favourites;
        // The last token's logits say what comes after, which nobody asks for.
        let asked = &tokens[..tokens.len() - 1];
        let mut sink = |at: usize, row: &[f32]| {
            if at + 1 < *n_context {
                return;
            }
            let target = tokens[at + 1];
            nll += logits::nll(row, target);
            if index == 0 {
                favourites.push(logits::argmax(row) as u32);
            }
        };
        model
            .score(asked, &mut sink)
            .map_err(|why| MeasureError::Failed { what: "answering a question".into(), why })?;
        answer.nll.push(nll);
    }
    Ok(answer)
}

impl Question {
    /// Whether it can be asked: a context, a continuation, and a right answer.
    pub fn is_sound(&self) -> bool {
        let is_sound = |choice: &Choice| {
            choice.n_context > 0 && choice.n_context < choice.tokens.len() && choice.n_bytes > 0
        };
        self.gold < self.choices.len() && self.choices.iter().all(is_sound)
    }

    /// The choice that an answer comes to; of a single one, 0 if it came and 1 if not.
    fn picked(&self, answer: &Answer, by_bytes: bool) -> usize {
        if let [Choice { tokens, n_context, .. }] = &self.choices[..] {
            return usize::from(answer.favourites != tokens[*n_context..]);
        }
        let price = |index: usize| match by_bytes {
            true => answer.nll[index] / self.choices[index].n_bytes as f64,
            false => answer.nll[index],
        };
        let all = 0..self.choices.len();
        all.min_by(|&a, &b| price(a).total_cmp(&price(b))).unwrap_or(0)
    }
}

impl Task {
    /// Refuses answers that are not of these questions; files may say anything.
    fn check(&self) -> Result<(), MeasureError> {
        let fits = |answers: &[Answer]| {
            let of = |(answer, question): (&Answer, &Question)| {
                let is_number = answer.nll.iter().all(|nll| nll.is_finite());
                let first = question.choices.first();
                let n = first.map_or(0, |choice| choice.tokens.len() - choice.n_context);
                let is_whole = answer.nll.len() == question.choices.len();
                is_number && is_whole && answer.favourites.len() == n
            };
            answers.len() == self.questions.len() && answers.iter().zip(&self.questions).all(of)
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_named = !self.name.is_empty() && self.name.chars().all(is_name);
        let is_sound = self.questions.iter().all(Question::is_sound);
        // Lengths are those of sound questions.
        if is_named && is_sound && fits(&self.baseline) && fits(&self.artifact) {
            return Ok(());
        }
        let why = format!("task {:?}: the answers are not those to its questions", self.name);
        Err(MeasureError::Data(why))
    }

    /// Whether its questions have several choices.
    fn is_choice(&self) -> bool {
        self.questions.iter().any(|question| question.choices.len() > 1)
    }

    fn picks(&self, answers: &[Answer], by_bytes: bool) -> Vec<usize> {
        let pairs = self.questions.iter().zip(answers);
        pairs.map(|(question, answer)| question.picked(answer, by_bytes)).collect()
    }

    fn hits(&self, picks: &[usize]) -> Vec<f64> {
        let is_hit = |(question, pick): (&Question, &usize)| match question.choices.len() {
            1 => *pick == 0,
            _ => *pick == question.gold,
        };
        let hits = self.questions.iter().zip(picks).map(is_hit);
        hits.map(|is_hit| f64::from(u8::from(is_hit))).collect()
    }

    /// Both models' accuracy, how much it changed, and the share of answers that are others.
    ///
    /// # Errors
    /// When the answers are not those to its questions.
    pub fn figures(&self) -> Result<Vec<Figure>, MeasureError> {
        self.check()?;
        let (name, n) = (&self.name, self.questions.len());
        let how = match self.is_choice() {
            true => "the choice of greatest probability is the right one",
            false => "every token of the continuation is the favourite",
        };
        let mut figures = Vec::new();
        let mut pair = |suffix: &str, how: &str, by_bytes: bool| {
            let [before, after] = [&self.baseline, &self.artifact].map(|a| self.picks(a, by_bytes));
            for (who, picks) in [("baseline", &before), ("artifact", &after)] {
                let (share, interval) = share(&self.hits(picks));
                let figure = format!("{who}_{name}_accuracy{suffix}");
                figures.push(Figure::estimated(&figure, Unit::Fraction, how, share, n, interval)?);
            }
            Ok::<_, MeasureError>([before, after])
        };
        let [before, after] = pair("", how, false)?;
        if self.is_choice() {
            pair("_norm", "the choice of greatest probability per byte is the right one", true)?;
        }
        let change: Vec<f64> = self
            .hits(&after)
            .iter()
            .zip(self.hits(&before))
            .map(|(a, b)| (a - b) * 100.0)
            .collect();
        let (mean, interval) = share(&change);
        let method =
            format!("accuracy of the artifact less the baseline's, paired by question; {how}");
        let figure = format!("{name}_score_change_points");
        figures.push(Figure::estimated(&figure, Unit::Percent, &method, mean, n, interval)?);
        let is_flipped = |index: usize| match self.questions[index].choices.len() {
            1 => self.baseline[index].favourites != self.artifact[index].favourites,
            _ => before[index] != after[index],
        };
        let flips: Vec<f64> = (0..n).map(|index| f64::from(u8::from(is_flipped(index)))).collect();
        let (flipped, interval) = share(&flips);
        let method = "share of questions that the artifact answers otherwise than the baseline: \
                      with another choice, or another favourite at some token of the continuation";
        let figure = format!("{name}_answers_changed");
        figures.push(Figure::estimated(&figure, Unit::Fraction, method, flipped, n, interval)?);
        Ok(figures)
    }
}

/// The mean and its interval over questions.
fn share(values: &[f64]) -> (f64, Option<Interval>) {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let interval = Bootstrap::default().mean(values);
    // The ends rest on resamples; with few questions they may all lie to one side of the mean.
    let around = |i: Interval| Interval { low: i.low.min(mean), high: i.high.max(mean) };
    (mean, interval.map(around))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::toy::Bigram;

    fn choice(tokens: &[u32], n_context: usize) -> Choice {
        Choice { tokens: tokens.to_vec(), n_context, n_bytes: 2 * (tokens.len() - n_context) }
    }

    /// After 0 comes 1, after 1 comes 2, rather than anything else.
    fn model(certainty: f32) -> Bigram {
        let row = |best: usize| (0..4).map(|t| if t == best { certainty } else { 0.0 }).collect();
        Bigram { table: vec![row(1), row(2), row(3), row(0)], n_context: 16 }
    }

    #[test]
    fn choices_are_weighed_by_their_own_tokens_only() {
        let question =
            Question { choices: vec![choice(&[3, 0, 2], 2), choice(&[3, 0, 1], 2)], gold: 1 };
        let said = answer(&mut model(3.0), &question).unwrap();
        let expected = logits::nll(&[0.0, 3.0, 0.0, 0.0], 1);
        assert!((said.nll[1] - expected).abs() < 1e-12 && said.nll[0] > said.nll[1]);
        assert_eq!(question.picked(&said, false), 1);
    }

    // proves A5
    #[test]
    fn flips_show_where_accuracy_does_not_change() {
        let right = Question { choices: vec![choice(&[0, 1], 1), choice(&[0, 2], 1)], gold: 0 };
        let wrong = Question { gold: 1, ..right.clone() };
        let questions: Vec<Question> =
            (0..10).map(|i| if i % 2 == 0 { right.clone() } else { wrong.clone() }).collect();
        let said = |nll: [f64; 2]| Answer { nll: nll.to_vec(), favourites: vec![1] };
        let task = Task {
            name: "pairs".into(),
            questions,
            baseline: vec![said([1.0, 2.0]); 10],
            artifact: vec![said([2.0, 1.0]); 10],
        };
        let figures = task.figures().unwrap();
        let value = |name: &str| figures.iter().find(|f| f.name() == name).unwrap().value();
        assert_eq!(value("baseline_pairs_accuracy"), Some(0.5));
        assert_eq!(value("artifact_pairs_accuracy"), Some(0.5));
        assert_eq!(value("pairs_score_change_points"), Some(0.0));
        assert_eq!(value("pairs_answers_changed"), Some(1.0));
        let short = Task { artifact: vec![said([2.0, 1.0]); 9], ..task.clone() };
        assert!(short.figures().is_err());
        assert!(Task { name: "a b".into(), ..task }.figures().is_err());
    }

    #[test]
    fn a_single_continuation_must_come_by_itself() {
        let question = |tokens: &[u32]| Question { choices: vec![choice(tokens, 1)], gold: 0 };
        let (comes, does_not) = (question(&[0, 1, 2]), question(&[0, 1, 3]));
        let answers = [&comes, &does_not].map(|q| answer(&mut model(2.0), q).unwrap());
        assert_eq!(answers.clone().map(|a| a.favourites), [[1, 2], [1, 2]]);
        let task = Task {
            name: "words".into(),
            questions: vec![comes, does_not],
            baseline: answers.to_vec(),
            artifact: answers.to_vec(),
        };
        assert_eq!(task.figures().unwrap()[0].value(), Some(0.5));
        // Both are wrong about the second, and not in the same way.
        let mut other = task.clone();
        other.artifact[1].favourites = vec![1, 0];
        let flips = |task: &Task| task.figures().unwrap().last().unwrap().value();
        assert_eq!((flips(&task), flips(&other)), (Some(0.0), Some(0.5)));
        let empty = Question { choices: vec![choice(&[0, 1], 2)], gold: 0 };
        assert!(!empty.is_sound() && !Question { choices: Vec::new(), gold: 0 }.is_sound());
    }
}
