//! Bundles: read back as written, and refused where they lead astray; damage that a score hides.

use super::*;
use crate::report::{Report, damage};
use sterna_measure::quality::tasks::{self, Choice, Question};
use sterna_measure::quality::{Reference, Scoring};
use sterna_measure::{LanguageModel, RunReport, Workload};

/// Predicts by the last token only.
struct Bigram(Vec<Vec<f32>>);

impl LanguageModel for Bigram {
    fn vocab_len(&self) -> usize {
        self.0.len()
    }

    fn context_len(&self) -> usize {
        64
    }

    fn score(
        &mut self,
        tokens: &[u32],
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> std::result::Result<(), String> {
        tokens.iter().enumerate().for_each(|(at, &token)| sink(at, &self.0[token as usize]));
        Ok(())
    }
}

/// Evidence of two models; the text never has tokens 0 and 1 but at its starts.
fn evidence(mut baseline: Bigram, mut artifact: Bigram) -> Evidence {
    let documents = (0..8).map(|d| vec![2, 3, 2 + d % 2, 3, 2]).collect();
    let workload = Workload::new("toy", documents, 40).unwrap();
    let scoring = Scoring::Documents { bos: Some(0), n_unscored: 0 };
    let text = Passages::new(&workload, scoring).unwrap();
    let reference = Reference::record(&mut baseline, &text, None).unwrap();
    let divergence = reference.divergence(&mut artifact).unwrap();
    let said = divergence.compared().to_vec();
    let times = Times {
        runs: vec![times::Runs {
            name: "decode".into(),
            n_prompt: 8,
            n_generate: 4,
            baseline: (0..12).map(|i| 0.1 + f64::from(i) * 1e-3).collect(),
            artifact: (0..12).map(|i| 0.05 + f64::from(i) * 1e-3).collect(),
        }],
        tokens: Vec::new(),
        prediction: None,
        switched: Vec::new(),
    };
    let candidates = vec![Candidate { facts: Facts::artifact(7), said }];
    let choice = Choice { tokens: vec![2, 3], n_context: 1, n_bytes: 1 };
    let questions = vec![Question { choices: vec![choice], gold: 0 }; 6];
    let answers = |model: &mut Bigram| -> Vec<tasks::Answer> {
        questions.iter().map(|question| tasks::answer(model, question).unwrap()).collect()
    };
    let task = Task {
        name: "toy".into(),
        baseline: answers(&mut baseline),
        artifact: answers(&mut artifact),
        questions: questions.clone(),
    };
    let baseline = divergence.baseline().to_vec();
    Evidence { text, baseline, candidates, tasks: vec![task], times }
}

fn row(first: f32, second: f32) -> Vec<f32> {
    vec![first, second, 0.3, 0.0]
}

fn manifest() -> Manifest {
    Manifest {
        version: manifest::VERSION,
        made: Circumstances { sterna: "0".into(), ..Circumstances::default() },
        source: SourceFile::default(),
        artifact: "x.gguf".into(),
        artifact_content: "c".into(),
        plan: "p".into(),
        calibration: "c".into(),
        held_out: "h".into(),
        memory: None,
        spent: crate::spent::Spent { seconds: 1.5, peak_bytes: Ok(7) },
        candidates: Vec::new(),
        files: Vec::new(),
        hash: String::new(),
    }
}

#[test]
fn samples_come_back_to_the_last_bit() {
    // proves A-3 (every figure of quality and speed follows from what is on disk)
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.gguf"), "weights").unwrap();
    let model = |shift: f32| Bigram((0..4).map(|i| row(0.1 * i as f32, shift)).collect());
    let written = evidence(model(0.2), model(0.7));
    bundle::write(folder.path(), &written, &[], manifest()).unwrap();
    let manifest = Manifest::read(folder.path()).unwrap();
    assert_eq!(manifest.files.len(), 6);
    let read = bundle::read(folder.path(), &manifest).unwrap();
    let numbers = |evidence: &Evidence| {
        let quality = derive::quality(evidence, 400).unwrap();
        (quality.figures, quality.points, quality.reliability)
    };
    assert_eq!(numbers(&read), numbers(&written));
    let (again, before) = (read.times.derive().unwrap(), written.times.derive().unwrap());
    assert_eq!((again.figures, again.races), (before.figures, before.races));
}

#[test]
fn a_manifest_holds_itself_and_its_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(manifest::NAME);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = manifest().print();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Manifest::read(folder.path()).is_err(), "byte {at} of {text}");
    }
    for artifact in ["../x.gguf", "/etc/passwd", "", "a/../../b"] {
        let manifest = Manifest { artifact: artifact.into(), ..manifest() };
        std::fs::write(&path, manifest.print()).unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("leads out of the bundle"), "{error}");
    }
    std::fs::write(&path, text).unwrap();
    Manifest::read(folder.path()).unwrap();
}

#[test]
fn samples_that_are_not_of_the_text_are_refused() {
    let model = || Bigram(vec![row(0.1, 0.2); 4]);
    let mut evidence = evidence(model(), model());
    evidence.candidates[0].said[3].kl.pop();
    assert!(derive::quality(&evidence, 400).is_err());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.gguf"), "weights").unwrap();
    evidence.candidates[0].said[0].kl = vec![0.0; 100_000];
    bundle::write(folder.path(), &evidence, &[], manifest()).unwrap();
    let manifest = Manifest::read(folder.path()).unwrap();
    let error = bundle::read(folder.path(), &manifest).unwrap_err().to_string();
    assert!(error.contains("unpacks to more than"), "{error}");
    let times = Times {
        runs: vec![times::Runs {
            name: "decode".into(),
            n_prompt: 1,
            n_generate: 1,
            baseline: vec![1.0],
            artifact: vec![f64::NAN],
        }],
        tokens: Vec::new(),
        prediction: None,
        switched: Vec::new(),
    };
    assert!(times.derive().is_err());
}

#[test]
fn answers_that_changed_are_flagged_whatever_the_accuracy() {
    // proves A-5: the two best tokens trade places. Neither ever comes, so accuracy and
    // log-likelihood are the same, and every answer is another.
    let baseline = Bigram(vec![row(2.0, 1.0); 4]);
    let artifact = Bigram(vec![row(1.0, 2.0); 4]);
    let evidence = evidence(baseline, artifact);
    let metrics = derive::quality(&evidence, 400).unwrap().figures;
    let value = |name: &str| {
        metrics.iter().find(|metric| metric.name() == name).and_then(|m| m.value()).unwrap()
    };
    assert_eq!(value("baseline_accuracy"), value("artifact_accuracy"));
    assert!((value("artifact_nll") - value("baseline_nll")).abs() < 1e-12);
    assert_eq!(value("top1_agreement"), 0.0);
    let mut report: Report = crate::report::tests::report(0.5, 0);
    report.run = RunReport { metrics, targets: Vec::new(), ..report.run };
    let warnings = damage::warnings(&report.run);
    assert!(warnings[0].starts_with("100.0% of answers changed"), "{warnings:?}");
    let text = crate::report::text(&report.to_value().unwrap()).unwrap();
    assert!(text.contains("WARNING: 100.0% of answers changed"), "{text}");
    let html = crate::report::html(&report.to_value().unwrap()).unwrap();
    assert!(html.contains("100.0% of answers changed"));
}

#[test]
fn a_folder_of_somebody_elses_evidence_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("evidence/thesis.txt");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "mine").unwrap();
    std::fs::write(folder.path().join("x.gguf"), "weights").unwrap();
    let model = || Bigram(vec![row(0.1, 0.2); 4]);
    let error = bundle::write(folder.path(), &evidence(model(), model()), &[], manifest());
    assert!(error.unwrap_err().to_string().contains("not of an earlier optimization"));
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "mine");
    // What a killed run left of its own is no obstacle.
    std::fs::remove_file(&own).unwrap();
    std::fs::write(folder.path().join("evidence/baseline.jsonl.gz"), "half").unwrap();
    bundle::write(folder.path(), &evidence(model(), model()), &[], manifest()).unwrap();
}

#[test]
fn candidates_are_what_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.gguf"), "weights").unwrap();
    let model = || Bigram(vec![row(0.1, 0.2); 4]);
    let mut written = evidence(model(), model());
    written.candidates[0].facts = Facts { encoding: Some("Q8_0".into()), ..Facts::artifact(7) };
    bundle::write(folder.path(), &written, &[], manifest()).unwrap();
    let read = |folder| bundle::read(folder, &Manifest::read(folder).unwrap());
    assert!(read(folder.path()).unwrap_err().to_string().contains("out of its place"));
    let again = vec![written.candidates[0].clone(); 2];
    written.candidates = again;
    written.candidates.iter_mut().for_each(|one| one.facts = Facts::artifact(7));
    bundle::write(folder.path(), &written, &[], manifest()).unwrap();
    assert!(read(folder.path()).is_err());
    written.candidates.truncate(1);
    bundle::write(folder.path(), &written, &[], manifest()).unwrap();
    read(folder.path()).unwrap();
}
