//! A draft reads like the model it would become: what is edited is encoded when it is asked for.

use super::Draft;
use crate::fit;
use crate::recode::{Target, recode};
use crate::shelf::Shelf;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use sterna_formats::EncodingRef;
use sterna_model::{WeightId, WeightSource, WeightView};

impl Draft<'_> {
    /// Keeps what is encoded for this draft and its copies, up to so many bytes, in a file of that
    /// folder if it takes one.
    pub fn keep_encoded(&mut self, folder: &Path, max_bytes: u64) {
        self.shelf = Some(Arc::new(Shelf::new(folder, max_bytes)));
    }

    /// Has what is encoded from now on kept apart from what was, which other copies go on using.
    pub(super) fn empty_shelf(&mut self) {
        self.shelf = self.shelf.as_ref().map(|shelf| Arc::new(shelf.another()));
    }

    /// Whether the source's bytes serve as they are.
    fn is_untouched(&self, id: WeightId, view: &WeightView<'_>) -> bool {
        let (rows, cols) = self.rows_cols(id);
        self.encoding(id) == view.encoding
            && (rows, cols) == (view.rows, view.cols)
            && self.scaling.of(id).is_none()
    }

    fn rows_cols(&self, id: WeightId) -> (usize, usize) {
        let decl = self.graph.decl(id);
        let cols = fit::cols_of(decl);
        (decl.shape.iter().product::<usize>() / cols.max(1), cols)
    }
}

impl WeightSource for Draft<'_> {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (rows, cols) = self.rows_cols(id);
        let encoding = self.encoding(id);
        if let Some(bytes) = self.edits.get(&id).and_then(|edit| edit.bytes.as_deref()) {
            return WeightView { encoding, rows, cols, bytes: Cow::Borrowed(bytes) };
        }
        let recode = |view: &WeightView<'_>| {
            let (importance, factors) = (self.importance(id), self.scaling.of(id));
            let importance = importance.as_deref();
            recode(view, &Target { encoding, rows, cols, factors, importance })
        };
        // What keeps its encoding is not searched for, and would take all the room; of the rest the
        // source is asked only for what was not kept, since it may have to make it.
        let shelf = self.shelf.as_ref().filter(|_| encoding != self.source.encoding(id));
        let bytes = match shelf {
            Some(shelf) => shelf.get(id, encoding, || recode(&self.source.weight(id))),
            None => {
                let view = self.source.weight(id);
                if self.is_untouched(id, &view) {
                    return view;
                }
                recode(&view)
            }
        };
        WeightView { encoding, rows, cols, bytes: Cow::Owned(bytes) }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        self.edits.get(&id).map_or_else(|| self.source.encoding(id), |edit| edit.encoding)
    }

    fn release(&self, id: WeightId) {
        self.source.release(id);
    }
}
