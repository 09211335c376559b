// What is to come, if it goes on as it did; and how wrong that was before.

import { analysis } from "../api.js";
import { timeChart } from "../charts.js";
import { csvButton, empty, h, into, panel, segmented, select } from "../dom.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const METRICS = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
const HORIZONS = { hour: 24, day: 14, week: 8 };

export default function forecast(at) {
  const metric = METRICS.includes(at.parameters.get("metric")) ? at.parameters.get("metric") : "clicks";
  const unit = HORIZONS[at.parameters.get("unit")] ? at.parameters.get("unit") : at.range.grain === "day" || at.range.grain === "month" ? "day" : "hour";
  const { element, body } = panel("Forecast", { wide: true, tools: [select("Figure", METRICS.map((name) => [name, format.METRICS[name]]), metric, (value) => at.set({ metric: value }), { hidden: true }), segmented("By", [["hour", "Hours"], ["day", "Days"], ["week", "Weeks"]], unit, (value) => at.set({ unit: value }))] });
  into(body, async () => {
    const answer = await analysis("forecast", { metric, unit, horizon: HORIZONS[unit], ...asQuestion(at.range) }, at.signal);
    if (!answer.forecast?.length) return empty("There is too little history to say anything.", "Choose a longer period above.");
    const known = answer.history.length;
    const times = [...answer.history, ...answer.forecast].map((row) => Date.parse(row.at) / 1_000);
    const blank = new Array(known).fill(null);
    const text = (value) => format.metric(metric, value === null || value === undefined ? null : Math.round(value));
    const ahead = (name) => [...blank, ...answer.forecast.map((row) => row[name])];
    const total = answer.forecast.reduce((sum, row) => sum + row.value, 0);
    const chart = timeChart({
      times,
      zone: at.range.zone,
      grain: unit === "hour" ? "hour" : "day",
      height: 280,
      title: `Forecast of ${format.METRICS[metric]}`,
      axis: metric.endsWith("_micros") ? (value) => format.short(value / 1e6) : format.short,
      series: [
        { name: "So far", values: [...answer.history.map((row) => row.value), ...answer.forecast.map(() => null)], colour: "c1", text },
        { name: "Expected", values: ahead("value"), colour: "c4", text, summary: text(total) },
        { name: "Low", values: ahead("low"), colour: "c5", text, dash: [4, 4], summary: "" },
        { name: "High", values: ahead("high"), colour: "c5", text, dash: [4, 4], summary: "" },
      ],
    });
    const error = answer.backtest?.mape;
    return [
      h("p", { class: "plain" }, `The next ${HORIZONS[unit]} ${unit}s: about `, h("strong", {}, text(total)), ` ${format.METRICS[metric].toLowerCase()}.`, error !== null && error !== undefined && ` On the past, this method was off by ${format.ratio(error, 0)} on average.`),
      chart.element,
      h("div", { class: "panel-tools" }, h("span", { class: "note" }, answer.season_length ? `repeats every ${answer.season_length} ${unit}s` : ""), csvButton("tally-forecast", () => ["at", "value", "low", "high"].map((name) => ({ name, value: (row) => row[name] })), () => [...answer.history, ...answer.forecast])),
    ];
  });
  return element;
}
