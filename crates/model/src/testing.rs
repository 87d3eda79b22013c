//! For tests: tiny models of every architecture with seeded weights, as a source, as a GGUF file
//! and as a Hugging Face directory.

use crate::archs::Arch;
use crate::ops::{Llama3Scaling, RopeLayout};
use crate::{Config, Graph, Model, Role, WeightId, WeightSource, WeightView};
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use sterna_formats::encodings::float32::F32;
use sterna_formats::{EncodingRef, GgufWriter, Metadata, TensorDecl};

/// Seeded numbers in -1..1 (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// F32 weights in memory.
#[derive(Clone)]
pub struct Weights {
    shapes: Vec<(usize, usize)>,
    pub values: Vec<Vec<f32>>,
}

impl Weights {
    pub fn random(graph: &Graph, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut make = |decl: &crate::WeightDecl| -> Vec<f32> {
            let n = decl.shape.iter().product();
            let scale = match decl.role {
                Role::Norm | Role::RopeFactors | Role::Bias => 0.5,
                _ => 1.5 / (decl.shape[1] as f32).sqrt(),
            };
            let center =
                if matches!(decl.role, Role::Norm | Role::RopeFactors) { 1.0 } else { 0.0 };
            (0..n).map(|_| center + random.unit() * scale).collect()
        };
        let values = graph.weights.iter().map(&mut make).collect();
        Self { shapes: graph.weights.iter().map(|w| w.matrix()).collect(), values }
    }

    /// What a BitNet graph computes with when trained to these.
    pub fn ternarized(&self, graph: &Graph) -> Self {
        let mut weights = self.clone();
        for id in graph.bit_matrices() {
            sterna_formats::ternarize(&mut weights.values[id.0]);
        }
        weights
    }

    fn bytes(&self, id: WeightId) -> Vec<u8> {
        self.values[id.0].iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

impl WeightSource for Weights {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (rows, cols) = self.shapes[id.0];
        WeightView { encoding: &F32, rows, cols, bytes: Cow::Owned(self.bytes(id)) }
    }

    fn encoding(&self, _id: WeightId) -> EncodingRef {
        &F32
    }
}

/// A tiny config of each architecture, each with what is special of it.
pub fn config(arch: &str) -> Config {
    let base = Config {
        n_layers: 2,
        dim: 32,
        ffn_dim: 48,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        vocab_len: 40,
        context_len: 64,
        norm_eps: 1e-5,
        rope_layout: RopeLayout::Half,
        rotary_dim: 8,
        rope_base: 10_000.0,
        rope_scale: 1.0,
        rope_factors: false,
        llama3: None,
        window: None,
        tied: false,
        biases: Default::default(),
        qk_norm: false,
    };
    let qkv = [Role::AttentionQuery, Role::AttentionKey, Role::AttentionValue];
    match arch {
        "llama" => Config { rope_layout: RopeLayout::Interleaved, ..base },
        "llama3" => Config {
            rope_factors: true,
            llama3: Some(Llama3Scaling {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 256.0,
            }),
            biases: crate::archs::llama::ATTENTION_MATRICES.iter().copied().collect(),
            ..config("llama")
        },
        "mistral" => Config { window: Some(5), ..config("llama") },
        "qwen2" => Config { tied: true, biases: qkv.into(), rope_scale: 2.0, ..base },
        "qwen3" => Config { qk_norm: true, head_dim: 16, rotary_dim: 16, ..base },
        "bitnet-b1.58" => Config { tied: true, ..base },
        "bitnet" => base,
        "bitnet-gpt" => {
            Config { rotary_dim: 0, biases: crate::archs::bitnet_gpt::biases(), ..base }
        }
        "bert" => {
            Config { rotary_dim: 0, n_kv_heads: 4, biases: crate::archs::bert::biases(), ..base }
        }
        other => unreachable!("{other}"),
    }
}

/// The variants of [`config`], and the architecture of each.
pub const VARIANTS: &[(&str, &str)] = &[
    ("llama", "llama"),
    ("llama3", "llama"),
    ("mistral", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
    ("bitnet-b1.58", "bitnet-b1.58"),
    ("bitnet", "bitnet"),
    ("bitnet-gpt", "bitnet-gpt"),
    ("bert", "bert"),
];

/// Writes and opens a GGUF file of these weights.
pub fn gguf(dir: &Path, arch: &dyn Arch, config: &Config, weights: &Weights) -> Model {
    let path = dir.join("model.gguf");
    write_gguf(&path, &arch.metadata(config), &arch.graph(config).unwrap(), weights);
    Model::open(&path).unwrap()
}

/// Writes any graph's weights under any metadata, sound or not.
pub fn write_gguf(path: &Path, metadata: &Metadata, graph: &Graph, weights: &Weights) {
    let decl = |w: &crate::WeightDecl| TensorDecl {
        name: w.name.clone(),
        shape: w.shape.clone(),
        encoding: &F32,
    };
    let decls = graph.weights.iter().map(decl).collect();
    let mut writer = GgufWriter::create(path, metadata, decls).unwrap();
    graph.weight_ids().for_each(|id| writer.write_tensor(&weights.bytes(id)).unwrap());
    writer.finish().unwrap();
}

/// Writes a Hugging Face directory of these GGUF-ordered weights: where the architecture permutes,
/// rows are put back in half-a-head order. RoPE factors are left to `config.json`.
pub fn huggingface(dir: &Path, arch: &dyn Arch, config: &Config, weights: &Weights) -> PathBuf {
    let graph = arch.graph(config).unwrap();
    let ids = graph.weight_ids().filter(|&id| graph.decl(id).role != Role::RopeFactors);
    let tensor = |id: WeightId| {
        let decl = graph.decl(id);
        let matrix = decl.name.replace(".bias", ".weight");
        let role = graph.decl(graph.find_weight(&matrix).unwrap()).role;
        let mut bytes = weights.bytes(id);
        if arch.is_permuted(role) {
            let row_bytes = bytes.len() / decl.shape[0];
            let rows: Vec<&[u8]> = bytes.chunks(row_bytes).collect();
            let half_order = |head: &[&[u8]]| {
                let even = head.iter().step_by(2);
                even.chain(head.iter().skip(1).step_by(2)).copied().collect::<Vec<_>>().concat()
            };
            bytes = rows.chunks(config.head_dim).flat_map(half_order).collect();
        }
        let name = arch.huggingface_name(&decl.name).unwrap();
        Tensor { name, dtype: "F32", shape: decl.shape.clone(), bytes }
    };
    write_safetensors(dir, ids.map(tensor).collect());
    std::fs::write(dir.join("config.json"), config_json(arch, config).to_string()).unwrap();
    dir.to_owned()
}

/// A tensor of a safetensors file.
pub struct Tensor {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Writes `model.safetensors` into a directory.
pub fn write_safetensors(dir: &Path, tensors: Vec<Tensor>) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for Tensor { name, dtype, shape, bytes } in tensors {
        let start = data.len();
        data.extend(bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("model.safetensors"), file).unwrap();
}

/// BitNet's packed release of these weights: ternary codes four to a byte and a scale beside each.
pub fn packed_bitnet(dir: &Path, arch: &dyn Arch, config: &Config, weights: &Weights) -> PathBuf {
    let graph = arch.graph(config).unwrap();
    let bit = graph.bit_matrices();
    let mut tensors = Vec::new();
    for id in graph.weight_ids() {
        let decl = graph.decl(id);
        let name = arch.huggingface_name(&decl.name).unwrap();
        if !bit.contains(&id) {
            let (shape, bytes) = (decl.shape.clone(), weights.bytes(id));
            tensors.push(Tensor { name, dtype: "F32", shape, bytes });
            continue;
        }
        let mut values = weights.values[id.0].clone();
        let scale = sterna_formats::ternarize(&mut values);
        let n_packed = values.len() / 4;
        let code = |at: usize| (values[at] / scale) as i8 + 1;
        let byte = |j: usize| (0..4).map(|i| (code(i * n_packed + j) << (2 * i)) as u8).sum();
        let shape = vec![decl.shape[0] / 4, decl.shape[1]];
        let bytes = (0..n_packed).map(byte).collect();
        let scale_bytes = scale.to_le_bytes().to_vec();
        let scale_name = format!("{name}_scale");
        tensors.push(Tensor { name, dtype: "U8", shape, bytes });
        let shape = vec![1];
        tensors.push(Tensor { name: scale_name, dtype: "F32", shape, bytes: scale_bytes });
    }
    write_safetensors(dir, tensors);
    let mut json = config_json(arch, config);
    json["quantization_config"] = json!({
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
    });
    std::fs::write(dir.join("config.json"), json.to_string()).unwrap();
    dir.to_owned()
}

/// bitnet.cpp's way to store 256 columns, for [`i2_s_gguf`]: codes of the whole matrix first, then
/// its scale, then zeros.
struct I2S;

impl sterna_formats::Encoding for I2S {
    fn name(&self) -> &'static str {
        "I2_S"
    }
    fn ggml_type(&self) -> u32 {
        36
    }
    fn block_len(&self) -> usize {
        256
    }
    fn block_bytes(&self) -> usize {
        96
    }
    fn decode(&self, _bytes: &[u8], _values: &mut [f32]) {
        unreachable!("it is only written");
    }
    fn encode(&self, values: &[f32], _importance: Option<&[f32]>, bytes: &mut [u8]) {
        let scale = values.iter().fold(0f32, |m, x| m.max(x.abs()));
        for (block, bytes) in values.chunks(128).zip(bytes.chunks_mut(32)) {
            for (j, value) in block.iter().enumerate() {
                let code = (value / scale) as i8 + 1;
                bytes[j % 32] |= (code as u8) << (6 - 2 * (j / 32));
            }
        }
        bytes[values.len() / 4..][..4].copy_from_slice(&scale.to_le_bytes());
    }
}

/// A GGUF file of a BitNet whose matrices all have 256 columns, as bitnet.cpp writes it.
pub fn i2_s_gguf(path: &Path, arch: &dyn Arch, config: &Config, weights: &Weights) {
    let graph = arch.graph(config).unwrap();
    let bit = graph.bit_matrices();
    let encoding = |id: &WeightId| -> EncodingRef { if bit.contains(id) { &I2S } else { &F32 } };
    let decl = |id: WeightId| {
        let decl = graph.decl(id);
        TensorDecl { name: decl.name.clone(), shape: decl.shape.clone(), encoding: encoding(&id) }
    };
    let decls = graph.weight_ids().map(decl).collect();
    let mut writer = GgufWriter::create(path, &arch.metadata(config), decls).unwrap();
    for id in graph.weight_ids() {
        if !bit.contains(&id) {
            writer.write_tensor(&weights.bytes(id)).unwrap();
            continue;
        }
        let values = &weights.values[id.0];
        let mut bytes = vec![0; values.len() / 256 * 96];
        sterna_formats::Encoding::encode(&I2S, values, None, &mut bytes);
        writer.write_tensor(&bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// A `config.json`.
pub fn config_json(arch: &dyn Arch, config: &Config) -> Json {
    let class = arch.classes()[usize::from(config.window.is_some())];
    let mut json = json!({
        "architectures": [class],
        "hidden_size": config.dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_len,
        "max_position_embeddings": config.context_len,
        "rms_norm_eps": 1e-5,
        "layer_norm_eps": 1e-5,
        "rope_theta": config.rope_base,
        "hidden_act": match arch.name() {
            "bitnet-b1.58" => "relu2",
            "bert" => "gelu",
            _ => "silu",
        },
        "tie_word_embeddings": config.tied,
        "sliding_window": config.window,
        "attention_bias": config.biases.contains(&Role::AttentionOutput),
    });
    if let Some(llama3) = config.llama3 {
        json["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": llama3.factor,
            "low_freq_factor": llama3.low_freq_factor,
            "high_freq_factor": llama3.high_freq_factor,
            "original_max_position_embeddings": llama3.original_context,
        });
    } else if config.rope_scale != 1.0 {
        json["rope_scaling"] = json!({"type": "linear", "factor": config.rope_scale});
    }
    json
}
