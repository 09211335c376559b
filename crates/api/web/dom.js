// Elements from plain values. Text is always set as text: names of campaigns come from outside.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  fill(element, attributes, children);
  return element;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Tells a screen reader. */
export function say(text) {
  const place = document.getElementById("said");
  if (place && place.textContent !== text) place.textContent = text;
}

/** A panel with a title, tools beside it, and a body that its loader fills. */
export function panel(title, { tools = [], note = null, wide = false, body = h("div", { class: "panel-body" }) } = {}) {
  const head = h("div", { class: "panel-head" }, h("h2", {}, title), note && h("span", { class: "note" }, note), h("div", { class: "tools" }, tools));
  const element = h("section", { class: wide ? "panel wide" : "panel", "aria-label": title }, head, body);
  return { element, body };
}

export function loading(lines = 3) {
  const bars = Array.from({ length: lines }, () => h("div", { class: "skeleton" }));
  return h("div", { class: "state-loading", role: "status", "aria-label": "Loading" }, bars);
}

export function empty(what, cure) {
  return h("div", { class: "state" }, h("strong", {}, what), cure && h("p", {}, cure));
}

/** What went wrong and what to do, in the server's own words where it has some. */
export function failed(error, retry) {
  if (error.status === 404 && !error.title) return empty("This server cannot answer this view.", error.message);
  const reached = error.status === 0 ? "The server cannot be reached" : "This view cannot show what the server answered";
  const title = error.status ? `${error.title || "The question failed"} (${error.status})` : reached;
  return h(
    "div",
    { class: "state state-error", role: "alert" },
    h("strong", {}, title),
    h("p", {}, error.message),
    retry && h("button", { type: "button", class: "button", onclick: retry, "data-away": error.status === 0 }, "Try again"),
  );
}

/**
 * Runs a loader into an element: skeleton, then content, or what went wrong with a way to try again. Where it asks again quietly and
 * in vain, what was there stays, and is said to be old.
 */
export async function into(element, load, { lines = 4, quiet = false } = {}) {
  if (!quiet || !element.childElementCount) replace(element, loading(lines));
  element.setAttribute("aria-busy", "true");
  const turn = (element.turn = (element.turn || 0) + 1);
  try {
    const content = await load();
    if (element.turn === turn && content !== undefined) replace(element, content);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (element.turn !== turn) return;
    const isShown = quiet && element.childElementCount && !element.querySelector(".state-error, .state-loading");
    if (isShown && !element.querySelector(".state-old")) element.prepend(h("p", { class: "state-note state-old", role: "status" }, `These figures are old: they were asked for again in vain (${error.title || "the server cannot be reached"}).`));
    else if (!isShown) replace(element, failed(error, () => into(element, load, { lines })));
  } finally {
    element.removeAttribute("aria-busy");
  }
}

export function select(label, options, value, onchange, { hidden = false } = {}) {
  const choices = options.map(([key, text]) => h("option", { value: key, selected: key === value }, text));
  const control = h("select", { "aria-label": hidden ? label : null, onchange: (event) => onchange(event.target.value) }, choices);
  return hidden ? control : h("label", { class: "field" }, h("span", {}, label), control);
}

export function segmented(label, options, value, onchange) {
  const buttons = options.map(([key, ...content]) =>
    h("button", { type: "button", "aria-pressed": String(key === value), onclick: () => onchange(key) }, content),
  );
  return h("div", { class: "segmented", role: "group", "aria-label": label }, buttons);
}

/** The first rows, and all of them for who wants them: a page of hundreds hides what stands below it. */
export function folded(rows, shown, draw) {
  const place = h("div", {});
  const show = (some) => {
    const rest = rows.length - some.length;
    replace(place, draw(some), rest > 0 && h("button", { type: "button", class: "button quiet more", onclick: () => (show(rows), place.querySelector(".table-wrap")?.focus()) }, `Show all ${rows.length}`));
  };
  show(rows.slice(0, rows.length > shown + 2 ? shown : rows.length));
  return place;
}

/** A table that sorts by its headers. Columns: {key, title, text(row), sort(row), cell(row), class}. */
export function table(columns, rows, { caption, sort, onsort, foot = null, rowClass = null } = {}) {
  const heads = columns.map((column) => {
    const isSorted = sort && sort.key === column.key;
    const direction = isSorted ? (sort.desc ? "descending" : "ascending") : null;
    const turn = () => onsort({ key: column.key, desc: isSorted ? !sort.desc : column.number !== false });
    const title = onsort && column.sort !== null ? h("button", { type: "button", class: "sorter", onclick: turn }, column.title, isSorted && h("span", { class: "arrow", "aria-hidden": "true" }, sort.desc ? "↓" : "↑")) : column.title;
    return h("th", { scope: "col", class: classOf(column), "aria-sort": direction }, title);
  });
  const line = (row, at) =>
    h("tr", { class: rowClass && rowClass(row) }, columns.map((column, nth) => {
      const content = column.cell ? column.cell(row, at) : column.text(row, at);
      return nth === 0 ? h("th", { scope: "row", class: classOf(column) }, content) : h("td", { class: classOf(column) }, content);
    }));
  return h(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "sr" }, caption), columns.some((column) => column.title) && h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map(line)), foot),
  );
}

function classOf(column) {
  return [column.number === false ? "text" : "number", column.class].filter(Boolean).join(" ");
}

/** What is on screen as a file (RFC 4180). A value that a spreadsheet would run as a formula is sent as text. */
export function csvButton(name, columns, rows) {
  return h("button", { type: "button", class: "button quiet", onclick: () => saveCsv(name, columns(), rows()) }, "CSV");
}

export function csvText(columns, rows) {
  const quoted = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns.map((column) => quoted(column.name)), ...rows.map((row) => columns.map((column) => quoted(column.value(row))))];
  return `${lines.map((line) => line.join(",")).join("\r\n")}\r\n`;
}

function saveCsv(name, columns, rows) {
  const url = URL.createObjectURL(new Blob([csvText(columns, rows)], { type: "text/csv;charset=utf-8" }));
  const link = h("a", { href: url, download: `${name}.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  say(`${rows.length} rows saved as ${name}.csv`);
}
