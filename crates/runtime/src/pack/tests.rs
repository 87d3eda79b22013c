//! Packing: the same image however it is cut, and failures that stop everybody.

use super::*;
use std::borrow::Cow;
use sterna_formats::encodings::by_name;

/// Weights of random bytes.
struct Random(Vec<(EncodingRef, (usize, usize), Vec<u8>)>);

impl WeightSource for Random {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (encoding, (rows, cols), bytes) = &self.0[id.0];
        let (encoding, rows, cols) = (*encoding, *rows, *cols);
        WeightView { encoding, rows, cols, bytes: Cow::Borrowed(bytes) }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        self.0[id.0].0
    }
}

fn example() -> (Random, Layout) {
    let weights = [
        ("Q8_0", Form::Packed, (40, 320)),
        ("F32", Form::Floats, (1, 50)),
        ("Q4_0", Form::Encoded, (33, 96)),
        ("F16", Form::Packed, (7, 24)),
        ("Q6_K", Form::Packed, (100, 512)),
        ("Q5_0", Form::Packed, (31, 64)),
        ("BF16", Form::PackedBf16, (20, 48)),
    ];
    let (mut source, mut layout) = (Random(Vec::new()), Layout::default());
    for (i, (encoding, form, shape)) in weights.into_iter().enumerate() {
        let encoding = by_name(encoding).unwrap();
        let n_bytes = shape.0 * encoding.row_bytes(shape.1);
        source.0.push((encoding, shape, (0..n_bytes).map(|k| (k * 37 % 61) as u8).collect()));
        let n_lines = match form.panels(encoding, shape.0, shape.1) {
            Some(panels) => panels.total_lines(),
            None if form == Form::Encoded => n_bytes.div_ceil(64),
            None => (shape.1 * 4).div_ceil(64),
        };
        let lines = layout.n_lines..layout.n_lines + n_lines;
        layout.n_lines = lines.end;
        let (weight, name) = (WeightId(i), format!("weight {i}"));
        layout.sections.push(Section { weight, name, form, shape, encoding, lines });
    }
    (source, layout)
}

/// Blocks of `len` lines.
fn blocks(layout: &Layout, len: usize) -> Vec<Range<usize>> {
    let n = layout.n_lines;
    (0..n).step_by(len).map(|at| at..n.min(at + len)).collect()
}

#[test]
fn however_it_is_cut_the_image_is_the_same() {
    let (source, layout) = example();
    let mut wanted = vec![Line::ZERO; layout.n_lines];
    for section in &layout.sections {
        let (part, view) = (0..section.lines.len(), source.weight(section.weight));
        fill_part(section, &view, part, &mut wanted[section.lines.clone()]);
    }
    for n_workers in 1..=3 {
        let done = AtomicUsize::new(0);
        let progress = |n: usize, _: usize| done.store(n, Ordering::Relaxed);
        let job = Packing { layout: &layout, source: &source, n_workers, progress: &progress };
        assert!(job.in_memory().unwrap().lines() == wanted, "in memory");
        for len in [1, 7, 100, 1 << 20] {
            let image = Mutex::new(vec![Line([0xee; 64]); layout.n_lines]);
            job.each(&blocks(&layout, len), &|lines, fill| {
                let mut block = vec![Line([0x11; 64]); lines.len()];
                fill(&mut block)?;
                image.lock().unwrap()[lines].copy_from_slice(&block);
                Ok(())
            })
            .unwrap();
            assert!(image.into_inner().unwrap() == wanted, "{n_workers} workers, blocks of {len}");
            assert_eq!(done.load(Ordering::Relaxed), layout.bytes());
        }
    }
}

#[test]
fn one_failure_stops_all_and_is_told() {
    let (mut source, layout) = example();
    let fails = |source: &Random, at: usize| {
        let job = Packing { layout: &layout, source, n_workers: 3, progress: &|_, _| {} };
        let result = job.each(&blocks(&layout, 10), &|lines, fill| {
            if lines.contains(&at) {
                return Err(RuntimeError::Setting { field: "x", value: at, reason: "y".into() });
            }
            fill(&mut vec![Line::ZERO; lines.len()])
        });
        result.unwrap_err().to_string()
    };
    for at in [0, 200, layout.n_lines - 1] {
        assert_eq!(fails(&source, at), format!("x is {at}, but y"));
    }
    source.0[4].2.pop();
    assert!(fails(&source, usize::MAX).starts_with("weight weight 4 is 100x512"), "a short weight");
}
