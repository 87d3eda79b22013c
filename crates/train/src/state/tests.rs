//! Checkpoints: round trips, damage, strangers.

use super::*;
use sterna_model::Role;

fn graph() -> Graph {
    let mut graph = Graph::default();
    graph.weight("a.weight", &[2, 3], Role::MlpUp, Some(0));
    graph.weight("b.weight", &[4], Role::Norm, Some(0));
    graph
}

fn state(step: usize) -> State {
    State {
        progress: Progress { step, best: Some(1.5), config: "x".into(), ..Progress::default() },
        weights: vec![vec![1.0, -2.0, 3.0, f32::MIN_POSITIVE, 0.1, 6.0], vec![0.5; 4]],
        moments: vec![Some((vec![0.25; 6], vec![0.125; 6], step)), None],
        best: step.is_multiple_of(2).then(|| vec![vec![2.0; 6], vec![3.0; 4]]),
    }
}

#[test]
fn a_state_reads_back_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1, 2, 10] {
        state(step).save(dir.path(), &graph()).unwrap();
    }
    assert_eq!(checkpoints(dir.path()).len(), KEPT);
    let mut notes = Vec::new();
    let found = newest(dir.path(), &graph(), &mut notes);
    assert_eq!(found.unwrap().1, state(10));
    assert!(notes.is_empty());
}

#[test]
fn damage_and_strangers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = state(3).save(dir.path(), &graph()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut other = Graph::default();
    other.weight("a.weight", &[3, 3], Role::MlpUp, Some(0));
    other.weight("b.weight", &[4], Role::Norm, Some(0));
    let error = State::open(&path, &other).unwrap_err().to_string();
    assert!(error.contains("another model"), "{error}");
    // Any byte of the numbers, and any cut.
    for at in (bytes.len() - 80..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        let error = State::open(&path, &graph()).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
    // And of the header: another step is other data and another rate.
    let at = bytes.windows(9).position(|w| w == b"step\\\":3,").expect("the step");
    let mut changed = bytes.clone();
    changed[at + 7] = b'4';
    std::fs::write(&path, changed).unwrap();
    let error = State::open(&path, &graph()).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
    for len in [0, 7, 40, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).unwrap();
        assert!(State::open(&path, &graph()).is_err());
    }
    let mut notes = Vec::new();
    assert!(newest(dir.path(), &graph(), &mut notes).is_none());
    assert_eq!(notes.len(), 1);
}
