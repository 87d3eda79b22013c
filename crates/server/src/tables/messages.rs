//! `POST /v1/messages` and what belongs to it, as Anthropic has it.

use super::{honoured, ignored, means, no_effect, refused};
use crate::params::{Param, Table};

/// `POST /v1/messages`.
pub const MESSAGES: Table = &[MESSAGES_ONLY, PROMPT, super::OWN];
/// `POST /v1/messages/count_tokens`.
pub const COUNT_TOKENS: Table = &[PROMPT];
/// `metadata` of a message.
pub const MESSAGE_METADATA: Table = &[&[means("user_id", "agent_id")]];
/// `output_config`.
pub const OUTPUT_CONFIG: Table = &[&[
    ignored("effort", "what a template knows goes into `chat_template_kwargs`"),
    honoured("format"),
]];
/// `format` in it.
pub const OUTPUT_FORMAT: Table = &[&[honoured("type"), honoured("schema")]];
/// `thinking`.
pub const THINKING: Table = &[&[
    honoured("type"),
    ignored("budget_tokens", "thoughts end where the model ends them, or the answer's limit is"),
    refused("display", &["\"summarized\"", "\"full\""], "thoughts are shown as they are"),
]];
/// A message.
pub const MESSAGE: Table = &[&[honoured("role"), honoured("content")]];
/// A block of a message's content.
pub const BLOCK: Table = &[&[
    honoured("type"),
    honoured("text"),
    // Prefixes are found by their tokens, without being marked.
    no_effect("cache_control"),
    refused("citations", &["[]"], "this server reads text only"),
]];

/// A tool.
pub const TOOL: Table = &[&[
    honoured("type"),
    honoured("name"),
    honoured("description"),
    honoured("input_schema"),
    honoured("strict"),
    no_effect("cache_control"),
    // Arguments come when they are whole, sooner or later.
    no_effect("eager_input_streaming"),
    ignored("input_examples", "no template shows them to the model"),
    refused("defer_loading", &["false"], "a model sees all tools here"),
    refused("allowed_callers", &["[\"direct\"]"], "this server runs no code"),
]];
/// `tool_choice`.
pub const TOOL_CHOICE: Table =
    &[&[honoured("type"), honoured("name"), honoured("disable_parallel_tool_use")]];
/// A block that uses a tool.
pub const TOOL_USE: Table = &[&[
    honoured("type"),
    honoured("id"),
    honoured("name"),
    honoured("input"),
    no_effect("cache_control"),
    refused("caller", &["{\"type\":\"direct\"}"], "this server runs no code"),
]];
/// A block with what a tool said.
pub const TOOL_RESULT: Table = &[&[
    honoured("type"),
    honoured("tool_use_id"),
    honoured("content"),
    honoured("is_error"),
    no_effect("cache_control"),
]];
/// A block of thoughts.
pub const THINKING_BLOCK: Table = &[&[
    honoured("type"),
    honoured("thinking"),
    // Thoughts are read as they are, whoever wrote them.
    no_effect("signature"),
]];

/// What the prompt is made of.
const PROMPT: &[Param] = &[
    honoured("model"),
    honoured("messages"),
    honoured("system"),
    honoured("thinking"),
    honoured("output_config"),
    honoured("tools"),
    honoured("tool_choice"),
    no_effect("cache_control"),
    refused("mcp_servers", &["[]"], "this server asks no others"),
    refused("context_management", &[], "prompts are not cut here; send what fits"),
    refused("speed", &["\"standard\""], "see `service_tier` and `priority`"),
    ignored("user_profile_id", "this server has no profiles"),
    ignored("workspace_id", "this server has no workspaces"),
];

const MESSAGES_ONLY: &[Param] = &[
    honoured("max_tokens"),
    means("stop_sequences", "stop"),
    honoured("stream"),
    honoured("temperature"),
    honoured("top_p"),
    honoured("metadata"),
    honoured("service_tier"),
    refused("container", &[], "this server runs no code"),
    ignored("inference_geo", "answers are made on this machine"),
    ignored("diagnostics", "see `/metrics`"),
];
