//! Tensor names: GGUF's, which Sterna uses everywhere, and Hugging Face's.

/// GGUF name and Hugging Face name of what exists once.
const WHOLE: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// GGUF name and Hugging Face name of what each layer has.
const LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_sub_norm", "self_attn.attn_sub_norm"),
    ("ffn_sub_norm", "mlp.ffn_sub_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`.
pub fn huggingface(gguf_name: &str) -> Option<String> {
    let (stem, kind) = gguf_name.rsplit_once('.')?;
    let find = |list: &[(&str, &'static str)], name: &str| {
        list.iter().find(|(gguf, _)| *gguf == name).map(|(_, hf)| *hf)
    };
    match stem.strip_prefix("blk.") {
        None => Some(format!("{}.{kind}", find(WHOLE, stem)?)),
        Some(layer) => {
            let (layer, part) = layer.split_once('.')?;
            Some(format!("model.layers.{layer}.{}.{kind}", find(LAYER, part)?))
        }
    }
}
