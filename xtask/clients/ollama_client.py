"""Ollama's Python client, as it is, against a running server."""

import ollama
from checks import KEY, MODEL, URL, check, raises

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

vectors = client.embed(model=MODEL, input=["She was here.", "He was not."]).embeddings
check("embed", len(vectors) == 2 and len(vectors[0]) > 8 and vectors[0] != vectors[1], vectors)
wanted = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
          "additionalProperties": False}
held = client.chat(model=MODEL, messages=turns, options={"num_predict": 100}, format=wanted)
check("format", "".join(held.message.content.split()).startswith('{"ok":'), held)
held = client.generate(model=MODEL, prompt="Who?", options={"num_predict": 100}, format=wanted)
check("format of generate", "".join(held.response.split()).startswith('{"ok":'), held)

thought = client.chat(model=MODEL, messages=turns, options=greedy, think=True)
check("think", thought.message.thinking and not thought.message.content, thought)
pieces = list(client.chat(model=MODEL, messages=turns, options=greedy, think=True, stream=True))
check("think, streamed", "".join(piece.message.thinking or "" for piece in pieces)
      == thought.message.thinking, pieces)
check("think is off", client.chat(
    model=MODEL, messages=turns, options=greedy, think=False).message.content == said)


def weather(city: str) -> str:
    """Says the weather.

    Args:
      city: where
    """
    return f"rain in {city}"


# Ollama has no way to ask for a call, and the model is too small to make one by itself: that one
# goes in and out of the client's types is checked with calls of ours.
check("tools", client.chat(model=MODEL, messages=turns, tools=[weather], options=greedy).done)
call = ollama.Message.ToolCall(function=ollama.Message.ToolCall.Function(
    name="weather", arguments={"city": "Bern"}))
known = [*turns, ollama.Message(role="assistant", tool_calls=[call]),
         ollama.Message(role="tool", tool_name="weather", content=weather("Bern"))]
after = client.chat(model=MODEL, messages=known, tools=[weather], options=greedy)
check("tools, the result goes in", after.prompt_eval_count > whole.prompt_eval_count, after)
