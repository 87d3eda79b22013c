//! Prompt look-up: what followed the last tokens when they came before is a guess of what follows
//! now (Saxena 2023). Answers that quote, edit or repeat are guessed well, and it costs a scan.

use crate::guess::Source;

/// Fewer tokens in common are chance.
const LEAST: usize = 2;

/// More tokens in common say no more.
const ENOUGH: usize = 8;

/// Tokens that are looked through, from the end: the scan must stay short beside a step.
const WINDOW: usize = 1 << 16;

/// The best guess, at most so many tokens: from what the client expects as the answer, or, where
/// that `is_wanted`, from the sequence itself, of which the last `n_new` tokens are the answer.
pub fn guess(
    tokens: &[u32],
    n_new: usize,
    expected: &[u32],
    is_wanted: bool,
    most: usize,
) -> (Source, Vec<u32>) {
    let place = is_wanted.then(|| find(tokens)).flatten();
    match find_expected(expected, tokens, n_new) {
        Some((n_common, end)) if place.is_none_or(|(own, _)| own <= n_common) => {
            let rest = expected[end..].iter().take(most);
            (Source::Prediction, rest.copied().collect())
        }
        _ => (Source::Lookup, after(tokens, place, most)),
    }
}

/// The latest place that ends most like `tokens` do, and how many tokens are alike there; none
/// where the end never came before.
fn find(tokens: &[u32]) -> Option<(usize, usize)> {
    let first = tokens.len().saturating_sub(WINDOW) + 1;
    best((first..tokens.len()).rev().map(|end| (n_common(&tokens[..end], tokens), end)))
}

/// The tokens after a place of the same tokens. A text that goes round in a circle is guessed to go
/// on so.
fn after(tokens: &[u32], place: Option<(usize, usize)>, most: usize) -> Vec<u32> {
    let Some((_, end)) = place else { return Vec::new() };
    let period = tokens.len() - end;
    (0..most).map(|i| tokens[end + i % period]).collect()
}

/// The place in what is expected up to which the answer has come: the same number of tokens, while
/// all are as expected, and after that where it ends like the answer does.
fn find_expected(expected: &[u32], tokens: &[u32], n_new: usize) -> Option<(usize, usize)> {
    let answer = &tokens[tokens.len() - n_new..];
    if n_new < expected.len() && expected.starts_with(answer) {
        return Some((ENOUGH, n_new));
    }
    let last = expected.len().min(WINDOW);
    best((1..last).map(|end| (n_common(&expected[..end], answer), end)))
}

/// The first of the places with the most tokens in common, if those are not chance.
fn best(places: impl Iterator<Item = (usize, usize)>) -> Option<(usize, usize)> {
    let mut best = None;
    let mut most = LEAST - 1;
    for (n_common, end) in places {
        if n_common > most {
            (best, most) = (Some((n_common, end)), n_common);
        }
        if n_common == ENOUGH {
            break;
        }
    }
    best
}

/// Tokens at the end that both have.
fn n_common(a: &[u32], b: &[u32]) -> usize {
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.take(ENOUGH).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(tokens: &[u32], most: usize) -> Vec<u32> {
        after(tokens, super::find(tokens), most)
    }

    #[test]
    fn the_longest_then_latest_place_is_followed() {
        assert_eq!(find(&[1, 2, 3, 4, 1, 2], 2), [3, 4]);
        assert_eq!(find(&[1, 2, 3, 7, 2, 9, 1, 2], 1), [3], "one token in common is chance");
        assert_eq!(find(&[1, 2, 3, 1, 2, 4, 1, 2], 1), [4], "the latest of equal ones");
        assert_eq!(find(&[5, 1, 2, 3, 6, 1, 2, 4, 5, 1, 2], 1), [3], "the longest of all");
        for (tokens, most) in [(&[1, 2, 3][..], 4), (&[7], 4), (&[], 4), (&[1, 2, 1, 2], 0)] {
            assert!(find(tokens, most).is_empty(), "{tokens:?}");
        }
    }

    #[test]
    fn what_the_client_expects_is_followed_while_it_comes_and_found_again_after_a_change() {
        let expected = [1, 2, 3, 4, 5, 6, 7];
        let guess = |tokens: &[u32], n_new| guess(tokens, n_new, &expected, true, 2);
        let predicted = |tokens: Vec<u32>| (Source::Prediction, tokens);
        assert_eq!(guess(&[9, 9], 0), predicted(vec![1, 2]), "before the first token");
        assert_eq!(guess(&[9, 1, 2], 2), predicted(vec![3, 4]));
        assert_eq!(guess(&[9, 1, 8], 2), (Source::Lookup, vec![]), "it went another way");
        assert_eq!(guess(&[9, 1, 8, 4, 5], 4), predicted(vec![6, 7]), "and came back");
        assert_eq!(guess(&[9, 1, 2, 3, 4, 5, 6, 7], 7), (Source::Lookup, vec![]), "it is over");
        // What came before in the text itself, and is longer, is likelier.
        assert_eq!(guess(&[8, 4, 5, 0, 9, 8, 4, 5], 3), (Source::Lookup, vec![0, 9]));
    }

    #[test]
    fn a_circle_goes_on() {
        assert_eq!(find(&[1, 2, 3, 1, 2, 3, 1], 5), [2, 3, 1, 2, 3]);
        assert_eq!(find(&[4, 4, 4], 3), [4, 4, 4]);
        let long: Vec<u32> = (0..100_000).map(|i| i % 70_000).collect();
        assert!(find(&long, 2).is_empty(), "what is beyond the window is forgotten");
    }
}
