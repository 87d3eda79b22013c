//! Small seeded models for tests.

use crate::engine::{Engine, Loaded, See};
use crate::error::{OptimizeError, Result};
use crate::footprint::{Footprint, RunAs};
use crate::runner::{RuntimeEngine, kv_encoding};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::borrow::Cow;
use std::path::Path;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;
use sterna_measure::LanguageModel;
use sterna_model::archs::{self, Arch};
use sterna_model::config::Config;
use sterna_model::ops::RopeLayout;
use sterna_model::{Graph, Model, WeightDecl, WeightId, WeightSource, WeightView};
use sterna_runtime::{Program, Settings};

/// A Llama of random weights in F32: dim 32, hidden 60 (which fits no block), two layers, 48
/// tokens.
pub struct Tiny {
    pub arch: &'static dyn Arch,
    pub config: Config,
    pub graph: Graph,
    pub weights: Vec<Vec<u8>>,
}

fn config(n_layers: usize, dim: usize, ffn_dim: usize, heads: (usize, usize)) -> Config {
    Config {
        n_layers,
        dim,
        ffn_dim,
        n_heads: heads.0,
        n_kv_heads: heads.1,
        head_dim: dim / heads.0,
        vocab_len: 48,
        context_len: 64,
        norm_eps: 1e-5,
        rope_layout: RopeLayout::Interleaved,
        rotary_dim: dim / heads.0,
        rope_base: 10_000.0,
        rope_scale: 1.0,
        rope_factors: false,
        llama3: None,
        window: None,
        tied: true,
        biases: Default::default(),
        qk_norm: false,
    }
}

/// A Llama's graph whose rows fit every encoding, with a head of its own.
pub fn llama_graph(n_layers: usize, n_heads: usize, n_kv_heads: usize) -> Graph {
    let config = config(n_layers, 256, 512, (n_heads, n_kv_heads));
    archs::by_name("llama").unwrap().graph(&Config { tied: false, ..config }).unwrap()
}

pub fn tiny_model(seed: u64) -> Tiny {
    tiny_model_of("llama", seed)
}

/// The same numbers in another architecture.
pub fn tiny_model_of(arch: &str, seed: u64) -> Tiny {
    let arch = archs::by_name(arch).unwrap();
    let config = config(2, 32, 60, (4, 2));
    let graph = arch.graph(&config).unwrap();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut weight = |decl: &WeightDecl| {
        let (rows, cols) = decl.matrix();
        let scale = if decl.role.is_matrix() { 2.0 / (cols as f32).sqrt() } else { 0.1 };
        let center = if decl.role.is_matrix() { 0.0 } else { 1.0 };
        let value = |_| center + scale * (rng.random_range(-1.0..1.0f32));
        (0..rows * cols).map(value).flat_map(f32::to_le_bytes).collect()
    };
    let weights = graph.weights.iter().map(&mut weight).collect();
    Tiny { arch, config, graph, weights }
}

impl WeightSource for Tiny {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (rows, cols) = self.graph.decl(id).matrix();
        let bytes = Cow::Borrowed(self.weights[id.0].as_slice());
        WeightView { encoding: self.encoding(id), rows, cols, bytes }
    }

    fn encoding(&self, _id: WeightId) -> EncodingRef {
        by_name("F32").unwrap()
    }
}

/// The real engine with a planted optimization, `sleepy`, that makes every run 5 ms longer.
pub struct Sleepy {
    pub engine: RuntimeEngine,
    pub is_on: bool,
}

/// A model run by it.
struct Slowed(Box<dyn Loaded>);

impl Engine for Sleepy {
    fn load(&self, graph: &Graph, weights: &dyn WeightSource) -> Result<Box<dyn Loaded>> {
        let loaded = self.engine.load(graph, weights)?;
        Ok(if self.is_on { Box::new(Slowed(loaded)) } else { loaded })
    }

    fn observe(
        &self,
        graph: &Graph,
        weights: &dyn WeightSource,
        documents: &[&[u32]],
        see: See<'_>,
        told: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        self.engine.observe(graph, weights, documents, see, told)
    }

    fn optimizations(&self) -> Vec<String> {
        let own = self.engine.optimizations();
        own.into_iter().chain(self.is_on.then(|| "sleepy".to_owned())).collect()
    }

    fn without(&self, names: &[String]) -> Result<Box<dyn Engine>> {
        let (mine, others): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| name == "sleepy");
        let engine = self.engine.less(&others)?;
        Ok(Box::new(Sleepy { engine, is_on: self.is_on && mine.is_empty() }))
    }

    fn kv(&self) -> String {
        self.engine.kv()
    }

    fn with_kv(&self, kv: &str) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Sleepy { engine: self.engine.keeping(kv)?, ..*self }))
    }

    fn context_len(&self) -> usize {
        self.engine.context_len()
    }

    fn n_threads(&self) -> usize {
        self.engine.n_threads()
    }

    fn choices(&self) -> String {
        self.engine.choices()
    }

    fn isa(&self) -> String {
        self.engine.isa()
    }
}

impl LanguageModel for Slowed {
    fn vocab_len(&self) -> usize {
        self.0.vocab_len()
    }

    fn context_len(&self) -> usize {
        self.0.context_len()
    }

    fn score(
        &mut self,
        tokens: &[u32],
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> std::result::Result<(), String> {
        self.0.score(tokens, sink)
    }
}

impl Loaded for Slowed {
    fn generate(
        &mut self,
        prompt: &[u32],
        n: usize,
        on_token: &mut dyn FnMut(),
    ) -> std::result::Result<(), String> {
        std::thread::sleep(std::time::Duration::from_millis(5));
        self.0.generate(prompt, n, on_token)
    }
}

/// Memory as the runtime plans it, where every process takes a megabyte more.
pub struct Ideal(pub Settings);

impl Ideal {
    pub const MORE: u64 = 1_000_000;
}

impl Footprint for Ideal {
    fn workload(&self) -> String {
        "is planned".into()
    }

    fn planned(&self, graph: &Graph, weights: &dyn WeightSource, how: &RunAs) -> Result<u64> {
        let settings = Settings { kv: kv_encoding(&how.kv)?, ..self.0.clone() };
        let memory = Program::memory_of(graph, weights, &settings);
        Ok(memory.map_err(|error| OptimizeError::Input(error.to_string()))?.total() as u64)
    }

    fn measured(&self, model: &Path, how: &RunAs) -> std::result::Result<u64, String> {
        let model = Model::open(model).map_err(|error| error.to_string())?;
        let planned = self.planned(&model.graph, &model, how).map_err(|error| error.to_string())?;
        Ok(planned + Self::MORE)
    }
}

/// A failure for tests of what happens then.
pub fn killed() -> OptimizeError {
    OptimizeError::failed("test", "killed")
}
