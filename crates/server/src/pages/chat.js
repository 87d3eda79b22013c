// The playground: streams an answer from the same API that programs use. No library, no build.
"use strict";

const el = (id) => document.getElementById(id);
const turns = [];
let running = null;

function headers() {
  const key = sessionStorage.getItem("sterna-key");
  const all = { "Content-Type": "application/json", "X-Agent-Id": "playground" };
  return key ? { ...all, Authorization: `Bearer ${key}` } : all;
}

function show(role, text) {
  const box = document.createElement("div");
  box.className = `turn ${role}`;
  const body = document.createElement("span");
  body.textContent = text;
  const thoughts = document.createElement("small");
  const note = document.createElement("small");
  box.append(thoughts, body, note);
  el("chat").append(box);
  scrollTo(0, document.body.scrollHeight);
  return { body, note, thoughts };
}

// The data of each event of a stream, as it comes.
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}

async function send(text) {
  const isChat = el("mode").value === "chat";
  turns.push({ role: "user", content: text });
  show("user", text);
  const shown = show("assistant", "");
  const settings = { model: el("model").value, stream: true, stream_options: { include_usage: true },
    temperature: Number(el("temperature").value), max_tokens: Number(el("most").value) };
  const body = isChat ? { ...settings, messages: turns } : { ...settings, prompt: text };
  running = new AbortController();
  busy(true);
  const start = performance.now();
  let first = null, said = "", thought = "", usage = null;
  try {
    const path = isChat ? "/v1/chat/completions" : "/v1/completions";
    const answer = await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body),
      signal: running.signal });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    for await (const data of events(answer)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      const choice = chunk.choices?.[0];
      const piece = (isChat ? choice?.delta?.content : choice?.text) ?? "";
      thought += choice?.delta?.reasoning_content ?? "";
      if ((piece || thought) && first === null) first = performance.now();
      said += piece;
      shown.thoughts.textContent = thought;
      // Chats begin with a word; a text goes on as it must.
      shown.body.textContent = isChat ? said.trimStart() : said;
      follow();
      usage = chunk.usage ?? usage;
    }
  } catch (error) {
    if (error.name !== "AbortError") { shown.note.className = "bad"; shown.note.textContent = error.message; }
  }
  // What was not answered was not said.
  if (said) turns.push({ role: "assistant", content: said });
  else turns.pop();
  if (usage && first !== null) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    const rate = usage.completion_tokens / ((performance.now() - first) / 1000);
    shown.note.textContent = `${usage.prompt_tokens} tokens read (${cached} cached), first after ` +
      `${((first - start) / 1000).toFixed(2)} s, ${usage.completion_tokens} generated at ${rate.toFixed(1)}/s`;
  }
  busy(false);
}

// Keeps the end in view, unless the reader went up to read.
function follow() {
  const below = document.body.scrollHeight - innerHeight - scrollY;
  if (below < 160) scrollTo(0, document.body.scrollHeight);
}

function busy(is) {
  el("send").disabled = is;
  el("stop").disabled = !is;
}

el("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = el("text").value;
  if (!text.trim() || el("send").disabled) return;
  el("text").value = "";
  send(text);
});
el("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) el("form").requestSubmit();
});
el("stop").addEventListener("click", () => running?.abort());
el("clear").addEventListener("click", () => { turns.length = 0; el("chat").replaceChildren(); });

async function models() {
  const answer = await fetch("/v1/models", { headers: headers() });
  if (answer.status === 401) {
    const given = prompt("This server wants an API key.");
    if (given) { sessionStorage.setItem("sterna-key", given); return models(); }
    return;
  }
  for (const model of (await answer.json()).data) el("model").append(new Option(model.id, model.id));
}

models();
