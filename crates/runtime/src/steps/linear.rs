//! Linear layers: every matrix that shares an input in one step, 16 output features to an item.

use super::{Batch, Run, Step, Work, inputs, prepare};
use crate::RuntimeError;
use crate::lower::{Lowering, Place, Prepared};
use crate::pack::Form;
use crate::steps::gate_up;
use crate::team::{Io, Items, Split};
use std::ops::Range;
use sterna_kernels::acts::{Bf16Acts, FloatActs, QuantActs, QuantLayout, bf16_words};
use sterna_kernels::dot::{Acts, ActsForm, LinearCall};
use sterna_kernels::elementwise::AddTo;
use sterna_kernels::{ColumnsMut, Line, PackedShape};
use sterna_model::ops;

/// A packed matrix.
pub struct Matrix {
    /// Its layout.
    pub shape: PackedShape,
    lines: Range<usize>,
    bias: Option<Range<usize>>,
    /// See [`LinearCall::few_rows`].
    few_rows: usize,
}

impl Matrix {
    /// The matrix that lies in these lines of the weights.
    pub fn new(shape: PackedShape, lines: Range<usize>, few_rows: usize) -> Self {
        Self { shape, lines, bias: None, few_rows }
    }

    /// Computes some panels; `out` has their columns.
    pub fn apply(
        &self,
        run: &Run<'_>,
        panels: Range<usize>,
        acts: Acts<'_>,
        out: ColumnsMut<'_>,
        accumulate: bool,
        scratch: &mut [Line],
    ) {
        let PackedShape { panel_lines, cols, code_min, format, .. } = self.shape;
        let start = self.lines.start + panels.start * panel_lines;
        let lines = &run.weights[start..][..panels.len() * panel_lines];
        let few_rows = self.few_rows;
        let call = LinearCall {
            lines,
            panel_lines,
            cols,
            code_min,
            acts,
            out,
            accumulate,
            few_rows,
            scratch,
        };
        format.linear(run.level, call);
    }

    /// Lines of scratch.
    pub fn scratch_lines(&self) -> usize {
        self.shape.format.scratch_lines()
    }

    /// What it reads and computes for so many rows.
    pub fn amount(&self, n_rows: usize) -> Work {
        if n_rows == 0 {
            return Work::default();
        }
        let flops = 2.0 * (self.shape.rows * self.shape.cols * n_rows) as f64;
        let if_on = |form| if self.shape.format.acts() == form { flops } else { 0.0 };
        Work {
            bytes: (self.lines.len() * size_of::<Line>()) as f64,
            flops,
            int8_flops: if_on(ActsForm::Quant),
            bf16_flops: if_on(ActsForm::Bf16),
        }
    }
}

/// Where a step's prepared activations are among its reads.
#[derive(Clone, Copy)]
pub struct ActsReads {
    cols: usize,
    quant: Option<usize>,
    float: Option<usize>,
    bf16: Option<usize>,
}

impl ActsReads {
    /// The reads that a step on prepared activations declares, and where they are.
    pub fn of(cols: usize, prepared: Prepared) -> (Self, Vec<Place>) {
        let mut at = Self { cols, quant: None, float: None, bf16: None };
        let mut reads = Vec::new();
        if let Some((ints, scales)) = prepared.quant {
            at.quant = Some(0);
            reads.extend([ints, scales]);
        }
        if let Some(floats) = prepared.float {
            at.float = Some(reads.len());
            reads.push(floats);
        }
        if let Some(words) = prepared.bf16 {
            at.bf16 = Some(reads.len());
            reads.push(words);
        }
        (at, reads)
    }

    /// The activations in the form that a matrix takes.
    pub fn acts<'c>(&self, io: &Io<'c>, matrix: &Matrix, n_rows: usize) -> Acts<'c> {
        let cols = self.cols;
        let asked = "preparation asks every matrix";
        match matrix.shape.format.acts() {
            ActsForm::Float => {
                let values = &io.floats(self.float.expect(asked))[..n_rows * cols];
                Acts::Float(FloatActs { cols, n_rows, values })
            }
            ActsForm::Bf16 => {
                let words = &io.ints(self.bf16.expect(asked))[..n_rows * bf16_words(cols)];
                Acts::Bf16(Bf16Acts { cols, n_rows, words })
            }
            ActsForm::Quant => {
                let (at, layout) = (self.quant.expect(asked), QuantLayout { cols });
                let ints = &io.ints(at)[..n_rows * layout.ints()];
                let scales = &io.floats(at + 1)[..n_rows * layout.chunks()];
                Acts::Quant(QuantActs { layout, n_rows, ints, scales })
            }
        }
    }
}

/// The step.
struct LinearStep {
    matrices: Vec<Matrix>,
    reads: ActsReads,
    /// Adds to what is there.
    accumulate: bool,
    /// Parts per worker.
    claims: usize,
}

impl Step for LinearStep {
    fn kind(&self) -> &'static str {
        "linear"
    }

    fn items(&self, n_rows: usize, n_workers: usize) -> Items {
        let n_panels: usize = self.matrices.iter().map(|m| m.shape.n_panels).sum();
        Items::panels(if n_rows == 0 { 0 } else { n_panels }, n_workers, self.claims)
    }

    fn scratch_lines(&self, _max_rows: usize, _context_len: usize) -> usize {
        self.matrices.iter().map(Matrix::scratch_lines).max().unwrap_or(0)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, n_rows: usize) {
        let scratch = io.scratch();
        for (m, matrix) in self.matrices.iter().enumerate() {
            let Some((panels, mut out)) = io.columns(m, n_rows) else { continue };
            let acts = self.reads.acts(io, matrix, n_rows);
            let columns = matrix.shape.rows_of(panels.clone());
            let part = out.part(0..columns.len());
            matrix.apply(run, panels, acts, part, self.accumulate, scratch);
            if let Some(bias) = &matrix.bias {
                let bias = &run.vector(bias, matrix.shape.rows)[columns];
                for row in 0..n_rows {
                    run.level.run(AddTo { x: bias, out: out.row(row) });
                }
            }
        }
    }

    fn amount(&self, n_rows: usize, _batch: &Batch) -> Work {
        self.matrices.iter().map(|m| m.amount(n_rows)).fold(Work::default(), |a, b| a + b)
    }
}

/// Lowers a `linear` node, with the add or gate that it absorbs.
pub fn lower(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    if let Some(&gate) = l.fusions.gated.get(&n) {
        return gate_up::lower(l, n, gate);
    }
    inputs::note(l, n);
    let node = &l.graph.nodes[n];
    let op: &ops::Linear = l.op(n);
    let rows = l.rows(n);
    let prepared = prepare::prepared(l, node.inputs[0], rows, op.activations)?;
    let (reads, places) = ActsReads::of(l.features(node.inputs[0]), prepared);
    let (mut matrices, mut writes, mut first) = (Vec::new(), Vec::new(), 0);
    for (output, &value) in node.outputs.iter().enumerate() {
        let mut matrix = l.matrix(node.weights[output])?;
        if let Some(bias) = op.bias_of(output) {
            matrix.bias = Some(l.lines(node.weights[bias], Form::Floats)?);
        }
        let place = match l.fusions.accumulate.get(&n) {
            Some(&(add, old)) => {
                let sum = l.graph.nodes[add].outputs[0];
                l.replace(old, sum, rows)
            }
            None => l.output(value, rows),
        };
        writes.push((place, Split::Columns { first, stride: matrix.shape.rows }));
        first += matrix.shape.n_panels;
        matrices.push(matrix);
    }
    let accumulate = l.fusions.accumulate.contains_key(&n);
    let claims = l.settings.tuning.claims;
    let step = LinearStep { matrices, reads, accumulate, claims };
    l.emit(node.name.clone(), rows, step, places, writes);
    Ok(())
}
