"""lm-evaluation-harness, as it is, scores a task over `local-completions`; its log likelihoods must
be those of `sterna eval`, which has no server in it.

The task is made here: no data set is downloaded.
"""

import glob
import json
import os
import subprocess
import sys
import tempfile

from checks import KEY, MODEL, URL, ask, check

STERNA = os.environ["STERNA_BIN"]
FILE = os.environ["STERNA_FILE"]
TOKENIZER = os.environ["STERNA_TOKENIZER"]
DOCUMENTS = [
    ("It is a truth universally acknowledged, that a single man", ["must be in want", "of the a of"]),
    ("She had been a very good sort of", ["woman", "seven"]),
    ("Mr. Darcy said that he was", ["not at all surprised", "é — 👩‍🎤 of"]),
    ("Emma could not", ["help it", "window the"]),
]
# The keys and values that the server keeps, and those of `sterna eval`, are of the same precision.
TOLERANCE = 1e-4

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{text}}}}"
"""
CHOICE = TASK + """doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list: [{{metric: acc}}]
"""
GENERATE = TASK + """doc_to_target: "{{{{text}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 8, temperature: 0}}
metric_list: [{{metric: exact_match}}]
"""


def nats(folder, text):
    """The log likelihood of a text after its first token, by `sterna eval`."""
    path = os.path.join(folder, "text")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    command = [STERNA, "eval", FILE, "--text", path, "--json", "--no-program-cache"]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    [nll] = [figure for figure in figures if figure["name"] == "nll"]
    return -nll["value"] * nll["n"]


def tokenizer(folder):
    """The model's own tokenizer, in the form in which transformers read one."""
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}, file)
    with open(TOKENIZER, "rb") as source, open(os.path.join(folder, "tokenizer.json"), "wb") as file:
        file.write(source.read())


def harness(folder):
    """Runs the harness; the samples by task."""
    data = os.path.join(folder, "data.json")
    with open(data, "w", encoding="utf-8") as file:
        json.dump([{"text": t, "choices": c, "label": 0} for t, c in DOCUMENTS], file)
    for name, kind, form in [("tiny_choice", "multiple_choice", CHOICE),
                             ("tiny_text", "generate_until", GENERATE)]:
        with open(os.path.join(folder, f"{name}.yaml"), "w", encoding="utf-8") as file:
            file.write(form.format(name=name, kind=kind, data=data))
    tokenizer(folder)
    arguments = (f"model={MODEL},base_url={URL}/v1/completions,tokenizer={folder},"
                 "tokenizer_backend=huggingface,tokenized_requests=True,num_concurrent=2,max_length=256")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions", "--model_args", arguments,
               "--tasks", "tiny_choice,tiny_text", "--include_path", folder, "--log_samples",
               "--output_path", os.path.join(folder, "out")]
    env = {**os.environ, "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
           "HF_HOME": os.path.join(folder, "hf")}
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    check("the harness runs", run.returncode == 0, (run.stdout + run.stderr)[-3000:])
    samples = {}
    for name in ("tiny_choice", "tiny_text"):
        [path] = glob.glob(os.path.join(folder, "out", "**", f"samples_{name}_*.jsonl"), recursive=True)
        with open(path, encoding="utf-8") as file:
            samples[name] = sorted(map(json.loads, file), key=lambda sample: sample["doc_id"])
    return samples


with tempfile.TemporaryDirectory() as folder:
    samples = harness(folder)
    worst = 0.0
    for sample in samples["tiny_choice"]:
        text = sample["doc"]["text"]
        before = nats(folder, text)
        for choice, [found, _] in zip(sample["doc"]["choices"], sample["filtered_resps"]):
            direct = nats(folder, f"{text} {choice}") - before
            worst = max(worst, abs(float(found) - direct))
            check(f"log likelihood of {choice!r}", abs(float(found) - direct) < TOLERANCE, [found, direct])
    print(f"       the largest difference is {worst:.2e} nats", flush=True)
    for sample in samples["tiny_text"]:
        body = {"model": MODEL, "prompt": sample["doc"]["text"], "max_tokens": 8, "temperature": 0,
                "stop": ["."]}
        text = ask("/v1/completions", body)[1]["choices"][0]["text"]
        check(f"text after {sample['doc']['text'][:20]!r}", sample["resps"][0][0] == text, sample["resps"])
