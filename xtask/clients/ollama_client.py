"""Ollama's Python client, as it is, against a running server."""

import sys

import ollama
from checks import KEY, MODEL, URL, check, has_route, raises, skip

if not has_route("everything", "/api/chat"):
    sys.exit(0)

client = ollama.Client(host=URL, headers={"Authorization": f"Bearer {KEY}"})
turns = [{"role": "user", "content": "Who was she?"}]
greedy = {"temperature": 0, "num_predict": 12}

listed = [model.model for model in client.list().models]
# Ollama's names have a tag.
check("list", any(name.split(":")[0] == MODEL for name in listed), listed)
check("show", client.show(MODEL).modelinfo is not None)
check("ps", any(entry.model.split(":")[0] == MODEL for entry in client.ps().models), client.ps())

whole = client.chat(model=MODEL, messages=turns, options=greedy)
said = whole.message.content
check("chat", whole.done and whole.message.role == "assistant" and said, whole)
check("chat, counts", whole.eval_count > 0 and whole.prompt_eval_count > 0
      and whole.total_duration > 0, whole)
pieces = list(client.chat(model=MODEL, messages=turns, options=greedy, stream=True))
check("chat, streamed", "".join(piece.message.content for piece in pieces) == said, pieces)
check("chat, the end of a stream", pieces[-1].done and pieces[-1].done_reason in ("stop", "length"),
      pieces[-1])
check("chat with a tag", client.chat(
    model=f"{MODEL}:latest", messages=turns, options=greedy).message.content == said)

made = client.generate(model=MODEL, prompt="She had been", options=greedy, raw=True)
check("generate", made.done and made.response, made)
pieces = list(client.generate(model=MODEL, prompt="She had been", options=greedy, raw=True,
                              stream=True))
check("generate, streamed", "".join(piece.response for piece in pieces) == made.response, pieces)

raises("404 is ResponseError", ollama.ResponseError,
       lambda: client.chat(model="llama-9", messages=turns), 404)
raises("400 is ResponseError", ollama.ResponseError,
       lambda: client.chat(model=MODEL, messages=turns, options={"temperature": -1}), 400)
stranger = ollama.Client(host=URL, headers={"Authorization": "Bearer wrong"})
raises("401 is ResponseError", ollama.ResponseError, stranger.list, 401)

try:
    vectors = client.embed(model=MODEL, input=["She was here.", "He was not."]).embeddings
    check("embed", len(vectors) == 2 and len(vectors[0]) > 8 and vectors[0] != vectors[1], vectors)
except ollama.ResponseError as error:
    skip("embed", error.error)
try:
    held = client.chat(model=MODEL, messages=turns, options={"num_predict": 100}, format={
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
        "additionalProperties": False})
    check("format", held.message.content.replace(" ", "").startswith('{"ok":'), held)
except ollama.ResponseError as error:
    skip("format", error.error)
