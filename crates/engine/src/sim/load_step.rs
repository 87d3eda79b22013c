//! The core in simulated time when the load steps up: how soon tokens come in time again, and how
//! well the time of a step was told beforehand.

use super::time::play;
use super::*;

const TARGET: Duration = Duration::from_millis(100);

/// When the load steps up.
const STEP: u64 = 30;

/// What came of a load: the 95th percentile of times between tokens, in seconds, by the second in
/// which they ended; and the mean error of what was expected of steps.
struct Came {
    p95: Vec<f64>,
    mape: f64,
}

impl Came {
    /// Seconds from the step until every second's percentile is within the target for good.
    fn settled_after(&self) -> usize {
        let late = self.p95.iter().rposition(|&p95| p95 > TARGET.as_secs_f64());
        late.map_or(0, |last| (last + 1).saturating_sub(STEP as usize))
    }
}

/// Plays requests on a machine whose batches take `fixed` seconds and so much for each row of a
/// prompt and each token being generated, give or take 3%.
fn measure(
    target: Option<Duration>,
    requests: Vec<(Duration, Request)>,
    [fixed, each_row, each_token]: [f64; 3],
) -> Came {
    let limits = Limits { itl_target: target, ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
    let mut rng = StdRng::seed_from_u64(5);
    let cost = |batch: &Batch| {
        let n_tokens = batch.parts.iter().filter(|part| part.is_decode).count();
        let n_rows = batch.n_rows() - n_tokens;
        let seconds = fixed + each_row * n_rows as f64 + each_token * n_tokens as f64;
        Duration::from_secs_f64(seconds * rng.random_range(0.97..1.03))
    };
    let mut last: BTreeMap<RequestId, Duration> = BTreeMap::new();
    let mut gaps: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    play(&mut core, &mut device, requests, cost, |now, (id, output)| {
        if matches!(output, Output::Token { .. })
            && let Some(before) = last.insert(id, now)
        {
            gaps.entry(now.as_secs() as usize).or_default().push((now - before).as_secs_f64());
        }
    });
    let mut p95 = vec![f64::NAN; gaps.keys().max().map_or(0, |last| last + 1)];
    for (second, mut gaps) in gaps {
        gaps.sort_by(f64::total_cmp);
        p95[second] = gaps[(gaps.len() * 95).div_ceil(100) - 1];
    }
    let stats = core.stats();
    assert_eq!(stats.finished[3], 0, "nobody is refused");
    assert!(p95[1..].iter().all(|p95| !p95.is_nan()), "tokens come in every second");
    Came { p95, mape: stats.forecast_error.sum() / stats.forecast_error.count() as f64 }
}

/// Requests that come evenly, from one second to another.
fn evenly(
    rng: &mut StdRng,
    [from, to]: [u64; 2],
    per_second: f64,
    [n_prompt, n_new]: [usize; 2],
) -> Vec<(Duration, Request)> {
    let n = ((to - from) as f64 * per_second) as usize;
    let at = |i: usize| Duration::from_secs_f64(from as f64 + i as f64 / per_second);
    let mut request = || plain(tokens(rng, n_prompt), n_new, "agent", Class::Default);
    (0..n).map(|i| (at(i), request())).collect()
}

/// The same of both, in order of time.
fn both(a: Vec<(Duration, Request)>, b: Vec<(Duration, Request)>) -> Vec<(Duration, Request)> {
    let mut all = [a, b].concat();
    all.sort_by_key(|(at, _)| *at);
    all
}

// proves P-16, S-12: long prompts come all at once, and tokens are in time again within 2 s.
#[test]
fn long_prompts_delay_tokens_for_two_seconds_at_most() {
    let requests = |rng: &mut StdRng| {
        let chats = evenly(rng, [0, 60], 1.0, [64, 64]);
        both(chats, evenly(rng, [STEP, 60], 0.8, [1_500, 16]))
    };
    let machine = [0.020, 0.0005, 0.001];
    let load = requests(&mut StdRng::seed_from_u64(31));
    let paced = measure(Some(TARGET), load.clone(), machine);
    let free = measure(None, load, machine);
    let (settled, mape) = (paced.settled_after(), paced.mape);
    println!("p95 is within the target {settled} s after the step; MAPE of steps {mape:.3}");
    assert!(paced.p95[..STEP as usize].iter().all(|&p95| p95 <= TARGET.as_secs_f64()));
    assert!(settled <= 2, "{settled} s");
    assert!(mape < 0.05, "{mape}");
    assert!(free.settled_after() > 25, "without a target they stay late");
    assert!(paced.p95.len() <= free.p95.len() + 1, "all are answered as soon");
}

// proves P-16, S-12: more come at once than tokens are in time for; no more are begun than are,
// within 2 s.
#[test]
fn a_crowd_is_admitted_as_far_as_tokens_stay_in_time() {
    let requests = |rng: &mut StdRng| {
        let mut crowd = evenly(rng, [STEP, STEP + 1], 100.0, [20, 64]);
        crowd.truncate(64);
        crowd.iter_mut().for_each(|(at, _)| *at = Duration::from_secs(STEP));
        let before = evenly(rng, [0, STEP], 1.0, [20, 64]);
        [before, both(crowd, evenly(rng, [STEP, 120], 2.0, [20, 64]))].concat()
    };
    let machine = [0.020, 0.0005, 0.004];
    let load = requests(&mut StdRng::seed_from_u64(32));
    let paced = measure(Some(TARGET), load.clone(), machine);
    let free = measure(None, load, machine);
    let (settled, mape) = (paced.settled_after(), paced.mape);
    println!("p95 is within the target {settled} s after the step; MAPE of steps {mape:.3}");
    assert!(settled <= 2, "{settled} s");
    assert!(mape < 0.05, "{mape}");
    assert!(free.settled_after() > 2 * settled, "without a target they stay late");
    assert!(paced.p95.len() <= free.p95.len() + 1, "all are answered as soon");
}

#[test]
fn a_machine_that_is_always_late_serves_as_many_as_it_can() {
    let machine = [0.2, 0.0005, 0.001];
    let load = evenly(&mut StdRng::seed_from_u64(33), [0, 1], 64.0, [20, 64]);
    let [paced, free] = [Some(TARGET), None].map(|target| measure(target, load.clone(), machine));
    assert!(paced.p95.len() <= free.p95.len() + free.p95.len() / 4, "{}", paced.p95.len());
}

/// A machine on which a crowd has made places few, and what it takes.
fn crowded(rng: &mut StdRng) -> (Core, Device, impl Fn(&Batch) -> Duration + use<>) {
    let limits = Limits { itl_target: Some(TARGET), ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
    let cost = |batch: &Batch| Duration::from_millis(20 + 4 * batch.parts.len() as u64);
    play(&mut core, &mut device, evenly(rng, [0, 1], 64.0, [20, 64]), cost, |_, _| ());
    assert!((8..24).contains(&core.stats().paced_running), "{}", core.stats().paced_running);
    (core, device, cost)
}

#[test]
fn who_generates_nothing_waits_for_no_place_of_those_who_do() {
    let mut rng = StdRng::seed_from_u64(34);
    let (mut core, mut device, cost) = crowded(&mut rng);
    let before = core.stats().batches;
    play(
        &mut core,
        &mut device,
        evenly(&mut rng, [0, 1], 1_000.0, [20, 0])[..48].into(),
        cost,
        |_, _| (),
    );
    let n_batches = core.stats().batches - before;
    assert!(n_batches <= 3, "48 x 20 rows in {n_batches} batches");
}

#[test]
fn one_long_pause_makes_no_places_few() {
    let limits = Limits { itl_target: Some(TARGET), ..roomy() };
    let (mut core, mut device) = (Core::new(limits, tokenizer()), Device::new(limits.n_pages));
    let load = evenly(&mut StdRng::seed_from_u64(35), [0, 1], 4.0, [20, 100]);
    let mut n_batches = 0;
    let cost = |batch: &Batch| {
        n_batches += 1;
        let pause = if n_batches == 50 { 5_000 } else { 0 };
        Duration::from_millis(20 + batch.parts.len() as u64 / 4 + pause)
    };
    play(&mut core, &mut device, load, cost, |_, _| ());
    assert_eq!(core.stats().paced_running, 64);
}
