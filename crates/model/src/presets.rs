//! Presets: models to train, by name.
//!
//! In: a name. Out: an architecture and the numbers of its config. How many parameters that makes
//! is asked of the graph, never written down here.

use crate::archs::{self, Arch, bitnet_gpt};
use crate::ops::RopeLayout;
use crate::plan::nearest;
use crate::{Config, Graph};
use std::collections::BTreeSet;

/// A model to train.
pub struct Preset {
    /// Its name in configs and on the command line.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub about: &'static str,
    /// Its architecture, as GGUF names it.
    pub arch: &'static str,
    config: fn() -> Config,
}

/// Every preset, by family, the smallest first.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "llama-1m",
        about: "A Llama of two layers, to try things in a minute.",
        arch: "llama",
        config: || Config { rope_layout: RopeLayout::Interleaved, ..two_layers() },
    },
    Preset {
        name: "llama-4m",
        about: "The shape of the model that Sterna carries with it.",
        arch: "llama",
        config: || Config { rope_layout: RopeLayout::Interleaved, ..five_layers() },
    },
    Preset {
        name: "bitnet-1m",
        about: "llama-1m as BitNet b1.58: ternary layers, sub-norms, squared ReLU.",
        arch: "bitnet-b1.58",
        config: two_layers,
    },
    Preset {
        name: "bitnet-4m",
        about: "llama-4m as BitNet b1.58: ternary layers, sub-norms, squared ReLU.",
        arch: "bitnet-b1.58",
        config: five_layers,
    },
    Preset {
        name: "bitnet-2b4t",
        about: "Microsoft's BitNet b1.58 2B4T.",
        arch: "bitnet-b1.58",
        config: || Config {
            n_layers: 30,
            ffn_dim: 6912,
            n_kv_heads: 5,
            vocab_len: 128_256,
            context_len: 4096,
            rope_base: 500_000.0,
            ..decoder(2560, 20)
        },
    },
    Preset {
        name: "bitnet-tiny",
        about: "A GPT of BitLinears: 6 layers of 256 features.",
        arch: "bitnet-gpt",
        config: || gpt(256, 4, 6),
    },
    Preset {
        name: "bitnet-small",
        about: "A GPT of BitLinears: 8 layers of 512 features.",
        arch: "bitnet-gpt",
        config: || gpt(512, 8, 8),
    },
    Preset {
        name: "bitnet-base",
        about: "A GPT of BitLinears: 12 layers of 768 features.",
        arch: "bitnet-gpt",
        config: || gpt(768, 12, 12),
    },
    Preset {
        name: "bitnet-large",
        about: "A GPT of BitLinears: 16 layers of 1024 features.",
        arch: "bitnet-gpt",
        config: || gpt(1024, 16, 16),
    },
    Preset {
        name: "bitnet-xlarge",
        about: "A GPT of BitLinears: 24 layers of 1536 features.",
        arch: "bitnet-gpt",
        config: || gpt(1536, 24, 24),
    },
];

impl Preset {
    /// Its hyper-parameters.
    pub fn config(&self) -> Config {
        (self.config)()
    }

    /// Its architecture.
    pub fn architecture(&self) -> &'static dyn Arch {
        archs::by_name(self.arch).expect("presets are of known architectures")
    }

    /// Its graph.
    pub fn graph(&self) -> Graph {
        self.architecture().graph(&self.config()).expect("presets fit their architectures")
    }
}

/// The preset of that name.
///
/// # Errors
/// A sentence with the nearest name, or all of them.
pub fn by_name(name: &str) -> Result<&'static Preset, String> {
    let names = || PRESETS.iter().map(|preset| preset.name);
    PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
        let fix = match nearest(name, names()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        format!("there is no preset \"{}\"; {fix}", name.escape_debug())
    })
}

/// A Llama-like decoder without its depth and vocabulary.
fn decoder(dim: usize, n_heads: usize) -> Config {
    Config {
        n_layers: 1,
        dim,
        ffn_dim: 4 * dim,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: dim / n_heads,
        vocab_len: 2048,
        context_len: 512,
        norm_eps: 1e-5,
        rope_layout: RopeLayout::Half,
        rotary_dim: dim / n_heads,
        rope_base: 10_000.0,
        rope_scale: 1.0,
        rope_factors: false,
        llama3: None,
        window: None,
        tied: true,
        biases: BTreeSet::new(),
        qk_norm: false,
    }
}

fn two_layers() -> Config {
    Config { n_layers: 2, ffn_dim: 512, ..decoder(256, 4) }
}

fn five_layers() -> Config {
    Config { n_layers: 5, ffn_dim: 768, ..decoder(256, 4) }
}

fn gpt(dim: usize, n_heads: usize, n_layers: usize) -> Config {
    Config {
        n_layers,
        vocab_len: 50_257,
        context_len: 2048,
        rotary_dim: 0,
        tied: false,
        biases: bitnet_gpt::biases(),
        ..decoder(dim, n_heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Role, WeightId, WeightSource, WeightView};
    use expect_test::expect;
    use sterna_formats::EncodingRef;
    use sterna_formats::encodings::by_name;

    // The five GPTs have the counts of their published table, the others of their shapes.
    #[test]
    fn parameters_and_quantized_parameters() {
        let mut text = String::new();
        for preset in PRESETS {
            let graph = preset.graph();
            let (all, bit) = (graph.n_parameters(), graph.n_bit_parameters());
            text += &format!("{} {} {all} {bit}\n", preset.name, preset.arch);
        }
        expect![[r#"
            llama-1m llama 1836288 0
            llama-4m llama 4786944 0
            bitnet-1m bitnet-b1.58 1837824 1310720
            bitnet-4m bitnet-b1.58 4792064 4259840
            bitnet-2b4t bitnet-b1.58 2412820480 2084044800
            bitnet-tiny bitnet-gpt 30988800 17584384
            bitnet-small bitnet-gpt 77715456 50897408
            bitnet-base bitnet-gpt 163786752 123532032
            bitnet-large bitnet-gpt 306499584 252789760
            bitnet-xlarge bitnet-gpt 837347328 756672000
        "#]]
        .assert_eq(&text);
    }

    /// Encodings without weights: layers in one, tables in another, vectors in F32.
    struct Encoded(Graph, EncodingRef, EncodingRef);

    impl WeightSource for Encoded {
        fn weight(&self, _id: WeightId) -> WeightView<'_> {
            unreachable!("sizes ask for encodings only")
        }

        fn encoding(&self, id: WeightId) -> EncodingRef {
            match self.0.decl(id).role {
                Role::TokenEmbedding | Role::PositionEmbedding => self.2,
                role if role.is_matrix() => self.1,
                _ => by_name("F32").unwrap(),
            }
        }
    }

    // proves B-2 (sizes): bytes of bitnet-base in f32 over its bytes packed. First without scales,
    // as the published table counts, then as files have it.
    #[test]
    fn packed_sizes_of_the_base_gpt() {
        let graph = super::by_name("bitnet-base").unwrap().graph();
        let parameters = graph.n_parameters() as f64;
        let bit = graph.n_bit_parameters() as f64;
        let tables = ((50_257 + 2048) * 768) as f64;
        let table = [
            ("Q1_0", 1.0, [3.71, 6.82, 11.7]),
            ("TQ1_0", 1.6, [3.53, 6.22, 10.05]),
            ("TQ2_0", 2.0, [3.41, 5.87, 9.18]),
        ];
        let mut text = String::new();
        for (layers, bits, published) in table {
            text += layers;
            for ((tables_in, table_bits), want) in
                [("F32", 32.0), ("F16", 16.0), ("Q8_0", 8.0)].into_iter().zip(published)
            {
                let rest = parameters - bit - tables;
                let packed = bit * bits + tables * table_bits + rest * 32.0;
                let ratio = parameters * 32.0 / packed;
                assert!((ratio - want).abs() < 0.05, "{layers} {tables_in}: {ratio}");
                let encoded = [layers, tables_in].map(|name| by_name(name).unwrap());
                let source = Encoded(graph.clone(), encoded[0], encoded[1]);
                let bytes = graph.memory(&source).total() as f64;
                text += &format!(" {tables_in} {:.2}", parameters * 4.0 / bytes);
            }
            text += "\n";
        }
        expect![[r#"
            Q1_0 F32 3.67 F16 6.68 Q8_0 10.85
            TQ1_0 F32 3.50 F16 6.14 Q8_0 9.48
            TQ2_0 F32 3.40 F16 5.82 Q8_0 8.75
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn an_unknown_name_earns_the_nearest() {
        let error = |name: &str| super::by_name(name).err().unwrap();
        assert_eq!(
            error("bitnet-tinny"),
            "there is no preset \"bitnet-tinny\"; did you mean bitnet-tiny?"
        );
        assert!(error("gpt-5-turbo-max").contains("there are llama-1m, llama-4m"));
        assert_eq!(super::by_name("bitnet-2b4t").unwrap().config().dim, 2560);
    }
}
