//! From a draft to a file: first one with room for evidence, which is measured, then the same with
//! the evidence in its place.

use super::{EVIDENCE_BYTES, Prepared, Settings, artifact_path, write_file};
use crate::draft::Draft;
use crate::error::{OptimizeError, Result};
use crate::evidence::times::Switched;
use crate::footprint::RunAs;
use crate::progress::{Stage, Watch};
use crate::report::{Report, padded};
use crate::size;
use std::collections::BTreeSet;
use std::path::PathBuf;
use sterna_formats::{Metadata, OpenOptions, Value};
use sterna_measure::MeasureError;
use sterna_measure::ablation::Effect;
use sterna_measure::quality::Passages;
use sterna_model::plan::{Text, inputs};
use sterna_model::{Artifact, Graph, Model, Plan, WeightId, WeightSource};

/// A draft as it was written, not yet proven. Its file is removed when this is dropped.
pub struct Building<'p> {
    /// What was written.
    pub draft: Draft<'p>,
    /// How it is made.
    pub plan: Plan,
    /// Hash of its tensors.
    pub content_hash: String,
    /// The file, under a name of its own.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its runs with and without each optimization of the runtime.
    pub switched: Vec<Switched>,
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        // It may never have been written; there is nobody left to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes of a file besides the matrices that the search is about: metadata, the list of tensors,
/// vectors, and a Plan as long as one can get.
pub fn fixed_bytes(metadata: &Metadata, base: &Draft<'_>) -> u64 {
    let graph = base.graph();
    let whole = size::file_bytes(metadata, graph, base);
    let matrices: usize = base
        .matrices()
        .map(|(id, decl)| crate::fit::bytes_of(decl, base.encoding(id)).next_multiple_of(32))
        .sum();
    // Per tensor a line of the Plan: its quoted name, ` = "IQ4_NL"` and the line's end.
    let plan: usize = base.matrices().map(|(_, decl)| decl.name.len() + 16).sum();
    // And one per place that was scaled: its quoted name, ` = 0.75` and the line's end.
    let scaled: usize = base.scaling().strengths().keys().map(|name| name.len() + 10).sum();
    // And one per matrix on int8 inputs: its quoted name, ` = ` and a number. (Architectures that
    // have all of them so need none.)
    let on_int8 = inputs::of(graph, &Graph::default());
    let on_int8: usize = on_int8.keys().map(|name| name.len() + 30).sum();
    // The Plan's other lines, keys, content hash, file type.
    const REST_BYTES: usize = 1400;
    whole - matrices as u64 + (plan + scaled + on_int8 + REST_BYTES) as u64
}

/// The optimizations that cost more than they bring.
pub fn switched_off(switched: &[Switched]) -> Result<Vec<Effect>> {
    let effects = switched.iter().map(Switched::effect);
    let off = effects.filter(|effect| effect.as_ref().map_or(true, |effect| !effect.keeps()));
    Ok(off.collect::<std::result::Result<_, MeasureError>>()?)
}

/// Writes the draft.
pub fn build<'p>(
    settings: &Settings,
    prepared: &Prepared,
    (mut draft, RunAs { kv, off }): (Draft<'p>, RunAs),
    switched: Vec<Switched>,
    watch: Watch<'_>,
) -> Result<Building<'p>> {
    for effect in switched_off(&switched)? {
        draft.note(format!("{} {}: it is off in the Plan", effect.name, effect.change()));
    }
    let plan = Plan { off, kv, ..plan(settings, prepared, &draft)? };
    let path = artifact_path(settings, prepared).with_extension("building");
    let model = model_as_edited(settings, prepared, &draft)?;
    let evidence = padded("{}", EVIDENCE_BYTES);
    let mut outcome = Ok(());
    let content_hash =
        Artifact::write(&path, &model, &draft, &plan, &evidence, &mut |done, total| {
            let step = watch.step(Stage::Build, done as usize, total as usize, "bytes");
            if outcome.is_ok() {
                outcome = step;
            }
        })?;
    let bytes = std::fs::metadata(&path).map_err(|e| OptimizeError::failed("the artifact", e))?;
    let building = Building { draft, plan, content_hash, path, bytes: bytes.len(), switched };
    // After a stop, dropping the building removes the file.
    outcome.map(|()| building)
}

/// Writes the proven artifact with its evidence in its place, and its Plan beside it.
pub fn finish(
    settings: &Settings,
    prepared: &Prepared,
    building: &Building<'_>,
    report: &Report,
) -> Result<PathBuf> {
    let path = artifact_path(settings, prepared);
    let model = model_as_edited(settings, prepared, &building.draft)?;
    let evidence = report.evidence(EVIDENCE_BYTES);
    assert_eq!(evidence.len(), EVIDENCE_BYTES, "evidence has the length foretold");
    let hash =
        Artifact::write(&path, &model, &building.draft, &building.plan, &evidence, &mut |_, _| {})?;
    assert_eq!(hash, building.content_hash, "the same draft is written twice");
    let bytes = std::fs::metadata(&path).map_err(|e| OptimizeError::failed("the artifact", e))?;
    assert_eq!(bytes.len(), building.bytes, "the same draft has the same length");
    write_file(&settings.output.join("plan.toml"), building.plan.print().as_bytes())?;
    Ok(path)
}

/// The model with the draft's widths: what the file says of itself.
fn model_as_edited(settings: &Settings, prepared: &Prepared, draft: &Draft<'_>) -> Result<Model> {
    let options = OpenOptions { tokenizer: settings.tokenizer.clone() };
    let mut model = Model::open_with(prepared.model.path(), &options)?;
    if let Some(config) = draft.config() {
        model.graph = model.arch.graph(config).map_err(OptimizeError::Input)?;
        let key = format!("{}.feed_forward_length", model.arch.name());
        model.metadata.set(key, Value::U32(config.ffn_dim as u32));
        model.config = config.clone();
    }
    Ok(model)
}

fn plan(settings: &Settings, prepared: &Prepared, draft: &Draft<'_>) -> Result<Plan> {
    let budget = &settings.budget;
    let text = |passages: &Passages| {
        let workload = passages.workload();
        let hash = format!("blake3:{}", workload.hash());
        Text { name: workload.name().into(), hash, tokens: workload.n_tokens() as u64 }
    };
    let (model, graph) = (&prepared.model, draft.graph());
    // What was edited, and what pruning had to decode.
    let edited: BTreeSet<WeightId> = draft.edits().map(|(id, _)| id).collect();
    let is_other = |id| edited.contains(&id) || prepared.is_recoded(graph, draft, id);
    let decided = graph.weight_ids().filter(|id| is_other(*id));
    let encoding = |id| (graph.decl(id).name.clone(), draft.encoding(id).name().to_owned());
    let encodings = decided.map(encoding);
    let config = draft.config().unwrap_or(&model.config);
    let int8_inputs = super::inputs::ranges(model.arch, config, graph)?;
    let rewrites = sterna_model::rewrites::REWRITES.iter().map(|r| r.name().to_owned());
    Ok(Plan {
        seed: budget.seed,
        rewrites: rewrites.collect(),
        rounding: draft.rounding(),
        distilled: draft.distilled().cloned(),
        scaled: draft.scaling().strengths().clone(),
        mlp_width: draft.config().map(|config| config.ffn_dim as u64),
        budget: budget.in_plan(),
        calibration: Some(text(&prepared.texts.calibration)),
        held_out: Some(text(&prepared.texts.heldout)),
        encodings: encodings.collect(),
        int8_inputs,
        ..Plan::unchanged(prepared.source.clone())
    })
}
