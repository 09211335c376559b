// How many people go from the impression to the click to the conversion.

import { bar } from "../charts.js";
import { analysis } from "../api.js";
import { csvButton, empty, folded, h, into, panel, select, table } from "../dom.js";
import { source } from "../figures.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const WINDOWS = { 3600: "within an hour", 86400: "within a day", 604800: "within a week", 2592000: "within 30 days" };
const SEGMENTS = { none: "No segments", device: "Devices", country: "Countries", variant: "Variants", age_group: "Age groups", gender: "Gender" };
const STEPS = [{ kind: "impression", name: "Saw an ad" }, { kind: "click", name: "Clicked" }, { kind: "conversion", name: "Converted" }];

export default function funnel(at) {
  const window_s = WINDOWS[at.parameters.get("window")] ? at.parameters.get("window") : "86400";
  const segment = SEGMENTS[at.parameters.get("segment")] ? at.parameters.get("segment") : "none";
  const campaign = at.parameters.get("campaign");
  const { element, body } = panel("From impression to conversion", { wide: true, note: "people with a user_id, each counted once", tools: [select("Within", Object.entries(WINDOWS), window_s, (value) => at.set({ window: value }), { hidden: true }), select("Segments", Object.entries(SEGMENTS), segment, (value) => at.set({ segment: value }), { hidden: true })] });
  into(body, async () => {
    const filters = campaign ? [{ field: "campaign_id", values: [campaign] }] : [];
    const question = { steps: STEPS.map(({ kind }) => ({ kind })), window_s: Number(window_s), filters, ...asQuestion(at.range) };
    if (segment !== "none") question.segment = segment;
    const { steps, segments = [], meta } = await analysis("funnel", question, at.signal);
    if (!steps.length || !steps[0].users) return empty("Nobody with a user_id was seen in this period.", "A funnel follows people: send user_id with events, it is hashed on receipt.");
    const line = (step, nth) =>
      h(
        "div",
        { class: "funnel-step" },
        h("div", { class: "funnel-name" }, h("span", {}, STEPS[nth].name), h("b", {}, format.count(step.users))),
        bar(step.users / steps[0].users, ["c1", "c4", "c5"][nth]),
        h("div", { class: "funnel-told" }, nth === 0 ? h("span", { class: "note" }, "people, where it begins") : [h("div", {}, h("strong", {}, format.ratio(step.of_previous)), " of the step before"), nth > 1 && h("div", { class: "note" }, `${format.ratio(step.of_first)} of the first`), h("div", { class: "note" }, `${format.count(steps[nth - 1].users - step.users)} went no further`)]),
      );
    const most = (nth) => Math.max(...segments.map((row) => row.steps[nth]?.of_previous || 0), 1e-9);
    const columns = [
      { key: "value", title: SEGMENTS[segment], number: false, text: (row) => (segment === "country" ? format.country(row.value) : row.value ?? "none") },
      ...STEPS.flatMap(({ name }, nth) => [
        { key: name, title: name, text: (row) => format.count(row.steps[nth]?.users) },
        ...(nth ? [{ key: `${name} share`, title: "of step before", text: (row) => format.ratio(row.steps[nth]?.of_previous) }, { key: `${name} bar`, title: "", class: "bar-cell", cell: (row) => bar((row.steps[nth]?.of_previous || 0) / most(nth), ["c1", "c4", "c5"][nth]) }] : []),
      ]),
    ];
    const csv = () => [{ name: "segment", value: (row) => row.value }, ...STEPS.map(({ kind }, nth) => ({ name: kind, value: (row) => row.steps[nth]?.users }))];
    return [
      campaign && h("p", { class: "note" }, "in campaign ", h("span", { class: "mono" }, campaign), " ", h("a", { href: at.href("/funnel") }, "all campaigns")),
      h("div", { class: "funnel" }, steps.map(line)),
      segments.length > 0 && [h("h3", {}, `By ${SEGMENTS[segment].toLowerCase()}`), folded(segments.slice(0, 200), 12, (shown) => table(columns, shown, { caption: "The funnel by segment" }))],
      h("div", { class: "panel-tools" }, h("span", { class: "note" }, `Each step after the one before, all ${WINDOWS[window_s]} of the first. `), source(at, meta), csvButton("tally-funnel", csv, () => [{ value: "all", steps }, ...segments])),
    ];
  });
  return element;
}
