// How many people go from the impression to the click to the conversion.

import { bar } from "../charts.js";
import { analysis } from "../api.js";
import { csvButton, empty, h, into, panel, select, table } from "../dom.js";
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
    const { steps, segments = [] } = await analysis("funnel", question, at.signal);
    if (!steps.length || !steps[0].users) return empty("Nobody with a user_id was seen in this period.", "A funnel follows people: send user_id with events, it is hashed on receipt.");
    const line = (step, nth) =>
      h(
        "div",
        { class: "funnel-step" },
        h("div", {}, STEPS[nth].name),
        bar(step.users / steps[0].users, ["c1", "c4", "c5"][nth]),
        h("div", {}, h("b", {}, format.count(step.users)), h("span", { class: "note" }, nth ? ` ${format.ratio(step.of_previous)} of the step before` : " people")),
      );
    const columns = [
      { key: "value", title: SEGMENTS[segment], number: false, text: (row) => (segment === "country" ? format.country(row.value) : row.value ?? "none") },
      ...STEPS.map(({ name }, nth) => ({ key: name, title: name, text: (row) => format.count(row.steps[nth]?.users) })),
      ...STEPS.slice(1).map(({ name }, nth) => ({ key: `${name} share`, title: `${name}, of step before`, text: (row) => format.ratio(row.steps[nth + 1]?.of_previous) })),
    ];
    const csv = () => [{ name: "segment", value: (row) => row.value }, ...STEPS.map(({ kind }, nth) => ({ name: kind, value: (row) => row.steps[nth]?.users }))];
    return [
      campaign && h("p", { class: "note" }, "in campaign ", h("span", { class: "mono" }, campaign), " ", h("a", { href: at.href("/funnel") }, "all campaigns")),
      steps.map(line),
      segments.length > 0 && [h("h3", {}, `By ${SEGMENTS[segment].toLowerCase()}`), table(columns, segments.slice(0, 50), { caption: "The funnel by segment" })],
      h("div", { class: "panel-tools" }, h("span", { class: "note" }, `each step after the one before, ${WINDOWS[window_s]}`), csvButton("tally-funnel", csv, () => [{ value: "all", steps }, ...segments])),
    ];
  });
  return element;
}
