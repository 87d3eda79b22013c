//! Artifacts written, read back, and damaged.

use super::*;
use crate::plan::Source;
use crate::testing::{self, Weights, config};
use crate::{Graph, WeightId, WeightView, archs};
use std::borrow::Cow;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;

/// The model's matrices, encoded again.
struct Encoded<'a> {
    model: &'a Model,
    encoding: EncodingRef,
}

impl WeightSource for Encoded<'_> {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let weight = self.model.weight(id);
        let encoding = self.encoding(id);
        if encoding == weight.encoding {
            return weight;
        }
        let mut bytes = vec![0; weight.rows * encoding.row_bytes(weight.cols)];
        encoding.encode(&weight.to_f32(), None, &mut bytes);
        WeightView { encoding, bytes: Cow::Owned(bytes), ..weight }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        let decl = self.model.graph.decl(id);
        let fits = decl.role.is_matrix() && self.encoding.fits(decl.matrix().1);
        if fits { self.encoding } else { self.model.encoding(id) }
    }
}

fn model(dir: &Path) -> Model {
    let arch = archs::by_name("llama").unwrap();
    let config = config("llama");
    let graph: Graph = arch.graph(&config).unwrap();
    testing::gguf(dir, arch, &config, &Weights::random(&graph, 3))
}

fn plan_of(model: &Model, source: &dyn WeightSource) -> Plan {
    let changed = |id: &WeightId| source.encoding(*id) != model.encoding(*id);
    let name =
        |id: WeightId| (model.graph.decl(id).name.clone(), source.encoding(id).name().to_owned());
    Plan {
        encodings: model.graph.weight_ids().filter(changed).map(name).collect(),
        ..Plan::unchanged(Source::of(model))
    }
}

#[test]
fn same_plan_and_source_are_the_same_bytes_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let encoded = Encoded { model: &model, encoding: by_name("Q8_0").unwrap() };
    let plan = plan_of(&model, &encoded);
    assert!(plan.encodings.len() > 4);
    let paths = ["a.gguf", "b.gguf"].map(|name| dir.path().join(name));
    for path in &paths {
        let mut last = (0, 1);
        Artifact::write(path, &model, &encoded, &plan, "{\"x\": 1}", &mut |done, all| {
            last = (done, all);
        })
        .unwrap();
        assert_eq!(last.0, last.1);
    }
    let bytes = |path| std::fs::read(path).unwrap();
    assert!(bytes(&paths[0]) == bytes(&paths[1]));
    let artifact = Artifact::open(&paths[0]).unwrap();
    assert_eq!(artifact.plan, plan);
    assert_eq!(artifact.evidence["x"], 1);
    assert_eq!(artifact.model.config, model.config);
    assert_eq!(artifact.model.metadata.u64("general.file_type"), Some(7));
    artifact.verify_content().unwrap();
    assert_eq!(artifact.content_hash, content_hash(&model.graph, &encoded));
    assert_ne!(artifact.content_hash, plan.source.content);
}

#[test]
fn weights_that_are_not_the_plans_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let encoded = Encoded { model: &model, encoding: by_name("Q8_0").unwrap() };
    let path = dir.path().join("a.gguf");
    let write = |plan: &Plan, evidence| {
        let result = Artifact::write(&path, &model, &encoded, plan, evidence, &mut |_, _| {});
        assert!(!path.exists());
        result.unwrap_err().to_string()
    };
    let mut plan = Plan::unchanged(Source::of(&model));
    assert!(write(&plan, "{}").contains("tensor token_embd.weight is Q8_0, the Plan says F32"));
    plan.encodings.insert("token_embd.wait".into(), "Q8_0".into());
    assert!(write(&plan, "{}").contains("did you mean \"token_embd.weight\"?"));
    assert!(write(&plan_of(&model, &encoded), "{").contains("no JSON"));
}

#[test]
fn damage_is_found_and_a_plain_model_is_no_artifact() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let path = dir.path().join("a.gguf");
    let plan = Plan::unchanged(Source::of(&model));
    Artifact::write(&path, &model, &model, &plan, "{}", &mut |_, _| {}).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Artifact::open(&path).unwrap().verify_content().unwrap_err().to_string();
    assert!(error.contains("the file is damaged, copy it again"), "{error}");
    let error = Artifact::from_model(model).unwrap_err().to_string();
    assert!(error.contains("sterna.plan is missing, so this is no artifact"), "{error}");
}
