// The dashboard: asks for /api/v1/stats once a second and draws what changed. No library, no build.
"use strict";

const SECONDS = 120;
const COLORS = ["#1f6feb", "#4cc38a", "#e8a33d", "#a371f7", "#8b949e"];
const KINDS = {
  kv: "keys and values",
  weights_shared: "weights (mapped)",
  weights_private: "weights",
  draft: "draft model",
  response_cache: "answers that are kept (at most)",
};
const history = [];
let last = null;

const el = (id) => document.getElementById(id);
const sum = (list, of) => list.reduce((all, item) => all + of(item), 0);

function number(value, digits = 0) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
}

// As many digits as say something.
function rounded(value) {
  return number(value, value !== null && Math.abs(value) < 100 ? 1 : 0);
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 1 ? `${number(1000 * value)} ms` : `${number(value, 1)} s`;
}

// Percentiles are bounds of a histogram's buckets.
function within(value) {
  return value === null || value === undefined ? "–" : `≤ ${seconds(value)}`;
}

function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) { value /= 1000; at += 1; }
  return `${number(value, at > 1 ? 1 : 0)} ${units[at]}`;
}

// A line of the last two minutes; null leaves a gap.
function sparkline(values) {
  const most = Math.max(1e-9, ...values.map((v) => v ?? 0));
  const points = values.map((v, i) => v === null ? null :
    `${(200 * i / (SECONDS - 1)).toFixed(1)},${(48 - 44 * v / most).toFixed(1)}`);
  const line = points.filter((p) => p !== null).join(" ");
  return `<svg viewBox="0 0 200 50" preserveAspectRatio="none" aria-hidden="true">` +
    `<polyline points="${line}" fill="none" stroke="var(--main)" stroke-width="2" ` +
    `vector-effect="non-scaling-stroke"/></svg>`;
}

function tile(name, value, unit, values) {
  return `<div class="card"><h2>${name}</h2><div class="value">${value}</div>` +
    `<div class="unit">${unit}</div>${values ? sparkline(values) : ""}</div>`;
}

function bar(id, parts) {
  const all = sum(parts, (part) => part.value) || 1;
  el(id).innerHTML = parts.map((part, i) =>
    `<i style="width:${100 * part.value / all}%;background:${part.color ?? COLORS[i]}"></i>`).join("");
  el(`${id}-legend`).innerHTML = parts.map((part, i) =>
    `<span style="--of:${part.color ?? COLORS[i]}">${part.name} ${part.text}</span>`).join("");
}

function table(id, head, rows, empty) {
  const escape = (text) => String(text).replace(/[&<>"]/g, (c) =>
    ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const cells = (list, tag) => `<tr>${list.map((c) => `<${tag}>${escape(c)}</${tag}>`).join("")}</tr>`;
  const body = rows.length ? rows.map((row) => cells(row, "td")).join("") :
    `<tr><td class="soft" colspan="${head.length}">${escape(empty)}</td></tr>`;
  el(id).innerHTML = cells(head, "th") + body;
}

function draw(now) {
  const models = now.models;
  const total = (key) => sum(models, (m) => m.stats[key]);
  const gap = last ? now.uptime_seconds - last.uptime_seconds : 0;
  // A model that came back into memory counts from 0 again.
  const before = (model, key) => {
    const then = last.models.find((m) => m.name === model.name)?.stats[key] ?? 0;
    return then <= model.stats[key] ? then : 0;
  };
  const rate = (key) => gap > 0 && last ?
    sum(models, (m) => m.stats[key] - before(m, key)) / gap : null;
  const point = { generated: rate("new_tokens"), read: rate("prefilled_tokens"),
    running: total("running"), waiting: total("waiting") };
  history.push(point);
  while (history.length > SECONDS) history.shift();
  const line = (key) => [...Array(SECONDS - history.length).fill(null), ...history.map((p) => p[key])];
  const asked = total("looked_up_tokens");
  const hits = asked ? 100 * total("cached_tokens") / asked : null;
  // Latencies of the model with most requests; the table has each.
  const busiest = models.reduce((a, b) => a && a.ttft.count >= b.stats.ttft.count ? a : b.stats, null);
  const tail = (spread) => spread?.p95 ? `median; 95% ${within(spread.p95)}` : "median";
  el("tiles").innerHTML = [
    tile("Generated", rounded(point.generated), "tokens/s", line("generated")),
    tile("Prompts read", rounded(point.read), "tokens/s", line("read")),
    tile("In work", number(point.running), "requests", line("running")),
    tile("Queue", number(point.waiting), "requests", line("waiting")),
    tile("First token", within(busiest?.ttft.p50), tail(busiest?.ttft)),
    tile("Between tokens", within(busiest?.itl.p50), tail(busiest?.itl)),
    tile("Prefix cache", hits === null ? "–" : `${number(hits, 1)}%`, "of prompt tokens looked up"),
    tile("Coalesced", number(total("coalesced")), "requests answered with another's work"),
  ].join("");
  const held = total("pages_used") - total("pages_cached");
  bar("pages", [
    { name: "in work", value: held, text: `${number(held)} pages` },
    { name: "cached prefixes", value: total("pages_cached"), text: `${number(total("pages_cached"))} pages` },
    { name: "free", value: total("pages") - total("pages_used"), color: "var(--line)",
      text: `${number(total("pages") - total("pages_used"))} pages` },
  ]);
  const kinds = {};
  for (const model of models) {
    for (const [kind, size] of Object.entries(model.memory)) kinds[kind] = (kinds[kind] ?? 0) + size;
  }
  bar("memory", Object.entries(kinds).map(([kind, value]) =>
    ({ name: KINDS[kind] ?? kind, value, text: bytes(value) })));
  table("models",
    ["Model", "State", "Memory", "Waiting", "In work", "Prompt tokens", "Cached", "Generated", "TTFT p50", "TTFT p95", "ITL p50", "ITL p95", "Preempted", "Failed"],
    now.catalog.map((m) => [m.name, state(m), bytes(m.memory_bytes), ...counts(models.find((l) => l.name === m.name)?.stats)]),
    "none");
  const turns = now.memory;
  el("turns").textContent = [
    `${bytes(turns.used_bytes)} taken${turns.limit_bytes ? ` of ${bytes(turns.limit_bytes)}` : ""}`,
    `${number(turns.loads)} loads`, `${number(turns.evictions)} left`,
    `loaded ahead: ${bytes(turns.preload_useful_bytes)} useful, ${bytes(turns.preload_wasted_bytes)} wasted`,
  ].join(" · ");
  const agents = byAgent(now);
  table("agents", ["Agent", "Class", "Share", "Model", "In flight", "Requests", "Refused", "Prompt tokens", "Generated"],
    agents.map((a) => [a.name || "(anonymous)", a.class, number(a.share, 1), a.model ?? "any", number(a.open),
      number(a.requests), number(a.refused), number(a.prompt_tokens), number(a.new_tokens)]),
    "nobody has asked for anything yet");
  const pss = now.process.pss_bytes ? `, ${bytes(now.process.pss_bytes)} in memory` : "";
  el("about").textContent = `${models.map((m) => m.name).join(", ") || "no model in memory"} · up ${uptime(now.uptime_seconds)}${pss}`;
  el("about").className = "soft";
  last = now;
}

function state(model) {
  const { value, error } = model.status;
  return [value, model.pinned ? "pinned" : null, error ? `failed: ${error}` : null].filter(Boolean).join(", ");
}

// What a model in memory counted since it came; of one that is not there, nothing is known.
function counts(stats) {
  if (!stats) return Array(11).fill("–");
  return [number(stats.waiting), number(stats.running), number(stats.prompt_tokens),
    number(stats.cached_tokens), number(stats.new_tokens), within(stats.ttft.p50), within(stats.ttft.p95),
    within(stats.itl.p50), within(stats.itl.p95), number(stats.preemptions), number(stats.finished.failed)];
}

// Who asked, over all models in memory, and the agents that an operator knows.
function byAgent(now) {
  const all = new Map();
  for (const known of now.agents) {
    const refused = sum(Object.values(known.refused), (n) => n);
    all.set(known.name, { ...known, refused, open: 0, requests: 0, prompt_tokens: 0, new_tokens: 0 });
  }
  for (const asked of now.models.flatMap((m) => m.stats.agents)) {
    const agent = all.get(asked.name);
    if (!agent) { all.set(asked.name, { ...asked, refused: 0 }); continue; }
    for (const key of ["open", "requests", "prompt_tokens", "new_tokens"]) agent[key] += asked[key];
  }
  return [...all.values()].sort((a, b) =>
    b.open - a.open || b.new_tokens - a.new_tokens || a.name.localeCompare(b.name));
}

function uptime(s) {
  if (s < 120) return `${number(s)} s`;
  return s < 7200 ? `${number(s / 60)} min` : `${number(s / 3600, 1)} h`;
}

async function tick() {
  try {
    const answer = await fetch("/api/v1/stats", { headers: key() });
    if (answer.status === 401) return ask();
    draw(await answer.json());
  } catch {
    el("about").textContent = "the server does not answer";
    el("about").className = "bad";
  }
  setTimeout(tick, 1000);
}

function key() {
  const stored = sessionStorage.getItem("sterna-key");
  return stored ? { Authorization: `Bearer ${stored}` } : {};
}

function ask() {
  const given = prompt("This server wants an API key.");
  if (given) sessionStorage.setItem("sterna-key", given);
  setTimeout(tick, given ? 0 : 10000);
}

tick();
