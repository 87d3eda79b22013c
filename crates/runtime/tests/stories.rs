//! The trained model of the shared data, greedily: the story it is known to tell.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use sterna_model::Model;
use sterna_runtime::{
    Chunk, KvEncoding, Logits, Program, Runner, Sampler, SamplerSettings, Settings,
};

/// `shared/data`, by `STERNA_DATA` or above this crate.
fn data() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("STERNA_DATA") {
        return Some(folder.into());
    }
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    above.map(|folder| folder.join("shared/data")).find(|folder| folder.is_dir())
}

#[test]
fn stories260k_tells_its_story() {
    let path = data().map(|folder| folder.join("tinyllamas/stories260K.bin"));
    let Some(path) = path.filter(|path| path.exists()) else {
        println!("skipped: there is no shared/data with tinyllamas; set STERNA_DATA to it");
        return;
    };
    let model = Model::open(&path).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    for kv in [KvEncoding::F16, KvEncoding::F32] {
        let context_len = model.config.context_len;
        let settings = Settings { context_len, kv, ..Settings::default() };
        let program = Program::compile(&model.graph, &model, &settings, None).unwrap();
        let mut runner = Runner::new(Arc::new(program)).unwrap();
        let mut sampler = Sampler::new(SamplerSettings::greedy());
        let sequence = runner.new_sequence();
        let mut tokens = tokenizer.encode("Once upon a time", true);
        let mut done = 0;
        while tokens.len() < 60 {
            let chunk = Chunk { sequence, tokens: &tokens[done..], logits: Logits::Last };
            done = tokens.len();
            let next = sampler.sample(runner.forward(&[chunk]).unwrap(), &tokens).unwrap();
            tokens.push(next);
        }
        let story = tokenizer.decode(&tokens);
        let known = "Once upon a time, there was a little girl named Lily";
        assert!(story.trim_start().starts_with(known), "{story}");
    }
}
