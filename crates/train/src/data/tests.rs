//! The order of windows, and what is held out.

use super::*;
use std::collections::BTreeSet;

fn corpus(n_train: u32, n_held_out: u32) -> Corpus {
    Corpus { train: (0..n_train).collect(), held_out: (0..n_held_out).collect() }
}

#[test]
fn an_epoch_sees_each_window_once_and_the_next_in_another_order() {
    let mut windows = Windows::new(1003, 10, 5, true);
    let n = windows.per_epoch();
    let epoch = |windows: &mut Windows, e: usize| -> Vec<usize> {
        (e * n..(e + 1) * n).map(|i| windows.start(i)).collect()
    };
    let (first, second) = (epoch(&mut windows, 0), epoch(&mut windows, 1));
    for starts in [&first, &second] {
        let sorted: BTreeSet<usize> = starts.iter().copied().collect();
        assert_eq!(sorted.len(), n);
        let steps: Vec<usize> =
            sorted.iter().zip(sorted.iter().skip(1)).map(|(a, b)| b - a).collect();
        assert!(steps.iter().all(|&s| s == 10), "windows lie side by side");
        assert!(starts.iter().all(|s| s + 11 <= 1003), "and inside the text");
    }
    assert_ne!(first, second);
    // What a resumed run asks for first is what the broken one would have asked for next.
    let mut fresh = Windows::new(1003, 10, 5, true);
    assert_eq!(fresh.start(n + 3), second[3]);
    assert_eq!(epoch(&mut Windows::new(1003, 10, 5, true), 0), first, "the seed decides");
    assert_ne!(epoch(&mut Windows::new(1003, 10, 6, true), 0), first);
}

#[test]
fn without_a_shift_every_epoch_has_the_same_windows() {
    let mut windows = Windows::new(1003, 10, 5, false);
    let n = windows.per_epoch();
    let mut epoch =
        |e: usize| -> Vec<usize> { (e * n..(e + 1) * n).map(|i| windows.start(i)).collect() };
    let (first, second) = (epoch(0), epoch(1));
    assert_ne!(first, second, "in another order");
    let set = |starts: Vec<usize>| starts.into_iter().collect::<BTreeSet<usize>>();
    assert_eq!(set(first), set(second));
}

#[test]
fn the_smallest_text_has_one_window() {
    let mut windows = Windows::new(11, 10, 1, true);
    assert_eq!(windows.per_epoch(), 1);
    assert!((0..5).all(|i| windows.start(i) == 0));
}

#[test]
fn held_out_windows_cover_the_text_and_are_spread_when_limited() {
    let corpus = corpus(100, 101);
    let all = corpus.held_out_windows(10, usize::MAX);
    assert_eq!(all.len(), 10);
    let predicted: Vec<u32> = all.iter().flat_map(|w| w[1..].iter().copied()).collect();
    assert_eq!(predicted, (1..101).collect::<Vec<u32>>(), "each token is predicted once");
    let few = corpus.held_out_windows(10, 4);
    assert!(few.len() <= 4 && few.len() > 2);
    assert_eq!(few[1][0], 30, "spread over the text");
}
