//! What a quantized model learns from: documents that plans are not judged by, each whole.
//!
//! In: documents as they were cut. Out: the first tokens of those behind the judged ones, and then
//! what was cut off them, in pieces of the same length; for few and long documents that is most of
//! the text.

use super::{Cut, TextSettings, n_bytes, n_within};
use crate::error::Result;
use sterna_measure::Workload;
use sterna_model::Model;

/// What is learned from takes at most so many products of a token and a parameter: some minutes'
/// work.
const MAX_PRODUCTS: u64 = 1_000_000_000_000;
/// The end of a document is a lesson of its own from so many tokens on.
const MIN_PIECE_LEN: usize = 32;

/// Lessons of at most `max_tokens` each; `None` where there is no text or time for any.
///
/// # Errors
/// None that cutting has not had.
pub fn of(
    settings: &TextSettings,
    model: &Model,
    cut: &Cut,
    n_judged: usize,
    max_tokens: usize,
) -> Result<Option<Workload>> {
    let pieces = pieces(cut, n_judged, max_tokens);
    let n = n_within(&pieces, MAX_PRODUCTS / model.graph.n_parameters().max(1));
    let pieces = pieces[..n.min(settings.n_lessons)].to_vec();
    if pieces.is_empty() {
        return Ok(None);
    }
    let tokenizer = model.tokenizer()?;
    let n_bytes = pieces.iter().map(|piece| n_bytes(tokenizer, piece)).sum();
    Ok(Some(Workload::new(&format!("{} (lessons)", cut.kept.name()), pieces, n_bytes)?))
}

/// The beginnings of documents from a number on, then their other pieces.
fn pieces(cut: &Cut, n_judged: usize, max_tokens: usize) -> Vec<Vec<u32>> {
    let firsts = cut.kept.documents()[n_judged..].iter().map(Vec::as_slice);
    let rests = cut.rests[n_judged..].iter().flat_map(|rest| rest.chunks(max_tokens));
    let rests = rests.filter(|piece| piece.len() >= MIN_PIECE_LEN);
    firsts.chain(rests).map(<[u32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_documents_are_read_to_their_end_but_for_those_that_judge() {
        let kept = Workload::new("x", vec![vec![1; 50], vec![2; 50], vec![3; 7]], 107).unwrap();
        let cut = Cut { kept, rests: vec![vec![1; 500], vec![2; 50 + MIN_PIECE_LEN], vec![]] };
        let of = |n_judged| -> Vec<(u32, usize)> {
            let pieces = pieces(&cut, n_judged, 50);
            pieces.iter().map(|piece| (piece[0], piece.len())).collect()
        };
        assert_eq!(of(1), [(2, 50), (3, 7), (2, 50), (2, MIN_PIECE_LEN)]);
        assert_eq!(of(0).len(), 3 + 10 + 2);
        assert_eq!(of(3), []);
    }
}
