// Where on an ad people click.

import { bar } from "../charts.js";
import { analysis, query } from "../api.js";
import { csvButton, empty, h, into, panel, replace, select, svg, table } from "../dom.js";
import { source } from "../figures.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const GRIDS = { 12: "12 × 10", 24: "24 × 20", 48: "48 × 40" };
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const DENSEST = 8;
/** Shades that the scale shows, from one click to the most. */
const SHADES = 6;

export default function heatmap(at) {
  const columns = Number(GRIDS[at.parameters.get("grid")] ? at.parameters.get("grid") : 24);
  const { element, body } = panel("Clicks by place on the ad", { wide: true, note: "of clicks that carry x and y", tools: [select("Grid", Object.entries(GRIDS), String(columns), (value) => at.set({ grid: value }), { hidden: true })] });
  into(body, async () => {
    const campaign = at.parameters.get("campaign");
    const inCampaign = campaign ? [{ field: "campaign_id", values: [campaign] }] : [];
    const { rows: ads } = await query({ metrics: ["clicks"], group_by: ["ad_id"], filters: inCampaign, order_by: [{ field: "clicks", desc: true }], limit: 100, ...asQuestion(at.range) }, at.signal);
    if (!ads.some((row) => row.clicks)) return empty("No click in this period.", "Choose a longer one above.");
    const ad = ads.some((row) => row.ad_id === at.parameters.get("ad")) ? at.parameters.get("ad") : ads[0].ad_id;
    const choice = select("Ad", ads.map((row) => [row.ad_id, `${format.shortId(row.ad_id)} · ${format.count(row.clicks)} clicks`]), ad, (value) => at.set({ ad: value }));
    const rows = Math.round((columns * 5) / 6);
    const place = h("div", {});
    into(place, async () => {
      const answer = await analysis("heatmap", { columns, rows, filters: [...inCampaign, { field: "ad_id", values: [ad] }], ...asQuestion(at.range) }, at.signal);
      if (!answer.bins.length) return empty("None of this ad's clicks says where it was.", "The tag (/tag.js) sends x and y by itself; other senders add them to the click.");
      return drawn(at, answer);
    });
    return [h("div", { class: "filters" }, choice, campaign && h("span", {}, "in campaign ", h("span", { class: "mono" }, format.shortId(campaign)), " ", h("a", { href: at.href("/heatmap") }, "all campaigns"))), place];
  });
  return element;
}

/** The square root shows weak fields beside strong ones. */
const shade = (share) => (0.08 + 0.92 * Math.sqrt(share)).toFixed(3);
const named = (bin) => `column ${bin.column + 1}, row ${bin.row + 1}`;

function drawn(at, { columns, rows, clicks, without_position: without, bins, meta }) {
  const most = Math.max(...bins.map((bin) => bin.clicks), 1);
  const found = new Map(bins.map((bin) => [`${bin.column} ${bin.row}`, bin]));
  const told = h("p", { class: "note", role: "status" }, "Point at a field to see its clicks, or go there with the arrow keys.");
  const cursor = svg("rect", { class: "cursor", width: 10, height: 10, visibility: "hidden" });
  let here = { column: Math.floor(columns / 2), row: Math.floor(rows / 2) };
  const go = (column, row) => {
    here = { column: Math.min(columns - 1, Math.max(0, column)), row: Math.min(rows - 1, Math.max(0, row)) };
    for (const [name, value] of [["x", here.column * 10], ["y", here.row * 10], ["visibility", "visible"]]) cursor.setAttribute(name, value);
    const bin = found.get(`${here.column} ${here.row}`);
    replace(told, `${named(here)}: ${bin ? `${format.count(bin.clicks)} clicks, ${format.ratio(bin.share)}` : "no click"}`);
  };
  const cell = (bin) => svg("rect", { x: bin.column * 10, y: bin.row * 10, width: 10, height: 10, "fill-opacity": shade(bin.clicks / most) });
  const densest = [...bins].sort((a, b) => b.clicks - a.clicks).slice(0, DENSEST);
  const picture = svg(
    "svg",
    {
      class: "heat",
      viewBox: `0 0 ${columns * 10} ${rows * 10}`,
      tabindex: "0",
      role: "img",
      "aria-label": `Clicks on a grid of ${columns} by ${rows}. Most: ${densest.slice(0, 3).map((bin) => `${named(bin)}: ${bin.clicks}`).join("; ")}`,
      onpointermove: (event) => {
        const box = picture.getBoundingClientRect();
        go(Math.floor(((event.clientX - box.left) / box.width) * columns), Math.floor(((event.clientY - box.top) / box.height) * rows));
      },
      onpointerleave: () => cursor.setAttribute("visibility", "hidden"),
      onkeydown: (event) => {
        const move = MOVES[event.key];
        if (!move) return;
        event.preventDefault();
        go(here.column + move[0], here.row + move[1]);
      },
    },
    bins.map(cell),
    cursor,
  );
  const scale = h("div", { class: "scale" }, h("span", {}, "1 click"), svg("svg", { class: "scale-shades", viewBox: `0 0 ${SHADES} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, Array.from({ length: SHADES }, (_, nth) => svg("rect", { x: nth, y: 0, width: 1, height: 1, "fill-opacity": shade((1 + ((most - 1) * nth) / (SHADES - 1)) / most) }))), h("span", {}, format.count(most)));
  const beside = h(
    "div",
    { class: "heat-beside" },
    h("dl", { class: "sum" }, [["clicks with a place", clicks], ["clicks without", without]].map(([name, value]) => [h("dt", {}, name), h("dd", {}, format.count(value))])),
    h("h3", {}, "Most clicks"),
    table(
      [
        { key: "place", title: "Field", number: false, text: named },
        { key: "bar", title: "", class: "bar-cell", cell: (bin) => bar(bin.clicks / most, "c3") },
        { key: "clicks", title: "Clicks", text: (bin) => format.count(bin.clicks) },
        { key: "share", title: "Share", text: (bin) => format.ratio(bin.share, 1) },
      ],
      densest,
      { caption: "Fields with most clicks" },
    ),
  );
  return [
    h("div", { class: "heat-grid" }, h("div", {}, picture, h("div", { class: "heat-legend" }, told, scale)), beside),
    h("div", { class: "panel-tools" }, h("span", { class: "note" }, "Columns from the left, rows from the top. ", source(at, meta)), csvButton("tally-heatmap", () => ["column", "row", "clicks", "share"].map((name) => ({ name, value: (bin) => bin[name] })), () => bins)),
  ];
}
