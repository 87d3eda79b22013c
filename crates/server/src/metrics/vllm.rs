//! Metrics of vLLM's that mean the same here, under its names, labels and bounds.
//!
//! A name whose meaning differs is left out, with the reason in `METRICS.md`: a graph that is empty
//! is better than one that shows something else.

use super::{
    Family, Labels, Of, Seen, counter, family, gauge, labelled, only, pages_in_use, spread,
};
use sterna_engine::PAGE_LEN;
use sterna_engine::stats::{ITL_BOUNDS, LEN_BOUNDS, REQUEST_BOUNDS, ROWS_BOUNDS, TTFT_BOUNDS};

pub const FAMILIES: &[Family] = &[
    gauge("vllm:num_requests_running", |m| m.stats.running as f64, "Requests in work."),
    gauge("vllm:num_requests_waiting", |m| m.stats.waiting as f64, "Requests in the queue."),
    gauge("vllm:kv_cache_usage_perc", kv_usage, "KV cache in use by requests; 1 is all of it."),
    gauge(
        "vllm:gpu_cache_usage_perc",
        kv_usage,
        "The former name of vllm:kv_cache_usage_perc; the cache is in the machine's memory.",
    ),
    family(
        "vllm:cache_config_info",
        "gauge",
        Of::Numbers(cache_config),
        "The KV cache, as labels.",
    ),
    family(
        "vllm:lora_requests_info",
        "gauge",
        Of::Process(|app| Some((lora(), app.unix_seconds() as f64))),
        "Adapters in use, of which there are none here; the value is the time.",
    ),
    counter("vllm:prompt_tokens_total", |m| m.stats.prompt_tokens as f64, "Tokens of prompts."),
    counter("vllm:generation_tokens_total", |m| m.stats.new_tokens as f64, "Tokens generated."),
    counter(
        "vllm:prefix_cache_queries_total",
        |m| m.stats.looked_up_tokens as f64,
        "Tokens of prompts that were looked up in the prefix cache.",
    ),
    counter(
        "vllm:prefix_cache_hits_total",
        |m| m.stats.cached_tokens as f64,
        "Tokens of prompts that were found in the prefix cache.",
    ),
    counter(
        "vllm:num_preemptions_total",
        |m| m.stats.preemptions as f64,
        "Times that a request lost its place to another.",
    ),
    family(
        "vllm:request_success_total",
        "counter",
        Of::Numbers(|m| {
            let reasons = ["stop", "length", "abort", "error"];
            labelled("finished_reason", reasons.into_iter().zip(m.stats.finished.map(|n| n as f64)))
        }),
        "Requests that ended, by reason.",
    ),
    spread(
        "vllm:time_to_first_token_seconds",
        TTFT_BOUNDS,
        |m| only(&m.stats.ttft),
        "Seconds from a request's arrival to its first token.",
    ),
    spread(
        "vllm:inter_token_latency_seconds",
        ITL_BOUNDS,
        |m| only(&m.stats.itl),
        "Seconds between tokens of a request.",
    ),
    spread(
        "vllm:time_per_output_token_seconds",
        ITL_BOUNDS,
        |m| only(&m.stats.itl),
        "The former name of vllm:inter_token_latency_seconds.",
    ),
    spread(
        "vllm:request_time_per_output_token_seconds",
        ITL_BOUNDS,
        |m| only(&m.stats.per_token),
        "Seconds per token after the first, on average over a request.",
    ),
    spread(
        "vllm:e2e_request_latency_seconds",
        REQUEST_BOUNDS,
        |m| only(&m.stats.e2e),
        "Seconds from a request's arrival to its end.",
    ),
    spread(
        "vllm:request_queue_time_seconds",
        REQUEST_BOUNDS,
        |m| only(&m.stats.queue),
        "Seconds that a request waited in the queue.",
    ),
    spread(
        "vllm:request_prefill_time_seconds",
        REQUEST_BOUNDS,
        |m| only(&m.stats.prefill),
        "Seconds from the queue to a request's first token.",
    ),
    spread(
        "vllm:request_decode_time_seconds",
        REQUEST_BOUNDS,
        |m| only(&m.stats.decode),
        "Seconds from a request's first token to its end.",
    ),
    spread(
        "vllm:request_inference_time_seconds",
        REQUEST_BOUNDS,
        |m| only(&m.stats.inference),
        "Seconds from the queue to a request's end.",
    ),
    spread(
        "vllm:request_prompt_tokens",
        LEN_BOUNDS,
        |m| only(&m.stats.prompt_len),
        "Tokens of a request's prompt.",
    ),
    spread(
        "vllm:request_generation_tokens",
        LEN_BOUNDS,
        |m| only(&m.stats.answer_len),
        "Tokens generated for a request.",
    ),
    spread(
        "vllm:request_max_num_generation_tokens",
        LEN_BOUNDS,
        |m| only(&m.groups.longest),
        "Tokens of the longest choice of a prompt.",
    ),
    spread(
        "vllm:request_params_max_tokens",
        LEN_BOUNDS,
        |m| only(&m.stats.max_tokens),
        "Tokens that a request might have had.",
    ),
    spread(
        "vllm:request_params_n",
        crate::groups::N_BOUNDS,
        |m| only(&m.groups.n),
        "Choices asked for a prompt.",
    ),
    counter(
        "vllm:spec_decode_num_drafts_total",
        |m| sum(m.stats.spec.guesses),
        "Guesses of which tokens were computed.",
    ),
    counter(
        "vllm:spec_decode_num_draft_tokens_total",
        |m| sum(m.stats.spec.drafted),
        "Guessed tokens that were computed.",
    ),
    counter(
        "vllm:spec_decode_num_accepted_tokens_total",
        |m| sum(m.stats.spec.accepted),
        "Those of them that were right.",
    ),
    family(
        "vllm:spec_decode_num_accepted_tokens_per_pos_total",
        "counter",
        Of::Numbers(|m| {
            let counts = m.stats.spec.accepted_at.into_iter().enumerate();
            labelled("position", counts.map(|(at, n)| (at.to_string(), n as f64)))
        }),
        "The same by the token's place in its guess, the first at 0.",
    ),
    spread(
        "vllm:iteration_tokens_total",
        ROWS_BOUNDS,
        |m| only(&m.stats.batch_rows),
        "Tokens of a batch.",
    ),
];

fn sum(counts: [u64; 3]) -> f64 {
    counts.iter().sum::<u64>() as f64
}

fn kv_usage(model: &Seen) -> f64 {
    match model.stats.pages {
        0 => 0.0,
        pages => pages_in_use(&model.stats) as f64 / pages as f64,
    }
}

/// What the Gateway API Inference Extension reads: the length of a page, and how many there are.
fn cache_config(model: &Seen) -> Vec<(Labels, f64)> {
    let labels = vec![
        ("block_size", PAGE_LEN.to_string()),
        ("num_gpu_blocks", model.stats.pages.to_string()),
        ("enable_prefix_caching", "True".to_owned()),
    ];
    vec![(labels, 1.0)]
}

/// No adapter can be loaded, so none is, and none is waited for.
fn lora() -> Labels {
    vec![
        ("max_lora", "0".to_owned()),
        ("running_lora_adapters", String::new()),
        ("waiting_lora_adapters", String::new()),
    ]
}
