//! The pre-tokenizers of byte-level BPE: how a text is cut into the words within which merges run.
//! GGUF names one in `tokenizer.ggml.pre`; a new one is one entry of [`PRE_TOKENIZERS`].

use std::sync::Arc;
use tokenizers::utils::SysRegex;

/// A pre-tokenizer. Every pattern in turn cuts each piece left by those before it; what it does not
/// match stays as a piece of its own.
pub(super) struct PreTokenizer {
    /// Its names in `tokenizer.ggml.pre`; the first is the one that Sterna writes.
    pub names: &'static [&'static str],
    /// Oniguruma patterns, as the models' `tokenizer.json` have them.
    pub patterns: &'static [&'static str],
    /// A word that is a token is taken whole, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether a beginning-of-text token is added where the file does not say.
    pub add_bos: bool,
}

/// A pre-tokenizer with its patterns compiled.
#[derive(Clone)]
pub(super) struct Splitter {
    patterns: Arc<Vec<SysRegex>>,
}

/// Patterns see at most this much text at a time, since Oniguruma gives up after ten million steps
/// within a match and no pattern here takes more than a few per byte.
const SECTION_BYTES: usize = 1 << 20;

pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"##,
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const BAILINGMOE: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
);
const SEED_CODER: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}|",
    r" ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const JAIS2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|",
    r"\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
);
const BLOOM: &str = " ?[^(\\s|.,!?…。，、।۔،)]+";
const DIGIT: &str = r"\p{N}";
const CJK: &str = "[一-龥ࠀ-一가-퟿]+";
const CJK_KANA: &str = "[一-龥぀-ゟ゠-ヿ]+";
/// Letters with case, in DeepSeek's own selection.
const DEEPSEEK_LETTERS: &str = concat!(
    r"\s?[A-Za-z",
    r"\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}",
    r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}",
    r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}",
    r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}",
    r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
    r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
    r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}",
    r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}",
    r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}",
    r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}",
    r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
    r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}",
    r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
    r"\x{1E900}-\x{1E943}",
    r"]+"
);
/// DeepSeek's `\s+$`, with a look-behind that spares it from trying every start in a long run.
pub(super) const TRAILING_SPACE: &str = r"(?<!\s)\s+$";

/// All of them, in no order that matters.
pub(super) const PRE_TOKENIZERS: &[PreTokenizer] = &[
    plain(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    plain(
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        &[GPT2],
    ),
    whole_words(
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        true,
        &[LLAMA3],
    ),
    plain(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    whole_words(&["glm4", "glm5"], false, &[LLAMA3]),
    plain(
        &[
            "qwen2",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "grok-2",
        ],
        &[QWEN2],
    ),
    plain(&["qwen35"], &[QWEN35]),
    plain(
        &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        &[DIGIT, GPT2],
    ),
    plain(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    plain(
        &["deepseek-llm"],
        &[
            "[\r\n]",
            DEEPSEEK_LETTERS,
            "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
            TRAILING_SPACE,
            CJK,
            r"\p{N}+",
        ],
    ),
    plain(&["deepseek-coder"], &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, DIGIT]),
    plain(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[r"\p{N}{1,3}", CJK_KANA, DEEPSEEK3],
    ),
    plain(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
    plain(&["viking"], &[BLOOM, DIGIT]),
    whole_words(&["tekken"], true, &[TEKKEN]),
    plain(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    plain(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILINGMOE]),
    plain(&["seed-coder"], &[SEED_CODER]),
    plain(&["jais-2"], &[JAIS2]),
];

const fn plain(names: &'static [&'static str], patterns: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { names, patterns, ignore_merges: false, add_bos: false }
}

const fn whole_words(
    names: &'static [&'static str],
    add_bos: bool,
    patterns: &'static [&'static str],
) -> PreTokenizer {
    PreTokenizer { names, patterns, ignore_merges: true, add_bos }
}

/// The pre-tokenizer of that name.
pub(super) fn by_name(name: &str) -> Result<&'static PreTokenizer, String> {
    PRE_TOKENIZERS.iter().find(|p| p.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> = PRE_TOKENIZERS.iter().flat_map(|p| p.names).copied().collect();
        format!(
            "tokenizer.ggml.pre is `{name}`, which Sterna does not know; it knows {}",
            known.join(", ")
        )
    })
}

impl Splitter {
    pub fn new(pre: &PreTokenizer) -> Self {
        let compile = |p: &&str| SysRegex::new(p).expect("the table's patterns are valid");
        Self { patterns: Arc::new(pre.patterns.iter().map(compile).collect()) }
    }

    /// Calls `word` with every word of the text, in order.
    pub fn for_each<'t>(&self, text: &'t str, mut word: impl FnMut(&'t str)) {
        let mut rest = text;
        while !rest.is_empty() {
            let (section, tail) = rest.split_at(section_len(rest));
            for (start, end) in self.words(section) {
                word(&section[start..end]);
            }
            rest = tail;
        }
    }

    /// Starts and ends of the words.
    fn words(&self, text: &str) -> Vec<(usize, usize)> {
        let mut words = vec![(0, text.len())];
        for pattern in self.patterns.iter() {
            let mut finer = Vec::with_capacity(words.len());
            for (piece_start, piece_end) in words {
                let mut at = piece_start;
                for (start, end) in pattern.find_iter(&text[piece_start..piece_end]) {
                    let (start, end) = (piece_start + start, piece_start + end);
                    if at < start {
                        finer.push((at, start));
                    }
                    finer.push((start, end));
                    at = end;
                }
                if at < piece_end {
                    finer.push((at, piece_end));
                }
            }
            words = finer;
        }
        words
    }
}

/// How much of a text is cut at once: all of it, or up to a space between ASCII letters, where
/// every pattern cuts anyway. A megabyte without such a place is cut where it ends.
fn section_len(text: &str) -> usize {
    if text.len() <= SECTION_BYTES {
        return text.len();
    }
    let is_cut =
        |w: &[u8]| w[0].is_ascii_alphabetic() && w[1] == b' ' && w[2].is_ascii_alphabetic();
    let bytes = &text.as_bytes()[..SECTION_BYTES];
    match bytes.windows(3).rposition(is_cut) {
        Some(at) => at + 1,
        None => text.floor_char_boundary(SECTION_BYTES),
    }
}
