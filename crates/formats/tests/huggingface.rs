//! Hugging Face directories and safetensors, single and sharded.

mod common;

use common::*;
use sterna_formats::{Checkpoint, OpenOptions, Stored};

#[test]
fn a_single_file_keeps_types_that_are_no_weights_raw() {
    let (_dir, dir) = directory(&[("m.safetensors", good_safetensors())]);
    let c = Checkpoint::open(&dir.join("m.safetensors")).unwrap();
    assert_eq!(c.container, "safetensors");
    let names: Vec<&str> = c.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a.weight", "b.weight", "c.ids"]);
    assert_eq!(c.tensor("a.weight").unwrap().shape, [2, 3]);
    assert_eq!(c.tensor("b.weight").unwrap().stored.to_string(), "BF16");
    let ids = c.tensor("c.ids").unwrap();
    assert_eq!(ids.stored, Stored::Other("I64"));
    assert_eq!(c.bytes(ids).len(), 16);
    let error = c.encoding(ids).unwrap_err().to_string();
    assert!(error.contains("tensor c.ids is stored as I64"), "{error}");
    assert_eq!(c.side_json["m.safetensors:__metadata__"]["format"], "pt");
}

#[test]
fn a_directory_joins_shards_config_and_side_files() {
    let shard = |name: &str, start: u8| {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#);
        let mut bytes = safetensors(&header, 8);
        let at = bytes.len() - 8;
        bytes[at] = start;
        bytes
    };
    let index = br#"{"metadata":{"total_size":16},"weight_map":{
        "x.weight":"model-00001-of-00002.safetensors",
        "y.weight":"model-00002-of-00002.safetensors"}}"#;
    let (_dir, dir) = directory(&[
        ("config.json", b"{\"model_type\":\"llama\",\"hidden_size\":2}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("generation_config.json", b"{\"eos_token_id\":2}".to_vec()),
        ("model.safetensors.index.json", index.to_vec()),
        ("model-00001-of-00002.safetensors", shard("x.weight", 5)),
        ("model-00002-of-00002.safetensors", shard("y.weight", 6)),
        // Another copy of the weights, which the index does not name.
        ("consolidated.safetensors", shard("x.weight", 7)),
    ]);
    let c = Checkpoint::open(&dir).unwrap();
    assert_eq!(c.container, "huggingface");
    assert_eq!(c.config.as_ref().unwrap()["hidden_size"], 2);
    assert_eq!(c.side_json["generation_config.json"]["eos_token_id"], 2);
    assert_eq!(c.tokenizer_json, Some(dir.join("tokenizer.json")));
    assert_eq!((c.tensors.len(), c.files().len()), (2, 2));
    assert_eq!(c.bytes(c.tensor("x.weight").unwrap())[0], 5);
    assert_eq!(c.bytes(c.tensor("y.weight").unwrap())[0], 6);

    let from_index = Checkpoint::open(&dir.join("model.safetensors.index.json")).unwrap();
    assert_eq!((from_index.tensors.len(), from_index.config), (2, None));
}

#[test]
fn a_tokenizer_can_be_given_where_it_is_a_file_of_its_own() {
    let (_dir, dir) = directory(&[
        ("m.gguf", RawGguf::good().bytes()),
        ("m.bin", llama2c(LLAMA2C, LLAMA2C_WEIGHTS)),
        ("elsewhere", llama2c_tokenizer()),
    ]);
    let options = OpenOptions { tokenizer: Some(dir.join("elsewhere")) };
    let c = Checkpoint::open_with(&dir.join("m.bin"), &options).unwrap();
    assert_eq!(c.metadata.str("tokenizer.ggml.model"), Some("llama"));
    let without = Checkpoint::open(&dir.join("m.bin")).unwrap();
    assert!(without.metadata.str("tokenizer.ggml.model").is_none());
    let error = Checkpoint::open_with(&dir.join("m.gguf"), &options).unwrap_err().to_string();
    assert!(error.contains("carries its own tokenizer"), "{error}");
}

#[test]
fn a_summary_counts_values_and_bytes_by_encoding() {
    let (_dir, dir) = directory(&[("m.gguf", RawGguf::good().bytes())]);
    let summary = Checkpoint::open(&dir.join("m.gguf")).unwrap().summary();
    assert_eq!(summary.total.n_tensors, 3);
    assert_eq!((summary.total.n_values, summary.total.n_bytes), (16 + 32 + 64, 64 + 64 + 68));
    let shares: Vec<_> = summary.shares.iter().map(|(s, x)| (s.to_string(), x.n_bytes)).collect();
    assert_eq!(shares, [("Q8_0".into(), 68), ("F32".into(), 64), ("F16".into(), 64)]);
    assert_eq!(summary.shares[0].1.bits(), Some(8.5));
    assert_eq!(summary.n_file_bytes, RawGguf::good().bytes().len() as u64);
}
