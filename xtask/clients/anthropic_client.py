"""Anthropic's Python client, as it is, against a running server."""

import json
import time

import anthropic
from checks import KEY, MODEL, URL, check, numbers, raises

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
turns = [{"role": "user", "content": "Who was she?"}]
greedy = {"model": MODEL, "max_tokens": 12, "extra_body": {"temperature": 0}, "messages": turns}

whole = client.messages.create(system="You write novels.", **greedy)
said = whole.content[0].text
check("messages", whole.type == "message" and whole.role == "assistant" and said, whole)
check("messages, stop_reason", whole.stop_reason in ("max_tokens", "end_turn"), whole)
check("messages, usage", whole.usage.input_tokens > 0 and whole.usage.output_tokens > 0, whole)

with client.messages.stream(system="You write novels.", **greedy) as stream:
    streamed = "".join(stream.text_stream)
    final = stream.get_final_message()
check("messages, streamed", streamed == said and final.content[0].text == said, [streamed, said])
check("messages, usage of a stream", final.usage.output_tokens == whole.usage.output_tokens, final)
events = [event.type for event in client.messages.create(stream=True, **greedy)]
check("messages, order of events", events[0] == "message_start" and events[-1] == "message_stop"
      and "content_block_delta" in events, events)

parts = [{"role": "user", "content": [{"type": "text", "text": "Who was she?"}]}]
check("messages, blocks of text", client.messages.create(
    **{**greedy, "messages": parts}).content[0].text == client.messages.create(**greedy).content[0].text)
letter = next(letter for letter in said if letter.isalpha())
stopped = client.messages.create(system="You write novels.", stop_sequences=[letter], **greedy)
check("messages, stop_sequences", stopped.stop_reason == "stop_sequence"
      and stopped.stop_sequence == letter, stopped)

counted = client.messages.count_tokens(model=MODEL, messages=turns)
plain = client.messages.create(**greedy)
# Of a prompt that was read before, input_tokens are those that were not.
read = plain.usage.input_tokens + (plain.usage.cache_read_input_tokens or 0)
check("count_tokens", counted.input_tokens == read, [counted, plain.usage])

before = numbers()["finished"]["cancelled"]
with client.messages.stream(model=MODEL, max_tokens=480, messages=turns) as stream:
    for _ in stream.text_stream:
        break
for _ in range(100):
    if numbers()["finished"]["cancelled"] > before:
        break
    time.sleep(0.05)
now = numbers()
check("cancel", now["finished"]["cancelled"] > before and now["running"] == 0, now)

raises("404 is NotFoundError", anthropic.NotFoundError,
       lambda: client.messages.create(**{**greedy, "model": "claude-9"}), 404)
raises("400 is BadRequestError", anthropic.BadRequestError,
       lambda: client.messages.create(**{**greedy, "extra_body": {"temperature": -1}}), 400)
stranger = anthropic.Anthropic(base_url=URL, api_key="wrong", max_retries=0)
raises("401 is AuthenticationError", anthropic.AuthenticationError,
       lambda: stranger.messages.create(**greedy), 401)

tool = {"name": "weather", "description": "Says the weather", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"], "additionalProperties": False}}
# The model is too small to choose sensibly: it must call, and once.
must = {"model": MODEL, "max_tokens": 200, "messages": turns, "tools": [tool], "tool_choice": {
    "type": "tool", "name": "weather", "disable_parallel_tool_use": True}}
called = client.messages.create(**must)
call = next(block for block in called.content if block.type == "tool_use")
check("tools", called.stop_reason == "tool_use" and isinstance(call.input["city"], str), called)
with client.messages.stream(**must) as stream:
    final = stream.get_final_message()
streamed = final.content[-1]
check("tools, streamed", final.stop_reason == "tool_use" and streamed.name == "weather"
      and isinstance(streamed.input["city"], str), final)
result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
after = client.messages.create(model=MODEL, max_tokens=12, tools=[tool], messages=[
    *turns, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}])
check("tools, the result goes back", after.role == "assistant", after)
raises("a tool of Anthropic's is BadRequestError", anthropic.BadRequestError,
       lambda: client.messages.create(**{**must, "tools": [
           {"type": "web_search_20250305", "name": "web_search"}]}), 400)

form = {"type": "json_schema", "schema": {
    "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
    "additionalProperties": False}}
held = client.messages.create(model=MODEL, max_tokens=100, messages=turns,
                              output_config={"format": form})
check("output_config.format", type(json.loads(held.content[0].text)["ok"]) is bool, held)

thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
thought = client.messages.create(**greedy, **thinking)
check("thinking", thought.content[0].type == "thinking" and thought.content[0].thinking, thought)
with client.messages.stream(**greedy, **thinking) as stream:
    final = stream.get_final_message()
check("thinking, streamed", final.content[0].thinking == thought.content[0].thinking, final)
after = client.messages.create(model=MODEL, max_tokens=12, messages=[
    *turns, {"role": "assistant", "content": thought.content}, *turns], **thinking)
check("thinking, thoughts go back", after.usage.input_tokens > 0, after)
