//! Trained tokenizers read back, keep every text whole, and come out the same each time.

use super::*;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Some text with repetition, Latin and otherwise, and a special token in it.
fn text() -> String {
    let words =
        ["tern", "flies", "over", "sea;", "Küste", "wide.", "日本の海", "12", "ing", "ward"];
    let ends = [" ", "\n", "ly ", "ed ", " the ", "<|end|>"];
    (0..1200).map(|i| words[i * i % 97 % 10].to_owned() + ends[i * i % 89 % 6]).collect()
}

fn settings(vocab_size: usize) -> Settings {
    Settings { vocab_size, min_frequency: 2, specials: vec!["<|end|>".into(), "<s>".into()] }
}

fn trained(text: &str, settings: &Settings) -> Result<String, String> {
    train(&[text], settings, &mut |_| {})
}

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let json = trained(&text(), &settings(300)).expect("enough text");
        Tokenizer::from_json_text(&json).expect("our own format")
    })
}

#[test]
fn it_has_exactly_the_tokens_asked_for_in_a_known_order() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocab_len(), 300);
    assert_eq!([tokenizer.token(0), tokenizer.token(1)], [Some("<|end|>"), Some("<s>")]);
    let mut bytes: Vec<u8> = (2..258).flat_map(|id| tokenizer.token_bytes(id).to_vec()).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    assert!((258..300).all(|id| tokenizer.token_bytes(id).len() >= 2));
    assert_eq!(tokenizer.encode_special("<|end|>", false, true), [0]);
    assert!(tokenizer.encode("<|end|>", false).len() > 1, "plain text is never a special token");
}

#[test]
fn gguf_has_a_name_for_how_it_cuts() {
    let metadata = tokenizer().to_metadata().expect("GGUF can say it");
    let value = |key: &str| metadata.iter().find(|(k, _)| k == key).map(|(_, v)| format!("{v:?}"));
    assert_eq!(value("tokenizer.ggml.model").as_deref(), Some("Str(\"gpt2\")"));
    assert_eq!(value("tokenizer.ggml.pre").as_deref(), Some("Str(\"gpt-2\")"));
    let mut written = sterna_formats::Metadata::default();
    metadata.into_iter().for_each(|(key, value)| written.set(key, value));
    let read = Tokenizer::from_metadata(&written).expect("our own keys");
    let text = text();
    assert_eq!(read.encode(&text, false), tokenizer().encode(&text, false));
}

#[test]
fn the_same_texts_and_settings_give_the_same_bytes() {
    let text = text();
    let first = trained(&text, &settings(300)).expect("enough text");
    for _ in 0..3 {
        assert!(trained(&text, &settings(300)).as_ref() == Ok(&first));
    }
    assert!(trained(&text, &settings(301)).as_ref() != Ok(&first));
}

#[test]
fn progress_ends_at_the_texts_length_without_special_tokens() {
    let (text, mut heard) = (text(), vec![]);
    train(&[&text, &text], &settings(280), &mut |n| heard.push(n)).expect("enough text");
    assert!(heard.is_sorted());
    let n_plain = 2 * text.replace("<|end|>", "").len() as u64;
    assert_eq!(heard.last(), Some(&n_plain));
}

#[test]
fn sections_make_up_the_text_and_change_no_word() {
    let unbroken = "x".repeat(40 * SECTION_BYTES);
    let wide = "\u{3042}".repeat(20 * SECTION_BYTES);
    for text in ["", "a", &text().repeat(60), &unbroken, &wide] {
        let parts: Vec<&str> = sections(text).collect();
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|p| p.len() <= 17 * SECTION_BYTES), "{}", text.len());
    }
    let text = text().replace("<|end|>", " ").repeat(20);
    assert!(sections(&text).count() > 1);
    let n: usize = sections(&text).map(n_words).sum();
    assert_eq!(n, n_words(&text));
}

#[test]
fn compression_counts_special_tokens_as_one() {
    let compression = Compression::of(tokenizer(), "<|end|><|end|>");
    assert_eq!(compression, Compression { n_bytes: 14, n_tokens: 2 });
    assert_eq!(compression.bytes_per_token(), Some(7.0));
    assert_eq!(Compression::of(tokenizer(), "").bytes_per_token(), None);
}

#[test]
fn hostile_settings_get_a_sentence() {
    let text = text();
    let with = |specials: &[&str]| Settings {
        specials: specials.iter().map(|s| s.to_string()).collect(),
        ..settings(300)
    };
    let cases = [
        (settings(257), "between 258"),
        (settings(0), "between 258"),
        (settings(usize::MAX), "1048576"),
        (Settings { min_frequency: 0, ..settings(300) }, "at least once"),
        (Settings { min_frequency: u64::MAX, ..settings(300) }, "gives at most 258"),
        (settings(100_000), "too little"),
        (settings(20_000), "too little for 20000 tokens"),
        (with(&["<a>", "<a>"]), "given twice"),
        (with(&[""]), "could be part of a text"),
        (with(&["the"]), "could be part of a text"),
        (with(&["\n\n"]), "could be part of a text"),
    ];
    for (settings, word) in cases {
        let said = trained(&text, &settings).expect_err("impossible");
        assert!(said.contains(word), "{settings:?}: {said}");
    }
    let said = trained("", &settings(259)).expect_err("no text");
    assert!(said.contains("gives at most 258"), "{said}");
    let smallest = trained("", &settings(258)).expect("bytes need no text");
    assert_eq!(Tokenizer::from_json_text(&smallest).expect("ours").vocab_len(), 258);
}

#[test]
fn a_special_token_is_never_made_of_a_texts_own_letters() {
    let text = "<|end|> weekend <|endless|> <|end |> ".repeat(400);
    let json = trained(&text, &settings(270)).expect("enough text");
    let tokenizer = Tokenizer::from_json_text(&json).expect("ours");
    for part in ["<|end", "end|>", "<|end|>", "<|endless|>"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(part, false)), part);
    }
}

proptest! {
    #[test]
    fn every_text_comes_back(text in "\\PC*|[\\s\\S]{0,80}|[a-z ]{0,200}|(<\\|end\\|>|the | tern)*") {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text, false);
        prop_assert!(ids.iter().all(|&id| id < 300));
        prop_assert_eq!(tokenizer.decode(&ids), text);
    }
}
