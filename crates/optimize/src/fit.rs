//! Which rows fit which encodings, and why not: block encodings divide rows into blocks.
//!
//! In: a graph. Out: per row length the encodings it can take, and for each other one the sum that
//! does not come out. The report shows this table; `rtn` falls back by it, `mixed` searches in it.

use serde::Serialize;
use std::collections::BTreeMap;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::{ENCODINGS, by_name};
use sterna_model::{Graph, Role, WeightDecl};

/// Rows of one length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowFit {
    /// Values per row.
    pub cols: usize,
    /// What the tensors with such rows do.
    pub roles: Vec<String>,
    /// Tensors with such rows.
    pub n_tensors: usize,
    /// Their values.
    pub n_values: usize,
    /// Encodings such rows can take, by name.
    pub fits: Vec<&'static str>,
    /// The others: why not, and which those are.
    pub misfits: Vec<Misfit>,
}

/// Encodings that one sum rules out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// Values per block.
    pub block_len: usize,
    /// The encodings with such blocks.
    pub encodings: Vec<&'static str>,
    /// The sum, e.g. `172 = 5 x 32 + 12`.
    pub why: String,
}

/// A row of the table for every length of row among the matrices, longest first.
pub fn table(graph: &Graph) -> Vec<RowFit> {
    let mut by_cols: BTreeMap<usize, Vec<&WeightDecl>> = BTreeMap::new();
    for decl in graph.weights.iter().filter(|decl| is_matrix(decl)) {
        by_cols.entry(cols_of(decl)).or_default().push(decl);
    }
    by_cols.iter().rev().map(|(&cols, decls)| row(cols, decls)).collect()
}

fn row(cols: usize, decls: &[&WeightDecl]) -> RowFit {
    let mut roles: Vec<Role> = decls.iter().map(|decl| decl.role).collect();
    roles.sort_unstable();
    roles.dedup();
    let mut misfits: BTreeMap<usize, Misfit> = BTreeMap::new();
    for encoding in ENCODINGS.iter().filter(|encoding| !encoding.fits(cols)) {
        let block_len = encoding.block_len();
        let misfit = misfits.entry(block_len).or_insert_with(|| Misfit {
            block_len,
            encodings: Vec::new(),
            why: format!("{cols} = {} x {block_len} + {}", cols / block_len, cols % block_len),
        });
        misfit.encodings.push(encoding.name());
    }
    RowFit {
        cols,
        roles: roles.iter().map(|&role| role_name(role).to_owned()).collect(),
        n_tensors: decls.len(),
        n_values: decls.iter().map(|decl| decl.shape.iter().product::<usize>()).sum(),
        fits: ENCODINGS.iter().filter(|e| e.fits(cols)).map(|e| e.name()).collect(),
        misfits: misfits.into_values().collect(),
    }
}

/// Whether a weight may take a block encoding: a matrix by its role and by its shape.
pub fn is_matrix(decl: &WeightDecl) -> bool {
    decl.role.is_matrix() && decl.shape.len() == 2
}

/// Values per row.
pub fn cols_of(decl: &WeightDecl) -> usize {
    decl.shape.last().copied().unwrap_or(1)
}

/// Bytes of a weight in an encoding that fits.
pub fn bytes_of(decl: &WeightDecl, encoding: EncodingRef) -> usize {
    let cols = cols_of(decl);
    decl.shape.iter().product::<usize>() / cols.max(1) * encoding.row_bytes(cols)
}

/// What takes the place of an encoding whose blocks do not divide the row: the nearest one with
/// blocks of 32 and no fewer bits, and F16 where those do not fit either. llama.cpp goes the same
/// way, so both tools give a file of the same types.
const FALLBACKS: &[(&str, &str)] = &[
    ("Q2_K", "IQ4_NL"),
    ("Q3_K", "IQ4_NL"),
    ("IQ4_XS", "IQ4_NL"),
    ("TQ1_0", "Q4_0"),
    ("TQ2_0", "Q4_0"),
    ("Q4_K", "Q5_0"),
    ("Q5_K", "Q5_1"),
    ("Q6_K", "Q8_0"),
];

/// `wanted` where rows of `cols` values fit it, else its fallback with the reason.
pub fn or_fallback(wanted: EncodingRef, cols: usize) -> (EncodingRef, Option<String>) {
    if wanted.fits(cols) {
        return (wanted, None);
    }
    let listed = FALLBACKS.iter().find(|(name, _)| *name == wanted.name());
    let listed = listed.and_then(|(_, fallback)| by_name(fallback)).filter(|e| e.fits(cols));
    let instead = listed.unwrap_or_else(|| by_name("F16").expect("F16 is registered"));
    let block_len = wanted.block_len();
    let reason = format!(
        "{} instead of {}: rows of {cols} are {} blocks of {block_len} and {} values more",
        instead.name(),
        wanted.name(),
        cols / block_len,
        cols % block_len
    );
    (instead, Some(reason))
}

/// A role in the words of reports.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::TokenEmbedding => "token embedding",
        Role::PositionEmbedding => "position embedding",
        Role::TypeEmbedding => "type embedding",
        Role::AttentionQuery => "attention query",
        Role::AttentionKey => "attention key",
        Role::AttentionValue => "attention value",
        Role::AttentionOutput => "attention output",
        Role::MlpGate => "MLP gate",
        Role::MlpUp => "MLP up",
        Role::MlpDown => "MLP down",
        Role::Norm => "norm",
        Role::Bias => "bias",
        Role::RopeFactors => "RoPE factors",
        Role::Head => "head",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_172_fit_floats_only_and_the_sum_says_so() {
        let mut graph = Graph::default();
        graph.weight("blk.0.ffn_down.weight", &[64, 172], Role::MlpDown, Some(0));
        graph.weight("blk.0.ffn_up.weight", &[172, 64], Role::MlpUp, Some(0));
        graph.weight("blk.0.attn_norm.weight", &[64], Role::Norm, Some(0));
        let table = table(&graph);
        assert_eq!(table.len(), 2);
        assert_eq!(table[0].fits, ["F32", "F16", "BF16"]);
        let whys: Vec<&str> = table[0].misfits.iter().map(|m| m.why.as_str()).collect();
        let expected = ["172 = 5 x 32 + 12", "172 = 1 x 128 + 44", "172 = 0 x 256 + 172"];
        assert_eq!(whys, expected);
        assert!(table[1].fits.contains(&"Q4_0") && !table[1].fits.contains(&"Q4_K"));
    }

    #[test]
    fn every_encoding_has_a_fallback_that_fits() {
        for encoding in ENCODINGS {
            for cols in [1, 32, 64, 172, 192, 256, 288] {
                let (instead, reason) = or_fallback(*encoding, cols);
                assert!(instead.fits(cols) && instead.can_encode());
                assert_eq!(reason.is_none(), encoding.fits(cols));
            }
        }
        let of = |name, cols| or_fallback(by_name(name).unwrap(), cols).0.name();
        assert_eq!([of("Q4_K", 64), of("Q6_K", 288), of("Q3_K", 64)], ["Q5_0", "Q8_0", "IQ4_NL"]);
        assert_eq!([of("Q4_K", 172), of("Q4_0", 172)], ["F16", "F16"]);
    }
}
