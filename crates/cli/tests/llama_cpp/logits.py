"""Logits of llama.cpp for given tokens: logits.py MODEL TOKENS.json OUT.f32 [THREADS]

Needs the Python sources of llama-cpp-python on PYTHONPATH and LLAMA_CPP_LIB_PATH naming the folder
with libllama.so. TOKENS.json is a list of sequences; OUT.f32 receives, sequence by sequence, one row
of logits per token, little-endian f32.
"""

import ctypes
import json
import sys

import numpy as np
from llama_cpp import llama_cpp as lib


def main() -> None:
    model_path, tokens_path, out_path = sys.argv[1:4]
    n_threads = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    sequences = json.load(open(tokens_path))
    lib.llama_backend_init()
    quiet = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(quiet, ctypes.c_void_p(0))
    model = lib.llama_load_model_from_file(
        model_path.encode(), lib.llama_model_default_params()
    )
    assert model, f"llama.cpp cannot load {model_path}"
    params = lib.llama_context_default_params()
    params.n_ctx = max(map(len, sequences))
    params.n_batch = params.n_ubatch = params.n_ctx
    # The KV cache exact and attention in f32 on both sides: what is compared is the encodings.
    params.type_k = params.type_v = 0
    params.flash_attn_type = 0
    params.n_threads = params.n_threads_batch = n_threads
    n_vocab = lib.llama_n_vocab(lib.llama_model_get_vocab(model))
    with open(out_path, "wb") as out:
        for tokens in sequences:
            # A fresh context a sequence: nothing is left of the one before.
            context = lib.llama_new_context_with_model(model, params)
            batch = lib.llama_batch_init(len(tokens), 0, 1)
            batch.n_tokens = len(tokens)
            for i, token in enumerate(tokens):
                batch.token[i] = token
                batch.pos[i] = i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = 1
            assert lib.llama_decode(context, batch) == 0, "llama_decode failed"
            for i in range(len(tokens)):
                row = lib.llama_get_logits_ith(context, i)
                np.ctypeslib.as_array(row, (n_vocab,)).astype("<f4").tofile(out)
            lib.llama_batch_free(batch)
            lib.llama_free(context)


main()
