//! Sequences of all lengths in one batch.

use super::time::play;
use super::*;

// proves B-10 (in its stead: rows of all sequences are packed one behind another, so that there are
// no buckets of lengths, and the ratio of padded tokens is 0), T-5
#[test]
fn no_row_is_padding_and_answers_are_those_of_each_alone() {
    let mut rng = StdRng::seed_from_u64(41);
    let mut of_len = |len| plain(tokens(&mut rng, len), 6, "agent", Class::Default);
    let requests: Vec<Request> =
        [1, 2, 17, 100, 127, 128, 129, 500, 511, 1_000].map(&mut of_len).into();
    let limits = roomy();
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
    let mut answers: BTreeMap<RequestId, Vec<u32>> = BTreeMap::new();
    let at_once = requests.iter().map(|request| (Duration::ZERO, request.clone()));
    let cost = |_: &Batch| Duration::from_millis(1);
    play(&mut core, &mut device, at_once.collect(), cost, |_, (id, output)| {
        if let Output::Token { id: token, .. } = output {
            answers.entry(id).or_default().push(token);
        }
    });
    for ((id, answer), request) in answers.iter().zip(&requests) {
        assert_eq!(answer, &expected(request), "{id:?}");
    }
    // The last token of an answer is computed by nobody.
    let needed: usize = requests.iter().map(|r| r.prompt.len() + r.max_tokens - 1).sum();
    let stats = core.stats();
    // Some begin with the same token, which is computed once.
    let n_padded = (stats.rows + stats.cached_tokens) as i64 - needed as i64;
    println!("{n_padded} of {} rows are padding", stats.rows);
    assert_eq!((answers.len(), n_padded, stats.preemptions), (10, 0, 0));
    assert!(stats.batch_rows.count() < 20, "they went together");
}
