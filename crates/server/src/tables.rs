//! Every parameter of every endpoint, and what is done with it.
//!
//! This is the one place that says so; `params.rs` holds bodies against it. A name that is not here
//! is a warning in the answer, or an error where the client asked for strictness.

mod messages;
mod ollama;
mod responses;

pub use messages::*;
pub use ollama::*;
pub use responses::*;

use crate::params::{Param, Rule, Table};

const fn honoured(name: &'static str) -> Param {
    Param { name, rule: Rule::Honoured }
}

/// Honoured as the chat API's parameter of this name.
const fn means(name: &'static str, ours: &'static str) -> Param {
    Param { name, rule: Rule::Means(ours) }
}

const fn no_effect(name: &'static str) -> Param {
    Param { name, rule: Rule::NoEffect }
}

const fn ignored(name: &'static str, why: &'static str) -> Param {
    Param { name, rule: Rule::Ignored(why) }
}

const fn refused(
    name: &'static str,
    harmless: &'static [&'static str],
    why: &'static str,
) -> Param {
    Param { name, rule: Rule::Refused(harmless, why) }
}

/// `POST /v1/completions`.
pub const COMPLETIONS: Table = &[COMPLETIONS_ONLY, GENERATION, CONSTRAINTS, OTHER_SAMPLERS];
/// `POST /v1/chat/completions`.
pub const CHAT: Table = &[CHAT_ONLY, TEMPLATE, GENERATION, CONSTRAINTS, OTHER_SAMPLERS];
/// `POST /v1/embeddings`.
pub const EMBEDDINGS: Table = &[EMBEDDINGS_ONLY, ASKING, MODEL];
/// A part of a message's content in a chat.
pub const CHAT_PART: Table = &[&[
    honoured("type"),
    honoured("text"),
    // Prefixes are found by their tokens, without being marked.
    no_effect("cache_control"),
    no_effect("prompt_cache_breakpoint"),
]];
/// `tool_choice` of a chat that names a function.
pub const NAMED_CHOICE: Table = &[&[honoured("type"), honoured("function")]];
/// `function` in it.
pub const NAMED_FUNCTION: Table = &[&[honoured("name")]];
/// `prediction` of a chat.
pub const PREDICTION: Table = &[&[honoured("type"), honoured("content")]];
/// `POST /apply-template`.
pub const APPLY_TEMPLATE: Table = &[TEMPLATE, MODEL];
/// `POST /tokenize`.
pub const TOKENIZE: Table = &[TOKENIZE_ONLY, MODEL];
/// `POST /detokenize`.
pub const DETOKENIZE: Table = &[&[honoured("tokens")], MODEL];
/// `POST /models/load` and `/models/unload`.
pub const LOAD: Table = &[MODEL];
/// `POST /v1/cache/limit`.
pub const CACHE_LIMIT: Table = &[&[honoured("max_memory_mb")]];
/// `stream_options` of both ways of generating.
pub const STREAM_OPTIONS: Table = &[&[
    honoured("include_usage"),
    // Obfuscation hides lengths from who watches the network; TLS is not our part.
    refused("include_obfuscation", &["false"], "chunks are not padded here"),
]];

/// `cache` of both ways of generating, as LiteLLM has it.
pub const CACHE: Table = &[&[
    honoured("no-cache"),
    honoured("no-store"),
    honoured("ttl"),
    honoured("s-maxage"),
    honoured("namespace"),
]];
/// `POST /v1/sessions/{id}/fork`.
pub const FORK: Table = &[&[honoured("session_id")], MODEL];
/// The query of `DELETE /v1/sessions/{id}` and of `GET /props`.
pub const MODEL_QUERY: Table = &[MODEL];
/// The query of `GET /slots`.
pub const SLOTS_QUERY: Table = &[
    MODEL,
    &[refused("fail_on_no_slot", &[], "there are no fixed slots here that could run out")],
];
/// `POST /v1/cache/flush`.
pub const FLUSH: Table = &[MODEL];

const MODEL: &[Param] = &[honoured("model")];

/// What both ways of generating have.
const GENERATION: &[Param] = &[
    honoured("model"),
    honoured("max_tokens"),
    honoured("n"),
    honoured("stop"),
    honoured("seed"),
    honoured("temperature"),
    honoured("top_p"),
    honoured("top_k"),
    honoured("min_p"),
    honoured("frequency_penalty"),
    honoured("presence_penalty"),
    honoured("repetition_penalty"),
    honoured("repeat_penalty"),
    honoured("repeat_last_n"),
    honoured("logit_bias"),
    honoured("logprobs"),
    honoured("ignore_eos"),
    honoured("stream"),
    honoured("stream_options"),
    honoured("service_tier"),
    honoured("priority"),
    honoured("agent_id"),
    honoured("cache_salt"),
    honoured("cache_salt_from"),
    honoured("cache"),
    honoured("deadline_ms"),
    honoured("expected_output_tokens"),
    honoured("session_id"),
    honoured("keep_alive"),
    // Prefixes are found by their tokens.
    no_effect("prefix_hint"),
    no_effect("user"),
    no_effect("metadata"),
    no_effect("safety_identifier"),
    // Prefixes are found by their tokens; a key adds nothing.
    no_effect("prompt_cache_key"),
    refused("store", &["false"], "this server keeps no answers"),
];

/// What the chat API has beyond OpenAI's newer API and Anthropic's, which take it too.
const OWN: &[Param] = &[
    honoured("seed"),
    honoured("stop"),
    honoured("top_k"),
    honoured("min_p"),
    honoured("frequency_penalty"),
    honoured("presence_penalty"),
    honoured("repetition_penalty"),
    honoured("logit_bias"),
    honoured("ignore_eos"),
    honoured("priority"),
    honoured("agent_id"),
    honoured("cache_salt"),
    honoured("chat_template_kwargs"),
];

const COMPLETIONS_ONLY: &[Param] = &[
    honoured("prompt"),
    honoured("echo"),
    // Read beside `n`, which it must equal.
    honoured("best_of"),
    refused("suffix", &["\"\""], "text cannot be inserted before a suffix here"),
];

const EMBEDDINGS_ONLY: &[Param] = &[
    honoured("input"),
    honoured("encoding_format"),
    honoured("dimensions"),
    no_effect("user"),
    refused("truncate_prompt_tokens", &[], "inputs are not cut here; send what fits"),
    refused("input_type", &[], "write what the model wants before a text into `input`"),
];

/// Who asks for embeddings, how urgently, and what is kept of them.
const ASKING: &[Param] = &[
    honoured("service_tier"),
    honoured("priority"),
    honoured("agent_id"),
    honoured("cache_salt"),
    honoured("cache"),
    honoured("deadline_ms"),
];

/// `response_format`.
pub const RESPONSE_FORMAT: Table =
    &[&[honoured("type"), honoured("json_schema"), honoured("schema")]];
/// `json_schema` in it.
pub const JSON_SCHEMA: Table = &[&[
    honoured("schema"),
    no_effect("name"),
    no_effect("description"),
    // Every schema is kept to.
    no_effect("strict"),
]];
/// `structured_outputs`, vLLM's.
pub const STRUCTURED_OUTPUTS: Table = &[&[
    honoured("json"),
    honoured("regex"),
    honoured("choice"),
    honoured("grammar"),
    honoured("json_object"),
    refused("structural_tag", &[], "parts of an answer cannot be constrained here"),
    refused("disable_any_whitespace", &["false"], WHITE_SPACE),
    refused("disable_additional_properties", &["false"], "say so in the schema"),
    refused("whitespace_pattern", &[], WHITE_SPACE),
]];

const WHITE_SPACE: &str = "the white space of JSON is set by the schema's own `x-guidance` here";

const CHAT_ONLY: &[Param] = &[
    honoured("max_completion_tokens"),
    honoured("prediction"),
    honoured("top_logprobs"),
    // llama.cpp's.
    honoured("reasoning_format"),
    refused("functions", &["[]"], "this is the old form; send `tools`"),
    refused("function_call", &["\"none\"", "\"auto\""], "this is the old form; send `tools`"),
    ignored("reasoning_effort", "what a template knows goes into `chat_template_kwargs`"),
    ignored("verbosity", "no template is told so"),
    refused("modalities", &["[\"text\"]"], "this server answers with text only"),
    refused("audio", &[], "this server answers with text only"),
    refused("web_search_options", &[], "this server does not search"),
];

/// What the chat template sees.
const TEMPLATE: &[Param] = &[
    honoured("messages"),
    honoured("tools"),
    honoured("tool_choice"),
    honoured("add_generation_prompt"),
    honoured("chat_template_kwargs"),
    honoured("parallel_tool_calls"),
    refused("chat_template", &[], "templates come with the model, not with a request"),
    refused("continue_final_message", &["false"], "the last message is always complete here"),
];

const TOKENIZE_ONLY: &[Param] = &[
    honoured("content"),
    honoured("add_special"),
    honoured("parse_special"),
    honoured("with_pieces"),
];

/// Constraints of the answer.
const CONSTRAINTS: &[Param] = &[
    honoured("response_format"),
    honoured("structured_outputs"),
    honoured("guided_json"),
    honoured("guided_regex"),
    honoured("guided_choice"),
    honoured("guided_grammar"),
    honoured("grammar"),
    honoured("json_schema"),
    refused("guided_whitespace_pattern", &[], WHITE_SPACE),
    refused("bad_words", &["[]"], "say what an answer may be with `guided_grammar`"),
    refused("allowed_token_ids", &[], "say what an answer may be with `guided_grammar`"),
];

const NO_SAMPLER: &str = "there is no such sampler here";

/// Sampling of other servers.
const OTHER_SAMPLERS: &[Param] = &[
    refused("min_tokens", &["0"], "an answer cannot be made longer here, but see `ignore_eos`"),
    refused("stop_token_ids", &["[]"], "send the texts of these tokens as `stop`"),
    refused("include_stop_str_in_output", &["false"], "stop texts are not part of answers here"),
    refused("skip_special_tokens", &["true"], "control tokens are not part of answers here"),
    refused("truncate_prompt_tokens", &[], "prompts are not cut here; send what fits"),
    refused("use_beam_search", &["false"], NO_SAMPLER),
    refused("length_penalty", &["1", "1.0"], NO_SAMPLER),
    refused("mirostat", &["0"], NO_SAMPLER),
    refused("typical_p", &["1", "1.0"], NO_SAMPLER),
    refused("dry_multiplier", &["0", "0.0"], NO_SAMPLER),
    refused("xtc_probability", &["0", "0.0"], NO_SAMPLER),
];
