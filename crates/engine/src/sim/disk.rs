//! The simulator with a disk that is slow, loses files and damages them, over a restart.

use super::*;
use crate::core::Flushed;
use crate::disk::hash::{PageHash, SegmentId};
use crate::disk::store::Held;
use crate::disk::tier::Tier;
use crate::disk::{Event, Load, Order, Save};

/// Bytes of a page of [`Device`].
const PAGE_BYTES: usize = PAGE_LEN * 8;

/// The disk: what is written, and what it will say when.
pub struct Fake {
    rng: StdRng,
    files: BTreeMap<SegmentId, (Save, Vec<Vec<u8>>)>,
    coming: Vec<(usize, Event)>,
    step: Duration,
    /// Chances of a hundred that something goes wrong.
    mischief: u32,
}

impl Fake {
    pub fn new(seed: u64, step: Duration, mischief: u32) -> Self {
        let (files, coming) = Default::default();
        Self { rng: StdRng::seed_from_u64(seed ^ 0xd15c), files, coming, step, mischief }
    }

    /// What a process finds that starts now.
    pub fn tier(&mut self) -> Tier {
        self.coming.clear();
        let held: Vec<Held> =
            self.files.values().map(|(save, _)| (save.id, hashes(save))).collect();
        let mut tier = Tier::new(model(), PAGE_BYTES, held);
        tier.rates.learn_rows(32, self.step);
        if self.rng.random_bool(0.5) {
            tier.least = (1, 1);
        }
        tier
    }

    /// Tells the core what has happened by now.
    pub fn tell(&mut self, core: &mut Core, device: &mut Device, step: usize) {
        let (now, later) =
            std::mem::take(&mut self.coming).into_iter().partition(|(at, _)| *at <= step);
        self.coming = later;
        let now: Vec<(usize, Event)> = now;
        for (_, event) in now {
            for (page, bytes) in core.heard(event) {
                let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
                device.pages[page as usize].iter_mut().zip(words).for_each(|(to, from)| *to = from);
            }
        }
    }

    /// Does what the core wants, sooner or later or never.
    pub fn obey(&mut self, orders: Vec<Order>, device: &Device, step: usize) {
        for order in orders {
            let at = step + self.rng.random_range(0..6);
            match order {
                Order::Touch(segments) => assert!(!segments.is_empty()),
                Order::Clear => self.files.clear(),
                Order::Load(load) => self.load(load, at),
                Order::Save(save, pages) => {
                    assert_eq!(pages.len(), hashes(&save).len());
                    let bytes = |&page: &u32| {
                        let words = device.pages[page as usize];
                        words.iter().flat_map(|word| word.to_le_bytes()).collect()
                    };
                    self.save(save, pages.iter().map(bytes).collect(), at);
                }
            }
        }
    }

    fn goes_wrong(&mut self) -> bool {
        self.rng.random_ratio(self.mischief, 100)
    }

    fn save(&mut self, save: Save, pages: Vec<Vec<u8>>, at: usize) {
        let id = save.id;
        if self.goes_wrong() {
            return self.coming.push((at, Event::Gone(id)));
        }
        if self.goes_wrong()
            && let Some((&oldest, _)) = self.files.first_key_value()
        {
            self.files.remove(&oldest);
            self.coming.push((at, Event::Gone(oldest)));
        }
        self.files.insert(id, (save, pages));
        self.coming.push((at, Event::Saved(id)));
    }

    fn load(&mut self, load: Load, at: usize) {
        if self.goes_wrong() {
            return;
        }
        let (first, n_wanted) = (load.first, load.n_pages);
        let mut pages = match self.files.get(&load.segment) {
            Some((save, pages)) => {
                assert_eq!(save.start, load.start, "a salt never sees another's pages");
                assert!(save.tokens.starts_with(&load.tokens));
                pages[first - save.depth..][..n_wanted].to_vec()
            }
            None => Vec::new(),
        };
        if self.goes_wrong() {
            // Damaged: those before it are good.
            pages.truncate(self.rng.random_range(0..n_wanted));
        }
        if pages.len() < n_wanted {
            self.files.remove(&load.segment);
            self.coming.push((at, Event::Gone(load.segment)));
        }
        let took = self.step * self.rng.random_range(0..3);
        self.coming.push((at, Event::Loaded { number: load.number, first, n_wanted, pages, took }));
    }
}

fn model() -> PageHash {
    PageHash::of_model(&[b"simulated"])
}

fn hashes(save: &Save) -> Vec<PageHash> {
    let mut hash = save.start;
    let all = save.tokens.chunks_exact(PAGE_LEN).map(|page| {
        hash = hash.then(page);
        hash
    });
    let all: Vec<PageHash> = all.collect();
    assert_eq!(all.last(), Some(&save.id.last));
    all[save.depth..].to_vec()
}

// proves B24, P-14 (in part: a disk that is slow, loses and damages changes no answer and stops
// nobody, and what it keeps is used by the next process)
#[test]
fn a_disk_changes_no_answer_whatever_it_loses() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..4_000 {
        let scenario = Scenario::random(seed);
        let mischief = [0, 5, 30][seed as usize % 3];
        let mut fake = Fake::new(seed, scenario.step, mischief);
        for life in 0..3 {
            let stats = play(seed, &scenario, Some(&mut fake));
            assert!(stats.disk_tokens <= stats.cached_tokens, "seed {seed}, life {life}");
            *(if mischief == 0 { &mut kept } else { &mut lost }) += stats.disk_tokens;
        }
    }
    // What is rare must have happened too.
    assert!(kept > 10_000, "{kept} tokens came from a disk that keeps");
    assert!(lost > 10_000, "{lost} tokens came from disks that lose");
}

/// Computes a prompt on a core with a disk that does what it is asked at once; the rows computed.
fn ask(core: &mut Core, device: &mut Device, fake: &mut Fake, request: Request) -> u64 {
    let before = core.stats().prefilled_tokens;
    core.submit(Duration::ZERO, RequestId(0), request);
    for step in 0.. {
        assert!(step < 1_000, "it is never answered");
        fake.tell(core, device, step + 10);
        let batch = core.plan(Duration::ZERO);
        fake.obey(core.orders(), device, step);
        if !batch.parts.is_empty() {
            let logits = device.run(core, &batch);
            core.complete(Duration::ZERO, Duration::from_secs(1), &batch, &logits);
            fake.obey(core.orders(), device, step);
        }
        if core.is_idle() {
            break;
        }
    }
    fake.tell(core, device, usize::MAX);
    core.stats().prefilled_tokens - before
}

/// A process that begins on what the disk has.
fn start(fake: &mut Fake) -> (Core, Device) {
    let limits = Limits { max_rows: 4096, ..roomy() };
    (Core::with_disk(limits, tokenizer(), Some(fake.tier())), Device::new(4096))
}

#[test]
fn a_restart_computes_only_what_is_no_whole_page() {
    let mut rng = StdRng::seed_from_u64(8);
    let prompt = tokens(&mut rng, 60 * PAGE_LEN + 5);
    let request = plain(prompt, 4, "a", Class::Default);
    let salted = Request { cache_salt: Some("tenant".into()), ..request.clone() };
    let all = request.prompt.len() as u64;
    let mut fake = Fake::new(1, Duration::from_millis(1), 0);
    let (mut core, mut device) = start(&mut fake);
    assert_eq!(ask(&mut core, &mut device, &mut fake, request.clone()), all);
    assert_eq!(core.stats().disk_tokens, 0);
    // 60 pages are four segments; the next process has them, and nobody with a salt.
    assert_eq!(fake.files.len(), 4);
    let (mut core, mut device) = start(&mut fake);
    assert_eq!(ask(&mut core, &mut device, &mut fake, request.clone()), 5);
    assert_eq!(core.stats().disk_tokens, all - 5);
    assert_eq!(fake.files.len(), 4, "nothing is written twice");
    assert_eq!(ask(&mut core, &mut device, &mut fake, salted), all);
    assert_eq!((core.stats().disk_tokens, fake.files.len()), (all - 5, 8));
    // From memory the second time.
    assert_eq!(ask(&mut core, &mut device, &mut fake, request.clone()), 1);
    assert_eq!(core.stats().disk_tokens, all - 5);
    // A slow disk is not waited for longer than computing takes.
    let (mut core, mut device) = start(&mut fake);
    core.submit(Duration::ZERO, RequestId(0), request);
    assert!(core.plan(Duration::ZERO).parts.is_empty());
    let late = core.wakes_at().unwrap();
    assert!(core.plan(late - Duration::from_millis(1)).parts.is_empty());
    let batch = core.plan(late);
    assert_eq!(batch.n_rows() as u64, all, "it is computed");
    device.run(&core, &batch);
}

// proves B25: what all tenants may have in common is theirs on the disk too, and nothing else is.
#[test]
fn what_is_public_is_found_on_the_disk_by_every_tenant_and_what_is_private_by_its_own() {
    let mut rng = StdRng::seed_from_u64(22);
    let system = tokens(&mut rng, 20 * PAGE_LEN);
    let private = [&system[..], &tokens(&mut rng, 20 * PAGE_LEN + 5)].concat();
    let other = [&system[..], &tokens(&mut rng, 20 * PAGE_LEN + 5)].concat();
    let ask_as = |fake: &mut Fake, salt: &str, prompt: &[u32]| {
        let (mut core, mut device) = start(fake);
        let request = Request {
            cache_salt: Some(salt.into()),
            public_tokens: system.len(),
            ..plain(prompt.to_vec(), 1, salt, Class::Default)
        };
        let rows = ask(&mut core, &mut device, fake, request);
        (rows, core.stats().disk_tokens)
    };
    let n = |pages: usize| (pages * PAGE_LEN) as u64;
    for sent in [&private, &other] {
        let mut fake = Fake::new(1, Duration::from_millis(1), 0);
        assert_eq!(ask_as(&mut fake, "first", sent), (n(40) + 5, 0));
        assert_eq!(ask_as(&mut fake, "second", &private), (n(20) + 5, n(20)));
        assert_eq!(ask_as(&mut fake, "first", sent), (5, n(40)));
        assert_eq!(fake.files.len(), 6, "the public pages are there once");
    }
}

/// A disk that has some prompts of ten pages, and requests for them.
fn kept_prompts(rng: &mut StdRng, n: usize) -> (Fake, Vec<Request>) {
    let mut fake = Fake::new(1, Duration::from_secs(1), 0);
    let (mut core, mut device) = start(&mut fake);
    let mut request = || plain(tokens(rng, 10 * PAGE_LEN + 5), 4, "a", Class::Default);
    let requests: Vec<Request> = (0..n).map(|_| request()).collect();
    for request in &requests {
        ask(&mut core, &mut device, &mut fake, request.clone());
    }
    (fake, requests)
}

fn n_loads(core: &mut Core) -> usize {
    core.orders().iter().filter(|order| matches!(order, Order::Load(_))).count()
}

#[test]
fn nobody_waits_long_for_loads_of_others_and_who_is_urgent_not_at_all() {
    let (mut fake, requests) = kept_prompts(&mut StdRng::seed_from_u64(23), 7);
    let (mut core, _) = start(&mut fake);
    let submit = |core: &mut Core, n: usize, class| {
        let request = Request { class, ..requests[n].clone() };
        core.submit(Duration::ZERO, RequestId(n as u64), request);
        core.plan(Duration::ZERO)
    };
    for n in 0..6 {
        assert!(submit(&mut core, n, Class::Batch).parts.is_empty());
        assert_eq!(n_loads(&mut core), usize::from(n < 4), "the others wait for their turn");
    }
    assert!(submit(&mut core, 6, Class::Interactive).parts.is_empty());
    assert_eq!(n_loads(&mut core), 1, "it does not wait for theirs");
    // As long as computing takes, and no longer.
    let late = core.wakes_at().unwrap();
    let all: usize = requests.iter().map(|request| request.prompt.len()).sum();
    let mut rows = core.plan(late - Duration::from_millis(1)).n_rows();
    assert_eq!(rows, 0);
    for _ in 0..2 {
        let batch = core.plan(late);
        rows += batch.n_rows();
        let logits = vec![0.0; batch.parts.len() * VOCABULARY];
        core.complete(late, Duration::from_secs(1), &batch, &logits);
    }
    assert!(rows >= all && n_loads(&mut core) == 0, "{rows} of {all} rows are computed");
}

#[test]
fn an_urgent_sequence_computes_where_the_loads_of_others_take_all_pages() {
    let (mut fake, requests) = kept_prompts(&mut StdRng::seed_from_u64(24), 2);
    let limits = Limits { n_pages: 15, ..roomy() };
    let mut core = Core::with_disk(limits, tokenizer(), Some(fake.tier()));
    for (n, class) in [Class::Batch, Class::Interactive].into_iter().enumerate() {
        let request = Request { class, ..requests[n].clone() };
        core.submit(Duration::ZERO, RequestId(n as u64), request);
        let batch = core.plan(Duration::ZERO);
        assert_eq!(batch.n_rows(), n * requests[n].prompt.len());
    }
}

#[test]
fn a_flush_forgets_what_is_on_the_disk_and_nobody_waits_for_it() {
    let (mut fake, requests) = kept_prompts(&mut StdRng::seed_from_u64(25), 2);
    let (mut core, mut device) = start(&mut fake);
    core.submit(Duration::ZERO, RequestId(0), requests[0].clone());
    assert!(core.plan(Duration::ZERO).parts.is_empty());
    assert_eq!(core.flush(), Flushed { disk_files: 2, ..Flushed::default() });
    fake.obey(core.orders(), &device, 0);
    assert_eq!((fake.files.len(), core.wakes_at()), (0, None));
    assert_eq!(core.plan(Duration::ZERO).n_rows(), requests[0].prompt.len());
    let (mut core, _) = start(&mut fake);
    let rows = ask(&mut core, &mut device, &mut fake, requests[1].clone());
    assert_eq!(rows, requests[1].prompt.len() as u64);
}
