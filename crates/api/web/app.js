// The frame around the pages: where one is, from when to when, and how fresh it is. Each view is its address.

import { h, replace, say, segmented, svg } from "./dom.js";
import { live } from "./live.js";
import { PRESETS, asLocal, fromLocal, ownZone, rangeOf, zones } from "./range.js";
import { redraw } from "./charts.js";
import { ask } from "./api.js";
import * as format from "./format.js";
import overview from "./pages/overview.js";
import campaigns from "./pages/campaigns.js";
import compare from "./pages/compare.js";
import funnel from "./pages/funnel.js";
import heatmap from "./pages/heatmap.js";
import geography from "./pages/geography.js";
import quality from "./pages/quality.js";
import forecast from "./pages/forecast.js";
import event from "./pages/event.js";
import system from "./pages/system.js";
import signin from "./pages/signin.js";
import docs from "./pages/docs.js";

const PAGES = [
  { path: "/", title: "Overview", page: overview, hasRange: true },
  { path: "/campaigns", title: "Campaigns", page: campaigns, hasRange: true },
  { path: "/compare", title: "Compare", page: compare, hasRange: true },
  { path: "/funnel", title: "Funnel", page: funnel, hasRange: true },
  { path: "/heatmap", title: "Heat map", page: heatmap, hasRange: true },
  { path: "/geography", title: "Geography", page: geography, hasRange: true },
  { path: "/quality", title: "Traffic quality", page: quality, hasRange: true },
  { path: "/forecast", title: "Forecast", page: forecast, hasRange: true },
  { path: "/event", title: "One event", page: event },
  { path: "/system", title: "System", page: system },
];
const SIGN_IN = { path: "/sign-in", title: "Sign in", page: signin };
const DOCS = { path: "/docs", title: "API reference", page: docs };
const LOOSE = [SIGN_IN, DOCS];
/** With the outlines of their pictures: half a disc, a sun, a moon. */
const THEMES = { auto: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2Zm0 2v8", light: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6ZM8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13", dark: "M13.5 9.6A6 6 0 0 1 6.4 2.5a6 6 0 1 0 7.1 7.1Z" };

const main = document.getElementById("main");
const header = document.getElementById("top");
let leave = () => {};
let session = { key_required: false, key: null, demo: false };

/** What a page gets: its parameters, its range, and ways to change the address. */
function context() {
  const parameters = new URLSearchParams(location.search);
  const stop = new AbortController();
  const endings = [() => stop.abort()];
  return {
    parameters,
    session,
    live,
    signal: stop.signal,
    range: rangeOf(parameters),
    onleave: (ending) => endings.push(ending),
    end: () => endings.forEach((ending) => ending()),
    /** Changes parameters of the address; null removes one. */
    set(changes, { push = true } = {}) {
      const next = new URLSearchParams(location.search);
      for (const [name, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") next.delete(name);
        else next.set(name, value);
      }
      go(`${location.pathname}${next.size ? `?${next}` : ""}`, push);
    },
    go,
    /** The address of a page, with the same range. */
    href: (path, changes = {}) => hrefOf(path, changes),
    zoom(from, to) {
      const minute = 60_000;
      this.set({ range: "custom", from: new Date(Math.floor(from / minute) * minute).toISOString(), to: new Date(Math.ceil(to / minute) * minute).toISOString() });
    },
  };
}

function hrefOf(path, changes = {}) {
  const kept = new URLSearchParams();
  const current = new URLSearchParams(location.search);
  for (const name of ["range", "from", "to", "tz"]) if (current.has(name)) kept.set(name, current.get(name));
  for (const [name, value] of Object.entries(changes)) if (value !== null && value !== undefined) kept.set(name, value);
  return `${path}${kept.size ? `?${kept}` : ""}`;
}

function go(address, push = true) {
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  draw();
}

function current() {
  return [...PAGES, ...LOOSE].find((page) => page.path === location.pathname) || PAGES[0];
}

let shownPath = null;
let wasAway = false;

function draw() {
  leave();
  const page = current();
  const at = context();
  leave = at.end;
  document.title = `${page.title} · Tally`;
  drawTop(page, at);
  const moved = shownPath !== null && shownPath !== page.path;
  shownPath = page.path;
  replace(main, h("div", { class: "page-head" }, h("h1", {}, page.title), page.hasRange && rangeTools(at)), page.page(at), page !== DOCS && h("footer", { class: "foot" }, h("a", { href: DOCS.path }, "API reference")));
  if (moved) {
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
    say(page.title);
  }
}

function drawTop(page, at) {
  const links = PAGES.map((one) => h("a", { href: hrefOf(one.path), "aria-current": one === page ? "page" : null }, one.title));
  const pill = h("span", { class: "pill", id: "freshness" }, "…");
  const out = session.key && h("button", { type: "button", class: "button quiet", onclick: signOut, title: `Signed in with the key ${session.key}` }, `Sign out ${session.key}`);
  replace(
    header,
    h("div", { class: "brand-line" }, h("a", { class: "brand", href: hrefOf("/") }, mark(), "Tally", session.demo && h("span", { class: "badge" }, "demo")), h("div", { class: "top-tools" }, pill, themeTool(), out)),
    page !== SIGN_IN && h("nav", { "aria-label": "Pages" }, links),
  );
  document.querySelector('nav [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });
  if (LOOSE.includes(page)) return pill.remove();
  at.onleave(
    live.listen(() => {
      freshness(pill, at.range.zone);
      comeBack();
    }),
  );
}

/** Once the server is there again, what could not be asked is asked. */
function comeBack() {
  if (live.state === "reconnecting") wasAway = true;
  if (live.state !== "live" || !wasAway) return;
  wasAway = false;
  document.querySelectorAll("[data-away]").forEach((button) => button.click());
}

/** How things stand, always in the same corner. */
function freshness(pill, zone) {
  const words = {
    live: ["live", "live"],
    connecting: ["waiting", "connecting…"],
    reconnecting: ["away", "no connection", ", trying again"],
    stale: ["away", "no news", " for some seconds"],
  };
  const [kind, text, more] = words[live.state];
  pill.className = `pill ${kind}`;
  replace(pill, h("span", {}, text, more && h("span", { class: "pill-more" }, more)), kind === "live" && live.frame && h("span", { class: "pill-time" }, format.clock(live.frame.at_ms, zone)));
}

function mark() {
  const image = h("span", { class: "mark", "aria-hidden": "true" });
  return image;
}

function themeTool() {
  const chosen = localStorage.getItem("tally.theme") || "auto";
  const picture = (path) => svg("svg", { viewBox: "0 0 16 16", class: "theme-picture", "aria-hidden": "true" }, svg("path", { d: path }));
  return segmented("Theme", Object.entries(THEMES).map(([name, path]) => [name, picture(path), h("span", {}, name[0].toUpperCase() + name.slice(1))]), chosen, (name) => {
    if (name === "auto") {
      localStorage.removeItem("tally.theme");
      delete document.documentElement.dataset.theme;
    } else {
      localStorage.setItem("tally.theme", name);
      document.documentElement.dataset.theme = name;
    }
    redraw();
    document.querySelectorAll('[aria-label="Theme"] button').forEach((button, at) => button.setAttribute("aria-pressed", String(Object.keys(THEMES)[at] === name)));
  });
}

function rangeTools(at) {
  const { range } = at;
  const presets = h("select", { "aria-label": "Period", onchange: (event) => choose(event.target.value) }, PRESETS.map(([key, text]) => h("option", { value: key, selected: key === range.name }, text)));
  const choose = (name) => {
    const custom = name === "custom";
    at.set({ range: name, from: custom ? new Date(range.from).toISOString() : null, to: custom ? new Date(range.to).toISOString() : null });
  };
  const ends = range.name === "custom" && [
    input("From", range.from, (ms) => at.set({ from: new Date(ms).toISOString() })),
    input("To", range.to, (ms) => at.set({ to: new Date(ms).toISOString() })),
  ];
  function input(label, ms, onchange) {
    return h("input", { type: "datetime-local", "aria-label": label, value: asLocal(ms, range.zone), onchange: (event) => event.target.value && onchange(fromLocal(event.target.value, range.zone)) });
  }
  const zone = h("select", { "aria-label": "Time zone", class: "zone", onchange: (event) => at.set({ tz: event.target.value === ownZone ? null : event.target.value }) }, zones().map((name) => h("option", { value: name, selected: name === range.zone }, name)));
  return h("div", { class: "range" }, presets, ends, zone, h("button", { type: "button", class: "button", onclick: () => draw() }, "Refresh"));
}

async function signOut() {
  await fetch("/session", { method: "DELETE" });
  location.assign("/sign-in");
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || link.hasAttribute("download")) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || !current() || to.hash || ![...PAGES, ...LOOSE].some((page) => page.path === to.pathname)) return;
  event.preventDefault();
  go(to.pathname + to.search);
});
document.addEventListener("tally:sign-in", () => {
  if (location.pathname !== SIGN_IN.path) go(`${SIGN_IN.path}?next=${encodeURIComponent(location.pathname + location.search)}`);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("popstate", draw);

try {
  session = await ask("/session");
} catch {
  // The page says so where it asks for figures.
}
if (session.key_required && !session.key && !LOOSE.some((page) => page.path === location.pathname)) {
  history.replaceState(null, "", `${SIGN_IN.path}?next=${encodeURIComponent(location.pathname + location.search)}`);
}
draw();
