//! Grammars in the terms of a model's tokens: JSON schemas, regular expressions and Lark, compiled
//! by llguidance.
//!
//! In: a vocabulary, once per model, and what a request wants its answer to be. Out: a
//! [`Constraint`], or a sentence that says what is wrong and where. Compiling and following a
//! grammar are bounded by llguidance's limits, so a client's grammar costs milliseconds, and some
//! megabytes for each sequence in work that is held to it. Those that wait have nothing of it yet.
//!
//! A token is to the grammar the bytes that it adds to a text. Control tokens add none and so never
//! come, but those that end a text, which come where the answer is whole.

use crate::constraint::{Constraint, Follower, Grammar};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory, earley::SlicedBiasComputer};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use sterna_model::Tokenizer;
use sterna_runtime::sample::TokenSet;

/// What an answer is to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A value of this JSON schema.
    Json(Value),
    /// Text that this regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Text of this grammar in llguidance's Lark, whose first rule is `start`.
    Lark(String),
}

/// White space between the parts of JSON: so much that people can read it, and never without end,
/// which a model at high temperature would else fill its answer with.
const WHITE: &str = r" |\n[ \t]{0,20}";
/// The trie has no room for longer tokens; no text needs them.
const MAX_TOKEN_BYTES: usize = 512;
/// Nodes that the trie has room for; each byte of the vocabulary may be one.
const MAX_VOCABULARY_BYTES: usize = 4_000_000;
/// States of a grammar's lexer: each takes 1 to 2 kB of a sequence.
const MAX_STATES: usize = 20_000;
/// What grammars may have, written down: what follows from it is bounded by llguidance's limits.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// llguidance's compiler calls itself as deep as a grammar is, so it gets a thread with room for
/// the deepest that may be written down; what is not used is never there.
const COMPILER_STACK: usize = 512 << 20;
/// Schemas in a schema that are tried when one of them is wrong, to say which.
const MAX_TRIALS: usize = 100;

/// Compiles grammars for one vocabulary.
pub struct Grammars {
    factory: ParserFactory,
    n_tokens: usize,
    /// Those that were asked for last, the latest first: agents ask with the same tools again and
    /// again.
    known: Mutex<Vec<Constraint>>,
}

/// Compiled grammars that are kept.
const N_KNOWN: usize = 32;

impl Grammars {
    /// Reads a vocabulary; that takes a moment where it is large.
    ///
    /// # Errors
    /// When it is larger than any known: a sentence.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let env: TokEnv = Arc::new(Vocabulary::new(tokenizer)?);
        let failed = |error| format!("this model's vocabulary serves no grammars: {error}");
        let capabilities = InferenceCapabilities::default();
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, capabilities, &slices).map_err(failed)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = MAX_STATES;
        limits.verbose_errors = false;
        Ok(Self { factory, n_tokens: tokenizer.vocab_len(), known: Mutex::default() })
    }

    /// Compiles what an answer is to be.
    ///
    /// # Errors
    /// When it is not valid, asks for what llguidance cannot do, or is too large. The first part
    /// is the place in it, as `.properties.age`, empty for the whole.
    pub fn compile(&self, wanted: &Wanted) -> Result<Constraint, (String, String)> {
        let source = source(wanted);
        if source.len() > MAX_SOURCE_BYTES {
            let why = format!("it is too large: it has more than {MAX_SOURCE_BYTES} bytes");
            return Err((String::new(), why));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|constraint| constraint.source() == source);
        if let Some(at) = at {
            known[..=at].rotate_right(1);
            return Ok(known[0].clone());
        }
        // Others need not wait while this one is compiled.
        drop(known);
        let compiler = std::thread::Builder::new().stack_size(COMPILER_STACK);
        let matcher = std::thread::scope(|scope| {
            let compiling = compiler.spawn_scoped(scope, || self.matcher_of(wanted));
            let failed = |why: String| Err((String::new(), why));
            match compiling.map(|thread| thread.join()) {
                Ok(Ok(compiled)) => compiled,
                Ok(Err(_)) => failed("the compiler failed on it".into()),
                Err(error) => failed(format!("the system starts no thread for it: {error}")),
            }
        })?;
        let compiled = Compiled { matcher: Mutex::new(matcher), n_tokens: self.n_tokens };
        let constraint = Constraint::new(source, Arc::new(compiled));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(N_KNOWN - 1);
        known.insert(0, constraint.clone());
        Ok(constraint)
    }

    fn matcher_of(&self, wanted: &Wanted) -> Result<Matcher, (String, String)> {
        let grammar = grammar(wanted).map_err(|why| (String::new(), why))?;
        self.matcher(grammar).map_err(|why| match wanted {
            Wanted::Json(schema) => self.place(schema, why),
            _ => (String::new(), why),
        })
    }

    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let mut matcher = Matcher::new(self.factory.create_parser(grammar));
        // What is wrong at the first token is wrong with the grammar.
        match matcher.compute_mask_or_eos() {
            Ok(_) => Ok(matcher),
            Err(error) => Err(sentence(&error.to_string())),
        }
    }

    /// The innermost schema that is wrong by itself, and what is wrong with it.
    fn place(&self, schema: &Value, why: String) -> (String, String) {
        let definitions = ["$defs", "definitions"].map(|key| (key, schema.get(key).cloned()));
        let (mut path, mut why, mut at) = (String::new(), why, schema);
        let mut n_left = MAX_TRIALS;
        'deeper: loop {
            for (step, inner) in schemas_in(at) {
                if n_left == 0 {
                    return (path, why);
                }
                n_left -= 1;
                let mut alone = inner.clone();
                if let Value::Object(alone) = &mut alone {
                    // What it refers to is found from the root.
                    for (key, value) in &definitions {
                        if let Some(value) = value.as_ref().filter(|_| !step.starts_with(".$")) {
                            alone.entry(*key).or_insert_with(|| value.clone());
                        }
                    }
                }
                let tried = TopLevelGrammar::from_json_schema(readable(&alone));
                if let Err(inner_why) = self.matcher(tried) {
                    (path, why, at) = (path + &step, inner_why, inner);
                    continue 'deeper;
                }
            }
            return (path, why);
        }
    }
}

/// What tells grammars apart.
fn source(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Json(schema) => format!("json {schema}"),
        Wanted::Regex(regex) => format!("regex {regex}"),
        Wanted::Choice(texts) => format!("choice {}", json!(texts)),
        Wanted::Lark(grammar) => format!("lark {grammar}"),
    }
}

fn grammar(wanted: &Wanted) -> Result<TopLevelGrammar, String> {
    Ok(match wanted {
        Wanted::Json(schema) => TopLevelGrammar::from_json_schema(readable(schema)),
        Wanted::Regex(regex) => TopLevelGrammar::from_grammar(GrammarWithLexer::from_regex(regex)),
        Wanted::Choice(texts) if texts.is_empty() => return Err("there is no choice".into()),
        Wanted::Choice(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
            // A terminal, so that a choice that begins another one is no trouble.
            TopLevelGrammar::from_lark(format!("start: CHOICE\nCHOICE: {}", texts.join(" | ")))
        }
        Wanted::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
    })
}

/// A schema whose white space is bounded, unless it says itself which it wants.
pub fn readable(schema: &Value) -> Value {
    let mut schema = match schema {
        // The two schemas that are no objects.
        Value::Bool(true) => json!({}),
        Value::Bool(false) => json!({ "not": {} }),
        other => other.clone(),
    };
    if let Value::Object(schema) = &mut schema {
        schema.entry("x-guidance").or_insert_with(|| json!({ "whitespace_pattern": WHITE }));
    }
    schema
}

/// The schemas directly in a schema, and how to get there.
fn schemas_in(schema: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        let is_map = ["properties", "patternProperties", "$defs", "definitions"];
        match value {
            Value::Object(inner) if is_map.contains(&key.as_str()) => {
                found.extend(inner.iter().map(|(name, value)| (format!(".{key}.{name}"), value)));
            }
            Value::Object(_)
                if ["items", "additionalProperties", "not"].contains(&key.as_str()) =>
            {
                found.push((format!(".{key}"), value));
            }
            Value::Array(inner)
                if ["anyOf", "oneOf", "allOf", "prefixItems"].contains(&key.as_str()) =>
            {
                let each = inner.iter().enumerate();
                found.extend(each.map(|(i, value)| (format!(".{key}[{i}]"), value)));
            }
            _ => {}
        }
    }
    found
}

/// llguidance's message without what is for its authors.
fn sentence(message: &str) -> String {
    let end = message.find("\n<").unwrap_or(message.len());
    let text = message[..end].trim();
    match text.strip_prefix("panic: ") {
        Some(_) => "this grammar is more than the compiler can do".into(),
        None => text.to_owned(),
    }
}

/// A grammar, ready to be followed.
struct Compiled {
    matcher: Mutex<Matcher>,
    n_tokens: usize,
}

impl Grammar for Compiled {
    fn start(&self) -> Box<dyn Follower> {
        // A copy with a lexer of its own: what a mask costs, and whether that is too much, must not
        // depend on what other answers have computed before.
        let matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner).deep_clone();
        Box::new(Followed { matcher, n_tokens: self.n_tokens })
    }
}

/// A grammar at a place in an answer.
struct Followed {
    matcher: Matcher,
    n_tokens: usize,
}

impl Follower for Followed {
    fn allowed(&mut self) -> Result<TokenSet, String> {
        let mask = self.matcher.compute_mask_or_eos();
        let mask = mask.map_err(|error| sentence(&error.to_string()))?;
        Ok(TokenSet::new(mask.as_slice().to_vec(), self.n_tokens))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        self.matcher.consume_token(token).map_err(|error| sentence(&error.to_string()))
    }

    fn is_over(&self) -> bool {
        self.matcher.is_stopped()
    }
}

/// A vocabulary as llguidance sees it.
struct Vocabulary {
    trie: TokTrie,
}

impl Vocabulary {
    fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let n_tokens = tokenizer.vocab_len() as u32;
        let bytes = |id: u32| {
            let bytes = tokenizer.token_bytes(id).into_owned();
            let is_kept = bytes.len() <= MAX_TOKEN_BYTES && !tokenizer.is_end(id);
            if is_kept { bytes } else { Vec::new() }
        };
        let mut words: Vec<Vec<u8>> = (0..n_tokens).map(bytes).collect();
        let n_bytes: usize = words.iter().map(Vec::len).sum();
        if n_bytes > MAX_VOCABULARY_BYTES {
            return Err(format!(
                "this model's vocabulary has {n_bytes} bytes; grammars work with \
                 {MAX_VOCABULARY_BYTES} at most"
            ));
        }
        let mut ends: Vec<u32> = (0..n_tokens).filter(|&id| tokenizer.is_end(id)).collect();
        if ends.is_empty() {
            // A token beyond the vocabulary, which is never chosen: an answer ends where nothing
            // else may follow.
            ends.push(n_tokens);
            words.push(Vec::new());
        }
        let info = TokRxInfo::new(words.len() as u32, ends[0]);
        Ok(Self { trie: TokTrie::from(&info, &words).with_eos_tokens(&ends) })
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.greedy_tokenize(bytes)
    }

    /// Any way to write the bytes is as good: which one is the model's choice.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
