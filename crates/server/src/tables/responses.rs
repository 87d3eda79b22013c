//! `POST /v1/responses` and what belongs to it.

use super::{MODEL, honoured, ignored, means, no_effect, refused};
use crate::params::{Param, Table};

/// `POST /v1/responses`.
pub const RESPONSES: Table = &[RESPONSES_ONLY, INPUT, super::OWN];
/// `POST /v1/responses/input_tokens`.
pub const INPUT_TOKENS: Table = &[INPUT, MODEL, &[ignored("personality", NO_PERSONALITY)]];
/// The query of `GET /v1/responses/{id}`.
pub const RESPONSE_QUERY: Table = &[&[
    ignored("include", "a response is shown as it was made"),
    ignored("include[]", "a response is shown as it was made"),
    refused("stream", &["\"false\""], "a stream can be read once, where it was asked for"),
    refused("starting_after", &[], "a stream can be read once, where it was asked for"),
    no_effect("include_obfuscation"),
]];
/// `text` of a response.
pub const TEXT: Table = &[&[honoured("format"), ignored("verbosity", "no template is told so")]];
/// `format` in it.
pub const TEXT_FORMAT: Table = &[&[
    honoured("type"),
    honoured("schema"),
    no_effect("name"),
    no_effect("description"),
    // Every schema is kept to.
    no_effect("strict"),
]];
/// A tool.
pub const FUNCTION_TOOL: Table = &[&[
    honoured("type"),
    honoured("name"),
    honoured("description"),
    honoured("parameters"),
    honoured("strict"),
    refused("defer_loading", &["false"], "a model sees all tools here"),
]];
/// `tool_choice` that names a function.
pub const NAMED_TOOL: Table = &[&[honoured("type"), honoured("name")]];
/// A call of a function in `input`.
pub const FUNCTION_CALL: Table = &[&[
    honoured("type"),
    honoured("call_id"),
    honoured("name"),
    honoured("arguments"),
    no_effect("id"),
    no_effect("status"),
]];
/// What a function returned.
pub const FUNCTION_OUTPUT: Table = &[&[
    honoured("type"),
    honoured("call_id"),
    honoured("output"),
    no_effect("id"),
    no_effect("status"),
]];
/// What the model thought in an earlier answer.
pub const REASONING_ITEM: Table = &[&[
    honoured("type"),
    honoured("content"),
    honoured("summary"),
    no_effect("id"),
    no_effect("status"),
    ignored("encrypted_content", "this server has no key to it"),
]];
/// A part of it.
pub const REASONING_PART: Table = &[&[honoured("type"), honoured("text")]];
/// `stream_options` of a response.
pub const RESPONSE_STREAM_OPTIONS: Table =
    &[&[refused("include_obfuscation", &["false"], "chunks are not padded here")]];
/// A message of `input`.
pub const INPUT_ITEM: Table = &[&[
    honoured("type"),
    honoured("role"),
    honoured("content"),
    // What these say of an earlier answer changes nothing in the prompt.
    no_effect("id"),
    no_effect("status"),
    no_effect("phase"),
]];
/// A part of a message's content.
pub const INPUT_PART: Table = &[&[
    honoured("type"),
    honoured("text"),
    honoured("refusal"),
    no_effect("annotations"),
    no_effect("logprobs"),
    no_effect("prompt_cache_breakpoint"),
]];

const NO_PERSONALITY: &str = "say in `instructions` how the model should answer";

/// What the prompt is made of.
const INPUT: &[Param] = &[
    honoured("input"),
    honoured("instructions"),
    honoured("previous_response_id"),
    honoured("text"),
    refused("conversation", &[], "conversations are not kept here; send `previous_response_id`"),
    honoured("tools"),
    honoured("tool_choice"),
    honoured("parallel_tool_calls"),
    ignored("reasoning", "what a template knows goes into `chat_template_kwargs`"),
    refused("truncation", &["\"disabled\""], "prompts are not cut here; send what fits"),
];

const RESPONSES_ONLY: &[Param] = &[
    honoured("model"),
    means("max_output_tokens", "max_tokens"),
    honoured("temperature"),
    honoured("top_p"),
    honoured("top_logprobs"),
    honoured("include"),
    honoured("stream"),
    honoured("stream_options"),
    honoured("store"),
    honoured("metadata"),
    honoured("service_tier"),
    no_effect("user"),
    no_effect("safety_identifier"),
    // Prefixes are found by their tokens; a key adds nothing.
    no_effect("prompt_cache_key"),
    ignored("prompt_cache_retention", "prefixes stay as long as there is room for them"),
    ignored("prompt_cache_options", "prefixes stay as long as there is room for them"),
    // It counts tools that the server runs; it runs none.
    no_effect("max_tool_calls"),
    refused("background", &["false"], "an answer is made while its request is open"),
    refused("background_options", &[], "an answer is made while its request is open"),
    refused("prompt", &[], "this server keeps no prompts; send `input` and `instructions`"),
    refused("context_management", &["[]"], "prompts are not cut here; send what fits"),
    refused("moderation", &[], "this server moderates nothing"),
    refused("image", &[], "this server reads text only"),
    ignored("access_programs", "this server has no such programs"),
];
