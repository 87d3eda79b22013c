//! Plans as text: golden, round trips, and texts that are no Plans.

use super::*;
use crate::testing::Random;
use expect_test::expect;
use proptest::prelude::*;
use sterna_formats::encodings::ENCODINGS;

const HASH: &str = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

fn plan() -> Plan {
    let source =
        Source { name: "stories".into(), architecture: "llama".into(), content: HASH.into() };
    let text = Text { name: "calib.txt".into(), hash: HASH.into(), tokens: 4096 };
    Plan {
        seed: 7,
        rewrites: vec!["fuse_qkv".into(), "fuse_gate_up".into()],
        budget: Budget { max_drop: Some(0.01), max_size: Some(240_000), ..Budget::default() },
        calibration: Some(text.clone()),
        held_out: Some(Text { name: "held out.txt".into(), ..text }),
        encodings: BTreeMap::from([
            ("blk.0.attn_q.weight".into(), "Q8_0".into()),
            ("token_embd.weight".into(), "Q4_0".into()),
        ]),
        ..Plan::unchanged(source)
    }
}

fn parse(text: &str) -> Result<Plan, String> {
    Plan::parse(Path::new("p.toml"), text).map_err(|e| e.to_string())
}

#[test]
fn golden_text() {
    expect![[r#"
        version = 1
        seed = 7
        kv = "F16"
        rewrites = ["fuse_qkv", "fuse_gate_up"]

        [source]
        name = "stories"
        architecture = "llama"
        content = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

        [budget]
        max_drop = 0.01
        max_size = 240000

        [calibration]
        name = "calib.txt"
        hash = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        tokens = 4096

        [held_out]
        name = "held out.txt"
        hash = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        tokens = 4096

        [encodings]
        "blk.0.attn_q.weight" = "Q8_0"
        "token_embd.weight" = "Q4_0"
    "#]]
    .assert_eq(&plan().print());
}

#[test]
fn what_is_wrong_is_named_with_line_and_fix() {
    let text = plan().print();
    let check = |from: &str, to: &str, want: &str| {
        assert!(text.contains(from), "{from}");
        assert_eq!(parse(&text.replacen(from, to, 1)).unwrap_err(), format!("p.toml: {want}"));
    };
    let line = |n: usize, rest: &str| format!("line {n} of the Plan: {rest}");
    check("seed =", "sead =", &line(2, "unknown key \"sead\"; did you mean \"seed\"?"));
    check("max_drop", "maxdrop", &line(12, "unknown key \"maxdrop\"; did you mean \"max_drop\"?"));
    check("tokens", "zebra", &line(18, "unknown key \"zebra\"; known are name, hash, tokens"));
    check("kv = \"F16\"\n", "", &line(1, "the key \"kv\" is missing; add it"));
    check(
        "\"F16\"",
        "\"F17\"",
        "in the Plan, the kv encoding \"F17\" is not known; did you mean \"F16\"?",
    );
    check(
        "fuse_qkv",
        "fuse_qvk",
        "in the Plan, the rewrite \"fuse_qvk\" is not known; did you mean \"fuse_qkv\"?",
    );
    check(
        "Q8_0",
        "Q8_O",
        "in the Plan, the encoding \"Q8_O\" is not known; did you mean \"Q8_0\"?",
    );
    check(
        "version = 1",
        "version = 9",
        "in the Plan, version is 9, this Sterna knows 1; use the Sterna that wrote it, or a newer one",
    );
    check(
        "blake3:af",
        "blake3:zz",
        "in the Plan, \"blake3:zz1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\" is no hash; a hash is blake3: and 64 hexadecimal digits",
    );
    check(
        "kv = \"F16\"",
        "kv = \"F16\"\nscaled = { \"blk.0.attn_norm.weight\" = nan }",
        "in the Plan, the strength of blk.0.attn_norm.weight is no number between 0 and 1; correct it",
    );
    check("0.01", "nan", "in the Plan, max_drop is not a positive number; correct it");
    check(
        "seed = 7",
        "seed = true",
        &line(
            2,
            "invalid type: boolean `true`, expected i64; correct it, or give a Plan that Sterna wrote",
        ),
    );
}

proptest! {
    #[test]
    fn parse_undoes_print(
        seed in any::<u64>(),
        names in prop::collection::btree_map("\\PC{0,20}", 0..ENCODINGS.len(), 0..6),
        name in "\\PC{0,20}",
        max_drop in prop::option::of(0.0..1e9f64),
        max_size in prop::option::of(0..i64::MAX as u64),
        fused in any::<bool>(),
    ) {
        let mut plan = plan();
        plan.seed = seed;
        plan.source.name = name;
        plan.encodings =
            names.into_iter().map(|(n, e)| (n, ENCODINGS[e].name().to_owned())).collect();
        plan.budget = Budget { max_drop, max_size, ..Budget::default() };
        plan.rewrites.truncate(usize::from(fused));
        if fused {
            plan.held_out = None;
        }
        prop_assert_eq!(parse(&plan.print()).unwrap(), plan);
    }
}

#[test]
fn mutated_plans_never_panic_and_what_parses_prints_the_same() {
    let text = plan().print();
    let pieces = [
        "[",
        "]",
        "\"",
        "=",
        "\n",
        "'''",
        "0x",
        "1e999",
        "\u{0}",
        "é",
        "[[a]]",
        "{",
        ".",
        "-9223372036854775809",
    ];
    for seed in 0..4000 {
        let mut random = Random(seed);
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.bits() as u8,
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.splice(at..at, pieces[random.below(pieces.len())].bytes())),
                _ => drop(bytes.splice(at..(at + 8).min(bytes.len()), [])),
            }
            if bytes.is_empty() {
                bytes.push(b'a');
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match parse(&text) {
            Ok(plan) => assert_eq!(parse(&plan.print()).unwrap(), plan, "seed {seed}"),
            Err(error) => {
                assert!(error.starts_with("p.toml: ") && !error.contains('\n'), "{error}")
            }
        }
    }
}

#[test]
fn nearest_is_near() {
    assert_eq!(nearest("Q4O", ["Q4_0", "Q8_0"].into_iter()), Some("Q4_0"));
    assert_eq!(nearest("setps", ["betas", "steps"].into_iter()), Some("steps"));
    assert_eq!(nearest("banana", ["Q4_0", "Q8_0"].into_iter()), None);
    assert_eq!(nearest("", std::iter::empty()), None);
}
