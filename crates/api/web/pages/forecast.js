// What is to come, if it goes on as it did; and how wrong that was before.

import { analysis } from "../api.js";
import { timeChart } from "../charts.js";
import { csvButton, empty, h, into, panel, segmented, select, table } from "../dom.js";
import { currencyOf, isMoney, source } from "../figures.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const METRICS = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
/** Of so few, it says nothing how many came out as foretold. */
const POINTS_TOLD = 5;
const HORIZONS = { hour: 24, day: 14, week: 8 };

export default function forecast(at) {
  const metric = METRICS.includes(at.parameters.get("metric")) ? at.parameters.get("metric") : "clicks";
  const unit = HORIZONS[at.parameters.get("unit")] ? at.parameters.get("unit") : at.range.grain === "day" || at.range.grain === "month" ? "day" : "hour";
  const inOne = h("span", {});
  const { element, body } = panel(`${format.METRICS[metric]} to come`, { wide: true, tools: [inOne, select("Figure", METRICS.map((name) => [name, format.METRICS[name]]), metric, (value) => at.set({ metric: value }), { hidden: true }), segmented("By", [["hour", "Hours"], ["day", "Days"], ["week", "Weeks"]], unit, (value) => at.set({ unit: value }))] });
  into(body, async () => {
    const { currency, currencies, filters } = await currencyOf(at, metric);
    if (currencies.length > 1) inOne.replaceChildren(select("Currency", currencies.map((one) => [one ?? "", one ?? "no currency"]), currency ?? "", (value) => at.set({ currency: value }), { hidden: true }));
    const answer = await analysis("forecast", { metric, unit, horizon: HORIZONS[unit], filters, ...asQuestion(at.range) }, at.signal);
    if (!answer.forecast?.length) return empty("There is too little history to say anything.", "Choose a longer period above.");
    const times = [...answer.history, ...answer.forecast].map((row) => Date.parse(row.at) / 1_000);
    const last = answer.history.at(-1).value;
    const text = (value) => format.metric(metric, value === null || value === undefined ? null : Math.round(value), currency);
    // What is to come begins where what was ends, so that the line has no gap.
    const ahead = (name) => [...new Array(answer.history.length - 1).fill(null), last, ...answer.forecast.map((row) => row[name])];
    const total = answer.forecast.reduce((sum, row) => sum + row.value, 0);
    const chart = timeChart({
      times,
      zone: at.range.zone,
      grain: unit,
      height: 280,
      title: `Forecast of ${format.METRICS[metric]}`,
      axis: isMoney(metric) ? format.axisMoney(currency) : format.short,
      isWhole: !isMoney(metric),
      band: [2, 3],
      series: [
        { name: "So far", values: [...answer.history.map((row) => row.value), ...answer.forecast.map(() => null)], colour: "c1", text },
        { name: "Expected", values: ahead("value"), colour: "c4", text, summary: text(total) },
        { name: "at most", values: ahead("high"), colour: "c5", text, width: 1, dash: [3, 3], summary: "" },
        { name: "at least", values: ahead("low"), colour: "c5", text, width: 1, dash: [3, 3], summary: "" },
      ],
    });
    const { mape: error, coverage, points } = answer.backtest || {};
    const isKnown = (value) => value !== null && value !== undefined;
    const rows = answer.forecast.slice(0, 14);
    return [
      h("p", { class: "plain" }, `The next ${HORIZONS[unit]} ${unit}s: about `, h("strong", {}, text(total)), ` ${format.METRICS[metric].toLowerCase()}.`, isKnown(error) && ` On the past, this method was off by ${format.ratio(error, 0)} on average.`, isKnown(coverage) && points >= POINTS_TOLD && ` Of ${format.count(points)} ${unit}s that it had to foretell, ${format.count(Math.round(coverage * points))} came out between the dashed lines.`),
      chart.element,
      h("details", {}, h("summary", {}, `The next ${rows.length} ${unit}s as a table`), table([{ key: "at", title: unit === "week" ? "Week from" : unit === "day" ? "Day" : "Hour", number: false, text: (row) => format.bucket(Date.parse(row.at), unit, at.range.zone) }, ...[["value", "Expected"], ["low", "At least"], ["high", "At most"]].map(([key, title]) => ({ key, title, text: (row) => text(row[key]) }))], rows, { caption: "What is to come" })),
      h("div", { class: "panel-tools" }, h("span", { class: "note" }, answer.season_length ? `It repeats every ${answer.season_length} ${unit}s. ` : "No season found: the history is shorter than two of them. "), source(at, answer.meta), csvButton("tally-forecast", () => ["at", "value", "low", "high"].map((name) => ({ name, value: (row) => row[name] })), () => [...answer.history, ...answer.forecast])),
    ];
  });
  return element;
}
