//! Artifacts whose graph is not the model's: other inputs, fewer channels.

use super::*;

// proves S-1 and S-2: a Plan's layers see int8 codes; static scales depend on the calibration text
// only; what that loses is measured on held-out text.
#[test]
fn inputs_in_8_bits_are_in_the_plan_and_their_loss_is_measured() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |inputs: inputs::Choice, n_evaluation: usize| {
        let output = folder.path().join(format!("{inputs:?}-{n_evaluation}"));
        let max_size = Some(300_000);
        let mut settings = quick(&data, &output, Budget { max_size, ..Budget::default() });
        settings.rounding = Choice::Plain;
        settings.inputs = inputs;
        settings.text.n_evaluation = n_evaluation;
        settings.max_checks = 2;
        (run(&settings).unwrap(), output)
    };
    let kl_of = |outcome: &Outcome, kind: &str| {
        let points = &outcome.report.details.held_out;
        points.iter().find(|point| point.kind == kind).map(|point| point.kl)
    };
    let (plain, _) = run(inputs::Choice::Float, 16);
    assert_eq!(kl_of(&plain, evidence::FLOAT_INPUTS), None);
    let mut ranges = Vec::new();
    for choice in [inputs::Choice::Dynamic, inputs::Choice::Static(None)] {
        let (outcome, output) = run(choice, 16);
        let (kl, without) =
            (kl_of(&outcome, "chosen").unwrap(), kl_of(&outcome, evidence::FLOAT_INPUTS).unwrap());
        // Rows of up to 256 have one scale in any case.
        let is_other = choice != inputs::Choice::Dynamic;
        assert_eq!(kl > without, is_other, "{choice:?}: {kl}, {without} without");
        assert!(kl < 0.2, "{choice:?}: {kl}, {without} without");
        let artifact = Artifact::open(&outcome.artifact).unwrap();
        let int8_inputs = artifact.plan.int8_inputs.clone();
        // Seven matrices in each of five layers, and not the head.
        assert_eq!(int8_inputs.len(), 35);
        assert!(artifact.model.graph.to_string().contains("activations=int8"));
        assert_holds(&output);
        let (other, _) = run(choice, 12);
        assert_eq!(Artifact::open(&other.artifact).unwrap().plan.int8_inputs, int8_inputs);
        ranges.push(int8_inputs);
    }
    assert!(ranges[0].values().all(|range| *range == 0.0));
    assert!(ranges[1].values().all(|range| *range > 0.0));
}

// proves S-6 and S-8 in the search: channels leave where that keeps a cap, or measures better in it.
#[test]
fn channels_leave_only_where_that_measures_better() {
    let folder = tempfile::tempdir().unwrap();
    let (model, text) = own(folder.path());
    let of = |allow: &str, may_prune: bool, max_size: u64| {
        let budget = Budget { max_size: Some(max_size), ..Budget::default() };
        let (model, output) = (model.clone(), folder.path().join("out"));
        let budget = allowing(allow, budget);
        let mut settings = shortened(Settings::new(model, output, text.clone(), budget));
        settings.max_checks = 2;
        settings.may_prune = may_prune;
        settings.rounding = Choice::Plain;
        settings
    };
    let whole = Model::open(&model).unwrap();
    // Eight bits of all that there is are more than this.
    let small = 4_700_000;
    let refused = run(&of("Q8_0", false, small)).unwrap_err().to_string();
    assert!(refused.contains("--max-size"), "{refused}");
    let outcome = run(&of("Q8_0", true, small)).unwrap();
    let artifact = Artifact::open(&outcome.artifact).unwrap();
    let (left, all) = (artifact.model.config.ffn_dim, whole.config.ffn_dim);
    assert!(left < all, "{left} of {all} channels");
    assert_eq!(artifact.plan.mlp_width, Some(left as u64));
    assert!(std::fs::metadata(&outcome.artifact).unwrap().len() <= small);
    let is_said = |note: &String| note.starts_with("prune: ") && note.contains("channels of the");
    assert!(outcome.report.details.notes.iter().any(is_said), "{:?}", outcome.report.details.notes);
    assert_holds(&folder.path().join("out"));
    // Whoever resumes goes on from the same start, and measures nothing again.
    let resumed = run(&Settings { resume: true, ..of("Q8_0", true, small) }).unwrap();
    let again = Artifact::open(&resumed.artifact).unwrap();
    assert_eq!(again.content_hash, artifact.content_hash);
    let is_sketched = |note: &String| note.starts_with("prune: after");
    assert!(!resumed.report.details.notes.iter().any(is_sketched));
    // With fewer bits to choose from, nothing has to leave, and that is better; what was chosen for
    // another question is no answer to this one.
    let other = Settings { resume: true, ..of("Q8_0,Q5_0", true, small) };
    let outcome = run(&other).unwrap();
    let artifact = Artifact::open(&outcome.artifact).unwrap();
    assert_eq!((artifact.model.config.ffn_dim, artifact.plan.mlp_width), (all, None));
    let is_said = |note: &String| note.starts_with("prune: ") && note.ends_with("none leaves");
    assert!(outcome.report.details.notes.iter().any(is_said), "{:?}", outcome.report.details.notes);
    // A drop alone is no reason to leave anything out.
    let mut settings = of("Q8_0", true, small);
    settings.budget = Budget { max_drop_percent: Some(1.0), ..Budget::default() };
    assert!(run(&settings).unwrap_err().to_string().contains("--allow prune"));
}
