// Charts: uPlot with our colours, and small drawings of our own for where it would be too much.

import { h, svg } from "./dom.js";
import * as format from "./format.js";

/** Okabe and Ito's colours, told apart with every kind of colour blindness; set for each theme in the style sheet. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const drawn = new Set();

/** Draws again in the colours of the other theme. */
export function redraw() {
  for (const chart of [...drawn]) {
    if (chart.element.isConnected) chart.draw();
    else drawn.delete(chart);
  }
}

const DAY = 86_400;
const LENGTHS = { minute: 60, hour: 3_600, day: DAY, week: 7 * DAY, month: 30 * DAY };
/** Steps between marks of the time axis, as uPlot knows them; none is shorter than what a value stands for. */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, ...[1, 2, 3, 4, 5, 7, 10, 15, 30, 60, 90, 120, 180, 365].map((days) => days * DAY)];
/** Events come whole, so a mark between two of them says nothing. */
const WHOLE = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();

/**
 * A chart over time. `series`: [{name, values, colour, fill, text, dash}], `times` in seconds. `band`: two of them, the upper one
 * first, with the space between them shaded. Dragging over it asks for that period, where the page takes one. Who cannot see it
 * is told the sums; the CSV beside it has all.
 */
export function timeChart({ times, series, zone, height = 220, stacked = false, title, onzoom = null, axis = format.short, grain = null, band = null, isWhole = true }) {
  const place = h("div", { class: "chart-place", role: "img", "aria-label": `${title}. ${series.filter((one) => one.name).map((one) => `${one.name}: ${summary(one)}`).join("; ")}` });
  const legend = h("div", { class: "legend" });
  const element = h("div", { class: "chart" }, legend, place);
  const state = { element, chart: null, draw };

  function data(values) {
    if (!stacked) return [values.times, ...values.series.map((one) => one.values)];
    const sums = [];
    let below = null;
    for (const one of values.series) {
      const under = below;
      below = one.values.map((value, at) => (value || 0) + (under ? under[at] : 0));
      sums.push(below);
    }
    // The highest sum is drawn first, the lower ones over it.
    return [values.times, ...sums.reverse()];
  }

  let newest = { times, series };

  /** A bar begins where its time does, so the last one needs room; a single value is a point in the middle. */
  function span(_, from, to) {
    const step = newest.times.length > 1 ? newest.times[1] - newest.times[0] : LENGTHS[grain] || 60;
    if (stacked) return [from, to + step];
    return from === to ? [from - step, to + step] : [from, to];
  }

  function draw() {
    if (state.chart) state.chart.destroy();
    const width = Math.max(240, place.clientWidth || element.parentElement?.clientWidth || 600);
    const order = stacked ? [...newest.series].reverse() : newest.series;
    const text = colour("dim");
    const line = { stroke: colour("grid"), width: 1 };
    const font = `11px ${colour("font") || "system-ui"}`;
    const options = {
      width,
      height,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1_000), zone),
      legend: { show: false },
      padding: [8, 26, 0, 0],
      cursor: { drag: { x: true, y: false }, points: { size: 6 }, y: false },
      bands: band ? [{ series: band.map((nth) => nth + 1), fill: `${colour(series[band[0]].colour)}2e` }] : undefined,
      scales: { x: { time: true, range: span }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
      axes: [
        { stroke: text, grid: { show: false }, ticks: { ...line, size: 4 }, font, space: 80, incrs: STEPS.filter((step) => step >= (LENGTHS[grain] || 1)), size: (_, marks) => (marks?.some((mark) => mark.includes("\n")) ? 42 : 26), values: (_, ticks) => format.ticks(ticks, zone) },
        { stroke: text, grid: line, ticks: { show: false }, font, size: 54, space: 36, incrs: isWhole ? WHOLE : undefined, values: (_, ticks) => ticks.map((tick) => axis(tick)) },
      ],
      series: [
        {},
        ...order.map((one) => ({
          label: one.name,
          stroke: colour(one.colour),
          width: stacked ? 0 : one.width ?? 2,
          dash: one.dash,
          fill: stacked ? colour(one.colour) : one.fill ? `${colour(one.colour)}${one.fill}` : undefined,
          // A stack is drawn as bars: what fell into a second or an hour is no slope between two of them.
          paths: stacked ? uPlot.paths.bars({ size: [0.86, 110], align: 1 }) : undefined,
          points: { show: !stacked && newest.times.length < 3 },
          spanGaps: false,
        })),
      ],
      hooks: { setCursor: [(chart) => tell(chart.cursor.idx)], setSelect: [zoomed] },
    };
    state.chart = new uPlot(options, data(newest), place);
    tell(null);
  }

  function zoomed(chart) {
    if (!onzoom || chart.select.width < 8) return;
    const from = chart.posToVal(chart.select.left, "x");
    const to = chart.posToVal(chart.select.left + chart.select.width, "x");
    onzoom(from * 1_000, to * 1_000);
  }

  function tell(at) {
    const when = at === null || at === undefined ? "" : grain ? format.bucket(newest.times[at] * 1_000, grain, zone) : format.clock(newest.times[at] * 1_000, zone);
    const items = newest.series.filter((one) => one.name).map((one) => {
      const value = when ? (one.text || format.count)(one.values[at]) : summary(one);
      return h("span", { class: "legend-item" }, swatch(one.colour), one.name, h("b", {}, value));
    });
    legend.replaceChildren(...items, h("span", { class: "legend-time" }, when));
  }

  drawn.add(state);
  const watch = new ResizeObserver(() => {
    if (!element.isConnected) return watch.disconnect();
    if (!state.chart) draw();
    else if (Math.abs(state.chart.width - place.clientWidth) > 1 && place.clientWidth > 0) state.chart.setSize({ width: place.clientWidth, height });
  });
  watch.observe(place);
  return {
    element,
    update(times, series) {
      newest = { times, series };
      if (state.chart) {
        state.chart.setData(data(newest));
        tell(state.chart.cursor.idx);
      }
    },
  };
}

function summary(one) {
  if (one.summary !== undefined) return one.summary;
  const values = one.values.filter((value) => value !== null && value !== undefined);
  return (one.text || format.count)(values.reduce((sum, value) => sum + value, 0));
}

function swatch(name) {
  return svg("svg", { class: `swatch ${name}`, viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2 }));
}

/** A line of a few dozen values beside a name. */
export function sparkline(values, name) {
  const width = 96;
  const height = 22;
  const top = Math.max(...values, 1);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(height - 2 - (value / top) * (height - 4)).toFixed(1)}`);
  const line = svg("polyline", { points: points.join(" "), class: "spark-line" });
  const area = svg("polygon", { points: `0,${height} ${points.join(" ")} ${width},${height}`, class: "spark-area" });
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name }, area, line);
}

/** A share as a bar, drawn in a picture since the policy of the page allows no inline style. */
export function bar(share, name = "c1") {
  const width = Math.max(0, Math.min(1, share || 0)) * 100;
  return svg("svg", { class: `bar ${name}`, viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 100, height: 8, class: "bar-back" }), svg("rect", { width, height: 8 }));
}

/** An interval around a difference, with the line of no difference. */
export function interval([low, high], middle, text) {
  const reach = Math.max(Math.abs(low), Math.abs(high)) * 1.25 || 1;
  const at = (value) => 100 + (value / reach) * 100;
  const side = low > 0 ? "good" : high < 0 ? "bad" : "even";
  return svg(
    "svg",
    { class: `interval ${side}`, viewBox: "0 0 200 24", role: "img", "aria-label": text },
    svg("line", { x1: 100, x2: 100, y1: 1, y2: 23, class: "zero" }),
    svg("line", { x1: at(low), x2: at(high), y1: 12, y2: 12, class: "reach" }),
    svg("circle", { cx: at(middle), cy: 12, r: 4.5 }),
  );
}
