//! The vocabulary: the tokens by id with their kinds, the special ids, and how a token's spelling
//! becomes bytes. In: `tokenizer.ggml.*` metadata, checked here once. Every encoder shares it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use sterna_formats::{Array, Metadata, Value};

/// What a token is; the discriminants are GGUF's `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// How the spelling of a normal token becomes the bytes it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// GPT-2's alphabet: each byte is one printable character.
    ByteLevel,
    /// SentencePiece: `▁` is a space.
    Metaspace,
    /// WordPiece as Hugging Face writes it: `##` continues a word, all else begins one.
    Hashes,
}

/// Tokens that end a generation whatever the file's `eos_token_id` says, by their text: files that
/// name only one of the several end tokens of a chat model are common.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "</s>",
];

/// Ids with a meaning, and what surrounds a text when special tokens are added.
#[derive(Clone, Debug, Default)]
pub(super) struct Specials {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
    /// Put in front of a text, and behind it, where special tokens are added: mostly one or none.
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
    /// Every id that ends a generation.
    pub ends: BTreeSet<u32>,
}

/// The tokens and what is known about them.
#[derive(Clone, Debug)]
pub(super) struct Vocab {
    pub tokens: Vec<Box<str>>,
    pub kinds: Vec<Kind>,
    pub spelling: Spelling,
    pub specials: Specials,
    /// Whether encoding puts a space in front of a text, which decoding then takes away.
    pub space_prefix: bool,
}

impl Vocab {
    /// Reads tokens, kinds and special ids; `defaults` are the ids of `bos`, `eos` and `unknown`
    /// where the file names none.
    pub fn from_metadata(
        metadata: &Metadata,
        spelling: Spelling,
        defaults: [Option<u32>; 3],
    ) -> Result<Self, String> {
        let tokens = strings(metadata, "tokenizer.ggml.tokens")?
            .ok_or("tokenizer.ggml.tokens is missing; the file holds no vocabulary")?;
        if tokens.is_empty() || tokens.len() > i32::MAX as usize {
            return Err(format!(
                "tokenizer.ggml.tokens has {} entries; a vocabulary has 1 to 2 147 483 647",
                tokens.len()
            ));
        }
        let tokens: Vec<Box<str>> = tokens.iter().map(|t| t.as_str().into()).collect();
        let specials = Specials::from_metadata(metadata, tokens.len(), defaults)?;
        let kinds = match kinds(metadata, tokens.len())? {
            Some(kinds) => kinds,
            None => guessed_kinds(&tokens, spelling, &specials),
        };
        let mut vocab = Self { tokens, kinds, spelling, specials, space_prefix: false };
        vocab.find_ends();
        Ok(vocab)
    }

    /// Ids by token text; where a text occurs twice, the lower id has it.
    pub fn ids(&self, wanted: impl Fn(Kind) -> bool) -> HashMap<&str, u32> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if wanted(self.kinds[id]) && !token.is_empty() {
                ids.entry(token.as_ref()).or_insert(id as u32);
            }
        }
        ids
    }

    /// The bytes a token adds to a text: none for control tokens. WordPiece words begin with the
    /// space that parts them from the one before.
    pub fn bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let Some(token) = self.tokens.get(id as usize) else {
            return Cow::Borrowed("\u{fffd}".as_bytes());
        };
        match self.kinds[id as usize] {
            Kind::Control | Kind::Unknown => Cow::Borrowed(&[]),
            Kind::UserDefined => Cow::Borrowed(token.as_bytes()),
            Kind::Byte => match byte_of(token) {
                Some(byte) => Cow::Owned(vec![byte]),
                None => Cow::Borrowed(token.as_bytes()),
            },
            Kind::Normal | Kind::Unused => self.spelled(token),
        }
    }

    fn spelled<'a>(&self, token: &'a str) -> Cow<'a, [u8]> {
        match self.spelling {
            Spelling::ByteLevel => {
                let mut bytes = Vec::with_capacity(token.len());
                for c in token.chars() {
                    match byte_of_char(c) {
                        Some(byte) => bytes.push(byte),
                        None => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                    }
                }
                Cow::Owned(bytes)
            }
            Spelling::Metaspace if token.contains('▁') => {
                Cow::Owned(token.replace('▁', " ").into_bytes())
            }
            Spelling::Metaspace => Cow::Borrowed(token.as_bytes()),
            Spelling::Hashes => match token.strip_prefix("##") {
                Some(rest) => Cow::Borrowed(rest.as_bytes()),
                None => Cow::Owned(format!(" {token}").into_bytes()),
            },
        }
    }

    /// Completes the end tokens by text. They become control tokens, so that plain text can never
    /// contain one and decoded text never shows one.
    pub fn find_ends(&mut self) {
        let ids: Vec<(u32, &str)> = (0u32..)
            .zip(&self.tokens)
            .filter(|(_, t)| END_TEXTS.contains(&t.as_ref()))
            .map(|(id, t)| (id, t.as_ref()))
            .collect();
        let has = |text| ids.iter().any(|&(_, t)| t == text);
        // The harmony format closes every message with <|end|> and a turn with the other two.
        let end_is_message_end = has("<|return|>") && has("<|call|>");
        let ends = ids.iter().filter(|&&(_, t)| !(t == "<|end|>" && end_is_message_end));
        let mut ends: BTreeSet<u32> = ends.map(|&(id, _)| id).collect();
        for &id in &ends {
            self.kinds[id as usize] = Kind::Control;
        }
        ends.append(&mut self.specials.ends);
        self.specials.ends = ends;
    }
}

impl Specials {
    fn from_metadata(
        metadata: &Metadata,
        n_tokens: usize,
        defaults: [Option<u32>; 3],
    ) -> Result<Self, String> {
        let id = |key: &str| special_id(metadata, key, n_tokens);
        let in_range = |d: Option<u32>| d.filter(|&d| (d as usize) < n_tokens);
        let bos = id("tokenizer.ggml.bos_token_id")?.or(in_range(defaults[0]));
        let eos = id("tokenizer.ggml.eos_token_id")?.or(in_range(defaults[1]));
        let unknown = id("tokenizer.ggml.unknown_token_id")?.or(in_range(defaults[2]));
        let mut ends = BTreeSet::from_iter(eos);
        ends.extend(id("tokenizer.ggml.eot_token_id")?);
        ends.extend(id("tokenizer.ggml.eom_token_id")?);
        Ok(Self { bos, eos, unknown, prefix: vec![], suffix: vec![], ends })
    }
}

/// A special id; `-1`, also as `u32`, means none.
pub(super) fn special_id(
    metadata: &Metadata,
    key: &str,
    n_tokens: usize,
) -> Result<Option<u32>, String> {
    let id = match metadata.get(key) {
        None | Some(Value::I32(-1) | Value::I64(-1) | Value::U32(u32::MAX)) => return Ok(None),
        Some(_) => metadata
            .u64(key)
            .ok_or_else(|| format!("{key} is not a token id; remove it or set it to an integer"))?,
    };
    if id >= n_tokens as u64 {
        return Err(format!(
            "{key} is {id} but the vocabulary has {n_tokens} tokens; set it to an id below that"
        ));
    }
    Ok(Some(id as u32))
}

/// A boolean key, or `default` where it is absent.
pub(super) fn flag(metadata: &Metadata, key: &str, default: bool) -> Result<bool, String> {
    match metadata.get(key) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("{key} is not a boolean; set it to true or false")),
    }
}

/// An array of strings, `None` where the key is absent.
pub(super) fn strings<'a>(
    metadata: &'a Metadata,
    key: &str,
) -> Result<Option<&'a [String]>, String> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Array(Array::Str(strings))) => Ok(Some(strings)),
        Some(_) => Err(format!("{key} is not an array of strings; convert the model again")),
    }
}

fn kinds(metadata: &Metadata, n_tokens: usize) -> Result<Option<Vec<Kind>>, String> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let types: Vec<i64> = match metadata.get(KEY) {
        None => return Ok(None),
        Some(Value::Array(Array::I32(v))) => v.iter().map(|&t| t.into()).collect(),
        Some(Value::Array(Array::U32(v))) => v.iter().map(|&t| t.into()).collect(),
        Some(_) => return Err(format!("{KEY} is not an array of i32; convert the model again")),
    };
    check_len(KEY, types.len(), n_tokens)?;
    let kind = |(id, &kind): (usize, &i64)| match kind {
        0 | 1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        5 => Ok(Kind::Unused),
        6 => Ok(Kind::Byte),
        _ => Err(format!("{KEY} of token {id} is {kind}; set it to a GGUF token type, 0 to 6")),
    };
    types.iter().enumerate().map(kind).collect::<Result<_, _>>().map(Some)
}

/// Fails unless an array that goes with the tokens is as long as they are.
pub(super) fn check_len(key: &str, len: usize, n_tokens: usize) -> Result<(), String> {
    if len == n_tokens {
        return Ok(());
    }
    Err(format!(
        "{key} has {len} entries but tokenizer.ggml.tokens has {n_tokens}; \
         they must be equally many, convert the model again"
    ))
}

/// Kinds for a file without `token_type`: the special ids are control tokens.
fn guessed_kinds(tokens: &[Box<str>], spelling: Spelling, specials: &Specials) -> Vec<Kind> {
    let bytes = spelling == Spelling::Metaspace;
    let mut kinds: Vec<Kind> = tokens
        .iter()
        .map(|t| if bytes && byte_of(t).is_some() { Kind::Byte } else { Kind::Normal })
        .collect();
    for id in [specials.bos, specials.eos].into_iter().flatten() {
        kinds[id as usize] = Kind::Control;
    }
    if let Some(id) = specials.unknown {
        kinds[id as usize] = Kind::Unknown;
    }
    kinds
}

/// The byte that a byte token such as `<0x0A>` stands for.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(hex, 16).expect("two hex digits"))
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes follow from U+0100.
pub(super) fn char_of_byte(byte: u8) -> char {
    let shifted = match byte {
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
        _ => u32::from(byte),
    };
    char::from_u32(shifted).expect("below U+0144")
}

/// The inverse of [`char_of_byte`].
fn byte_of_char(c: char) -> Option<u8> {
    match c as u32 {
        c @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(c as u8),
        c @ 0x100..=0x120 => Some((c - 0x100) as u8),
        c @ 0x121..=0x142 => Some((c - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}
