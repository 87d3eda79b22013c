//! A recipe: which encoding each matrix gets when it is named and not searched for.
//!
//! In: a name that users know (`Q4_0`, `Q4_K_M`), overrides by tensor name, an importance matrix.
//! Out: an encoding per matrix of a graph, before fallbacks for rows that do not fit.

use crate::error::{OptimizeError, Result};
use crate::fit;
use crate::importance::Importance;
use crate::mixes::{MIXES, Mix, Site};
use regex::Regex;
use std::sync::Arc;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::{ENCODINGS, by_name};
use sterna_model::{Graph, Role, WeightDecl, WeightId};

/// Encodings by name.
#[derive(Clone, Debug)]
pub struct Recipe {
    base: EncodingRef,
    mix: Option<&'static Mix>,
    overrides: Vec<(Regex, EncodingRef)>,
    importance: Option<Arc<Importance>>,
}

impl Recipe {
    /// The recipe of that name: a mix such as `Q4_K_M`, or an encoding. A block encoding by its
    /// name also has the rules that go with the name in llama.cpp (for one, the head gets more
    /// bits); [`Recipe::pure`] leaves them out.
    ///
    /// # Errors
    /// When there is none of that name; the sentence names those there are.
    pub fn named(name: &str) -> Result<Self> {
        let mix = MIXES.iter().find(|mix| mix.names.iter().any(|n| n.eq_ignore_ascii_case(name)));
        let base = by_name(mix.map_or(name, |mix| mix.base)).filter(|e| e.can_encode());
        let Some(base) = base else {
            let mut names: Vec<&str> = MIXES.iter().map(|mix| mix.names[0]).collect();
            let encodings = ENCODINGS.iter().filter(|e| e.can_encode()).map(|e| e.name());
            names.extend(encodings.filter(|name| !MIXES.iter().any(|m| m.names.contains(name))));
            let names = names.join(", ");
            let problem = format!("there is no type {name}; choose one of {names}");
            return Err(OptimizeError::Input(problem));
        };
        Ok(Self { base, mix, overrides: Vec::new(), importance: None })
    }

    /// Every matrix in the base encoding, without the rules of the name.
    #[must_use]
    pub fn pure(self) -> Self {
        Self { mix: None, ..self }
    }

    /// Adds `--tensor-type` overrides, each `regex=type`. A pattern is looked for anywhere in a
    /// tensor's name; the first that is found decides.
    ///
    /// # Errors
    /// When one is no `regex=type`, no regular expression, or names no encoding.
    pub fn with_overrides(mut self, overrides: &[String]) -> Result<Self> {
        for text in overrides {
            let bad = |why: String| {
                let usage = "write it as regex=type, e.g. 'attn_v=Q6_K'";
                OptimizeError::Input(format!("--tensor-type {text}: {why}; {usage}"))
            };
            let (pattern, name) = text.rsplit_once('=').ok_or_else(|| bad("it has no =".into()))?;
            let pattern = Regex::new(pattern).map_err(|error| bad(error.to_string()))?;
            let encoding = by_name(name).filter(|encoding| encoding.can_encode());
            let encoding = encoding.ok_or_else(|| bad(format!("there is no encoding {name}")))?;
            self.overrides.push((pattern, encoding));
        }
        Ok(self)
    }

    /// Adds an importance matrix.
    #[must_use]
    pub fn with_importance(self, importance: Importance) -> Self {
        Self { importance: Some(Arc::new(importance)), ..self }
    }

    /// The importance matrix, where there is one.
    pub fn importance(&self) -> Option<Arc<Importance>> {
        self.importance.clone()
    }

    /// The encoding of every matrix.
    ///
    /// # Errors
    /// When an override matches no tensor: it would silently do nothing.
    pub fn resolve(&self, graph: &Graph) -> Result<Vec<(WeightId, EncodingRef)>> {
        let matrices: Vec<WeightId> =
            graph.weight_ids().filter(|id| fit::is_matrix(graph.decl(*id))).collect();
        for (pattern, encoding) in &self.overrides {
            if !matrices.iter().any(|id| pattern.is_match(&graph.decl(*id).name)) {
                return Err(OptimizeError::Input(format!(
                    "--tensor-type {pattern}={}: no matrix has a name like that; `inspect` lists \
                     them",
                    encoding.name()
                )));
            }
        }
        let chosen = |&id: &WeightId| (id, self.encoding(graph, graph.decl(id)));
        Ok(matrices.iter().map(chosen).collect())
    }

    fn encoding(&self, graph: &Graph, decl: &WeightDecl) -> EncodingRef {
        if let Some((_, encoding)) = self.overrides.iter().find(|(p, _)| p.is_match(&decl.name)) {
            return *encoding;
        }
        let is_block = self.base.grid().is_some();
        let by_rule = self.mix.filter(|_| is_block).and_then(|mix| {
            mix.encoding(self.base, &Site::of(graph, decl, self.importance.is_some()))
        });
        by_rule.unwrap_or(self.base)
    }
}

impl Site {
    /// Where a weight stands in its graph.
    fn of(graph: &Graph, decl: &WeightDecl, has_importance: bool) -> Self {
        let of_role = |role| graph.weights.iter().find(move |w| w.role == role);
        let rows = |role| of_role(role).map_or(1, |w| w.shape[0]);
        let is_tied = of_role(Role::Head).is_none();
        let n_layers = graph.weights.iter().filter_map(|w| w.layer).max().map_or(0, |i| i + 1);
        Self {
            role: decl.role,
            layer: decl.layer.unwrap_or(0),
            n_layers,
            n_sharing: rows(Role::AttentionQuery) / rows(Role::AttentionValue).max(1),
            is_output: decl.role == Role::Head || (is_tied && decl.role == Role::TokenEmbedding),
            cols: fit::cols_of(decl),
            has_importance,
        }
    }
}

#[cfg(test)]
mod tests;
