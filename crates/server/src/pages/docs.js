// The routes and their parameters, from the document that programs read. No library, no build.
"use strict";

const el = (id) => document.getElementById(id);

// An element with a text and a class.
function make(kind, text, className) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// What a value may be, in a few words.
function kind(schema) {
  const words = [[].concat(schema.type || []).join(" or ")];
  if (schema.enum) words.push(schema.enum.join(", "));
  if (schema.minimum !== undefined && schema.maximum !== undefined) {
    words.push(`${schema.minimum} to ${schema.maximum}`);
  } else if (schema.minimum !== undefined) {
    words.push(`at least ${schema.minimum}`);
  }
  if (schema.default !== undefined) words.push(`otherwise ${JSON.stringify(schema.default)}`);
  const accepts = schema["x-sterna-accepts"] || [];
  if (accepts.length) words.push(`but for ${accepts.map((value) => JSON.stringify(value)).join(", ")}`);
  return words.filter(Boolean).join("; ");
}

// The rows of a table of parameters; those of objects within follow them.
function rows(properties, required, before) {
  const all = [];
  for (const [name, schema] of Object.entries(properties)) {
    const row = document.createElement("tr");
    const must = required.includes(name) ? " *" : "";
    const about = schema.description || "";
    row.append(make("td", before + name + must), make("td", schema["x-sterna-rule"] || ""),
      make("td", kind(schema)), make("td", about, "soft"));
    for (const cell of row.children) cell.style.textAlign = "left";
    for (const cell of [...row.children].slice(2)) cell.style.whiteSpace = "normal";
    all.push(row, ...rows(schema.properties || {}, [], `${before}${name}.`));
  }
  return all;
}

// What a route takes: its body's parameters, or those of its path and query.
function parameters(operation) {
  const body = operation.requestBody;
  if (body) {
    const schema = body.content["application/json"].schema;
    return rows(schema.properties, schema.required || [], "");
  }
  const own = operation.parameters || [];
  const schemas = own.map((one) => [one.name, { ...one.schema, ...one }]);
  return rows(Object.fromEntries(schemas), own.filter((one) => one.required).map((one) => one.name), "");
}

function section(path, method, operation) {
  const made = document.createElement("details");
  made.className = "card";
  const head = document.createElement("summary");
  head.append(make("b", `${method.toUpperCase()} ${path} `), make("span", operation.summary, "soft"));
  made.append(head);
  const list = parameters(operation);
  if (list.length) {
    const table = document.createElement("table");
    table.append(...list);
    const scroll = make("div", "", "scroll");
    scroll.append(table);
    made.append(scroll);
  }
  return made;
}

// Shows what has the words that were typed, opened where a parameter has them.
function filter() {
  const wanted = el("find").value.trim().toLowerCase();
  for (const part of el("routes").children) {
    const head = part.querySelector("summary").textContent.toLowerCase();
    const isInside = wanted !== "" && part.textContent.toLowerCase().includes(wanted);
    part.hidden = wanted !== "" && !isInside;
    part.open = isInside && !head.includes(wanted);
  }
}

async function load() {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`the server says ${answer.status}`);
  const api = await answer.json();
  el("about").textContent = api.info.description.replaceAll("`", "");
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      el("routes").append(section(path, method, operation));
    }
  }
}

el("find").addEventListener("input", filter);
load().catch((error) => { el("about").textContent = `The list cannot be read: ${error.message}`; });
