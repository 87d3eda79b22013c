//! The mixes that users know by name: which roles and layers get other encodings than the base.
//!
//! The names and the choices are llama.cpp's for dense models of the Llama family, stated here as
//! rules over roles and layers, so that `Q4_K_M` means here what it means there. Experts, and the
//! types that Sterna cannot encode, are not covered.

use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;
use sterna_model::Role;

/// A named mix.
#[derive(Debug)]
pub struct Mix {
    /// Its names, the canonical one first.
    pub names: &'static [&'static str],
    /// What every matrix gets that no rule speaks of.
    pub base: &'static str,
    /// The first that applies decides.
    pub rules: &'static [Rule],
}

/// One exception from the base.
#[derive(Debug)]
pub struct Rule {
    role: Role,
    layers: Layers,
    encoding: &'static str,
}

/// Which layers a rule speaks of.
#[derive(Debug, Clone, Copy)]
enum Layers {
    /// All.
    All,
    /// The first so many.
    First(usize),
    /// The first 1/n of them.
    FirstPart(usize),
    /// The first 1/n, unless there is an importance matrix.
    FirstPartBlind(usize),
    /// The first 1/n, if there is an importance matrix.
    FirstPartSeeing(usize),
    /// The first and last eighth, and every third between.
    MoreBits,
    /// All, where at least four query heads share a value head.
    Shared,
}

/// Where a weight stands.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// What it does.
    pub role: Role,
    /// Its layer.
    pub layer: usize,
    /// Layers in all.
    pub n_layers: usize,
    /// Query heads per value head.
    pub n_sharing: usize,
    /// Whether it makes the logits: the head, or the embedding where there is no head.
    pub is_output: bool,
    /// Values per row.
    pub cols: usize,
    /// Whether an importance matrix is used.
    pub has_importance: bool,
}

const fn rule(role: Role, layers: Layers, encoding: &'static str) -> Rule {
    Rule { role, layers, encoding }
}

use Layers::{All, First, FirstPart, FirstPartBlind, FirstPartSeeing, MoreBits, Shared};
use Role::{AttentionOutput as Output, AttentionValue as Value, MlpDown as Down, TokenEmbedding};

/// Every mix.
pub const MIXES: &[Mix] = &[
    Mix {
        names: &["Q2_K"],
        base: "Q2_K",
        rules: &[
            rule(Value, Shared, "Q4_K"),
            rule(Value, All, "Q3_K"),
            rule(Down, All, "Q3_K"),
            rule(Output, All, "Q3_K"),
        ],
    },
    Mix {
        names: &["Q2_K_S"],
        base: "Q2_K",
        rules: &[rule(Value, Shared, "Q4_K"), rule(Down, FirstPart(8), "Q4_K")],
    },
    Mix { names: &["Q3_K_S"], base: "Q3_K", rules: &[] },
    Mix {
        names: &["Q3_K_M", "Q3_K"],
        base: "Q3_K",
        rules: &[
            rule(Value, First(2), "Q5_K"),
            rule(Value, All, "Q4_K"),
            rule(Down, FirstPart(16), "Q5_K"),
            rule(Down, All, "Q4_K"),
            rule(Output, All, "Q4_K"),
        ],
    },
    Mix {
        names: &["Q3_K_L"],
        base: "Q3_K",
        rules: &[rule(Value, All, "Q5_K"), rule(Down, All, "Q5_K"), rule(Output, All, "Q5_K")],
    },
    Mix {
        names: &["Q4_K_S"],
        base: "Q4_K",
        rules: &[rule(Value, First(4), "Q5_K"), rule(Down, FirstPart(8), "Q5_K")],
    },
    Mix {
        names: &["Q4_K_M", "Q4_K"],
        base: "Q4_K",
        rules: &[rule(Value, MoreBits, "Q6_K"), rule(Down, MoreBits, "Q6_K")],
    },
    Mix { names: &["Q5_K_S"], base: "Q5_K", rules: &[] },
    Mix {
        names: &["Q5_K_M", "Q5_K"],
        base: "Q5_K",
        rules: &[rule(Value, MoreBits, "Q6_K"), rule(Down, MoreBits, "Q6_K")],
    },
    Mix { names: &["Q6_K"], base: "Q6_K", rules: &[] },
    Mix { names: &["Q8_0"], base: "Q8_0", rules: &[] },
    Mix { names: &["Q5_1"], base: "Q5_1", rules: &[] },
    Mix { names: &["Q5_0"], base: "Q5_0", rules: &[rule(Down, FirstPartSeeing(8), "Q5_1")] },
    Mix { names: &["Q4_1"], base: "Q4_1", rules: &[] },
    Mix { names: &["Q4_0"], base: "Q4_0", rules: &[rule(Down, FirstPartSeeing(8), "Q4_1")] },
    Mix {
        names: &["IQ4_NL"],
        base: "IQ4_NL",
        rules: &[rule(Value, Shared, "Q5_K"), rule(Down, FirstPartBlind(8), "Q5_K")],
    },
    Mix {
        names: &["IQ4_XS"],
        base: "IQ4_XS",
        rules: &[rule(Value, Shared, "Q5_K"), rule(Down, FirstPartBlind(8), "Q5_K")],
    },
    Mix { names: &["TQ1_0"], base: "TQ1_0", rules: &[rule(TokenEmbedding, All, "Q4_K")] },
    Mix { names: &["TQ2_0"], base: "TQ2_0", rules: &[rule(TokenEmbedding, All, "Q4_K")] },
];

impl Mix {
    /// What the rules say of a weight; `None` where they are silent.
    pub fn encoding(&self, base: EncodingRef, site: &Site) -> Option<EncodingRef> {
        if site.is_output {
            return output_encoding(base, site.cols);
        }
        let rule = self.rules.iter().find(|r| r.role == site.role && r.layers.holds(site));
        let encoding = rule.map(|rule| by_name(rule.encoding).expect("rules name encodings"));
        shared_by_eight(encoding.unwrap_or(base), site).or(encoding)
    }
}

/// What makes the logits gets at least 6 bits: an error there is an error of every prediction.
fn output_encoding(base: EncodingRef, cols: usize) -> Option<EncodingRef> {
    match base.name() {
        "Q8_0" => None,
        _ if !base.fits(cols) => by_name("Q8_0"),
        _ => by_name("Q6_K"),
    }
}

/// In Llama 70B (80 layers, grouped heads) each value head serves eight query heads: the small
/// matrix is worth more bits.
fn shared_by_eight(encoding: EncodingRef, site: &Site) -> Option<EncodingRef> {
    let is_70b = site.role == Value && site.n_layers == 80 && site.n_sharing > 1;
    (is_70b && ["Q3_K", "Q4_K"].contains(&encoding.name())).then(|| by_name("Q5_K")).flatten()
}

impl Layers {
    fn holds(self, site: &Site) -> bool {
        let Site { layer, n_layers: n, has_importance, n_sharing, .. } = *site;
        match self {
            All => true,
            First(count) => layer < count,
            FirstPart(part) => layer < n / part,
            FirstPartBlind(part) => !has_importance && layer < n / part,
            FirstPartSeeing(part) => has_importance && layer < n / part,
            MoreBits => layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2,
            Shared => n_sharing >= 4,
        }
    }
}
