// OpenAI's client for Node, as it is, against a running server. It says a line per check and ends
// with exit code 1 at the first failure.
import { createRequire } from "node:module";

const { STERNA_URL, STERNA_BUSY_URL, STERNA_KEY: apiKey, STERNA_MODEL: model, STERNA_NODE } = process.env;
const OpenAI = createRequire(`${STERNA_NODE}/`)("openai");

function check(name, isSo, shown = "") {
  console.log(isSo ? `ok     ${name}` : `FAILED ${name}: ${JSON.stringify(shown)}`);
  if (!isSo) process.exit(1);
}

async function raises(name, kind, status, ask) {
  try {
    check(name, false, await ask());
  } catch (error) {
    check(name, error instanceof kind && error.status === status, String(error));
  }
}

const client = new OpenAI({ baseURL: `${STERNA_URL}/v1`, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Who was she?" }];
const greedy = { model, max_tokens: 12, temperature: 0 };

const ids = [];
for await (const entry of client.models.list()) ids.push(entry.id);
check("models.list", ids.includes(model), ids);

const completion = await client.completions.create({ ...greedy, prompt: "She had been", logprobs: 2 });
check("completions", completion.choices[0].text.length > 0, completion);
check("completions, logprobs", completion.choices[0].logprobs.top_logprobs.length > 0, completion);

const chat = await client.chat.completions.create({ ...greedy, messages });
const said = chat.choices[0].message.content;
check("chat", said.length > 0 && chat.usage.completion_tokens > 0, chat);

let streamed = "", usage = null;
const stream = await client.chat.completions.create({
  ...greedy, messages, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
check("chat, streamed", streamed === said, [streamed, said]);
check("chat, usage of a stream", usage?.completion_tokens === chat.usage.completion_tokens, usage);

const helper = client.chat.completions.stream({ ...greedy, messages });
check("chat, the helper's final content", (await helper.finalContent()) === said);

const numbers = async () => (await (await fetch(`${STERNA_URL}/api/v1/stats`, {
  headers: { Authorization: `Bearer ${apiKey}` } })).json()).models[0].stats;
const before = (await numbers()).finished.cancelled;
const long = await client.completions.create({
  model, prompt: "Once", max_tokens: 480, stream: true, ignore_eos: true });
for await (const _ of long) break;
let after = await numbers();
for (let i = 0; i < 100 && after.finished.cancelled === before; i += 1) {
  await new Promise((done) => setTimeout(done, 50));
  after = await numbers();
}
check("cancel", after.finished.cancelled > before && after.running === 0, after);

await raises("404 is NotFoundError", OpenAI.NotFoundError, 404,
  () => client.chat.completions.create({ model: "gpt-9", messages }));
await raises("400 is BadRequestError", OpenAI.BadRequestError, 400,
  () => client.chat.completions.create({ model, messages, temperature: -1 }));
const stranger = new OpenAI({ baseURL: `${STERNA_URL}/v1`, apiKey: "wrong", maxRetries: 0 });
await raises("401 is AuthenticationError", OpenAI.AuthenticationError, 401,
  () => stranger.chat.completions.create({ model, messages }));
const busy = new OpenAI({ baseURL: `${STERNA_BUSY_URL}/v1`, apiKey, maxRetries: 0 });
await raises("503 is InternalServerError", OpenAI.InternalServerError, 503, async () => {
  const many = Array.from({ length: 12 }, (_, i) => busy.completions.create({
    model, prompt: `Once ${i}`, max_tokens: 480, temperature: 0, ignore_eos: true }));
  const ends = await Promise.allSettled(many);
  const failed = ends.find((end) => end.status === "rejected");
  if (failed) throw failed.reason;
  return ends.length;
});

// The model is too small to choose sensibly: it must call, and once.
const parameters = { type: "object", properties: { city: { type: "string", maxLength: 12 } },
  required: ["city"], additionalProperties: false };
const must = { model, tool_choice: "required", parallel_tool_calls: false };
const tools = [{ type: "function", function: { name: "weather", description: "Says the weather", parameters } }];
const isCall = (call) => call.name === "weather" && typeof JSON.parse(call.arguments).city === "string";
const called = (await client.chat.completions.create({ ...must, messages, tools, max_tokens: 200 })).choices[0];
check("tools", called.finish_reason === "tool_calls" && isCall(called.message.tool_calls[0].function), called);
const streamedCall = await client.chat.completions.stream({ ...must, messages, tools, max_tokens: 200 })
  .finalChatCompletion();
check("tools, streamed", isCall(streamedCall.choices[0].message.tool_calls[0].function), streamedCall);
const turns = [...messages, called.message,
  { role: "tool", tool_call_id: called.message.tool_calls[0].id, content: "rain" }];
const returned = await client.chat.completions.create({ ...greedy, messages: turns, tools });
check("tools, the result goes back", returned.choices[0].message.role === "assistant", returned);

const wanted = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"],
  additionalProperties: false };
const held = await client.chat.completions.create({ model, messages, max_tokens: 100,
  response_format: { type: "json_schema", json_schema: { name: "it", strict: true, schema: wanted } } });
check("response_format", typeof JSON.parse(held.choices[0].message.content).ok === "boolean", held);

const flat = [{ type: "function", name: "weather", description: "Says the weather", parameters, strict: true }];
const asked = { ...must, input: "Who was she?", tools: flat, max_output_tokens: 200 };
const response = await client.responses.create(asked);
const call = response.output.at(-1);
check("responses, tools", call.type === "function_call" && isCall(call), response);
const final = await client.responses.stream(asked).finalResponse();
check("responses, tools streamed", isCall(final.output.at(-1)), final);
const next = await client.responses.create({ model, tools: flat, max_output_tokens: 12,
  previous_response_id: response.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: "rain" }] });
check("responses, the result goes back", next.output.at(-1).type === "message", next);
const json = await client.responses.create({ model, input: "Who was she?", max_output_tokens: 100,
  text: { format: { type: "json_schema", name: "it", strict: true, schema: wanted } } });
check("responses, text.format", typeof JSON.parse(json.output_text).ok === "boolean", json);
