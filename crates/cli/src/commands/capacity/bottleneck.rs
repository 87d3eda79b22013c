//! What the slowest requests waited for.
//!
//! In: what came of each request, and what the machine did meanwhile. Out: the limit that is
//! nearest to being missed, or missed by most, and the one thing that its time went to.

use super::Promise;
use serde::Serialize;
use std::time::Duration;
use sterna_engine::Spent;
use sterna_measure::load::{Answer, Failure, Outcome, Slo, Time};

/// A request and what the machine did while it waited.
pub struct Waited {
    /// What came of it.
    pub outcome: Outcome,
    /// Until its first token.
    pub before_first: Spent,
    /// From there to its end.
    pub after_first: Spent,
}

/// What time went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Reading prompts.
    Prompts,
    /// Generating tokens.
    Generation,
    /// Waiting for pages of keys and values.
    Memory,
    /// Waiting for a place among the sequences in work.
    Places,
    /// Waiting until one more that generates keeps steps in time.
    Pace,
    /// Nothing: the queue was full.
    Queue,
    /// Longer than a client waits.
    Timeout,
}

/// The bottleneck of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bottleneck {
    /// What it is.
    pub what: What,
    /// The limit that it keeps from being met, or nearly.
    pub limit: &'static str,
    /// That limit's time at the promised share of requests, over the limit.
    pub over_limit: f64,
    /// The share of the slowest requests' time that goes to it.
    pub share: f64,
    /// The share of requests that it leaves without an answer, where those are too many.
    pub failed: f64,
}

/// A limit: its name, and what it is of an answer, if it is anything.
struct Limit {
    name: &'static str,
    time: fn(&Slo) -> Option<Time>,
    of: fn(&Answer) -> Option<f64>,
    spent: fn(&Waited) -> Spent,
}

const LIMITS: [Limit; 3] = [
    Limit { name: "ttft", time: |slo| slo.ttft, of: |a| Some(a.ttft), spent: |w| w.before_first },
    Limit { name: "itl", time: |slo| slo.itl, of: Answer::itl_mean, spent: generating },
    Limit { name: "e2e", time: |slo| slo.e2e, of: |a| Some(a.e2e), spent: whole },
];

/// Who generates has its pages, unless it gave way, which is counted apart.
fn generating(waited: &Waited) -> Spent {
    Spent { no_pages: Duration::ZERO, ..waited.after_first }
}

fn whole(waited: &Waited) -> Spent {
    let (a, b) = (waited.before_first, waited.after_first);
    Spent {
        prompts: a.prompts + b.prompts,
        generation: a.generation + b.generation,
        no_pages: a.no_pages,
        no_places: a.no_places,
        no_pace: a.no_pace,
    }
}

/// Where more requests than this share gave way, that is what made them slow.
const MANY_PREEMPTED: f64 = 0.05;

impl Bottleneck {
    /// Of all requests of a run.
    pub fn of(requests: &[Waited], promise: Promise, preemptions: u64) -> Self {
        let failed: Vec<_> = requests.iter().filter_map(|r| r.outcome.failure()).collect();
        let share = failed.len() as f64 / requests.len().max(1) as f64;
        if share > 1.0 - promise.share {
            let refused = failed.iter().filter(|failure| is_refusal(failure)).count();
            let late = failed.len() - refused;
            let (what, n) =
                if refused >= late { (What::Queue, refused) } else { (What::Timeout, late) };
            let failed = n as f64 / requests.len() as f64;
            return Self { what, limit: "answered", over_limit: 1.0, share: 0.0, failed };
        }
        let judged = LIMITS.iter().filter_map(|limit| Judged::of(limit, requests, promise));
        let worst = judged.max_by(|a, b| a.over.total_cmp(&b.over));
        let Some(Judged { limit, over, slowest }) = worst else {
            // No answer has anything that is limited, so nothing was waited for.
            let what = What::Generation;
            return Self { what, limit: "none", over_limit: 0.0, share: 0.0, failed: 0.0 };
        };
        let mut spent = Spent::default();
        for one in slowest.iter().map(|waited| (limit.spent)(waited)) {
            spent.prompts += one.prompts;
            spent.generation += one.generation;
            spent.no_pages += one.no_pages;
            spent.no_places += one.no_places;
            spent.no_pace += one.no_pace;
        }
        let is_giving_way = preemptions as f64 > MANY_PREEMPTED * requests.len() as f64;
        let (what, share) = match limit.name {
            "itl" if is_giving_way => (What::Memory, 1.0),
            _ => largest(spent),
        };
        Self { what, limit: limit.name, over_limit: over, share, failed: 0.0 }
    }

    /// For people.
    pub fn words(&self) -> String {
        let what = match self.what {
            What::Prompts => "compute of prompts",
            What::Generation => "compute of generation",
            What::Memory => "memory for keys and values (--kv-size)",
            What::Places => "places for sequences in work (--parallel)",
            What::Pace => "the time of steps, which is kept short (--itl-target)",
            What::Queue => "the queue (--max-queue)",
            What::Timeout => "time to answer",
        };
        let (share, failed) = (100.0 * self.share, 100.0 * self.failed);
        match self.what {
            What::Queue => format!("{what}: {failed:.0}% of requests are refused"),
            What::Timeout => {
                format!("{what}: {failed:.0}% of requests are not answered within --timeout")
            }
            _ => {
                let (limit, over) = (self.limit, 100.0 * self.over_limit);
                format!(
                    "{what}: {limit} is at {over:.0}% of its limit, and {share:.0}% of the \
                         slowest requests' time goes there"
                )
            }
        }
    }
}

fn is_refusal(failure: &Failure) -> bool {
    matches!(failure, Failure::Status { .. })
}

/// A limit and how near it is.
struct Judged<'r> {
    limit: &'static Limit,
    /// The time at the promised share of requests, over the limit.
    over: f64,
    /// Those that take at least that, or miss the limit.
    slowest: Vec<&'r Waited>,
}

impl<'r> Judged<'r> {
    /// `None` where nothing is limited, or too few answers have it.
    fn of(limit: &'static Limit, requests: &'r [Waited], promise: Promise) -> Option<Self> {
        // Outcomes are in microseconds.
        let most = (limit.time)(&promise.slo)?.seconds().max(1e-6);
        let over = |waited: &'r Waited| match waited.outcome.answer() {
            Some(answer) => Some(((limit.of)(answer)? / most, waited)),
            // Given up on after a long time.
            None => Some((f64::INFINITY, waited)),
        };
        let mut all: Vec<(f64, &Waited)> = requests.iter().filter_map(over).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at = ((all.len() as f64 * promise.share).ceil() as usize).clamp(1, all.len().max(1));
        let edge = all.get(at - 1)?.0;
        if edge.is_infinite() {
            return None;
        }
        let slowest = all.iter().filter(|(over, _)| *over >= edge.min(1.0)).map(|(_, w)| *w);
        Some(Self { limit, over: edge, slowest: slowest.collect() })
    }
}

/// What most of the time went to. Who waits for a page or a place waits while others are computed,
/// so waiting counts where it is more than half of all.
fn largest(spent: Spent) -> (What, f64) {
    let Spent { prompts, generation, no_pages, no_places, no_pace } = spent;
    let all = (prompts + generation).max(Duration::from_nanos(1));
    let share = |time: Duration| (time.as_secs_f64() / all.as_secs_f64()).min(1.0);
    let mut short = [(What::Memory, no_pages), (What::Places, no_places), (What::Pace, no_pace)];
    short.sort_by_key(|&(_, time)| std::cmp::Reverse(time));
    let [longest, ..] = short;
    let (what, time) = match () {
        () if (no_pages + no_places + no_pace) * 2 > all => longest,
        () if prompts >= generation => (What::Prompts, prompts),
        () => (What::Generation, generation),
    };
    (what, share(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sterna_measure::load::{Arrivals, End, Shape, Traffic};

    fn waited(ttft: f64, itl: f64, before: Spent, after: Spent) -> Waited {
        let shape = Shape { n_agents: 1, n_requests: 1, n_prefix: 0, n_own: 4, n_gen: 3 };
        let arrivals = Arrivals::of(&Traffic::Closed(shape), 1).unwrap();
        let e2e = ttft + 2.0 * itl;
        let itl = vec![itl; 2];
        let answer = Answer { ttft, itl, e2e, n_generated: 3, n_prompt: None, n_cached: None };
        let request = &arrivals.lanes[0][0];
        let outcome = Outcome::new(request, 0.0, e2e, End::Answered(answer));
        Waited { outcome, before_first: before, after_first: after }
    }

    fn spent(prompts: u64, generation: u64, no_pages: u64, no_places: u64) -> Spent {
        let [prompts, generation, no_pages, no_places] =
            [prompts, generation, no_pages, no_places].map(Duration::from_secs);
        Spent { prompts, generation, no_pages, no_places, no_pace: Duration::ZERO }
    }

    // proves A22 (in part: the bottleneck)
    #[test]
    fn the_bottleneck_is_what_the_slowest_waited_for() {
        let promise = Promise { slo: "ttft=2s,itl=100ms".parse().unwrap(), share: 0.95 };
        let of = |ttft, itl, before, after, preemptions| {
            let mut all: Vec<Waited> =
                (0..90).map(|_| waited(0.1, 0.01, spent(9, 9, 9, 9), spent(9, 9, 9, 9))).collect();
            all.extend((0..10).map(|_| waited(ttft, itl, before, after)));
            let found = Bottleneck::of(&all, promise, preemptions);
            (found.what, found.limit, (100.0 * found.share).round())
        };
        let none = Spent::default();
        assert_eq!(of(3.0, 0.01, spent(3, 1, 0, 0), none, 0), (What::Prompts, "ttft", 75.0));
        assert_eq!(of(1.0, 0.01, spent(1, 3, 1, 0), none, 0), (What::Generation, "ttft", 75.0));
        assert_eq!(of(3.0, 0.01, spent(1, 3, 3, 0), none, 0), (What::Memory, "ttft", 75.0));
        assert_eq!(of(3.0, 0.01, spent(1, 3, 1, 2), none, 0), (What::Places, "ttft", 50.0));
        let paced = Spent { no_pace: Duration::from_secs(3), ..spent(1, 3, 1, 1) };
        assert_eq!(of(3.0, 0.01, paced, none, 0), (What::Pace, "ttft", 75.0));
        assert_eq!(of(1.0, 0.2, none, spent(1, 4, 0, 0), 0), (What::Generation, "itl", 80.0));
        assert_eq!(of(1.0, 0.2, none, spent(1, 4, 0, 0), 30), (What::Memory, "itl", 100.0));
        let words =
            Bottleneck::of(&[waited(3.0, 0.01, spent(3, 1, 0, 0), none)], promise, 0).words();
        assert_eq!(
            words,
            "compute of prompts: ttft is at 150% of its limit, and 75% of the slowest requests' \
             time goes there"
        );
    }

    #[test]
    fn a_full_queue_is_a_bottleneck_of_its_own() {
        let promise = Promise { slo: "ttft=2s".parse().unwrap(), share: 0.95 };
        let mut all: Vec<Waited> =
            (0..10).map(|_| waited(1.0, 0.1, Spent::default(), Spent::default())).collect();
        let message = "full".to_owned();
        all[0].outcome.end = End::Failed(Failure::Status { code: 503, retry_after: None, message });
        let found = Bottleneck::of(&all, promise, 0);
        assert_eq!((found.what, found.failed), (What::Queue, 0.1));
        assert!(found.words().contains("10% of requests are refused"), "{}", found.words());
    }

    // proves A22 (in part: a bottleneck is never beyond all numbers)
    #[test]
    fn those_that_nobody_waited_for_are_a_bottleneck_of_their_own() {
        let promise = Promise { slo: "itl=1s".parse().unwrap(), share: 0.95 };
        let mut all: Vec<Waited> =
            (0..100).map(|_| waited(1.0, 0.1, Spent::default(), Spent::default())).collect();
        for late in &mut all[..5] {
            late.outcome.end = End::Failed(Failure::Timeout);
        }
        let few = Bottleneck::of(&all, promise, 0);
        assert_eq!((few.limit, few.failed), ("itl", 0.0));
        assert!(few.words().contains("itl is at 10% of its limit"), "{}", few.words());
        // Where answers have a token, only those without one have a time between them.
        for short in &mut all[5..] {
            let End::Answered(answer) = &mut short.outcome.end else { unreachable!() };
            answer.itl.clear();
        }
        assert_eq!(Bottleneck::of(&all, promise, 0).limit, "none");
        all[5].outcome.end = End::Failed(Failure::Timeout);
        let many = Bottleneck::of(&all, promise, 0);
        assert_eq!((many.what, many.failed), (What::Timeout, 0.06));
        assert!(many.words().contains("6% of requests are not answered within --timeout"));
    }
}
