// The reference of the API, drawn from /openapi.json: nothing of it is written here.

import { ask } from "../api.js";
import { empty, h, into, replace, say } from "../dom.js";

export default function docs(at) {
  const place = h("div", {});
  into(place, async () => draw(await ask("/openapi.json", { signal: at.signal })), { lines: 8 });
  return place;
}

function draw(document_) {
  const of = new Map(document_.tags.map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(item)) of.get(operation.tags[0])?.push({ path, method, operation, id: `${method}${path}`.replace(/[^a-z0-9]+/gi, "-").toLowerCase() });
  }
  const groups = document_.tags.map((tag) => ({ ...tag, entries: of.get(tag.name).map((entry) => ({ ...entry, element: section(entry, document_) })) }));
  const all = groups.flatMap((group) => group.entries);
  const nothing = empty("No endpoint has these words.", "Try part of a path, such as conversions.");
  nothing.hidden = true;
  const find = h("input", { type: "search", placeholder: "Find an endpoint", "aria-label": "Find an endpoint", oninput: () => filter(find.value) });
  const index = h("nav", { class: "docs-index", "aria-label": "Endpoints" }, groups.map((group) => h("div", {}, h("strong", {}, group.description), group.entries.map((entry) => (entry.link = h("a", { href: `#${entry.id}`, onclick: (event) => show(event, entry) }, h("span", { class: `method ${entry.method}` }, entry.method.toUpperCase()), entry.path))))));
  const parts = groups.map((group) => (group.element = h("section", { "aria-label": group.description }, h("h2", { class: "docs-group" }, group.description), group.entries.map((entry) => entry.element))));

  function filter(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const entry of all) {
      const text = `${entry.method} ${entry.path} ${entry.operation.summary ?? ""}`.toLowerCase();
      const has = wanted.every((word) => text.includes(word));
      entry.element.hidden = entry.link.hidden = !has;
      found += Number(has);
    }
    groups.forEach((group) => (group.element.hidden = group.entries.every((entry) => entry.element.hidden)));
    nothing.hidden = found > 0;
    say(`${found} endpoints`);
  }

  function show(event, entry) {
    event.preventDefault();
    history.replaceState(null, "", `#${entry.id}`);
    entry.element.open = true;
    entry.element.scrollIntoView({ block: "start" });
    entry.element.querySelector("summary").focus({ preventScroll: true });
  }

  const linked = all.find((entry) => `#${entry.id}` === location.hash);
  if (linked) {
    linked.element.open = true;
    requestAnimationFrame(() => linked.element.scrollIntoView({ block: "start" }));
  }
  const about = h("p", { class: "plain" }, `${document_.info.description} Version ${document_.info.version}. Errors are problem details (RFC 9457) that name the field and the cure. `, h("a", { href: "/openapi.json", download: "tally-openapi.json" }, "OpenAPI 3.1 as JSON"));
  return h("div", { class: "docs" }, index, h("div", { class: "docs-body panel" }, about, find, nothing, parts));
}

function section({ path, method, operation, id }, whole) {
  const scope = scopeOf(operation);
  const element = h("details", { class: "endpoint", id }, h("summary", {}, h("span", { class: `method ${method}` }, method.toUpperCase()), h("code", {}, path), h("span", { class: "note" }, operation.summary), h("span", { class: "tag" }, scope)));
  // Drawn when it is opened: forty endpoints with all their fields are long.
  element.addEventListener("toggle", () => element.open && element.childElementCount === 1 && element.append(body({ path, method, operation }, whole)));
  return element;
}

function scopeOf(operation) {
  const ways = operation.security ?? [];
  const scope = ways.flatMap((way) => Object.values(way).flat())[0];
  if (!scope) return "open";
  return ways.some((way) => !Object.keys(way).length) ? `open, or key: ${scope}` : `key: ${scope}`;
}

function body({ path, method, operation }, whole) {
  const contents = Object.entries(operation.requestBody?.content ?? {});
  const example = contents.map(([, content]) => content.example).find(Boolean);
  const parameters = operation.parameters ?? [];
  return h(
    "div",
    { class: "endpoint-body" },
    operation.description && h("p", {}, ...inline(operation.description)),
    parameters.length > 0 && [h("h3", {}, "Parameters"), h("ul", { class: "fields" }, parameters.map((one) => field(one.name, one.schema, whole, { required: one.required, note: one.description, where: one.in })))],
    contents.length > 0 && [h("h3", {}, "Body"), contents.map(([kind, content]) => [h("p", { class: "note mono" }, kind), content.schema && schemaOf(content.schema, whole)])],
    h("h3", {}, "Try it"),
    copyable(curl(path, method, operation, contents[0]?.[0], example)),
    h("h3", {}, "Answers"),
    Object.entries(operation.responses).sort().map(([status, answer]) => response(status, answer, whole)),
  );
}

function response(status, answer, whole) {
  const contents = Object.entries(answer.content ?? {});
  const line = [h("span", { class: `tag ${status < "400" ? "counted" : "quarantined"}` }, status), " ", ...inline(answer.description)];
  if (!contents.length) return h("p", { class: "answer" }, line);
  return h("details", { class: "answer" }, h("summary", {}, line), contents.map(([kind, content]) => [h("p", { class: "note mono" }, kind), content.schema && schemaOf(content.schema, whole)]));
}

function resolved(schema, whole) {
  const name = schema?.$ref?.split("/").pop();
  return name ? whole.components.schemas[name] : schema;
}

/** An object's own fields, and those of what it is put together from. */
function partsOf(schema, whole) {
  const plain = resolved(schema, whole);
  if (plain?.allOf) return plain.allOf.map((part) => partsOf(part, whole)).reduce((sum, part) => ({ properties: { ...sum.properties, ...part.properties }, required: [...sum.required, ...part.required] }), { properties: {}, required: [] });
  return { properties: plain?.properties ?? {}, required: plain?.required ?? [] };
}

function inner(schema, whole) {
  const plain = resolved(schema, whole);
  const one = (plain?.oneOf ?? plain?.anyOf)?.find((part) => part.type !== "null");
  if (one) return inner(one, whole);
  return plain?.items ? inner(plain.items, whole) : plain;
}

function schemaOf(schema, whole) {
  const { properties, required } = partsOf(inner(schema, whole), whole);
  const names = Object.keys(properties);
  if (!names.length) return h("p", { class: "note" }, typeOf(schema, whole));
  names.sort((a, b) => required.includes(b) - required.includes(a));
  return h("ul", { class: "fields" }, names.map((name) => field(name, properties[name], whole, { required: required.includes(name) })));
}

function typeOf(schema, whole) {
  const plain = resolved(schema, whole) ?? {};
  const choices = plain.oneOf ?? plain.anyOf;
  if (choices) return choices.filter((part) => part.type !== "null").map((part) => typeOf(part, whole)).join(" or ");
  const types = [plain.type ?? []].flat().filter((type) => type !== "null");
  if (types.includes("array")) return `list of ${typeOf(plain.items ?? {}, whole)}`;
  const range = [plain.minimum !== undefined && `from ${plain.minimum}`, plain.maximum !== undefined && `to ${plain.maximum}`, plain.maxLength && `up to ${plain.maxLength}`, plain.default !== undefined && `default ${plain.default}`].filter(Boolean).join(", ").replace(", to", " to");
  return [types.length ? types.join(" or ") : plain.type === "null" ? "null" : "anything", plain.format && `(${plain.format})`, range].filter(Boolean).join(" ");
}

/** Names that it may be: of a closed set, or of a pattern that is one. */
function namesOf(schema, whole) {
  const plain = inner(schema, whole) ?? {};
  return plain.enum ?? plain.pattern?.match(/^\^\(([a-z_|]+)\)\$$/)?.[1].split("|") ?? [];
}

function field(name, schema, whole, { required, note, where }) {
  const plain = inner(schema, whole) ?? {};
  const about = note ?? schema.description ?? plain.description;
  const names = namesOf(schema, whole);
  const nested = Object.keys(partsOf(plain, whole).properties).length > 0;
  const list = names.length > 0 && h("div", { class: "names" }, names.map((one) => [h("code", {}, one), " "]));
  return h(
    "li",
    {},
    h("code", {}, name),
    h("span", { class: "note" }, ` ${typeOf(schema, whole)}${where && where !== "query" ? `, in the ${where}` : ""}${required ? "" : ", may be left out"}`),
    required && h("strong", { class: "note" }, " required"),
    about && h("div", {}, ...inline(about)),
    names.length > 8 ? h("details", {}, h("summary", {}, `${names.length} names`), list) : list,
    nested && h("details", {}, h("summary", {}, "Fields"), schemaOf(plain, whole)),
  );
}

function curl(path, method, operation, kind, example) {
  const parameters = operation.parameters ?? [];
  const filled = parameters.filter((one) => one.in === "path").reduce((address, one) => address.replace(`{${one.name}}`, one.example ?? one.schema?.example ?? "00000000-0000-0000-0000-000000000000"), path);
  const query = parameters.filter((one) => one.in === "query" && one.required).map((one) => `${one.name}=${encodeURIComponent(one.example ?? "..")}`).join("&");
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}'${location.origin}${filled}${query ? `?${query}` : ""}'`];
  if ((operation.security ?? []).length) lines.push(`-H "Authorization: Bearer $TALLY_API_KEY"`);
  if (example) lines.push(`-H 'content-type: ${kind}'`, `-d '${JSON.stringify(example).replaceAll("'", "'\\''")}'`);
  return lines.join(" \\\n  ");
}

function copyable(text) {
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    replace(button, "Copied");
    say("Copied");
  };
  const button = h("button", { type: "button", class: "button quiet", onclick: copy }, "Copy");
  return h("div", { class: "code-block" }, h("pre", { tabindex: "0" }, text), button);
}

/** Text with names in backticks as code. */
function inline(text) {
  return text.replace(/\[([^\]]+)\]\([^)]*\)/g, "$1").split("`").map((part, nth) => (nth % 2 ? h("code", {}, part) : part));
}
