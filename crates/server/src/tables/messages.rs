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
    refused("format", &[], "answers cannot be held to a schema here"),
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

const NO_TOOLS: &str = "tools are for /v1/chat/completions only, so far";

/// What the prompt is made of.
const PROMPT: &[Param] = &[
    honoured("model"),
    honoured("messages"),
    honoured("system"),
    honoured("thinking"),
    honoured("output_config"),
    refused("tools", &["[]"], NO_TOOLS),
    refused("tool_choice", &["{\"type\":\"auto\"}", "{\"type\":\"none\"}"], NO_TOOLS),
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
