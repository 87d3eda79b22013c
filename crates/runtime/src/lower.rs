//! Lowering: a graph becomes a list of steps over planned buffers.
//!
//! Each op has one line in [`LOWERINGS`]; its function emits steps through a [`Lowering`], which
//! keeps track of where values lie. Nodes after the last attention are row-wise, so they run only
//! on the rows whose result is wanted: their inputs are gathered once. `finish.rs` gives values
//! their places in memory.

mod encoder;
mod finish;

use crate::fuse::{self, Fusions, Uses};
use crate::kv::{KvLayout, KvNode, kv_shape};
use crate::pack::{Form, Layout};
use crate::steps::hidden::{self, Hidden};
use crate::steps::inputs::Input;
use crate::steps::{self, Planned, Rows, Step};
use crate::team::{Access, Split};
use crate::{RuntimeError, Settings};
use std::collections::HashMap;
use std::ops::Range;
use sterna_model::ops::{Activations, Attention, Rope, RopeTable};
use sterna_model::{Graph, Role, ValueId, WeightId, WeightSource};

/// Lowers one node.
pub type Lower = fn(&mut Lowering<'_>, usize) -> Result<(), RuntimeError>;

/// How each op becomes steps.
pub const LOWERINGS: &[(&str, Lower)] = &[
    ("embedding", steps::embed::lower),
    ("linear", steps::linear::lower),
    ("position_embedding", steps::embed::lower_positions),
    ("type_embedding", steps::embed::lower_types),
    ("rms_norm", steps::norm::lower),
    ("layer_norm", steps::norm::lower),
    ("rope", steps::rope::lower),
    ("attention", steps::attend::lower),
    ("swiglu", steps::elementwise::lower_gate),
    ("relu2", steps::elementwise::lower_gate),
    ("gelu", steps::elementwise::lower_gelu),
    ("add", steps::elementwise::lower_add),
];

/// Where a step finds or leaves something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A buffer of the arena, by number.
    Arena(usize),
    /// The result.
    Logits,
    /// The KV cache.
    Kv,
}

/// Activations prepared for linear layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prepared {
    /// Codes with sums, and scales.
    pub quant: Option<(Place, Place)>,
    /// Floats side by side.
    pub float: Option<Place>,
    /// Pairs of bf16.
    pub bf16: Option<Place>,
}

/// A graph lowered: what a program needs besides the packed weights.
pub struct Lowered {
    /// The steps in order.
    pub steps: Vec<Planned>,
    /// What each step reads and writes.
    pub accesses: Vec<Access>,
    /// The sections of the packed weights.
    pub layout: Layout,
    /// The pages of the KV cache.
    pub kv: KvLayout,
    /// Rotation tables for all positions.
    pub tables: Vec<RopeTable>,
    /// The states before the head, where they are kept.
    pub hidden: Option<Hidden>,
    /// What linear layers read, where it stays.
    pub inputs: Vec<Input>,
    /// Length of the arena in f32.
    pub arena_len: usize,
    /// Entries of the vocabulary that tokens come from.
    pub vocabulary: usize,
    /// Features of a row of logits; an encoder has none.
    pub n_logits: usize,
}

/// A step with its places, before the arena is planned.
struct Draft {
    planned: Planned,
    reads: Vec<Place>,
    writes: Vec<(Place, Split)>,
}

/// The state of lowering.
pub struct Lowering<'g> {
    /// The graph, rewritten.
    pub graph: &'g Graph,
    /// Where weights come from.
    pub source: &'g dyn WeightSource,
    /// The caller's choices.
    pub settings: &'g Settings,
    /// Who reads and writes what.
    pub uses: Uses<'g>,
    /// What is computed inside other nodes' steps.
    pub fusions: Fusions,
    /// The KV cache's pages.
    pub kv: KvLayout,
    /// Activations that linear layers which see them alike can share.
    pub prepared: HashMap<(ValueId, Rows, Activations), Prepared>,
    /// Entries of the embedding table.
    pub vocabulary: usize,
    /// Linear nodes, and where their input lies.
    pub inputs: Vec<(usize, Place)>,
    layout: Layout,
    tables: Vec<RopeTable>,
    table_of: HashMap<String, usize>,
    steps: Vec<Draft>,
    /// f32 per row of each buffer.
    buffers: Vec<usize>,
    places: HashMap<(ValueId, Rows), Place>,
    /// The last node that runs on all rows.
    split: usize,
    /// The layer of the node being lowered.
    layer: Option<usize>,
    /// The head, where rows may want their state before it instead of its logits.
    head: Option<usize>,
    /// Whether the result is states, which nobody chooses tokens by.
    is_encoder: bool,
}

/// Lowers a graph.
///
/// # Errors
/// When an op, a shape or an encoding cannot be run.
pub fn lower(
    graph: &Graph,
    source: &dyn WeightSource,
    settings: &Settings,
) -> Result<Lowered, RuntimeError> {
    let uses = Uses::new(graph);
    let fusions = if settings.fuse { fuse::decide(graph, &uses) } else { Fusions::default() };
    let is_attention = |n: &usize| graph.nodes[*n].op.as_any().is::<Attention>();
    let split = (0..graph.nodes.len()).rev().find(is_attention).unwrap_or(0);
    let head = hidden::head(graph, &uses, settings).filter(|&n| n > split);
    let mut kv = KvLayout::default();
    for (n, node) in graph.nodes.iter().enumerate() {
        if let Some(op) = node.op.as_any().downcast_ref::<Attention>() {
            kv.push(n, kv_shape(op, &node.name, settings.kv)?, op.n_kv_heads);
        }
    }
    let mut lowering = Lowering {
        graph,
        source,
        settings,
        uses,
        fusions,
        kv,
        prepared: HashMap::new(),
        vocabulary: 0,
        inputs: Vec::new(),
        layout: Layout::default(),
        tables: Vec::new(),
        table_of: HashMap::new(),
        steps: Vec::new(),
        buffers: Vec::new(),
        places: HashMap::new(),
        split,
        layer: None,
        head,
        is_encoder: graph.is_encoder(),
    };
    encoder::check_batch(&lowering)?;
    for n in 0..graph.nodes.len() {
        if !lowering.fusions.absorbed.contains(&n) {
            lowering.lower_node(n)?;
        }
    }
    lowering.finish()
}

impl<'g> Lowering<'g> {
    fn lower_node(&mut self, n: usize) -> Result<(), RuntimeError> {
        let node = &self.graph.nodes[n];
        self.layer = layer_of(self.graph, n).unwrap_or(self.layer);
        match LOWERINGS.iter().find(|(name, _)| *name == node.op.name()) {
            Some((_, lower)) => lower(self, n),
            None => {
                let known: Vec<&str> = LOWERINGS.iter().map(|(name, _)| *name).collect();
                Err(RuntimeError::NoLowering {
                    node: node.name.clone(),
                    op: node.op.name().into(),
                    known: known.join(", "),
                })
            }
        }
    }

    /// The concrete op of a node.
    pub fn op<T: 'static>(&self, n: usize) -> &'g T {
        let op = self.graph.nodes[n].op.as_any();
        op.downcast_ref().expect("the lowering table goes by the op's name")
    }

    /// The rows that a node runs on.
    pub fn rows(&self, n: usize) -> Rows {
        match n {
            n if self.head == Some(n) => Rows::Logits,
            n if n > self.split => Rows::Wanted,
            _ => Rows::All,
        }
    }

    /// The place of an attention node in KV pages.
    pub fn kv_node(&self, n: usize) -> KvNode {
        *self.kv.nodes.iter().find(|kv| kv.node == n).expect("every attention node has a place")
    }

    /// Features of a value.
    pub fn features(&self, value: ValueId) -> usize {
        self.graph.values[value.0].features
    }

    /// A new buffer of so many f32 per row.
    pub fn buffer(&mut self, len: usize) -> Place {
        self.buffers.push(len);
        Place::Arena(self.buffers.len() - 1)
    }

    /// Where a value is to be written.
    pub fn output(&mut self, value: ValueId, rows: Rows) -> Place {
        let is_logits = self.graph.output == Some(value) && !self.is_encoder;
        let place = if is_logits && rows != Rows::All {
            Place::Logits
        } else {
            self.buffer(self.features(value))
        };
        self.places.insert((value, rows), place);
        place
    }

    /// Says that a value lies where another did, which is no longer needed.
    pub fn replace(&mut self, old: ValueId, new: ValueId, rows: Rows) -> Place {
        let place = self.input(old, rows);
        self.places.insert((new, rows), place);
        place
    }

    /// Where a value lies; gathers it first where only some rows are wanted.
    pub fn input(&mut self, value: ValueId, rows: Rows) -> Place {
        if let Some(&place) = self.places.get(&(value, rows)) {
            return place;
        }
        if rows == Rows::Logits {
            // They are the first of those that are wanted.
            return self.input(value, Rows::Wanted);
        }
        assert!(rows == Rows::Wanted, "value {} is read before written", value.0);
        let from = self.input(value, Rows::All);
        let to = self.output(value, Rows::Wanted);
        let len = self.features(value);
        let name = format!("{}.wanted", self.graph.values[value.0].name);
        let step = steps::gather::Gather { len };
        self.emit(name, rows, step, vec![from], vec![(to, Split::Rows { len })]);
        to
    }

    /// Appends a step.
    pub fn emit(
        &mut self,
        name: String,
        rows: Rows,
        step: impl Step + 'static,
        reads: Vec<Place>,
        writes: Vec<(Place, Split)>,
    ) {
        let weights_end = self.layout.n_lines;
        let planned = Planned { name, layer: self.layer, rows, step: Box::new(step), weights_end };
        self.steps.push(Draft { planned, reads, writes });
    }

    /// The section of a weight.
    ///
    /// # Errors
    /// When it cannot be used in this form.
    pub fn section(&mut self, weight: WeightId, form: Form) -> Result<usize, RuntimeError> {
        self.layout.section(self.graph, self.source, weight, form)
    }

    /// The image lines of a weight.
    ///
    /// # Errors
    /// When it cannot be used in this form.
    pub fn lines(&mut self, weight: WeightId, form: Form) -> Result<Range<usize>, RuntimeError> {
        let section = self.section(weight, form)?;
        Ok(self.layout.sections[section].lines.clone())
    }

    /// The form in which linear layers use a matrix.
    pub fn matrix_form(&self, weight: WeightId) -> Form {
        let is_bf16 = self.source.encoding(weight).name() == "BF16";
        if self.settings.bf16_dot && is_bf16 { Form::PackedBf16 } else { Form::Packed }
    }

    /// The packed layout of a matrix and its image lines.
    ///
    /// # Errors
    /// When it is no matrix that can be packed.
    pub fn matrix(&mut self, weight: WeightId) -> Result<steps::linear::Matrix, RuntimeError> {
        let section = self.section(weight, self.matrix_form(weight))?;
        let section = &self.layout.sections[section];
        let few_rows = self.settings.tuning.few_rows;
        Ok(steps::linear::Matrix::new(section.packed(), section.lines.clone(), few_rows))
    }

    /// The rotation table of a rope node, shared by all nodes with the same angles.
    pub fn table(&mut self, n: usize) -> usize {
        let rope: &Rope = self.op(n);
        let factors = self.graph.nodes[n].weights.first().copied();
        let key = format!("{} {factors:?}", sterna_model::Op::attributes(rope));
        if let Some(&table) = self.table_of.get(&key) {
            return table;
        }
        let factors = factors.map(|weight| self.source.weight(weight).to_f32());
        self.tables.push(rope.table(factors.as_deref(), 0..self.settings.context_len));
        self.table_of.insert(key, self.tables.len() - 1);
        self.tables.len() - 1
    }
}

/// The layer of a node's weights, which may be none; nothing is known of a node without weights of
/// its own (RoPE factors belong to all layers), which goes with the node before it.
fn layer_of(graph: &Graph, n: usize) -> Option<Option<usize>> {
    let weights = graph.nodes[n].weights.iter().map(|&weight| graph.decl(weight));
    weights.filter(|decl| decl.role != Role::RopeFactors).map(|decl| decl.layer).next()
}
