// What is happening now, what happened, and whether the figures hold.

import { bar, timeChart } from "../charts.js";
import { ask, query } from "../api.js";
import { csvButton, empty, h, into, panel, replace, segmented, table } from "../dom.js";
import { amounts, figure, queryMoney, severalCurrencies, source } from "../figures.js";
import * as format from "../format.js";
import { asQuestion, bucketStart, buckets } from "../range.js";

const KINDS = ["impressions", "clicks", "conversions"];
const CLASSES = ["gross_", "", "duplicate_", "invalid_", "quarantined_"];
const METRICS = [...KINDS.flatMap((kind) => CLASSES.map((klass) => `${klass}${kind}`)), "ctr", "cvr", "cost_micros", "revenue_micros", "roas"];
const PROOF_EVERY = 15_000;
const TRUTH_EVERY = 1_000;

export default function overview(at) {
  const totals = h("div", { class: "cards", "aria-label": "Totals" });
  const over = panel("Over time", { wide: true });
  const busiest = panel("Campaigns", { wide: !at.session.demo, tools: [h("a", { href: at.href("/campaigns") }, "All campaigns")] });
  const where = panel("Countries", { tools: [h("a", { href: at.href("/geography") }, "All countries")] });
  let asking = false;
  const load = async (quiet) => {
    if (asking) return;
    asking = true;
    try {
      await Promise.all([into(totals, () => cards(at), { lines: 2, quiet }), into(over.body, () => series(at), { lines: 6, quiet }), into(busiest.body, () => campaigns(at), { quiet }), into(where.body, () => countries(at), { quiet })]);
    } finally {
      asking = false;
    }
  };
  load(false);
  if (at.range.isCurrent) {
    // Figures of a period that goes on are asked for again, but not where nobody looks.
    const again = setInterval(() => !document.hidden && load(true), 10_000);
    at.onleave(() => clearInterval(again));
  }
  // Beside the tall panel there is room for one more below the proof: the demo's truth, or else where people are.
  const [beside, below] = at.session.demo ? [truthPanel(at), where.element] : [where.element, null];
  return h("div", { class: "grid" }, livePanel(at), h("div", { class: "column" }, proofPanel(at), beside), h("div", { class: "wide" }, totals), over.element, busiest.element, below);
}

function livePanel(at) {
  let windowName = at.parameters.get("live") === "5" ? "five_minutes" : "minute";
  const figures = h("div", { class: "live-figures" });
  const busiest = h("div", { class: "live-campaigns" });
  const note = h("p", { class: "state-note", hidden: true });
  const columns = (seconds) => ["counted", "duplicate", "invalid"].map((name, nth) => ({ name: ["Counted", "Duplicates", "Invalid"][nth], values: seconds[name], summary: "", colour: ["c1", "c2", "c3"][nth] }));
  let chart = null;
  const place = h("div", {});
  const choose = h("div", {});
  const drawChoice = () =>
    replace(choose, segmented("Window", [["minute", "1 min"], ["five_minutes", "5 min"]], windowName, (name) => {
      windowName = name;
      const address = new URLSearchParams(location.search);
      if (name === "minute") address.delete("live");
      else address.set("live", "5");
      history.replaceState(null, "", `${location.pathname}${address.size ? `?${address}` : ""}`);
      drawChoice();
      show();
    }));
  drawChoice();
  const { element, body } = panel("Now", { tools: [choose], note: "events as they are counted, by second of receipt" });
  element.classList.add("live-panel");
  replace(body, note, figures, place, busiest);
  replace(figures, h("div", { class: "skeleton tall" }));

  function show() {
    const { frame, state } = at.live;
    element.classList.toggle("is-old", state === "stale" || state === "reconnecting");
    note.hidden = state === "live" || state === "connecting";
    note.textContent = state === "reconnecting" ? "The connection is gone, so these figures stand still. It is tried again by itself; if that goes on, look whether the server runs." : "The server has told nothing for some seconds; these figures may be old.";
    if (!frame) return;
    const now = frame[windowName];
    replace(figures, [["Received", now.received], ["Counted", now.counted], ["Duplicates", now.duplicate], ["Invalid", now.invalid], ["Clicks", now.clicks], ["CTR", now.impressions ? now.clicks / now.impressions : null]].map(([name, value]) => h("div", { class: "figure", "data-live": name.toLowerCase() }, h("span", {}, name), h("b", {}, name === "CTR" ? format.ratio(value) : format.count(value)))));
    const from = frame.seconds.from_s;
    const keep = windowName === "minute" ? 60 : 300;
    // The second that is not over yet would always look like a fall.
    const cut = (values) => values.slice(-keep - 1, -1);
    const seconds = Object.fromEntries(["counted", "duplicate", "invalid"].map((name) => [name, cut(frame.seconds[name])]));
    const times = cut(frame.seconds.counted.map((_, nth) => from + nth));
    if (chart) chart.update(times, columns(seconds));
    else {
      chart = timeChart({ times, series: columns(seconds), zone: at.range.zone, height: 170, stacked: true, title: "Events a second" });
      replace(place, chart.element);
    }
    const rows = frame.campaigns.filter((row) => row[windowName].received).slice(0, 6);
    const most = Math.max(...rows.map((row) => row[windowName].received), 1);
    replace(
      busiest,
      rows.length
        ? table(
            [
              { key: "campaign", title: "Campaign", number: false, cell: (row) => h("a", { href: at.href("/campaigns", { campaign: row.campaign_id }), title: row.campaign_id }, format.shortId(row.campaign_id)) },
              { key: "bar", title: "", class: "bar-cell", cell: (row) => bar(row[windowName].received / most) },
              { key: "received", title: "Received", text: (row) => format.count(row[windowName].received) },
              { key: "clicks", title: "Clicks", text: (row) => format.count(row[windowName].clicks) },
              { key: "ctr", title: "CTR", text: (row) => format.ratio(row[windowName].impressions ? row[windowName].clicks / row[windowName].impressions : null) },
            ],
            rows,
            { caption: "The busiest campaigns now" },
          )
        : empty("Nothing came in just now.", "As soon as an event is counted, it shows here."),
    );
  }
  at.onleave(at.live.listen(show));
  return element;
}

/** Received = counted + duplicate + invalid + quarantined: asked of the server, again and again. */
function proofPanel(at) {
  const { element, body } = panel("Do the figures hold?");
  element.classList.add("seal-panel");
  const load = () =>
    into(
      body,
      async () => {
        const { holds, report } = await ask("/v1/verify?recent=true", { signal: at.signal, accept: [409] });
        const sum = (name) => Object.values(report.kinds || {}).reduce((all, kind) => all + (kind[name] || 0), 0);
        const rows = [["received", report.received], ["counted", sum("counted")], ["duplicate", sum("duplicate")], ["invalid", sum("invalid_givt") + sum("invalid_sivt")], ["quarantined", sum("quarantined")]];
        return [
          h("div", { class: holds ? "seal holds" : "seal broken", role: holds ? "status" : "alert" }, h("span", { class: "seal-mark", "aria-hidden": "true" }, holds ? "✓" : "✗"), h("div", {}, h("strong", {}, holds ? "Every event is accounted for" : "The figures contradict each other"), h("p", {}, holds ? "received = counted + duplicate + invalid + quarantined" : `${format.count(report.differences_total)} differences. Run tally verify --recount, then tally rebuild for the days that it names.`))),
          h("dl", { class: "sum" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", { "data-proof": name }, format.count(value))])),
        ];
      },
      { quiet: true, lines: 3 },
    );
  load();
  const again = setInterval(() => !document.hidden && load(), PROOF_EVERY);
  at.onleave(() => clearInterval(again));
  return element;
}

/** The demo knows what it sent. */
function truthPanel(at) {
  const { element, body } = panel("Counted against the truth", { note: "the demo knows what it sent" });
  const load = async () => {
    const { equal, comparison } = await ask("/v1/demo/truth", { signal: at.signal }).catch(() => ({ comparison: { rows: [] } }));
    if (!comparison.rows.length) return replace(body, empty("The first second is being counted.", "It shows here in a moment."));
    // A line for each kind; what it was expected to be shows where it differs.
    const kinds = [];
    for (const { name, counted, truth } of comparison.rows) {
      const [kind, received] = name.trim().split(" ");
      if (received === "received") kinds.push({ kind });
      else if (kind.endsWith(",")) break;
      kinds.at(-1)[received || kind] = { counted, truth };
    }
    const figure = (key, title) => ({ key, title, cell: ({ [key]: { counted, truth } }) => [format.count(counted), h("span", { class: counted === truth ? "ok" : "wrong" }, counted === truth ? " =" : ` ≠ ${format.count(truth)}`)] });
    const columns = [{ key: "kind", title: "", number: false, text: (row) => row.kind }, figure("received", "received"), figure("counted", "counted"), figure("duplicates", "copies"), figure("robots", "robots")];
    replace(
      body,
      h("p", { class: equal ? "verdict ok" : "verdict wrong", "data-truth": String(equal) }, equal ? "Equal to the last event" : "Differs", h("span", { class: "note" }, ` after ${format.count(comparison.events)} events`)),
      table(columns, kinds, { caption: "Counted against the truth" }),
    );
  };
  load();
  const again = setInterval(() => !document.hidden && load(), TRUTH_EVERY);
  at.onleave(() => clearInterval(again));
  return element;
}

async function cards(at) {
  const { rows, meta, currencies } = await queryMoney({ metrics: METRICS, ...asQuestion(at.range) }, at.signal);
  const row = rows[0] || { money: {} };
  const all = (klass) => KINDS.reduce((sum, kind) => sum + (row[`${klass}${kind}`] || 0), 0);
  // What came back of what was spent is a figure of one currency.
  const roas = currencies.length > 1 || row.roas === null || row.roas === undefined ? "" : `ROAS ${format.metric("roas", row.roas)}`;
  const share = (part) => (all("gross_") ? `${format.ratio(part / all("gross_"), 1)} of received` : "");
  const items = [
    ["Received", format.count(all("gross_")), "all that came in", "gross"],
    ["Counted", format.count(all("")), share(all("")), "net"],
    ["Duplicates", format.count(all("duplicate_")), share(all("duplicate_")), "duplicate"],
    ["Invalid", format.count(all("invalid_")), share(all("invalid_")), "invalid"],
    ["Impressions", format.count(row.impressions), "counted", "impressions"],
    ["Clicks", format.count(row.clicks), `CTR ${format.ratio(row.ctr)}`, "clicks"],
    ["Conversions", format.count(row.conversions), `CVR ${format.ratio(row.cvr)}`, "conversions"],
    ["Spend", amounts(row.money.cost_micros, { small: true }), "", "spend"],
    ["Revenue", amounts(row.money.revenue_micros, { small: true }), roas, "revenue"],
  ];
  const cardOf = ([name, value, note, key]) => h("div", { class: `card card-${key}` }, h("span", { class: "card-name" }, name), h("b", { "data-figure": key }, value), h("span", { class: "note" }, note));
  if (!all("gross_")) return empty("No event in this period.", "Choose a longer one above, or send some: tally demo shows what that looks like.");
  return [h("div", { class: "card-row" }, items.map(cardOf)), h("div", { class: "provenance" }, h("p", {}, source(at, meta)), severalCurrencies(currencies))];
}

async function series(at) {
  const { range } = at;
  const metrics = ["impressions", "clicks", "conversions", "duplicate_impressions", "duplicate_clicks", "duplicate_conversions", "invalid_impressions", "invalid_clicks", "invalid_conversions"];
  const { rows } = await query({ metrics, group_by: [range.grain], ...asQuestion(range) }, at.signal);
  if (!rows.length) return empty("Nothing to draw in this period.", "Choose another one above.");
  const found = new Map(rows.map((row) => [bucketStart(row[range.grain], range.zone), row]));
  const all = buckets(range);
  const sum = (prefix) => all.map((ms) => KINDS.reduce((total, kind) => total + ((found.get(ms) || {})[`${prefix}${kind}`] || 0), 0));
  const clicks = all.map((ms) => (found.get(ms) || {}).clicks || 0);
  const times = all.map((ms) => ms / 1_000);
  const zoom = (from, to) => at.zoom(from, to);
  const common = { times, zone: range.zone, grain: range.grain, onzoom: zoom };
  const events = timeChart({ ...common, title: "Events over time", stacked: true, height: 220, series: [{ name: "Counted", values: sum(""), colour: "c1" }, { name: "Duplicates", values: sum("duplicate_"), colour: "c2" }, { name: "Invalid", values: sum("invalid_"), colour: "c3" }] });
  const clicked = timeChart({ ...common, title: "Clicks over time", height: 140, series: [{ name: "Clicks", values: clicks, colour: "c4", fill: "22" }] });
  const columns = () => [{ name: range.grain, value: (row) => row[range.grain] }, ...metrics.map((name) => ({ name, value: (row) => row[name] }))];
  return [h("div", { class: "panel-tools" }, h("span", { class: "note" }, `by ${range.grain}; drag over the chart to look closer`), csvButton("tally-over-time", columns, () => rows)), events.element, clicked.element];
}

async function campaigns(at) {
  const { rows } = await queryMoney({ metrics: ["clicks", "impressions", "ctr", "cost_micros"], group_by: ["campaign_id"], order_by: [{ field: "clicks", desc: true }], limit: 8, ...asQuestion(at.range) }, at.signal);
  if (!rows.length) return empty("No campaign in this period.");
  const most = Math.max(...rows.map((row) => row.clicks), 1);
  return table(
    [
      { key: "campaign_id", title: "Campaign", number: false, cell: (row) => h("a", { href: at.href("/campaigns", { campaign: row.campaign_id }), title: row.campaign_id }, format.shortId(row.campaign_id)) },
      { key: "bar", title: "", class: "bar-cell", cell: (row) => bar(row.clicks / most, "c4") },
      { key: "clicks", title: "Clicks", text: (row) => format.count(row.clicks) },
      { key: "ctr", title: "CTR", text: (row) => format.ratio(row.ctr) },
      { key: "cost", title: "Spend", cell: (row) => figure(row, "cost_micros", { small: true }) },
    ],
    rows,
    { caption: "Campaigns by clicks" },
  );
}

async function countries(at) {
  const { rows } = await query({ metrics: ["clicks", "ctr"], group_by: ["country"], order_by: [{ field: "clicks", desc: true }], limit: at.session.demo ? 8 : 6, ...asQuestion(at.range) }, at.signal);
  if (!rows.length) return empty("Nobody clicked in this period.");
  const most = Math.max(...rows.map((row) => row.clicks), 1);
  return table(
    [
      { key: "country", title: "Country", number: false, text: (row) => format.country(row.country) },
      { key: "bar", title: "", class: "bar-cell", cell: (row) => bar(row.clicks / most, "c4") },
      { key: "clicks", title: "Clicks", text: (row) => format.count(row.clicks) },
      { key: "ctr", title: "CTR", text: (row) => format.ratio(row.ctr) },
    ],
    rows,
    { caption: "Countries by clicks" },
  );
}
