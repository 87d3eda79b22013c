//! One linear layer of random weights, run as the runtime runs it: panels divided among threads,
//! each thread's in several calls.

use serde::Serialize;
use std::ops::Range;
use sterna_formats::EncodingRef;
use sterna_kernels::acts::{ScaleOver, takes_tiles};
use sterna_kernels::dot::{ActsForm, FEW_ROWS, LinearCall, PANEL, is_few};
use sterna_kernels::{ColumnsMut, Level, Line, PackedShape, Prepared};
use sterna_measure::clock::Clock;
use sterna_measure::machine::Roof;
use sterna_runtime::tuning::Tuning;
use sterna_runtime::{Lines, RuntimeError};

/// Memory that few rows read: more than caches hold, so that weights come from memory.
const FEW_BYTES: usize = 512 << 20;

/// Rows up to which a layer reads [`FEW_BYTES`].
const FEW: usize = 32;

/// A way to compute a layer.
#[derive(Clone, Copy)]
pub struct Way {
    /// The ISA.
    pub level: Level,
    /// Rows up to which weights are used as packed.
    pub few_rows: usize,
}

impl Way {
    /// The ISA, and whether so many rows use weights as packed.
    pub fn name(self, layer: &Layer) -> String {
        let on_tiles = layer.peak() == Roof::Bf16Peak && self.level.name() == "amx";
        let is_few = is_few(layer.n_rows, self.few_rows);
        let is_unpacked = !is_few || on_tiles && takes_tiles(layer.n_rows);
        let form = if is_unpacked { "unpacked" } else { "as packed" };
        format!("{} {form}", self.level.name())
    }
}

/// A layer and its rows.
pub struct Layer {
    shape: PackedShape,
    /// Copies of the packed matrix, one after the other.
    weights: Lines,
    /// The encoded rows of every panel.
    panel: Vec<u8>,
    copies: usize,
    rows: Vec<f32>,
    n_rows: usize,
    workers: Vec<Worker>,
}

/// A thread's own memory.
struct Worker {
    panels: Range<usize>,
    /// `[n_rows, stride]`, in whole lines as the runtime's is.
    out: Lines,
    scratch: Vec<Line>,
}

/// How far results are from exact ones, as parts of the exact ones' root mean square.
#[derive(Clone, Copy, Serialize)]
pub struct Error {
    /// The root mean square of the differences.
    pub mean: f64,
    /// The largest difference.
    pub largest: f64,
}

impl Layer {
    /// Random weights `[out, cols]` in an encoding, BF16 ones for bf16 dots if so asked, and
    /// `n_rows` random rows.
    ///
    /// # Errors
    /// When memory is short.
    pub fn new(
        encoding: EncodingRef,
        bf16_dot: bool,
        (out, cols): (usize, usize),
        n_rows: usize,
        n_threads: usize,
    ) -> anyhow::Result<Self> {
        let shape = match bf16_dot && encoding.name() == "BF16" {
            true => PackedShape::for_bf16_dots(encoding, out, cols),
            false => PackedShape::new(encoding, out, cols),
        };
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        // One panel's rows, again and again: the time does not depend on the values.
        let values: Vec<f32> = (0..16 * cols).map(|_| random()).collect();
        let mut bytes = vec![0; 16 * encoding.row_bytes(cols)];
        if encoding.can_encode() {
            encoding.encode(&values, None, &mut bytes);
        }
        let mut panel = vec![Line::ZERO; shape.panel_lines];
        shape.pack(0..1, &bytes, &mut panel);
        let copies = match n_rows {
            0..=FEW => FEW_BYTES.div_ceil(shape.total_lines() * size_of::<Line>()),
            _ => 1,
        };
        let mut weights = Lines::zeroed(shape.total_lines() * copies, "weights to measure with")?;
        weights.advise_huge_pages();
        for to in weights.lines_mut().chunks_exact_mut(panel.len()) {
            to.copy_from_slice(&panel);
        }
        let share = shape.n_panels.div_ceil(n_threads);
        let worker = |w: usize| {
            let panels = (w * share).min(shape.n_panels)..((w + 1) * share).min(shape.n_panels);
            let out = Lines::zeroed(n_rows * panels.len(), "results")?;
            let scratch = vec![Line::ZERO; shape.format.scratch_lines()];
            Ok(Worker { panels, out, scratch })
        };
        let workers = (0..n_threads).map(worker).collect::<Result<_, RuntimeError>>()?;
        let rows = (0..n_rows * cols).map(|_| random()).collect();
        Ok(Self { shape, weights, panel: bytes, copies, rows, n_rows, workers })
    }

    /// The ceiling of its arithmetic.
    pub fn peak(&self) -> Roof {
        match self.shape.format.acts() {
            ActsForm::Quant => Roof::Int8Peak,
            ActsForm::Float => Roof::F32Peak,
            ActsForm::Bf16 => Roof::Bf16Peak,
        }
    }

    /// How far bf16 dots are from exact ones with one panel; `None` where it computes exactly.
    pub fn error(&self, level: Level) -> Option<Error> {
        if self.shape.format.acts() != ActsForm::Bf16 {
            return None;
        }
        let PackedShape { encoding, cols, .. } = self.shape;
        let results = |shape: PackedShape| {
            let mut lines = vec![Line::ZERO; shape.panel_lines];
            shape.pack(0..1, &self.panel, &mut lines);
            let prepared = Prepared::new(level, &shape, &self.rows, ScaleOver::Chunk);
            let mut worker = Worker {
                panels: 0..1,
                out: Lines::zeroed(self.n_rows, "results").unwrap_or_else(|e| panic!("{e}")),
                scratch: vec![Line::ZERO; shape.format.scratch_lines()],
            };
            let way = Way { level, few_rows: FEW_ROWS };
            worker.pass(&shape, way, &lines, &prepared, self.n_rows);
            let out: &[f32] = bytemuck::cast_slice(worker.out.lines());
            out.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>()
        };
        let exact = results(PackedShape::new(encoding, PANEL, cols));
        let found = results(PackedShape::for_bf16_dots(encoding, PANEL, cols));
        let differences = || exact.iter().zip(&found).map(|(a, b)| (a - b).abs());
        let rms = |squares: f64| (squares / exact.len() as f64).sqrt();
        let size = rms(exact.iter().map(|x| x * x).sum());
        Some(Error {
            mean: rms(differences().map(|x| x * x).sum()) / size,
            largest: differences().fold(0.0, f64::max) / size,
        })
    }

    /// Its encoding.
    pub fn encoding_name(&self) -> &'static str {
        self.shape.encoding.name()
    }

    /// Its rows of activations.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The threads it runs on.
    pub fn n_threads(&self) -> usize {
        self.workers.len()
    }

    /// Bytes of packed weights.
    pub fn bytes(&self) -> f64 {
        (self.shape.total_lines() * size_of::<Line>()) as f64
    }

    /// Operations of a pass, a multiply-accumulate counted as two.
    pub fn ops(&self) -> f64 {
        2.0 * (self.shape.rows * self.shape.cols * self.n_rows) as f64
    }

    /// Computes the layer on every copy of its weights (several times where that is short); returns
    /// the seconds of one pass. Preparing the rows is not part of it.
    pub fn run(&mut self, way: Way, clock: &dyn Clock) -> f64 {
        let (shape, n_rows) = (self.shape, self.n_rows);
        let prepared = Prepared::new(way.level, &shape, &self.rows, ScaleOver::Chunk);
        // Tens of milliseconds: a thread's first tiles are slow, as the tile unit wakes up.
        let again = (2e10 / (self.ops() * self.copies as f64)).ceil().max(1.0) as usize;
        let again = if self.copies > 1 { 1 } else { again };
        let (weights, copies) = (self.weights.lines(), self.copies);
        let start = clock.now();
        std::thread::scope(|scope| {
            for worker in &mut self.workers {
                let prepared = &prepared;
                scope.spawn(move || {
                    for _ in 0..again {
                        for copy in weights.chunks_exact(shape.total_lines()).take(copies) {
                            worker.pass(&shape, way, copy, prepared, n_rows);
                        }
                    }
                });
            }
        });
        (clock.now() - start).as_secs_f64() / (again * copies) as f64
    }
}

impl Worker {
    fn pass(
        &mut self,
        shape: &PackedShape,
        way: Way,
        weights: &[Line],
        prepared: &Prepared,
        n_rows: usize,
    ) {
        let stride = self.panels.len() * PANEL;
        let first_row = shape.rows_of(self.panels.clone()).start;
        let out: &mut [f32] = bytemuck::cast_slice_mut(self.out.lines_mut());
        let claim = self.panels.len().div_ceil(Tuning::default().claims).max(1);
        for start in self.panels.clone().step_by(claim) {
            let end = self.panels.end.min(start + claim);
            let rows = shape.rows_of(start..end);
            let columns = rows.start - first_row..rows.end - first_row;
            let call = LinearCall {
                lines: &weights[start * shape.panel_lines..end * shape.panel_lines],
                panel_lines: shape.panel_lines,
                cols: shape.cols,
                code_min: shape.code_min,
                acts: prepared.acts(),
                out: ColumnsMut::new(&mut *out, n_rows, stride, columns),
                accumulate: false,
                few_rows: way.few_rows,
                scratch: &mut self.scratch,
            };
            shape.format.linear(way.level, call);
        }
    }
}
