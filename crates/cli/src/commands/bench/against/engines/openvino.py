"""Times one test of OpenVINO GenAI on a GGUF file and prints {"tokens": n, "seconds": s}.

Arguments: file, prompt tokens, generated tokens, tokens before (depth), threads. Only inference
counts, not sampling, as in llama-bench; a run of the same shape before warms up.
"""

import json
import os
import random
import struct
import sys
import tempfile

import numpy
import openvino
import openvino_genai


def stand_in_tokenizer(folder):
    """A GGUF file with nothing but the smallest tokenizer. OpenVINO reads byte-level BPE only, and
    fails on files with a SentencePiece vocabulary; prompts here are token ids, so any will do."""

    def string(text):
        return struct.pack("<Q", len(text)) + text.encode()

    def entry(key, kind, value):
        return string(key) + struct.pack("<I", kind) + value

    def strings(list_):
        return struct.pack("<IQ", 8, len(list_)) + b"".join(map(string, list_))

    entries = [
        entry("general.architecture", 8, string("llama")),
        entry("tokenizer.ggml.model", 8, string("gpt2")),
        entry("tokenizer.ggml.pre", 8, string("gpt-2")),
        entry("tokenizer.ggml.tokens", 9, strings(["<s>", "</s>", "a", "b", "ab"])),
        entry("tokenizer.ggml.token_type", 9, struct.pack("<IQ5i", 5, 5, 3, 3, 1, 1, 1)),
        entry("tokenizer.ggml.merges", 9, strings(["a b"])),
        entry("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 1)),
    ]
    path = os.path.join(folder, "tokenizer.gguf")
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)))
        file.write(b"".join(entries) + bytes(32))
    return openvino_genai.Tokenizer(path)


def main():
    path, (n_prompt, n_gen, depth, n_threads) = sys.argv[1], map(int, sys.argv[2:6])
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = stand_in_tokenizer(folder)
    pipeline = openvino_genai.LLMPipeline(
        path, tokenizer, "CPU", INFERENCE_NUM_THREADS=n_threads
    )
    config = openvino_genai.GenerationConfig()
    config.ignore_eos = True
    config.do_sample = False
    # The first token comes with the prompt; the tokens after it are what generation is.
    config.max_new_tokens = n_gen + 1

    def infer_seconds(n_tokens, seed):
        rng = random.Random(seed)
        ids = numpy.array([[rng.randrange(3, 256) for _ in range(n_tokens)]], dtype=numpy.int64)
        result = pipeline.generate(openvino.Tensor(ids), config)
        return [t / 1e6 for t in result.perf_metrics.raw_metrics.token_infer_durations]

    def measure(seed):
        if n_gen > 0:
            times = infer_seconds(max(depth, 1), seed)[1:]
            return len(times), sum(times)
        return n_prompt, infer_seconds(n_prompt, seed)[0]

    # Other tokens than the warm-up's, so that no cache of prefixes can have them.
    measure(0)
    tokens, seconds = measure(1)
    print(json.dumps({"tokens": tokens, "seconds": seconds}))


try:
    main()
except Exception as error:  # whatever it is becomes the reason in the race's row
    sys.exit(f"{type(error).__name__}: {error}")
