//! Packing: every weight of a program, laid out once as its kernels read it.
//!
//! In: the list of weights that the lowered steps use, each in the form they use it. Out: one image
//! of lines, the same whether it is kept in memory or written to the program cache. A tensor is
//! read from its source, packed by all workers and let go; meanwhile a thread reads the next, so
//! that the disk and the workers are busy at once, and the peak is the image plus two tensors.

use crate::cache::Progress;
use crate::team::{Access, Io, Items, Job, Memory, Region, Span, Split, Team};
use crate::{Lines, RuntimeError};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::mpsc;
use sterna_formats::EncodingRef;
use sterna_kernels::{Line, PackedShape};
use sterna_model::{Graph, WeightId, WeightSource, WeightView};

/// The form in which a step uses a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// A matrix in panels.
    Packed,
    /// A BF16 matrix in panels for bf16 dots.
    PackedBf16,
    /// Rows as encoded, for looking up some of them.
    Encoded,
    /// A vector in f32.
    Floats,
}

impl Form {
    /// The packed layout of a matrix in this form, if it is one.
    pub fn panels(self, encoding: EncodingRef, rows: usize, cols: usize) -> Option<PackedShape> {
        match self {
            Form::Packed => Some(PackedShape::new(encoding, rows, cols)),
            Form::PackedBf16 => Some(PackedShape::for_bf16_dots(encoding, rows, cols)),
            Form::Encoded | Form::Floats => None,
        }
    }
}

/// A weight's place in the image.
#[derive(Clone)]
pub struct Section {
    /// Which weight.
    pub weight: WeightId,
    /// Its GGUF name.
    pub name: String,
    /// In which form.
    pub form: Form,
    /// Rows and columns.
    pub shape: (usize, usize),
    /// The encoding it came in.
    pub encoding: EncodingRef,
    /// Its lines of the image.
    pub lines: Range<usize>,
}

impl Section {
    /// The packed layout of a section in panels.
    pub fn packed(&self) -> PackedShape {
        let (rows, cols) = self.shape;
        self.form.panels(self.encoding, rows, cols).expect("the section is in panels")
    }
}

/// The sections of an image.
#[derive(Clone, Default)]
pub struct Layout {
    /// In the order of the image.
    pub sections: Vec<Section>,
    /// Lines of the image.
    pub n_lines: usize,
    known: HashMap<(WeightId, Form), usize>,
}

impl Layout {
    /// The section of a weight in a form, made on first use.
    ///
    /// # Errors
    /// When the weight's shape or encoding cannot be used so.
    pub fn section(
        &mut self,
        graph: &Graph,
        source: &dyn WeightSource,
        weight: WeightId,
        form: Form,
    ) -> Result<usize, RuntimeError> {
        if let Some(&known) = self.known.get(&(weight, form)) {
            return Ok(known);
        }
        let decl = graph.decl(weight);
        let shape = match (form, decl.shape.as_slice()) {
            (Form::Floats, &[cols]) => (1, cols),
            (Form::Packed | Form::PackedBf16 | Form::Encoded, &[rows, cols]) => (rows, cols),
            (_, shape) => {
                let reason = format!("has the shape {shape:?}, which no {form:?} form has");
                return Err(RuntimeError::Weight { name: decl.name.clone(), reason });
            }
        };
        let encoding = source.encoding(weight);
        if !encoding.fits(shape.1) {
            let reason = format!("has rows of {}, which do not fit {encoding:?}", shape.1);
            return Err(RuntimeError::Weight { name: decl.name.clone(), reason });
        }
        let n_lines = match form.panels(encoding, shape.0, shape.1) {
            Some(panels) => panels.total_lines(),
            None if form == Form::Encoded => (shape.0 * encoding.row_bytes(shape.1)).div_ceil(64),
            None => (shape.1 * 4).div_ceil(64),
        };
        let lines = self.n_lines..self.n_lines + n_lines;
        let name = decl.name.clone();
        self.sections.push(Section { weight, name, form, shape, encoding, lines });
        self.n_lines += n_lines;
        self.known.insert((weight, form), self.sections.len() - 1);
        Ok(self.sections.len() - 1)
    }

    /// Whether the same weights lie at the same places in the same forms.
    pub fn is_like(&self, other: &Layout) -> bool {
        let facts = |s: &Section| (s.weight, s.form, s.shape, s.encoding.name(), s.lines.clone());
        self.sections.iter().map(facts).eq(other.sections.iter().map(facts))
    }

    /// Bytes of the image.
    pub fn bytes(&self) -> usize {
        self.n_lines * size_of::<Line>()
    }
}

/// Packs every section, one after the other: `sink` is given a section and what fills its lines.
///
/// # Errors
/// When a weight is not what was declared, or `sink` fails.
pub fn pack_each(
    layout: &Layout,
    source: &dyn WeightSource,
    team: &mut Team,
    mut sink: impl FnMut(&Section, &mut dyn FnMut(&mut [Line])) -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    std::thread::scope(|scope| {
        // It hands over a tensor only when asked for, so it is one ahead.
        let (send, views) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for section in &layout.sections {
                let view = source.weight(section.weight);
                touch(&view.bytes);
                if send.send(view).is_err() {
                    return;
                }
            }
        });
        for section in &layout.sections {
            // A reader that panicked is heard of when the scope ends.
            let Ok(view) = views.recv() else { break };
            check(section, &view)?;
            sink(section, &mut |lines| fill(section, &view, team, lines))?;
            // What is packed is not read from the file again: its pages need not stay.
            source.release(section.weight);
        }
        Ok(())
    })
}

/// Reads a byte of every page, so that all of them are in memory.
fn touch(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().step_by(4096).fold(0, |sum, byte| sum ^ byte));
}

/// Packs every section into an image in memory.
///
/// # Errors
/// When a weight is not what was declared, or memory is short.
pub fn pack_in_memory(
    layout: &Layout,
    source: &dyn WeightSource,
    team: &mut Team,
    progress: &Progress<'_>,
) -> Result<Lines, RuntimeError> {
    let mut image = Lines::zeroed(layout.n_lines, "the packed weights")?;
    image.advise_huge_pages();
    pack_each(layout, source, team, |section, fill| {
        fill(&mut image.lines_mut()[section.lines.clone()]);
        progress(section.lines.end * size_of::<Line>(), layout.bytes());
        Ok(())
    })?;
    Ok(image)
}

/// The bytes must be what the kernels will assume.
fn check(section: &Section, view: &WeightView<'_>) -> Result<(), RuntimeError> {
    let (rows, cols) = section.shape;
    let same = (view.rows, view.cols) == (rows, cols) && view.encoding == section.encoding;
    if same && view.bytes.len() == rows * section.encoding.row_bytes(cols) {
        return Ok(());
    }
    let reason = format!(
        "is {}x{} in {:?} with {} bytes, but the graph wants {rows}x{cols} in {:?}",
        view.rows,
        view.cols,
        view.encoding,
        view.bytes.len(),
        section.encoding
    );
    Err(RuntimeError::Weight { name: section.name.clone(), reason })
}

/// Writes one section's lines, whatever they held.
fn fill(section: &Section, view: &WeightView<'_>, team: &mut Team, lines: &mut [Line]) {
    if matches!(section.form, Form::Floats | Form::Encoded)
        && let Some(last) = lines.last_mut()
    {
        *last = Line::ZERO;
    }
    match section.form {
        Form::Floats => {
            let floats: &mut [f32] = bytemuck::cast_slice_mut(lines);
            section.encoding.decode(&view.bytes, &mut floats[..section.shape.1]);
        }
        Form::Encoded => {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(lines);
            bytes[..view.bytes.len()].copy_from_slice(&view.bytes);
        }
        Form::Packed | Form::PackedBf16 => pack(section.packed(), view, team, lines),
    }
}

/// Packs a matrix, its panels divided among the workers.
fn pack(shape: PackedShape, view: &WeightView<'_>, team: &mut Team, lines: &mut [Line]) {
    let span = Span::whole(Region::Arena);
    let access = [Access::new(vec![], vec![(span, Split::Rows { len: shape.panel_lines * 16 })])];
    let mut memory = Memory::new(&access, 0).with(Region::Arena, bytemuck::cast_slice_mut(lines));
    let items = Items::shared(shape.n_panels, team.n_workers() * 8);
    team.run(1, &PackJob { shape, view, items }, &mut memory);
}

struct PackJob<'a> {
    shape: PackedShape,
    view: &'a WeightView<'a>,
    items: Items,
}

impl Job for PackJob<'_> {
    fn items(&self, _step: usize) -> Items {
        self.items
    }

    fn work(&self, io: Io<'_>) {
        let panels = io.items();
        let rows = self.view.row_bytes(self.shape.rows_of(panels.clone()));
        let lines = io.line_rows(0);
        lines.fill(Line::ZERO);
        self.shape.pack(panels, rows, lines);
    }
}
