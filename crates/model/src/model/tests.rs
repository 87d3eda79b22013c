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
    crate::write_gguf(&file, &model, &model, &Metadata::default(), &mut |_, _| {}).unwrap();
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
        let mut weights = Weights::random(&graph, 7);
        if let (Some(id), Some(llama3)) = (graph.find_weight("rope_freqs.weight"), config.llama3) {
            weights.values[id.0] = llama3.factors(config.rope_base, config.rotary_dim);
        }
        let dir = tempfile::tempdir().unwrap();
        let gguf = testing::gguf(dir.path(), arch, &config, &weights);
        let hf = testing::huggingface(&dir.path().join("hf"), arch, &config, &weights);
        let hf = Model::open(&hf).unwrap();
        assert_eq!(hf.config, config, "{variant}");
        assert_eq!(gguf.config, Config { llama3: None, ..config.clone() }, "{variant}");
        let want = eval_graph(&graph, &weights, &tokens).unwrap();
        let logits = |m: &Model| eval_graph(&m.graph, m, &tokens).unwrap();
        assert_eq!(logits(&gguf), want, "{variant} as GGUF");
        assert_eq!(logits(&hf), want, "{variant} as a Hugging Face directory");
        // Written again, the directory is that GGUF file.
        let file = dir.path().join("again.gguf");
        crate::write_gguf(&file, &hf, &hf, &Metadata::default(), &mut |_, _| {}).unwrap();
        let again = Model::open(&file).unwrap();
        assert_eq!(again.config, gguf.config, "{variant} written again");
        assert_eq!(logits(&again), want, "{variant} written again");
    }
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
    crate::write_gguf(&file, &model, &model, &Metadata::default(), &mut |_, _| {}).unwrap();
    let again = Model::open(&file).unwrap();
    let tokens = |m: &Model| m.tokenizer().unwrap().encode("a tern", true);
    assert_eq!(tokens(&again), tokens(&model));
    assert_eq!(again.tokenizer().unwrap().vocab_len(), model.config.vocab_len);
}
