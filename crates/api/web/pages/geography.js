// Where people are.

import { bar } from "../charts.js";
import { query } from "../api.js";
import { csvButton, empty, h, into, panel, segmented, table } from "../dom.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const METRICS = ["impressions", "clicks", "conversions", "ctr", "cvr", "cost_micros", "revenue_micros"];
const REGIONS = { na: "North America", eu: "Europe", apac: "Asia and Pacific", other: "Elsewhere, or not known" };

export default function geography(at) {
  const metric = METRICS.includes(at.parameters.get("metric")) ? at.parameters.get("metric") : "clicks";
  const regions = panel("Regions", { wide: true });
  const countries = panel("Countries", { wide: true, tools: [segmented("Measure", [["clicks", "Clicks"], ["impressions", "Impressions"], ["cost_micros", "Spend"], ["revenue_micros", "Revenue"]], metric, (value) => at.set({ metric: value }))] });
  const by = (dimension, name) => async () => {
    const { rows, meta } = await query({ metrics: METRICS, group_by: [dimension], order_by: [{ field: metric, desc: true }], limit: 300, ...asQuestion(at.range) }, at.signal);
    if (!rows.length) return empty("Nothing in this period.", "Choose a longer one above.");
    const all = rows.reduce((sum, row) => sum + (row[metric] || 0), 0) || 1;
    const most = Math.max(...rows.map((row) => row[metric] || 0), 1);
    return [
      table(
        [
          { key: dimension, title: "", number: false, text: (row) => name(row[dimension]) },
          { key: "bar", title: "", class: "bar-cell", cell: (row) => bar((row[metric] || 0) / most, "c1") },
          { key: "share", title: "Share", text: (row) => format.ratio((row[metric] || 0) / all, 1) },
          ...METRICS.map((key) => ({ key, title: format.METRICS[key], text: (row) => format.metric(key, row[key]) })),
        ],
        rows,
        { caption: `Figures by ${dimension}` },
      ),
      h("div", { class: "panel-tools" }, h("span", { class: "note" }, `from ${meta.source}`), csvButton(`tally-${dimension}`, () => [dimension, ...METRICS].map((key) => ({ name: key, value: (row) => row[key] })), () => rows)),
    ];
  };
  into(regions.body, by("region", (code) => REGIONS[code] || code || REGIONS.other));
  into(countries.body, by("country", format.country), { lines: 8 });
  return h("div", { class: "grid" }, regions.element, countries.element);
}
