// Where people are.

import { bar } from "../charts.js";
import { csvButton, empty, folded, h, into, panel, segmented, select, table } from "../dom.js";
import { csvColumns, isMoney, queryMoney, source } from "../figures.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const METRICS = ["impressions", "clicks", "ctr", "conversions", "cvr", "cost_micros", "revenue_micros"];
const REGIONS = { na: "North America", eu: "Europe", apac: "Asia and Pacific", other: "Elsewhere, or not known" };

export default function geography(at) {
  const metric = METRICS.includes(at.parameters.get("metric")) ? at.parameters.get("metric") : "clicks";
  const regions = panel("Regions", { wide: true });
  const inOne = h("span", {});
  const countries = panel("Countries", { wide: true, tools: [inOne, segmented("Measure", [["clicks", "Clicks"], ["impressions", "Impressions"], ["cost_micros", "Spend"], ["revenue_micros", "Revenue"]], metric, (value) => at.set({ metric: value }))] });
  const by = (dimension, title, name) => async () => {
    const { rows, meta, currencies } = await queryMoney({ metrics: METRICS, group_by: [dimension], order_by: [{ field: metric, desc: true }], limit: 300, ...asQuestion(at.range) }, at.signal);
    // People of one country pay in many currencies: a table of four amounts a field is for nobody, so it is of one. The CSV has all.
    const currency = currencies.find((one) => one === at.parameters.get("currency")) ?? currencies[0];
    if (currencies.length > 1) inOne.replaceChildren(select("Currency", currencies.map((one) => [one ?? "", one ?? "no currency"]), currency ?? "", (value) => at.set({ currency: value }), { hidden: true }));
    const value = (row, key) => (isMoney(key) ? (row.money[key] || []).find(([each]) => each === currency)?.[1] || 0 : row[key]);
    const measure = (row) => value(row, metric) || 0;
    rows.sort((a, b) => measure(b) - measure(a));
    const titleOf = (key) => (isMoney(key) && currencies.length > 1 ? `${format.METRICS[key]}, ${currency ?? "no currency"}` : format.METRICS[key]);
    if (!rows.length) return empty("Nothing in this period.", "Choose a longer one above.");
    const all = rows.reduce((sum, row) => sum + measure(row), 0) || 1;
    const most = Math.max(...rows.map(measure), 1);
    return [
      folded(rows, 25, (shown) => table(
        [
          { key: dimension, title, number: false, text: (row) => name(row[dimension]) },
          { key: "bar", title: "", class: "bar-cell", cell: (row) => bar(measure(row) / most, "c1") },
          { key: "share", title: `Share of ${format.METRICS[metric].toLowerCase()}`, text: (row) => format.ratio(measure(row) / all, 1) },
          ...METRICS.map((key) => ({ key, title: titleOf(key), text: (row) => format.metric(key, value(row, key), currency) })),
        ],
        shown,
        { caption: `Figures by ${dimension}` },
      )),
      currencies.length > 1 && h("p", { class: "note" }, `There are amounts in ${currencies.map((one) => one ?? "no currency").join(", ")}; those in ${currency ?? "no currency"} are shown.`),
      h("div", { class: "panel-tools" }, source(at, meta), csvButton(`tally-${dimension}`, () => csvColumns([dimension, ...METRICS], currencies), () => rows)),
    ];
  };
  into(regions.body, by("region", "Region", (code) => REGIONS[code] || code || REGIONS.other));
  into(countries.body, by("country", "Country", format.country), { lines: 8 });
  return h("div", { class: "grid" }, regions.element, countries.element);
}
