//! Encoders: texts are read as a whole, whatever comes beside them.

use super::device::encoded;
use super::time::play;
use super::*;

#[test]
fn texts_are_read_at_once_and_share_nothing() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let limits = Limits {
            reads_whole: true,
            n_pages: rng.random_range(8..40),
            max_rows: 128,
            max_running: rng.random_range(1..9),
            ..roomy()
        };
        let prefix = tokens(&mut rng, PAGE_LEN);
        let mut ask = |_| {
            let len = rng.random_range(1..96);
            let prompt = [&prefix[..], &tokens(&mut rng, len)].concat();
            let embed = [Pooling::Last, Pooling::Mean, Pooling::First][rng.random_range(0..3)];
            let class = Class::ALL[rng.random_range(0..3)];
            let agent = format!("agent-{}", rng.random_range(0..3));
            let at = Duration::from_millis(rng.random_range(0..20));
            let embed = Some(embed);
            let session = rng.random_bool(0.2).then(|| "session".to_owned());
            (at, Request { embed, session, ..plain(prompt, 0, &agent, class) })
        };
        let mut requests: Vec<(Duration, Request)> = (0..20).map(&mut ask).collect();
        requests.sort_by_key(|(at, _)| *at);
        let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
        device.reads_whole = true;
        let wanted: Vec<_> = requests.iter().map(|(_, request)| encoded(request)).collect();
        let n_tokens: usize = requests.iter().map(|(_, request)| request.prompt.len()).sum();
        let mut n_ends = 0;
        let cost = |_: &Batch| Duration::from_millis(1);
        play(&mut core, &mut device, requests, cost, |_, (id, output)| {
            let Output::Finished(end) = output else { panic!("seed {seed}: {output:?}") };
            assert_eq!(end.embedding, wanted[id.0 as usize], "seed {seed}: {id:?}");
            n_ends += 1;
        });
        let stats = core.stats();
        assert_eq!((n_ends, stats.rows, stats.cached_tokens), (20, n_tokens as u64, 0));
        assert_eq!((stats.pages_used, stats.pages_cached, stats.sessions), (0, 0, 0));
    }
}

#[test]
fn an_encoder_generates_nothing_and_takes_no_text_longer_than_a_batch() {
    let limits = Limits { reads_whole: true, max_rows: 64, ..roomy() };
    let ask = |len, max_tokens, embed| {
        let class = Class::Default;
        limits.check(&Request { embed, ..plain(vec![FIRST; len], max_tokens, "a", class) })
    };
    let why = ask(3, 1, None).unwrap_err().to_string();
    assert!(why.contains("embeddings"), "{why}");
    assert_eq!(ask(64, 0, Some(Pooling::Mean)), Ok(()));
    let long = ask(65, 0, Some(Pooling::Mean)).unwrap_err();
    assert!(matches!(long, EngineError::ContextLength { context_len: 64, .. }), "{long}");
}
