//! Opening real and hand-made models; writing them; the same weights in two containers.

use super::*;
use crate::eval_graph;
use crate::testing::{self, VARIANTS, Weights, config};
use std::path::PathBuf;

/// `shared/data`, or `None` with the reason printed.
fn data(path: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("STERNA_DATA") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|dir| dir.join("shared/data"))
            .find(|dir| dir.exists())
            .unwrap_or_default(),
    };
    let path = root.join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn stories260k_opens_continues_its_story_and_survives_gguf() {
    let Some(path) = data("tinyllamas/stories260K.bin") else { return };
    let model = Model::open(&path).unwrap();
    assert_eq!((model.arch.name(), model.config.n_layers, model.config.tied), ("llama", 5, true));
    assert_eq!(model.warnings, Vec::<String>::new());
    let tokenizer = model.tokenizer().unwrap();
    let mut tokens = tokenizer.encode("Once upon a time", true);
    for _ in 0..12 {
        let logits = eval_graph(&model.graph, &model, &tokens).unwrap();
        let last = &logits[logits.len() - model.config.vocab_len..];
        let best = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
        tokens.push(best as u32);
    }
    assert_eq!(
        tokenizer.decode(&tokens),
        "Once upon a time, there was a little girl named Lily. She"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stories.gguf");
    crate::write_gguf(&file, &model, &model.graph, &model, &mut |_, _| {}).unwrap();
    let again = Model::open(&file).unwrap();
    assert_eq!(again.config, model.config);
    let logits = |m: &Model| eval_graph(&m.graph, m, &tokens).unwrap();
    assert_eq!(logits(&again), logits(&model));
}

#[test]
fn the_same_weights_as_gguf_and_as_huggingface_give_the_same_logits() {
    let tokens = [3, 17, 5, 5, 39, 0, 21, 8, 30];
    for (variant, arch) in VARIANTS {
        let (arch, config) = (archs::by_name(arch).unwrap(), config(variant));
        let graph = arch.graph(&config).unwrap();
        let mut trained = Weights::random(&graph, 7);
        if let (Some(id), Some(llama3)) = (graph.find_weight("rope_freqs.weight"), config.llama3) {
            trained.values[id.0] = llama3.factors(config.rope_base, config.rotary_dim);
        }
        // GGUF files of BitNet hold ternary matrices, Hugging Face's those that were trained.
        let weights = trained.ternarized(&graph);
        let dir = tempfile::tempdir().unwrap();
        let gguf = testing::gguf(dir.path(), arch, &config, &weights);
        assert_eq!(gguf.config, Config { llama3: None, ..config.clone() }, "{variant}");
        assert_eq!(gguf.warnings, Vec::<String>::new());
        let want = eval_graph(&graph, &weights, &tokens).unwrap();
        let logits = |m: &Model| eval_graph(&m.graph, m, &tokens).unwrap();
        assert_eq!(logits(&gguf), want, "{variant} as GGUF");
        if arch.classes().is_empty() {
            continue;
        }
        let hf = testing::huggingface(&dir.path().join("hf"), arch, &config, &trained);
        let hf = Model::open(&hf).unwrap();
        assert_eq!(hf.config, config, "{variant}");
        assert_eq!(logits(&hf), want, "{variant} as a Hugging Face directory");
        // Written again, the directory is that GGUF file.
        let file = dir.path().join("again.gguf");
        crate::write_gguf(&file, &hf, &hf.graph, &hf, &mut |_, _| {}).unwrap();
        let again = Model::open(&file).unwrap();
        assert_eq!(again.config, gguf.config, "{variant} written again");
        assert_eq!(logits(&again), want, "{variant} written again");
    }
}

// proves B-2: the trained floats and the packed release of one BitNet model are the same ternary
// matrices, at 2 bits in memory as in a file.
#[test]
fn bitnet_opens_from_trained_floats_and_from_packed_codes() {
    let arch = archs::by_name("bitnet-b1.58").unwrap();
    let base = config("bitnet-b1.58");
    let config = Config { dim: 256, ffn_dim: 512, head_dim: 64, rotary_dim: 64, ..base };
    let graph = arch.graph(&config).unwrap();
    let trained = Weights::random(&graph, 3);
    let dir = tempfile::tempdir().unwrap();
    let online = testing::huggingface(&dir.path().join("online"), arch, &config, &trained);
    let offline = testing::packed_bitnet(&dir.path().join("offline"), arch, &config, &trained);
    let (online, offline) = (Model::open(&online).unwrap(), Model::open(&offline).unwrap());
    let want = trained.ternarized(&graph);
    let bit = graph.bit_matrices();
    assert_eq!(bit.len(), 7 * config.n_layers);
    for model in [&online, &offline] {
        assert!(model.warnings.iter().all(|w| w.contains("tokenizer")), "{:?}", model.warnings);
        for id in graph.weight_ids() {
            let name = &graph.decl(id).name;
            assert_eq!(model.weight(id).to_f32(), want.values[id.0], "{name}");
            let encoding = if bit.contains(&id) { "TQ2_0" } else { "F32" };
            assert_eq!(model.encoding(id).name(), encoding, "{name}");
        }
    }
    // A file of it holds 66 bytes for 256 weights.
    let file = dir.path().join("bitnet.gguf");
    crate::write_gguf(&file, &offline, &offline.graph, &offline, &mut |_, _| {}).unwrap();
    let again = Model::open(&file).unwrap();
    let packed: u64 = again.graph.n_bit_parameters() / 256 * 66;
    let rest = 4 * (again.graph.n_parameters() - again.graph.n_bit_parameters());
    assert_eq!(again.graph.memory(&again).total(), packed + rest);
    let logits = |m: &Model| eval_graph(&m.graph, m, &[1, 2, 3]).unwrap();
    assert_eq!(logits(&again), logits(&online));
}

#[test]
fn bitnet_opens_from_the_files_of_bitnet_cpp() {
    let arch = archs::by_name("bitnet-b1.58").unwrap();
    let base = config("bitnet-b1.58");
    let config = Config { dim: 256, ffn_dim: 256, head_dim: 64, rotary_dim: 64, ..base };
    let graph = arch.graph(&config).unwrap();
    let weights = Weights::random(&graph, 4).ternarized(&graph);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("i2_s.gguf");
    testing::i2_s_gguf(&path, arch, &config, &weights);
    let model = Model::open(&path).unwrap();
    assert_eq!((&model.config, &model.warnings), (&config, &Vec::new()));
    for id in graph.weight_ids() {
        assert_eq!(model.weight(id).to_f32(), weights.values[id.0], "{}", graph.decl(id).name);
    }
    assert_eq!(model.encoding(graph.bit_matrices()[0]).name(), "TQ2_0");
    let tensor = model.tensor(graph.bit_matrices()[0]).unwrap();
    let (start, n_codes) = (tensor.offset, tensor.n_values() / 4);
    let mut bytes = std::fs::read(&path).unwrap();
    drop(model);
    let refused = |bytes: &[u8], want: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = Model::open(&path).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    bytes[start + n_codes..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    refused(&bytes, "blk.0.attn_q.weight has the scale NaN");
    bytes[start + 5] = 0xff;
    refused(&bytes, "blk.0.attn_q.weight has a code above 2 in byte 5");
}

#[test]
fn a_damaged_packed_bitnet_is_refused() {
    let arch = archs::by_name("bitnet-b1.58").unwrap();
    let config = config("bitnet-b1.58");
    let trained = Weights::random(&arch.graph(&config).unwrap(), 3);
    let dir = tempfile::tempdir().unwrap();
    let path = testing::packed_bitnet(dir.path(), arch, &config, &trained);
    Model::open(&path).unwrap();
    let file = path.join("model.safetensors");
    let sound = std::fs::read(&file).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>), want: &str| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let error = Model::open(&path).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    let start = 8 + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8_lossy(&sound[8..start]).into_owned();
    let entry: serde_json::Value = serde_json::from_str(&text).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    let at = |name: &str| start + entry[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let (codes, scale) = (at(name), at(&format!("{name}_scale")));
    refused(&|bytes| bytes[codes] = 0b0000_1100, "has a code above 2 in byte 0");
    refused(&|bytes| bytes[scale..scale + 4].fill(0), "is 0, no scale in the range of f16");
}

#[test]
fn mutated_files_are_refused_or_opened_but_never_panic() {
    let (dir, arch) = (tempfile::tempdir().unwrap(), archs::by_name("qwen2").unwrap());
    let config = config("qwen2");
    let weights = Weights::random(&arch.graph(&config).unwrap(), 2);
    let model = testing::gguf(dir.path(), arch, &config, &weights);
    let bytes = std::fs::read(model.path()).unwrap();
    let header_len = bytes.len() - model.graph.memory(&model).total() as usize;
    let (mut n_opened, mut n_refused) = (0, 0);
    for seed in 0..400 {
        let mut random = testing::Random(seed);
        let mut bytes = bytes.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(header_len);
            bytes[at] = if random.below(2) == 0 { random.bits() as u8 } else { bytes[at] ^ 1 };
        }
        let path = dir.path().join(format!("{seed}.gguf"));
        std::fs::write(&path, bytes).unwrap();
        match Model::open(&path) {
            Ok(model) => {
                model.graph.weight_ids().for_each(|id| drop(model.weight(id).to_f32()));
                n_opened += 1;
            }
            Err(error) => {
                assert!(!error.to_string().contains('\n'), "seed {seed}: {error}");
                n_refused += 1;
            }
        }
        std::fs::remove_file(path).unwrap();
    }
    assert!(n_opened > 5 && n_refused > 200, "{n_opened} opened, {n_refused} refused");
}

#[test]
fn a_chat_template_and_a_tokenizer_come_along() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/numpy/qwen3");
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    }
    let settings = r#"{"chat_template": "{{ messages }}", "bos_token": "<s>"}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), settings).unwrap();
    let model = Model::open(dir.path()).unwrap();
    assert_eq!(model.metadata.str("tokenizer.chat_template"), Some("{{ messages }}"));
    let file = dir.path().join("m.gguf");
    crate::write_gguf(&file, &model, &model.graph, &model, &mut |_, _| {}).unwrap();
    let again = Model::open(&file).unwrap();
    let tokens = |m: &Model| m.tokenizer().unwrap().encode("a tern", true);
    assert_eq!(tokens(&again), tokens(&model));
    assert_eq!(again.tokenizer().unwrap().vocab_len(), model.config.vocab_len);
}

#[test]
fn a_sentence_encoders_folder_says_how_it_pools_and_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let arch = crate::archs::by_name("bert").unwrap();
    let config = config("bert");
    let weights = Weights::random(&arch.graph(&config).unwrap(), 3);
    let path = testing::huggingface(folder.path(), arch, &config, &weights);
    let pooled = |modes: &str| {
        std::fs::create_dir_all(path.join("1_Pooling")).unwrap();
        std::fs::write(path.join("1_Pooling/config.json"), modes).unwrap();
        Model::open(&path).unwrap().metadata.u64("bert.pooling_type")
    };
    assert_eq!(Model::open(&path).unwrap().metadata.u64("bert.pooling_type"), None);
    let modes = r#"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": false,
                    "include_prompt": true}"#;
    assert_eq!(pooled(modes), Some(2));
    assert_eq!(pooled(r#"{"pooling_mode_mean_tokens": true}"#), Some(1));
    assert_eq!(pooled(r#"{"pooling_mode_max_tokens": true}"#), Some(0), "it has no number");
    let modules = r#"[{"type": "sentence_transformers.models.Transformer"},
                      {"type": "sentence_transformers.models.Dense"}]"#;
    std::fs::write(path.join("modules.json"), modules).unwrap();
    let warnings = Model::open(&path).unwrap().warnings;
    assert!(warnings.iter().any(|w| w.contains("Dense, which is left out")), "{warnings:?}");
}
