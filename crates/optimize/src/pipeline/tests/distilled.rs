//! Plans that learn, from whoever has them learn.

use super::*;
use crate::distiller::{Distiller, Learned, Lessons, hash_of};
use sterna_model::Graph;
use sterna_model::plan::Distilled;

/// Looks for better scales, or spoils all codes; but asks about every document first.
#[derive(Clone, Copy, PartialEq)]
enum Teaching {
    Searches,
    Spoils,
    Refuses,
    Lacks,
    Fails,
}

impl Distiller for Teaching {
    fn check(&self, _graph: &Graph) -> Result<()> {
        match self {
            Teaching::Refuses => Err(OptimizeError::Input("this cannot learn".into())),
            _ => Ok(()),
        }
    }

    fn lacks(&self, _graph: &Graph, _documents: &[&[u32]]) -> Option<String> {
        (*self == Teaching::Lacks).then(|| "it lacks memory".into())
    }

    fn learn(&self, lessons: Lessons<'_>) -> Result<Learned> {
        let Lessons { graph, stored, original, documents, teacher, told, .. } = lessons;
        if *self == Teaching::Fails {
            return Err(OptimizeError::Input("numbers are not finite".into()));
        }
        let (mut done, mut n_tokens) = (0, 0);
        for (n, document) in documents.iter().enumerate() {
            let logits = teacher(n)?;
            assert_eq!(logits.len(), (document.len() - 1) * graph.out_features());
            n_tokens += document.len() as u64;
            done += 1;
            if told(n + 1, documents.len(), 0.5)? <= done as usize {
                break;
            }
        }
        let learn = |id| {
            let (view, before) = (stored.weight(id), original.weight(id).to_f32());
            let tunable = view.encoding.tunable()?;
            let mut bytes = view.bytes.to_vec();
            match self {
                Teaching::Spoils => tunable.write_codes(&vec![0; before.len()], &mut bytes),
                _ => view.encoding.encode(&before, Some(&vec![1.0; before.len()]), &mut bytes),
            }
            Some((id, bytes))
        };
        let how = Distilled {
            hash: hash_of(&documents),
            documents: documents.len() as u64,
            tokens: n_tokens,
            batch: 1,
            steps: documents.len() as u64,
            done,
            factor_rate: 0.0,
            code_rate: 0.0,
        };
        Ok(Learned { weights: graph.weight_ids().filter_map(learn).collect(), how })
    }
}

fn note(outcome: &Outcome) -> String {
    let notes = &outcome.report.details.notes;
    notes.iter().find(|note| note.starts_with("distill: ")).cloned().unwrap_or_default()
}

/// Settings for a small model that is to be 4.9 bits per weight, in a folder, by a teaching.
fn asked(folder: &Path, name: &str, teaching: Option<Teaching>) -> Settings {
    let (model, text) = own(folder);
    let budget = allowing("Q4_0", Budget { target_bpw: Some(4.9), ..Budget::default() });
    let mut settings = shortened(Settings::new(model, folder.join(name), text, budget));
    settings.max_checks = 2;
    settings.rounding = Choice::Plain;
    settings.distiller = teaching.map(|teaching| Arc::new(teaching) as Arc<dyn Distiller>);
    settings.text.n_lessons = if teaching.is_some() { 40 } else { 0 };
    settings
}

// proves S-7 in the search: what was chosen learns, and that is kept where it measures better on
// text that it did not learn from.
#[test]
fn what_is_chosen_learns_where_that_measures_better() {
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, teaching| asked(folder.path(), name, teaching);
    let opened = |outcome: &Outcome| Artifact::open(&outcome.artifact).unwrap();
    let plain = run(&of("plain", None)).unwrap();
    let taught = run(&of("taught", Some(Teaching::Searches))).unwrap();
    assert!(note(&taught).ends_with("from 40 documents (40 steps): taken"), "{}", note(&taught));
    let artifact = opened(&taught);
    let how = artifact.plan.distilled.clone().expect("it has learned");
    assert_eq!((how.documents, how.steps, how.done), (40, 40, 40));
    assert_eq!(artifact.plan.rounding, Rounding::Plain, "it was rounded so before");
    assert_eq!(opened(&plain).plan.encodings, artifact.plan.encodings);
    // The report has the same encodings without it beside it.
    let points = &taught.report.details.held_out;
    let kl = |kind: &str| points.iter().find(|point| point.kind == kind).map(|point| point.kl);
    let (with, without) = (kl("chosen").unwrap(), kl(evidence::PLAIN).unwrap());
    assert!(with != without && (with / without - 1.0).abs() < 0.5, "{with} {without}");
    assert_holds(&folder.path().join("taught"));
    // What is worse is left.
    let spoiled = run(&of("spoiled", Some(Teaching::Spoils))).unwrap();
    assert!(note(&spoiled).ends_with(": left"), "{}", note(&spoiled));
    assert_eq!(opened(&spoiled).plan.distilled, None);
    assert_eq!(opened(&spoiled).content_hash, opened(&plain).content_hash);
    // What cannot learn is said before anything is run, also where nothing would be.
    let settings = of("refused", Some(Teaching::Refuses));
    assert!(run(&settings).unwrap_err().to_string().contains("cannot learn"));
    assert!(describe(&settings).unwrap_err().to_string().contains("cannot learn"));
    let said = describe(&of("described", Some(Teaching::Searches))).unwrap();
    assert!(said.contains("learned from 40 documents"), "{said}");
    // Where there is too little text, the plan is as it would have been.
    let mut settings = of("little", Some(Teaching::Spoils));
    settings.text.n_lessons = 3;
    let little = run(&settings).unwrap();
    assert!(note(&little).contains("not tried: there is too little text"), "{}", note(&little));
    assert_eq!(opened(&little).content_hash, opened(&plain).content_hash);
    let failed = run(&of("failed", Some(Teaching::Fails))).unwrap();
    assert!(note(&failed).ends_with("since it failed: numbers are not finite"));
    assert_eq!(opened(&failed).content_hash, opened(&plain).content_hash);
    let poor = run(&of("poor", Some(Teaching::Lacks))).unwrap();
    assert!(note(&poor).ends_with("not tried: it lacks memory"), "{}", note(&poor));
}

#[test]
fn what_was_learned_before_a_stop_is_not_learned_again() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("out/learned.gguf");
    let stop = || {
        let stop = AtomicBool::new(false);
        let progress = StopAt(Stage::Verify, &stop);
        let watch = Watch { progress: &progress, stop: &stop };
        let settings = asked(folder.path(), "out", Some(Teaching::Searches));
        let outcome = optimize(&settings, &engine(1), &RealClock::new(), watch);
        assert!(matches!(outcome, Err(OptimizeError::Cancelled)));
        assert!(kept.is_file());
    };
    // Whoever learned now would fail.
    let resume = |seed| {
        let mut settings = asked(folder.path(), "out", Some(Teaching::Fails));
        (settings.resume, settings.budget.seed) = (true, seed);
        run(&settings).unwrap()
    };
    stop();
    let whole = run(&asked(folder.path(), "whole", Some(Teaching::Searches))).unwrap();
    let resumed = resume(Budget::default().seed);
    assert_eq!(note(&resumed), note(&whole));
    let content = |outcome: &Outcome| Artifact::open(&outcome.artifact).unwrap().content_hash;
    assert_eq!(content(&resumed), content(&whole));
    assert!(!kept.is_file(), "it is of no more use");
    // What is damaged, or of other lessons, is as none.
    stop();
    let bytes = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, &bytes[..bytes.len() / 2]).unwrap();
    assert!(note(&resume(Budget::default().seed)).contains("since it failed"));
    stop();
    assert!(note(&resume(7)).contains("since it failed"));
}
