"""OpenAI's Python client, as it is, against a running server."""

import json
import threading
import time

import openai
from checks import BUSY_URL, KEY, MODEL, URL, check, numbers, raises

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
greedy = {"model": MODEL, "max_tokens": 12, "temperature": 0}
hello = [{"role": "user", "content": "Who was she?"}]

models = client.models.list().data
check("models.list", MODEL in [model.id for model in models], models)
check("models.retrieve", client.models.retrieve(MODEL).id == MODEL)

answer = client.completions.create(prompt="She had been", **greedy)
text = answer.choices[0].text
check("completions", text and answer.usage.completion_tokens <= 12, answer)
check("completions, again the same", client.completions.create(
    prompt="She had been", **greedy).choices[0].text == text)
several = client.completions.create(prompt=["She had been", "He was"], n=2, **greedy)
check("completions, two prompts twice", len(several.choices) == 4 and several.choices[0].text == text,
      several)
scored = client.completions.create(prompt="She had been", logprobs=3, echo=True, **greedy)
columns = scored.choices[0].logprobs
check("completions, echo and logprobs",
      columns.token_logprobs[0] is None and "".join(columns.tokens) == scored.choices[0].text
      and all(len(top) >= 3 for top in columns.top_logprobs[1:]), columns)

chat = client.chat.completions.create(messages=hello, logprobs=True, top_logprobs=2, **greedy)
said = chat.choices[0].message.content
check("chat", chat.choices[0].message.role == "assistant" and said, chat)
check("chat, finish_reason", chat.choices[0].finish_reason in ("length", "stop"))
check("chat, logprobs", all(len(token.top_logprobs) == 2 and token.logprob <= 0
                            for token in chat.choices[0].logprobs.content), chat)
parts = [{"role": "user", "content": [{"type": "text", "text": "Who was she?"}]}]
check("chat, parts of text", client.chat.completions.create(
    messages=parts, **greedy).choices[0].message.content == said)

chunks = list(client.chat.completions.create(
    messages=hello, stream=True, stream_options={"include_usage": True}, **greedy))
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
check("chat, streamed", streamed == said, [streamed, said])
check("chat, usage of a stream", chunks[-1].usage.completion_tokens == chat.usage.completion_tokens
      and not chunks[-1].choices, chunks[-1])
check("chat, a stop text", "e" not in client.chat.completions.create(
    messages=hello, stop=["e"], **greedy).choices[0].message.content)

# A client that has enough closes the stream, and the server stops.
cancelled = numbers()["finished"]["cancelled"]
stream = client.completions.create(model=MODEL, prompt="Once", max_tokens=480, stream=True,
                                   extra_body={"ignore_eos": True})
for chunk, _ in zip(stream, range(3)):
    pass
stream.close()
for _ in range(100):
    if numbers()["finished"]["cancelled"] > cancelled:
        break
    time.sleep(0.05)
now = numbers()
check("cancel", now["finished"]["cancelled"] > cancelled and now["running"] == 0, now)

raises("404 is NotFoundError", openai.NotFoundError,
       lambda: client.chat.completions.create(model="gpt-9", messages=hello), 404)
raises("400 is BadRequestError", openai.BadRequestError,
       lambda: client.chat.completions.create(model=MODEL, messages=hello, temperature=-1), 400)
raises("too long is BadRequestError", openai.BadRequestError,
       lambda: client.completions.create(model=MODEL, prompt="a", max_tokens=100000), 400)
stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="wrong", max_retries=0)
raises("401 is AuthenticationError", openai.AuthenticationError, lambda: stranger.models.list(), 401)


def refused():
    """Asks a server that has room for two until it has none."""
    busy = openai.OpenAI(base_url=f"{BUSY_URL}/v1", api_key=KEY, max_retries=0)
    failures = []

    def one():
        try:
            busy.completions.create(model=MODEL, prompt="Once", max_tokens=480, temperature=0,
                                    extra_body={"ignore_eos": True})
        except openai.APIStatusError as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


raises("503 is InternalServerError", openai.InternalServerError, refused, 503)
patient = openai.OpenAI(base_url=f"{BUSY_URL}/v1", api_key=KEY, max_retries=20)
answers = []
threads = [threading.Thread(target=lambda: answers.append(patient.completions.create(
    model=MODEL, prompt="Once", max_tokens=200, temperature=0))) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
check("503, the client's own retries get there", len(answers) == 4, answers)


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
              "required": ["city"], "additionalProperties": False}
WANTED = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}, "ok": {"type": "boolean"}},
          "required": ["n", "ok"], "additionalProperties": False}
# The model is too small to choose sensibly: it must call, and once.
MUST = {"model": MODEL, "tool_choice": "required", "parallel_tool_calls": False}


def city(call):
    """Whether a call is of the tool and fits its schema."""
    return call.name == "weather" and isinstance(json.loads(call.arguments)["city"], str)


def tools():
    """A call that must be made, whole and streamed, and what it returned."""
    tool = {"type": "function", "function": {
        "name": "weather", "description": "Says the weather", "parameters": PARAMETERS,
        "strict": True}}  # the client streams no others
    called = client.chat.completions.create(messages=hello, tools=[tool], max_tokens=200, **MUST)
    choice = called.choices[0]
    call = choice.message.tool_calls[0]
    check("tools", choice.finish_reason == "tool_calls" and city(call.function), called)
    turns = hello + [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    after = client.chat.completions.create(messages=turns, tools=[tool], **greedy)
    check("tools, the result goes back", after.choices[0].message.role == "assistant", after)
    with client.chat.completions.stream(messages=hello, tools=[tool], max_tokens=200,
                                        **MUST) as stream:
        final = stream.get_final_completion().choices[0]
    check("tools, streamed", final.finish_reason == "tool_calls"
          and city(final.message.tool_calls[0].function), final)
    named = {**MUST, "tool_choice": {"type": "function", "function": {"name": "weather"}}}
    called = client.chat.completions.create(messages=hello, tools=[tool], max_tokens=200, **named)
    check("tools, by name", city(called.choices[0].message.tool_calls[0].function), called)


def schema():
    """An answer that must fit a schema."""
    form = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": WANTED}}
    held = client.chat.completions.create(model=MODEL, messages=hello, response_format=form,
                                          max_tokens=100)
    found = json.loads(held.choices[0].message.content)
    check("response_format", set(found) == {"n", "ok"} and type(found["ok"]) is bool, found)


def thoughts():
    """What the model thinks, apart from what it says; it thinks because its prompt begins so."""
    begun = {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}
    whole = client.chat.completions.create(messages=hello, **greedy, **begun).choices[0].message
    check("reasoning_content", whole.reasoning_content and not whole.content, whole)
    chunks = client.chat.completions.create(messages=hello, stream=True, **greedy, **begun)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    streamed = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    check("reasoning_content, streamed", streamed == whole.reasoning_content, [streamed, whole])
    within = {"extra_body": {**begun["extra_body"], "reasoning_format": "none"}}
    text = client.chat.completions.create(messages=hello, **greedy, **within).choices[0].message
    check("reasoning_format none", whole.reasoning_content in text.content, text)


def responses():
    """The newer API."""
    asked = {"model": MODEL, "input": "Who was she?", "max_output_tokens": 12, "temperature": 0}
    whole = client.responses.create(**asked)
    check("responses", whole.output_text and whole.usage.output_tokens > 0, whole)
    events = list(client.responses.create(**asked, stream=True))
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    check("responses, streamed", "".join(pieces) == whole.output_text, events)
    is_cut = whole.status == "incomplete"
    check("responses, last event", events[-1].type == f"response.{whole.status}"
          and is_cut == (whole.incomplete_details is not None), events[-1])
    thought = client.responses.create(**asked, extra_body={
        "chat_template_kwargs": {"enable_thinking": True}})
    check("responses, reasoning", thought.output[0].type == "reasoning"
          and thought.output[0].content[0].text
          and thought.usage.output_tokens_details.reasoning_tokens == 12, thought)
    raises("responses, 404", openai.NotFoundError,
           lambda: client.responses.create(model="gpt-9", input="a"), 404)


def response_tools():
    """Calls and formats of the newer API."""
    tool = {"type": "function", "name": "weather", "description": "Says the weather",
            "parameters": PARAMETERS, "strict": True}
    asked = {"input": "Who was she?", "tools": [tool], "max_output_tokens": 200, **MUST}
    called = client.responses.create(**asked)
    call = called.output[-1]
    check("responses, tools", call.type == "function_call" and city(call)
          and called.status == "completed", called)
    returned = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    after = client.responses.create(model=MODEL, input=[returned], tools=[tool],
                                    previous_response_id=called.id, max_output_tokens=12)
    check("responses, the result goes back", after.output[-1].type == "message", after)
    turns = [{"role": "user", "content": "Who was she?"}, *called.output, returned]
    again = client.responses.create(model=MODEL, input=turns, tools=[tool], max_output_tokens=12)
    check("responses, the same by the client",
          again.usage.input_tokens == after.usage.input_tokens, [again.usage, after.usage])
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    check("responses, tools streamed", city(final.output[-1])
          and "response.function_call_arguments.delta" in kinds
          and kinds[-1] == "response.completed", kinds)
    form = {"format": {"type": "json_schema", "name": "it", "strict": True, "schema": WANTED}}
    held = client.responses.create(model=MODEL, input="Who was she?", text=form,
                                   max_output_tokens=100)
    found = json.loads(held.output_text)
    check("responses, text.format", set(found) == {"n", "ok"} and type(found["ok"]) is bool, found)
    raises("responses, a tool of OpenAI's", openai.BadRequestError, lambda: client.responses.create(
        model=MODEL, input="a", tools=[{"type": "web_search"}]), 400)


def embeddings():
    """Vectors of texts."""
    made = client.embeddings.create(model=MODEL, input=["She was here.", "He was not."])
    # The client asks for base64 by itself and decodes it.
    vectors = [entry.embedding for entry in made.data]
    check("embeddings", len(vectors) == 2 and len(vectors[0]) == len(vectors[1]) > 8
          and vectors[0] != vectors[1], made)


for part in (tools, schema, thoughts, responses, response_tools, embeddings):
    part()
