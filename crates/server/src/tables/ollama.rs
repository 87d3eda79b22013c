//! Ollama's routes. Its clients send its options where it has them, in `options`; what it has by
//! default is in [`OLLAMA_DEFAULTS`].

use super::{honoured, ignored, means, no_effect, refused};
use crate::params::{Param, Table};

/// `POST /api/chat`.
pub const OLLAMA_CHAT: Table = &[&[honoured("messages"), honoured("tools")], BOTH, OWNED];
/// `POST /api/generate`.
pub const OLLAMA_GENERATE: Table = &[GENERATE_ONLY, BOTH, OWNED];
/// `POST /api/show`.
pub const OLLAMA_SHOW: Table = &[&[
    honoured("model"),
    // The older name of the same parameter.
    means("name", "model"),
    ignored("verbose", "there is no more to show"),
]];
/// `POST /api/embed`.
pub const OLLAMA_EMBED: Table =
    &[&[honoured("input"), honoured("truncate"), honoured("dimensions")], EMBEDS, OWNED];
/// `POST /api/embeddings`, the older one.
pub const OLLAMA_EMBEDDINGS: Table = &[&[honoured("prompt")], EMBEDS, OWNED];
/// `options` of both.
pub const OLLAMA_EMBED_OPTIONS: Table = &[&[honoured("num_ctx")], UNUSED, LOADING];
/// A message of a chat.
pub const OLLAMA_MESSAGE: Table = &[&[
    honoured("role"),
    honoured("content"),
    honoured("tool_calls"),
    means("thinking", "reasoning_content"),
    means("tool_name", "name"),
    honoured("tool_call_id"),
    refused("images", &["[]"], NO_IMAGES),
]];
/// `options`.
pub const OLLAMA_OPTIONS: Table = &[SAMPLING, LOADING];

/// What Ollama's documentation of its parameters has where nothing is said, as JSON.
pub const OLLAMA_DEFAULTS: &[(&str, &str)] = &[
    ("temperature", "0.8"),
    ("top_k", "40"),
    ("top_p", "0.9"),
    ("repeat_penalty", "1.1"),
    ("repeat_last_n", "64"),
];

const NO_IMAGES: &str = "this server reads text only";
const NO_SAMPLER: &str = "there is no such sampler here";
const AS_SERVED: &str = "how a model is loaded is decided where the server is started";

const BOTH: &[Param] = &[
    honoured("model"),
    honoured("stream"),
    honoured("options"),
    honoured("think"),
    honoured("logprobs"),
    honoured("top_logprobs"),
    honoured("format"),
    honoured("keep_alive"),
    refused("truncate", &["false"], "prompts are not cut here; send what fits"),
    refused("shift", &["false"], "prompts are not cut here; send what fits"),
];

const GENERATE_ONLY: &[Param] = &[
    honoured("prompt"),
    honoured("system"),
    honoured("raw"),
    refused("tools", &["[]"], "tools are for /api/chat; send the prompt there as a message"),
    refused("suffix", &["\"\""], "text cannot be inserted before a suffix here"),
    refused("template", &["\"\""], "templates come with the model; send `raw` to go without"),
    refused("context", &["[]"], "send earlier turns to /api/chat as messages"),
    refused("images", &["[]"], NO_IMAGES),
    refused("width", &["0"], "this server makes text only"),
    refused("height", &["0"], "this server makes text only"),
    refused("steps", &["0"], "this server makes text only"),
];

/// Who asks, which Ollama does not know.
const OWNED: &[Param] = &[honoured("agent_id"), honoured("cache_salt"), honoured("priority")];

const EMBEDS: &[Param] = &[honoured("model"), honoured("options"), honoured("keep_alive")];

/// What an embedding does not need, since nothing is sampled for it.
const UNUSED: &[Param] = &[
    no_effect("num_predict"),
    no_effect("seed"),
    no_effect("temperature"),
    no_effect("top_k"),
    no_effect("top_p"),
    no_effect("min_p"),
    no_effect("repeat_penalty"),
    no_effect("repeat_last_n"),
    no_effect("frequency_penalty"),
    no_effect("presence_penalty"),
    no_effect("stop"),
    no_effect("tfs_z"),
    no_effect("typical_p"),
    no_effect("mirostat"),
    no_effect("mirostat_tau"),
    no_effect("mirostat_eta"),
    no_effect("penalize_newline"),
    ignored("num_keep", "the beginning of an input is what is kept of it"),
];

const SAMPLING: &[Param] = &[
    means("num_predict", "max_tokens"),
    honoured("num_ctx"),
    honoured("seed"),
    honoured("temperature"),
    honoured("top_k"),
    honoured("top_p"),
    honoured("min_p"),
    honoured("repeat_penalty"),
    honoured("repeat_last_n"),
    honoured("frequency_penalty"),
    honoured("presence_penalty"),
    honoured("stop"),
    refused("tfs_z", &["1", "1.0"], NO_SAMPLER),
    refused("typical_p", &["1", "1.0"], NO_SAMPLER),
    refused("mirostat", &["0"], NO_SAMPLER),
    // They are of a sampler that is refused.
    no_effect("mirostat_tau"),
    no_effect("mirostat_eta"),
    ignored("penalize_newline", "line ends are penalized as other tokens are"),
    ignored("num_keep", "prompts are not cut here, so nothing of them need be kept"),
];

const LOADING: &[Param] = &[
    ignored("numa", AS_SERVED),
    ignored("num_batch", AS_SERVED),
    ignored("num_gpu", AS_SERVED),
    ignored("main_gpu", AS_SERVED),
    ignored("low_vram", AS_SERVED),
    ignored("f16_kv", AS_SERVED),
    ignored("logits_all", AS_SERVED),
    ignored("vocab_only", AS_SERVED),
    ignored("use_mmap", AS_SERVED),
    ignored("use_mlock", AS_SERVED),
    ignored("embedding_only", AS_SERVED),
    ignored("num_thread", AS_SERVED),
];
