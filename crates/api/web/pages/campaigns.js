// All campaigns, and one of them down to its ads, placements, devices, countries and audience.

import { bar, sparkline, timeChart } from "../charts.js";
import { query } from "../api.js";
import { csvButton, empty, folded, h, into, panel, replace, say, select, table } from "../dom.js";
import { amounts, compareMoney, csvColumns, figure, isMoney, queryMoney, severalCurrencies, source, sumMoney } from "../figures.js";
import * as format from "../format.js";
import { asQuestion, bucketStart, buckets } from "../range.js";

const METRICS = ["impressions", "clicks", "ctr", "conversions", "cvr", "cost_micros", "revenue_micros", "duplicate_clicks", "invalid_clicks"];
const TITLES = { ...format.METRICS, duplicate_clicks: "Duplicates", invalid_clicks: "Invalid" };
/** Rows that are drawn at once; more only make the page slow, and nobody reads them. */
const ROWS_SHOWN = 100;
/** The server's own bound of an answer. */
const ROWS_ASKED = 10_000;

export default function campaigns(at) {
  const id = at.parameters.get("campaign");
  return id === null ? list(at) : one(at, id);
}

function list(at) {
  const { element, body } = panel("Campaigns", { wide: true });
  const filter = h("input", { type: "search", placeholder: "Find a campaign", "aria-label": "Find a campaign", value: at.parameters.get("find") || "" });
  const tools = h("div", { class: "tools" });
  replace(element.querySelector(".tools"), filter, tools);
  into(
    body,
    async () => {
      const { rows, meta, currencies } = await queryMoney({ metrics: METRICS, group_by: ["campaign_id"], order_by: [{ field: "clicks", desc: true }], limit: ROWS_ASKED, ...asQuestion(at.range) }, at.signal);
      if (!rows.length) return empty("No campaign in this period.", "Choose a longer one above.");
      const place = h("div", {});
      let sort = { key: at.parameters.get("sort") || "clicks", desc: at.parameters.get("desc") !== "no" };
      const seen = () => {
        const wanted = filter.value.trim().toLowerCase();
        const found = rows.filter((row) => String(row.campaign_id ?? "").toLowerCase().includes(wanted));
        const order = isMoney(sort.key) ? (a, b) => compareMoney(a.money[sort.key], b.money[sort.key]) : (a, b) => compare(a[sort.key], b[sort.key]);
        return found.sort((a, b) => order(a, b) * (sort.desc ? -1 : 1));
      };
      const keep = () => {
        const address = new URLSearchParams(location.search);
        const put = (name, value) => (value ? address.set(name, value) : address.delete(name));
        put("find", filter.value.trim());
        put("sort", sort.key === "clicks" ? "" : sort.key);
        put("desc", sort.desc ? "" : "no");
        history.replaceState(null, "", `${location.pathname}${address.size ? `?${address}` : ""}`);
      };
      const lines = new Map();
      const draw = () => {
        const found = seen();
        const shown = found.slice(0, ROWS_SHOWN);
        replace(
          place,
          found.length ? table(columns(at, lines), shown, { caption: "Campaigns", sort, onsort: (next) => ((sort = next), keep(), draw()), foot: foot(found) }) : empty("No campaign has this in its name."),
          severalCurrencies(currencies),
          h("p", { class: "note" }, found.length > ROWS_SHOWN ? `The first ${format.count(ROWS_SHOWN)} of ${format.count(found.length)}; find or sort for others. The CSV has all.` : `${format.count(found.length)} campaigns`, ". ", source(at, meta)),
        );
        say(`${found.length} campaigns`);
        fetchLines(at, shown, lines, () => drawLines(place, lines));
      };
      filter.addEventListener("input", () => (keep(), draw()));
      replace(tools, csvButton("tally-campaigns", () => csvColumns(["campaign_id", ...METRICS], currencies), seen));
      draw();
      return place;
    },
    { lines: 10 },
  );
  return element;
}

function columns(at, lines) {
  return [
    { key: "campaign_id", title: "Campaign", number: false, cell: (row) => h("a", { href: at.href("/campaigns", { campaign: row.campaign_id ?? "" }), title: row.campaign_id }, format.shortId(row.campaign_id)) },
    { key: "line", title: "Clicks over time", sort: null, cell: (row) => h("span", { "data-line": row.campaign_id ?? "" }, lines.has(row.campaign_id) ? sparkline(lines.get(row.campaign_id), "Clicks over time") : null) },
    ...METRICS.map((key) => ({ key, title: TITLES[key], cell: (row) => figure(row, key) })),
  ];
}

/** Sums of what adds up; rates are made of the sums. */
function foot(rows) {
  const sum = (key) => rows.reduce((all, row) => all + (row[key] || 0), 0);
  const rate = (part, whole) => (sum(whole) ? sum(part) / sum(whole) : null);
  const value = { ctr: rate("clicks", "impressions"), cvr: rate("conversions", "clicks") };
  const cell = (key) => h("td", { class: "number", "data-sum": key }, isMoney(key) ? amounts(sumMoney(rows, key)) : format.metric(key, key in value ? value[key] : sum(key)));
  return h("tfoot", {}, h("tr", {}, h("th", { scope: "row", class: "text" }, "All of these"), h("td", {}), METRICS.map(cell)));
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b));
}

/** The little lines of the rows on screen, in one question. */
async function fetchLines(at, rows, lines, done) {
  const missing = rows.map((row) => row.campaign_id).filter((id) => id !== null && !lines.has(id));
  if (!missing.length) return;
  const all = buckets(at.range);
  try {
    const { rows: found } = await query({ metrics: ["clicks"], group_by: ["campaign_id", at.range.grain], filters: [{ field: "campaign_id", values: missing }], limit: 200_000, ...asQuestion(at.range) }, at.signal);
    const place = new Map(all.map((ms, nth) => [ms, nth]));
    for (const id of missing) lines.set(id, new Array(all.length).fill(0));
    for (const row of found) {
      const nth = place.get(bucketStart(row[at.range.grain], at.range.zone));
      if (nth !== undefined) lines.get(row.campaign_id)[nth] = row.clicks;
    }
    done();
  } catch {
    // The table says all that the lines do.
  }
}

function drawLines(place, lines) {
  for (const element of place.querySelectorAll("[data-line]")) {
    if (!element.childElementCount && lines.has(element.dataset.line)) replace(element, sparkline(lines.get(element.dataset.line), "Clicks over time"));
  }
}

function one(at, id) {
  const filters = [{ field: "campaign_id", values: [id] }];
  const dimension = format.DIMENSIONS[at.parameters.get("by")] ? at.parameters.get("by") : "ad_id";
  const over = panel("Over time", { wide: true });
  const split = panel(`By ${format.DIMENSIONS[dimension].toLowerCase()}`, { wide: true, tools: [select("By", Object.entries(format.DIMENSIONS), dimension, (by) => at.set({ by }), { hidden: true })] });
  into(over.body, async () => {
    const { range } = at;
    const [sums, series] = await Promise.all([queryMoney({ metrics: METRICS, filters, ...asQuestion(range) }, at.signal), query({ metrics: ["impressions", "clicks", "conversions"], group_by: [range.grain], filters, ...asQuestion(range) }, at.signal)]);
    const row = sums.rows[0] || { money: {} };
    const found = new Map(series.rows.map((each) => [bucketStart(each[range.grain], range.zone), each]));
    const all = buckets(range);
    const values = (name) => all.map((ms) => (found.get(ms) || {})[name] || 0);
    const chart = (name, title, colour) => timeChart({ times: all.map((ms) => ms / 1_000), zone: range.zone, grain: range.grain, height: 130, title, onzoom: (from, to) => at.zoom(from, to), series: [{ name: title, values: values(name), colour, fill: "22" }] }).element;
    return [
      h("dl", { class: "live-figures" }, ["impressions", "clicks", "ctr", "conversions", "cost_micros", "revenue_micros"].map((name) => h("div", { class: "figure" }, h("dt", {}, format.METRICS[name]), h("dd", {}, h("b", {}, figure(row, name, { small: true })))))),
      chart("clicks", "Clicks", "c4"),
      chart("impressions", "Impressions", "c1"),
      h("div", { class: "panel-tools" }, source(at, sums.meta)),
    ];
  });
  into(split.body, async () => {
    const { rows, meta, currencies } = await queryMoney({ metrics: METRICS, group_by: [dimension], filters, order_by: [{ field: "clicks", desc: true }], limit: 200, ...asQuestion(at.range) }, at.signal);
    if (!rows.length) return empty("Nothing in this period.", "Choose a longer one above.");
    const most = Math.max(...rows.map((row) => row.clicks), 1);
    const name = (row) => (dimension === "country" ? format.country(row[dimension]) : format.shortId(row[dimension]));
    return [
      folded(rows, 25, (shown) => table(
        [
          { key: dimension, title: format.DIMENSIONS[dimension], number: false, cell: (row) => h("span", { title: row[dimension] }, row[dimension] === null ? "none" : name(row)) },
          { key: "bar", title: "", class: "bar-cell", cell: (row) => bar(row.clicks / most, "c4") },
          ...METRICS.map((key) => ({ key, title: TITLES[key], cell: (row) => figure(row, key) })),
        ],
        shown,
        { caption: `The campaign by ${format.DIMENSIONS[dimension]}` },
      )),
      severalCurrencies(currencies),
      h("div", { class: "panel-tools" }, source(at, meta), csvButton(`tally-${dimension}`, () => csvColumns([dimension, ...METRICS], currencies), () => rows)),
    ];
  });
  return [h("div", { class: "crumbs" }, h("a", { href: at.href("/campaigns") }, "← All campaigns"), h("strong", { class: "mono" }, id || "(no campaign)"), h("span", { class: "crumb-links" }, ["funnel", "heatmap", "compare"].map((page) => h("a", { href: at.href(`/${page}`, { campaign: id }) }, { funnel: "Funnel", heatmap: "Heat map", compare: "A/B test" }[page])))), h("div", { class: "grid" }, over.element, split.element)];
}
