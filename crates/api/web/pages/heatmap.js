// Where on an ad people click.

import { analysis, query } from "../api.js";
import { csvButton, empty, h, into, panel, replace, select, svg } from "../dom.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const GRIDS = { 12: "12 × 10", 24: "24 × 20", 48: "48 × 40" };

export default function heatmap(at) {
  const columns = Number(GRIDS[at.parameters.get("grid")] ? at.parameters.get("grid") : 24);
  const { element, body } = panel("Clicks by place on the ad", { wide: true, note: "of events that carry x and y", tools: [select("Grid", Object.entries(GRIDS), String(columns), (value) => at.set({ grid: value }), { hidden: true })] });
  into(body, async () => {
    const campaign = at.parameters.get("campaign");
    const inCampaign = campaign ? [{ field: "campaign_id", values: [campaign] }] : [];
    const { rows: ads } = await query({ metrics: ["clicks"], group_by: ["ad_id"], filters: inCampaign, order_by: [{ field: "clicks", desc: true }], limit: 100, ...asQuestion(at.range) }, at.signal);
    if (!ads.length) return empty("No click in this period.", "Choose a longer one above.");
    const ad = ads.some((row) => row.ad_id === at.parameters.get("ad")) ? at.parameters.get("ad") : ads[0].ad_id;
    const choice = select("Ad", ads.map((row) => [row.ad_id, `${format.shortId(row.ad_id)} · ${format.count(row.clicks)} clicks`]), ad, (value) => at.set({ ad: value }));
    const rows = Math.round((columns * 5) / 6);
    const place = h("div", {});
    into(place, async () => {
      const answer = await analysis("heatmap", { columns, rows, filters: [...inCampaign, { field: "ad_id", values: [ad] }], ...asQuestion(at.range) }, at.signal);
      if (!answer.bins.length) return empty("None of this ad's clicks says where it was.", "The tag (/tag.js) sends x and y by itself; other senders add them to the click.");
      return drawn(answer);
    });
    return [h("div", { class: "filters" }, choice, campaign && h("a", { href: at.href("/heatmap") }, "all campaigns")), place];
  });
  return element;
}

function drawn({ columns, rows, clicks, without_position: without, bins }) {
  const most = Math.max(...bins.map((bin) => bin.clicks), 1);
  const told = h("p", { class: "note" }, "Point at a field to see its clicks.");
  const cell = (bin) =>
    // The square root shows weak fields beside strong ones.
    svg("rect", { x: bin.column * 10, y: bin.row * 10, width: 10, height: 10, "fill-opacity": (0.06 + 0.94 * Math.sqrt(bin.clicks / most)).toFixed(3), onpointerenter: () => replace(told, `column ${bin.column + 1}, row ${bin.row + 1}: ${format.count(bin.clicks)} clicks, ${format.ratio(bin.share)}`) });
  const densest = [...bins].sort((a, b) => b.clicks - a.clicks).slice(0, 3).map((bin) => `column ${bin.column + 1}, row ${bin.row + 1}: ${format.count(bin.clicks)}`);
  const picture = svg("svg", { class: "heat", viewBox: `0 0 ${columns * 10} ${rows * 10}`, role: "img", "aria-label": `Clicks on a grid of ${columns} by ${rows}. Most: ${densest.join("; ")}` }, bins.map(cell));
  return [
    picture,
    told,
    h("div", { class: "panel-tools" }, h("span", { class: "note" }, `${format.count(clicks)} clicks with a place, ${format.count(without)} without. Most: ${densest.join("; ")}.`), csvButton("tally-heatmap", () => ["column", "row", "clicks", "share"].map((name) => ({ name, value: (bin) => bin[name] })), () => bins)),
  ];
}
