//! Packing: every weight of a program, laid out once as its kernels read it.
//!
//! In: the list of weights that the lowered steps use, each in the form they use it. Out: one image
//! of lines, the same whether it is kept in memory or written to the program cache. Workers take
//! blocks of the image in order and pack what lies in them, whichever weights that is; meanwhile a
//! thread reads the weights ahead of them ([`views`]), so that the disk and the workers are busy at
//! once, and the peak is the image and a few tensors.

mod views;

use crate::{Lines, RuntimeError};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use sterna_formats::EncodingRef;
use sterna_kernels::{Line, PackedShape};
use sterna_model::{Graph, WeightId, WeightSource, WeightView};
use views::Views;

/// How far packing is: bytes of the image done, and in all.
pub type Progress<'a> = dyn Fn(usize, usize) + 'a;

/// Lines that a worker packs at a time: a huge page of memory or of a file.
pub const BLOCK_LINES: usize = (2 << 20) / size_of::<Line>();

/// The form in which a step uses a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// A matrix in panels.
    Packed,
    /// Rows as encoded, for looking up some of them.
    Encoded,
    /// A vector in f32.
    Floats,
    /// A BF16 matrix in panels for bf16 dots.
    PackedBf16,
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

/// What packing needs.
pub struct Packing<'a> {
    /// What to pack.
    pub layout: &'a Layout,
    /// Where the bytes come from.
    pub source: &'a dyn WeightSource,
    /// Threads that pack, the caller's among them.
    pub n_workers: usize,
    /// Told how far it is.
    pub progress: &'a Progress<'a>,
}

impl Packing<'_> {
    /// Packs into an image in memory.
    ///
    /// # Errors
    /// When a weight is not what was declared, or memory is short.
    pub fn in_memory(&self) -> Result<Lines, RuntimeError> {
        let mut image = Lines::zeroed(self.layout.n_lines, "the packed weights")?;
        image.advise_huge_pages();
        let places: Vec<Mutex<&mut [Line]>> =
            image.lines_mut().chunks_mut(BLOCK_LINES).map(Mutex::new).collect();
        let n_lines = self.layout.n_lines;
        let starts = (0..n_lines).step_by(BLOCK_LINES);
        let blocks: Vec<_> = starts.map(|at| at..n_lines.min(at + BLOCK_LINES)).collect();
        self.each(&blocks, &|lines, fill| {
            let place = &places[lines.start / BLOCK_LINES];
            fill(&mut place.lock().expect("each place is one worker's"))
        })?;
        drop(places);
        Ok(image)
    }

    /// Packs the blocks of the image that are given, in order: `work` is told a block's lines and
    /// gets what fills as many.
    ///
    /// # Errors
    /// When a weight is not what was declared, or `work` fails.
    pub fn each(&self, blocks: &[Range<usize>], work: &Work<'_>) -> Result<(), RuntimeError> {
        let views = Views::new(self.layout, self.source);
        let (next, n_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // `shown` is told of every block that is done.
        let walk = |shown: &dyn Fn(usize)| {
            let _guard = views.guard();
            while let Some(lines) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let done = work(lines.clone(), &|out| fill(self.layout, &views, lines, out));
                if let Err(error) = done {
                    views.stop();
                    return Err(error);
                }
                shown(n_done.fetch_add(lines.len(), Ordering::Relaxed) + lines.len());
            }
            Ok(())
        };
        let results = std::thread::scope(|scope| {
            let reader = Builder::new().name("sterna-read".into());
            reader.spawn_scoped(scope, || views.read()).map_err(|e| RuntimeError::Threads {
                wanted: self.n_workers + 1,
                reason: e.to_string(),
            })?;
            // Where the system starts no more threads, there are fewer.
            let others = 1..self.n_workers.min(blocks.len());
            let others: Vec<_> = others
                .filter_map(|_| Builder::new().spawn_scoped(scope, || walk(&|_| {})).ok())
                .collect();
            let all = self.layout.n_lines;
            let shown = |done: usize| {
                if done < all {
                    (self.progress)(done * size_of::<Line>(), self.layout.bytes());
                }
            };
            let mut results = vec![walk(&shown)];
            for other in others {
                results.push(other.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
            }
            Ok::<_, RuntimeError>(results)
        })?;
        // Whoever was stopped by another's error has nothing to tell.
        let is_stopped = |r: &Result<(), RuntimeError>| matches!(r, Err(RuntimeError::Stopped));
        let (stopped, told): (Vec<_>, Vec<_>) = results.into_iter().partition(is_stopped);
        told.into_iter().chain(stopped).collect::<Result<(), _>>()?;
        (self.progress)(self.layout.bytes(), self.layout.bytes());
        // A page that was read brought neighbours along, perhaps of weights let go before.
        self.layout.sections.iter().for_each(|section| self.source.release(section.weight));
        Ok(())
    }
}

/// What is done with a block: given its lines, and what fills as many.
pub type Work<'a> = dyn Fn(Range<usize>, &Fill<'_>) -> Result<(), RuntimeError> + Sync + 'a;

/// Fills a block, whatever it held.
pub type Fill<'a> = dyn Fn(&mut [Line]) -> Result<(), RuntimeError> + 'a;

/// Fills some lines of the image from the weights that lie there.
fn fill(
    layout: &Layout,
    views: &Views<'_>,
    lines: &Range<usize>,
    out: &mut [Line],
) -> Result<(), RuntimeError> {
    let first = layout.sections.partition_point(|section| section.lines.end <= lines.start);
    for (i, section) in layout.sections.iter().enumerate().skip(first) {
        let (start, end) = (section.lines.start.max(lines.start), section.lines.end.min(lines.end));
        if start >= end {
            break;
        }
        let view = views.get(i)?;
        check(section, &view)?;
        let part = start - section.lines.start..end - section.lines.start;
        fill_part(section, &view, part, &mut out[start - lines.start..end - lines.start]);
        views.done(i, end - start);
    }
    Ok(())
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

/// Writes some of a section's lines, whatever they held.
fn fill_part(section: &Section, view: &WeightView<'_>, part: Range<usize>, out: &mut [Line]) {
    let bytes = part.start * size_of::<Line>()..part.end * size_of::<Line>();
    match section.form {
        Form::Floats => {
            let mut floats = vec![0.0; section.shape.1];
            section.encoding.decode(&view.bytes, &mut floats);
            copy(bytemuck::cast_slice(&floats), bytes, out);
        }
        Form::Encoded => copy(&view.bytes, bytes, out),
        Form::Packed | Form::PackedBf16 => pack(section.packed(), view, part, out),
    }
}

/// Copies a range of bytes; what is beyond the last one is zero.
fn copy(from: &[u8], range: Range<usize>, out: &mut [Line]) {
    let from = &from[range.start..range.end.min(from.len())];
    let (to, beyond) = bytemuck::cast_slice_mut(out).split_at_mut(from.len());
    to.copy_from_slice(from);
    beyond.fill(0u8);
}

/// Packs some lines of a matrix. A panel of which only a part is wanted is packed aside.
fn pack(shape: PackedShape, view: &WeightView<'_>, part: Range<usize>, out: &mut [Line]) {
    let each = shape.panel_lines;
    let rows = |panels: Range<usize>| view.row_bytes(shape.rows_of(panels));
    let mut at = part.start;
    while at < part.end {
        let (panel, skipped) = (at / each, at % each);
        let n_whole = if skipped == 0 { (part.end - at) / each } else { 0 };
        let out = &mut out[at - part.start..];
        if n_whole > 0 {
            let panels = panel..panel + n_whole;
            shape.pack(panels.clone(), rows(panels), &mut out[..n_whole * each]);
            at += n_whole * each;
        } else {
            let mut aside = vec![Line::ZERO; each];
            shape.pack(panel..panel + 1, rows(panel..panel + 1), &mut aside);
            let n = (each - skipped).min(part.end - at);
            out[..n].copy_from_slice(&aside[skipped..skipped + n]);
            at += n;
        }
    }
}

#[cfg(test)]
mod tests;
