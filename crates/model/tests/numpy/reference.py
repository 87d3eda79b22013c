"""Writes Hugging Face directories with random weights, and the logits NumPy computes from them.

An implementation of its own, in float64 and in Hugging Face's layout, that shares nothing with
Sterna: `numpy.rs` compares Sterna's logits with these.

    reference.py OUT small|large     directories OUT/llama, OUT/mistral, OUT/qwen2, OUT/qwen3,
                                     OUT/bitnet

`small` is what is committed beside this file; `large` differs in every size.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

SMALL = dict(layers=2, dim=32, ffn=32, heads=4, kv_heads=2, vocab=40, positions=24)
LARGE = dict(layers=3, dim=96, ffn=160, heads=6, kv_heads=3, vocab=300, positions=100)


def config_of(name, size):
    """config.json as transformers writes it, with what is special of each family."""
    config = {
        "hidden_size": size["dim"],
        "intermediate_size": size["ffn"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "num_key_value_heads": size["kv_heads"],
        "vocab_size": size["vocab"],
        "max_position_embeddings": 512,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    llama3 = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    }
    special = {
        "llama": {
            "architectures": ["LlamaForCausalLM"],
            "rope_theta": 2500.0,
            "rope_scaling": llama3,
            "attention_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        },
        "mistral": {
            "architectures": ["MistralForCausalLM"],
            "rope_theta": 1000000.0,
            "sliding_window": 7,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
        },
        "qwen2": {
            "architectures": ["Qwen2ForCausalLM"],
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
            "sliding_window": 7,
            "use_sliding_window": False,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        },
        "qwen3": {
            "architectures": ["Qwen3ForCausalLM"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            "head_dim": 12,
            "attention_bias": False,
            "tie_word_embeddings": False,
            "torch_dtype": "float32" if size is LARGE else "float16",
        },
        "bitnet": {
            "architectures": ["BitNetForCausalLM"],
            "rope_theta": 500000.0,
            "hidden_act": "relu2",
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "quantization_config": {
                "quant_method": "bitnet",
                "linear_class": "autobitlinear",
                "quantization_mode": "online",
            },
        },
    }
    return config | special[name]


def head_dim_of(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def weights_of(config, random):
    """Random weights of the right shapes; norms near 1, matrices scaled by their width."""
    dim, ffn, head = config["hidden_size"], config["intermediate_size"], head_dim_of(config)
    q_len, kv_len = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    kind = config["architectures"][0]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], dim), "model.norm.weight": (dim,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], dim)
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        shapes[p + "input_layernorm.weight"] = (dim,)
        shapes[p + "post_attention_layernorm.weight"] = (dim,)
        for part, rows in (("q_proj", q_len), ("k_proj", kv_len), ("v_proj", kv_len)):
            shapes[p + f"self_attn.{part}.weight"] = (rows, dim)
            if kind.startswith("Qwen2"):
                shapes[p + f"self_attn.{part}.bias"] = (rows,)
        shapes[p + "self_attn.o_proj.weight"] = (dim, q_len)
        if kind.startswith("Qwen3"):
            shapes[p + "self_attn.q_norm.weight"] = (head,)
            shapes[p + "self_attn.k_norm.weight"] = (head,)
        if kind.startswith("BitNet"):
            shapes[p + "self_attn.attn_sub_norm.weight"] = (q_len,)
            shapes[p + "mlp.ffn_sub_norm.weight"] = (ffn,)
        shapes[p + "mlp.gate_proj.weight"] = (ffn, dim)
        shapes[p + "mlp.up_proj.weight"] = (ffn, dim)
        shapes[p + "mlp.down_proj.weight"] = (dim, ffn)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("norm.weight"):
            values = 1.0 + 0.3 * random.standard_normal(shape)
        elif name.endswith("bias"):
            values = 0.5 * random.standard_normal(shape)
        else:
            values = random.standard_normal(shape) * (1.5 / math.sqrt(shape[-1]))
        weights[name] = values.astype(np.float32)
    return weights


def stored(values, dtype):
    """The bytes in the file, and the numbers they mean."""
    if dtype == "float16":
        half = values.astype(np.float16)
        return "F16", half.tobytes(), half.astype(np.float64)
    if dtype == "bfloat16":
        cut = (values.view(np.uint32) >> 16).astype(np.uint16)
        return "BF16", cut.tobytes(), (cut.astype(np.uint32) << 16).view(np.float32).astype(float)
    return "F32", values.tobytes(), values.astype(np.float64)


def write_safetensors(path, weights, dtype):
    """The format by hand: length, JSON header, bytes. Gives the numbers as stored."""
    header, data, meant = {}, b"", {}
    for name in sorted(weights):
        kind, raw, meant[name] = stored(weights[name], dtype)
        shape = list(weights[name].shape)
        header[name] = {
            "dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return meant


def write_tokenizer(path, vocab_len):
    """Byte-level BPE with too few tokens to be good, which is all a random model needs."""
    tokens = ["<s>", "</s>", "Ġ"] + [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens += [f"<unused{i}>" for i in range(vocab_len - len(tokens))]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True
    }
    path.write_text(json.dumps({
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": t, "special": True} | special for i, t in enumerate(tokens[:2])
        ],
        "truncation": None,
        "padding": None,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [],
        },
    }))


def inverse_frequencies(config, head):
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = config.get("rope_theta", scaling.get("rope_theta"))
    frequencies = base ** (-np.arange(0, head, 2) / head)
    kind = scaling.get("rope_type", "default")
    if kind == "linear":
        return frequencies / scaling["factor"]
    if kind != "llama3":
        return frequencies
    length, low, high = (
        scaling["original_max_position_embeddings"],
        scaling["low_freq_factor"],
        scaling["high_freq_factor"],
    )
    scaled = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        blend = (length / wavelength - low) / (high - low)
        if wavelength < length / high:
            scaled.append(frequency)
        elif wavelength > length / low:
            scaled.append(frequency / scaling["factor"])
        else:
            scaled.append((1 - blend) * frequency / scaling["factor"] + blend * frequency)
    return np.array(scaled)


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotate(x, angles):
    """x: [tokens, heads, head]; halves of a head are the real and imaginary parts."""
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def linear(config, x, weight):
    """x times a layer's matrix; BitNet's is ternary and meets int8 codes with a scale per token."""
    if config["hidden_act"] != "relu2":
        return x @ weight.T
    mean = float(np.float16(np.abs(weight).mean()))
    ternary = np.clip(np.round(weight / mean), -1, 1)
    step = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-5) / 127
    codes = np.clip(np.round(x / step), -128, 127)
    return (codes @ ternary.T) * step * mean


def attention(config, w, prefix, x, angles):
    n, head = len(x), head_dim_of(config)
    project = lambda part: (
        linear(config, x, w[prefix + part + ".weight"]) + w.get(prefix + part + ".bias", 0.0)
    ).reshape(n, -1, head)
    q, k, v = project("q_proj"), project("k_proj"), project("v_proj")
    if prefix + "q_norm.weight" in w:
        q = rms_norm(q, w[prefix + "q_norm.weight"], config["rms_norm_eps"])
        k = rms_norm(k, w[prefix + "k_norm.weight"], config["rms_norm_eps"])
    q, k = rotate(q, angles), rotate(k, angles)
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(head)
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    hidden = j > i
    if config["architectures"][0].startswith("Mistral"):
        hidden |= i - j >= config["sliding_window"]
    scores = np.where(hidden[None], -np.inf, scores)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = np.einsum("hij,jhd->ihd", scores / scores.sum(axis=-1, keepdims=True), v)
    mixed = mixed.reshape(n, -1)
    if prefix + "attn_sub_norm.weight" in w:
        mixed = rms_norm(mixed, w[prefix + "attn_sub_norm.weight"], config["rms_norm_eps"])
    return linear(config, mixed, w[prefix + "o_proj.weight"])


def mlp(config, w, prefix, x):
    gate = linear(config, x, w[prefix + "gate_proj.weight"])
    up = linear(config, x, w[prefix + "up_proj.weight"])
    if config["hidden_act"] == "relu2":
        hidden = np.maximum(gate, 0) ** 2 * up
        hidden = rms_norm(hidden, w[prefix + "ffn_sub_norm.weight"], config["rms_norm_eps"])
    else:
        hidden = gate / (1 + np.exp(-gate)) * up
    return linear(config, hidden, w[prefix + "down_proj.weight"])


def logits_of(config, w, tokens):
    eps = config["rms_norm_eps"]
    x = w["model.embed_tokens.weight"][tokens]
    angles = np.arange(len(tokens))[:, None] * inverse_frequencies(config, head_dim_of(config))
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        normed = rms_norm(x, w[p + "input_layernorm.weight"], eps)
        x = x + attention(config, w, p + "self_attn.", normed, angles)
        normed = rms_norm(x, w[p + "post_attention_layernorm.weight"], eps)
        x = x + mlp(config, w, p + "mlp.", normed)
    x = rms_norm(x, w["model.norm.weight"], eps)
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def main(out, size):
    for seed, name in enumerate(["llama", "mistral", "qwen2", "qwen3", "bitnet"]):
        random = np.random.default_rng(seed)
        config = config_of(name, size)
        directory = Path(out) / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        write_tokenizer(directory / "tokenizer.json", size["vocab"])
        weights = weights_of(config, random)
        path = directory / "model.safetensors"
        weights = write_safetensors(path, weights, config["torch_dtype"])
        tokens = random.integers(0, size["vocab"], size["positions"])
        # Sterna decodes every weight to f32 and computes in f32; the comparison allows for that.
        logits = logits_of(config, weights, tokens)
        rows = range(2, len(tokens), 7)
        expected = {
            "tokens": tokens.tolist(),
            "rows": list(rows),
            "logits": [[round(float(v), 6) for v in logits[row]] for row in rows],
        }
        (directory / "logits.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], {"small": SMALL, "large": LARGE}[sys.argv[2]])
