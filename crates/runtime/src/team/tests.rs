//! The team: every item once, steps in lockstep, panics that reach the caller, sleep when idle.

use super::*;
use std::time::Duration;

/// Steps that pass rows along: row `i` of step `s` becomes the sum of all of step `s - 1` plus `i`.
struct Sums {
    n_rows: usize,
    chunk: usize,
    panics_at: Option<(usize, usize)>,
}

impl Job for Sums {
    fn items(&self, _step: usize) -> Items {
        Items { count: self.n_rows, chunk: self.chunk }
    }

    fn work(&self, io: Io<'_>) {
        let before: f32 = io.floats(0).iter().sum();
        let items = io.items();
        for (i, out) in items.zip(io.rows(0)) {
            if self.panics_at == Some((io.step(), i)) {
                panic!("row {i} does not work");
            }
            *out = (before + i as f32) % 64.0;
        }
    }
}

/// Two buffers of `n` values, written in turn.
fn accesses(n: usize, n_steps: usize) -> Vec<Access> {
    let span = |half: usize| Span { region: Region::Arena, start: half * n, len: n };
    let access = |s: usize| {
        Access::new(vec![span(s % 2)], vec![(span((s + 1) % 2), Split::Rows { len: 1 })])
    };
    (0..n_steps).map(access).collect()
}

fn run(team: &mut Team, n_rows: usize, chunk: usize, n_steps: usize) -> Vec<f32> {
    let mut arena = vec![1.0; 2 * n_rows];
    let accesses = accesses(n_rows, n_steps);
    let mut memory = Memory::new(&accesses, 0).with(Region::Arena, &mut arena);
    team.run(n_steps, &Sums { n_rows, chunk, panics_at: None }, &mut memory);
    arena
}

#[test]
fn steps_see_all_of_the_step_before() {
    let mut alone = Team::new(1, &cpus::given()).unwrap();
    for n_workers in [2, 3, 4] {
        let mut team = Team::new(n_workers, &cpus::given()).unwrap();
        for n_rows in [1, 2, 5, 17, 64] {
            for chunk in [1, 3, 100] {
                let wanted = run(&mut alone, n_rows, chunk, 41);
                assert_eq!(run(&mut team, n_rows, chunk, 41), wanted, "{n_workers} {n_rows}");
            }
        }
    }
}

#[test]
fn many_jobs_one_after_the_other() {
    let mut alone = Team::new(1, &[0]).unwrap();
    let mut team = Team::new(2, &cpus::given()).unwrap();
    let wanted = run(&mut alone, 3, 1, 7);
    for job in 0..20_000 {
        assert_eq!(run(&mut team, 3, 1, 7), wanted, "job {job}");
    }
}

/// Notes which CPUs its first item's thread may use, where that is the caller.
struct WhereItRuns {
    caller: std::thread::ThreadId,
    seen: std::sync::Mutex<Option<Vec<usize>>>,
}

impl Job for WhereItRuns {
    fn items(&self, _step: usize) -> Items {
        Items { count: 64, chunk: 1 }
    }

    fn work(&self, _io: Io<'_>) {
        if std::thread::current().id() == self.caller {
            *self.seen.lock().unwrap() = Some(cpus::given());
        }
        std::thread::yield_now();
    }
}

#[test]
fn the_caller_is_tied_to_a_cpu_only_while_a_job_runs() {
    let before = cpus::given();
    let mut team = Team::new(before.len(), &before).unwrap();
    let caller = std::thread::current().id();
    let job = WhereItRuns { caller, seen: std::sync::Mutex::default() };
    let accesses = accesses(64, 1);
    // Others may take every item of a job before the caller does: not of many jobs.
    for _ in 0..1000 {
        let mut arena = vec![1.0; 128];
        team.run(1, &job, &mut Memory::new(&accesses, 0).with(Region::Arena, &mut arena));
    }
    assert_eq!(job.seen.into_inner().unwrap(), Some(before[..1].to_vec()));
    assert_eq!(cpus::given(), before);
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_goes_on() {
    for n_workers in [1, 2, 4] {
        let mut team = Team::new(n_workers, &cpus::given()).unwrap();
        for panics_at in [(0, 0), (3, 15), (6, 7)] {
            let mut arena = vec![1.0; 32];
            let accesses = accesses(16, 7);
            let mut memory = Memory::new(&accesses, 0).with(Region::Arena, &mut arena);
            let job = Sums { n_rows: 16, chunk: 1, panics_at: Some(panics_at) };
            let caught = catch_unwind(AssertUnwindSafe(|| team.run(7, &job, &mut memory)));
            let message = caught.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(*message, format!("row {} does not work", panics_at.1));
        }
        assert_eq!(run(&mut team, 5, 1, 3).len(), 10);
    }
}

/// Clock ticks (10 ms) that the team's threads used so far.
fn ticks_of_workers() -> u64 {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.split_once(')') else { continue };
        if name.contains("(idle-") {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    ticks
}

#[test]
fn idle_threads_cost_no_cpu() {
    let mut team = Team::named("idle", 4, &cpus::given()).unwrap();
    run(&mut team, 64, 1, 100);
    std::thread::sleep(Duration::from_secs(1));
    let before = ticks_of_workers();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ticks_of_workers(), before);
    // And they wake up again.
    let mut alone = Team::new(1, &[0]).unwrap();
    assert_eq!(run(&mut team, 64, 1, 9), run(&mut alone, 64, 1, 9));
}

#[test]
fn a_panic_after_a_step_reaches_the_caller() {
    struct Late;
    impl Job for Late {
        fn items(&self, _step: usize) -> Items {
            Items { count: 8, chunk: 1 }
        }
        fn work(&self, _io: Io<'_>) {}
        fn finished(&self, step: usize) {
            assert!(step != 2, "step 2 is unlucky");
        }
    }
    let mut team = Team::new(2, &cpus::given()).unwrap();
    let accesses = accesses(8, 4);
    let mut memory = Memory::new(&accesses, 0);
    let caught = catch_unwind(AssertUnwindSafe(|| team.run(4, &Late, &mut memory)));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "step 2 is unlucky");
    assert_eq!(run(&mut team, 5, 1, 3).len(), 10);
}

#[test]
#[should_panic(expected = "is read as well")]
fn a_step_cannot_read_what_it_writes() {
    let span = |start| Span { region: Region::Arena, start, len: 10 };
    let _ = Access::new(vec![span(0)], vec![(span(9), Split::Rows { len: 1 })]);
}

#[test]
#[should_panic(expected = "twice")]
fn a_step_cannot_write_the_same_twice() {
    let split = Split::Rows { len: 1 };
    let whole = Span::whole(Region::Kv);
    let _ = Access::new(vec![], vec![(whole.clone(), split), (whole, split)]);
}

struct Greedy;

impl Job for Greedy {
    fn items(&self, _step: usize) -> Items {
        Items { count: 4, chunk: 2 }
    }
    fn work(&self, io: Io<'_>) {
        io.rows(0)[0] = 1.0;
        io.rows(0)[0] = 2.0;
    }
}

#[test]
#[should_panic(expected = "once")]
fn a_claim_gives_out_its_part_once() {
    let mut arena = vec![0.0; 4];
    let span = Span { region: Region::Arena, start: 0, len: 4 };
    let accesses = [Access::new(vec![], vec![(span, Split::Rows { len: 1 })])];
    let mut memory = Memory::new(&accesses, 0).with(Region::Arena, &mut arena);
    Team::new(2, &cpus::given()).unwrap().run(1, &Greedy, &mut memory);
}

#[test]
fn columns_and_heads_are_disjoint_and_complete() {
    struct Fill;
    impl Job for Fill {
        fn items(&self, step: usize) -> Items {
            // 3 and 2 blocks of columns; then 3 heads of 5 rows.
            Items { count: [5, 15][step], chunk: [1, 4][step] }
        }
        fn work(&self, io: Io<'_>) {
            if io.step() == 0 {
                for write in 0..2 {
                    let Some((blocks, mut out)) = io.columns(write, 5) else { continue };
                    assert_eq!(
                        out.n_columns(),
                        (blocks.end * 16).min(40 - write * 10) - blocks.start * 16
                    );
                    for row in 0..5 {
                        out.row(row).iter_mut().for_each(|x| *x += 1.0);
                    }
                }
            } else {
                let mut heads = io.heads(0);
                for (head, rows) in heads.runs() {
                    let n = rows.len();
                    let mut out = heads.get(head, rows);
                    for row in 0..n {
                        out.row(row).iter_mut().for_each(|x| *x += 1.0);
                    }
                }
            }
        }
    }
    let span = |start, len| Span { region: Region::Arena, start, len };
    let columns = |first, stride| Split::Columns { first, stride };
    let accesses = [
        Access::new(vec![], vec![(span(0, 200), columns(0, 40)), (span(208, 150), columns(3, 30))]),
        Access::new(vec![], vec![(span(400, 90), Split::Heads { width: 6, n_heads: 3 })]),
    ];
    let mut arena = vec![0.0f32; 490];
    let mut memory = Memory::new(&accesses, 5).with(Region::Arena, &mut arena);
    Team::new(3, &cpus::given()).unwrap().run(2, &Fill, &mut memory);
    let written = |i: usize| i < 200 || (208..358).contains(&i) || i >= 400;
    for (i, &x) in arena.iter().enumerate() {
        assert_eq!(x, if written(i) { 1.0 } else { 0.0 }, "value {i}");
    }
}

#[test]
fn quotas_round_up() {
    assert_eq!(cpus::parse_v2("max 100000"), None);
    assert_eq!(cpus::parse_v2("150000 100000\n"), Some(2));
    assert_eq!(cpus::parse_v2("-1 100000"), None);
    assert_eq!(cpus::parse_v2("1000 100000"), Some(1));
    assert!(cpus::default_workers() >= 1 && cpus::default_workers() <= cpus::given().len());
}
