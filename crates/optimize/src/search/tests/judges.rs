//! Judges that are slow on all text, or whose models lose something before anything is encoded.

use super::*;

/// A model that loses something before anything is encoded, as one on int8 inputs does.
struct Changed(Planted, Loss);

impl Judge for Changed {
    fn judge_draft(&mut self, _draft: &Draft<'_>, _kv: Option<&str>) -> Result<Loss> {
        unreachable!("the search judges plans")
    }

    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], depth: Depth) -> Result<Loss> {
        let Loss { kl, drop_percent, drop_percent_high } = self.0.judge(plan, depth)?;
        Ok(Loss {
            kl: kl + self.1.kl,
            drop_percent: drop_percent + self.1.drop_percent,
            drop_percent_high: drop_percent_high + self.1.drop_percent_high,
        })
    }

    fn base(&mut self, _depth: Depth) -> Result<Loss> {
        Ok(self.1)
    }
}

#[test]
fn what_is_lost_before_anything_is_encoded_counts() {
    let tiny = tiny_model(5);
    let draft = Draft::new(&tiny.graph, &tiny);
    let find = |goal: Goal, base: f64| {
        let (stop, clock) = (AtomicBool::new(false), SimulatedClock::default());
        let watch = Watch { progress: &Silent, stop: &stop };
        let drop_percent = base.exp_m1() * 100.0;
        let base = Loss { kl: base, drop_percent, drop_percent_high: drop_percent };
        let mut judge = Changed(Planted::new(None), base);
        let settings = settings(goal);
        Search { settings, judge: &mut judge, clock: &clock, watch }.choose(&draft).unwrap()
    };
    // More is lost than may be: nothing meets that, the plan that changes nothing neither.
    let found = find(Goal::drop_percent(1.0), 0.05);
    assert!(!found.is_met && found.trials[0].loss.drop_percent > 5.0, "{:?}", found.trials[0]);
    // What groups lose is what they add, so the same plan is found as where nothing was lost.
    let (plain, changed) = (find(Goal::bytes(20_000), 0.0), find(Goal::bytes(20_000), 0.05));
    assert_eq!(plain.plan(), changed.plan());
    for (plain, changed) in plain.sensitivities.iter().zip(&changed.sensitivities) {
        for (plain, changed) in plain.iter().flatten().zip(changed.iter().flatten()) {
            assert!((plain.kl - changed.kl).abs() < 1e-9, "{plain:?} {changed:?}");
        }
    }
}

/// A judge that takes half a minute per whole plan on all text, and a second on little of it.
struct Thorough<'a>(Planted, &'a SimulatedClock);

impl Judge for Thorough<'_> {
    fn judge_draft(&mut self, _draft: &Draft<'_>, _kv: Option<&str>) -> Result<Loss> {
        unreachable!("the search judges plans")
    }

    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], depth: Depth) -> Result<Loss> {
        self.1.advance(Duration::from_secs(if depth == Depth::Full { 30 } else { 1 }));
        self.0.judge(plan, depth)
    }
}

#[test]
fn whole_plans_that_take_long_are_not_begun_too_late() {
    let tiny = tiny_model(5);
    let draft = Draft::new(&tiny.graph, &tiny);
    for (goal, n_more) in [(Goal::bytes(20_000), 2), (Goal::drop_percent(1.0), 1)] {
        for budget in [0, 10, 100, 200] {
            let (stop, clock) = (AtomicBool::new(false), SimulatedClock::default());
            let watch = Watch { progress: &Silent, stop: &stop };
            let time_budget = Some(Duration::from_secs(budget));
            let settings = Settings { time_budget, n_bands: Some(1), ..settings(goal) };
            let mut judge = Thorough(Planted::new(None), &clock);
            let search = Search { settings, judge: &mut judge, clock: &clock, watch };
            let found = { search }.choose(&draft).unwrap();
            // Half of it is for single groups; then come those that are measured in any case.
            let most = budget.max(budget / 2 + 30 * n_more) + 2;
            let took = clock.now().as_secs();
            assert!(took <= most, "{took} s of {budget} s for {goal:?}");
            assert!(goal.has_room(found.best().takes), "{budget} s for {goal:?}");
            assert!(found.chosen > 0, "something smaller was measured: {budget} s for {goal:?}");
        }
    }
}
