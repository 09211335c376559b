// One event's life: received, judged, counted, and where.

import { ask } from "../api.js";
import { h, into, panel, table } from "../dom.js";
import * as format from "../format.js";

const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const WORDS = {
  counted: "It counts.",
  duplicate: "It does not count: it had come before.",
  invalid_givt: "It does not count: general invalid traffic.",
  invalid_sivt: "It does not count: sophisticated invalid traffic.",
  quarantined: "It waits in quarantine until somebody mends it.",
};

export default function event(at) {
  const id = (at.parameters.get("id") || "").trim();
  const input = h("input", { type: "search", id: "event-id", "aria-label": "Event id", placeholder: "0199aa00-0000-7000-8000-000000000001", value: id, spellcheck: "false" });
  const place = h("div", {});
  const search = (submitted) => {
    submitted.preventDefault();
    at.set({ id: input.value.trim() });
  };
  if (!id) place.append(h("p", { class: "state" }, "Give an event's id: the one that it was sent with, or that the answer to it named. It is also in a conversion's click_id."));
  else if (!UUID.test(id)) place.append(h("p", { class: "state-error state", role: "alert" }, `“${id}” is no UUID. Ids look like 0199aa00-0000-7000-8000-000000000001.`));
  else into(place, async () => life(at, await ask(`/v1/events/${encodeURIComponent(id)}`, { signal: at.signal })));
  return [h("form", { class: "search", role: "search", onsubmit: search }, input, h("button", { class: "button primary" }, "Why?")), place];
}

function life(at, { event_id, events_version, sightings }) {
  const when = (text) => (text ? format.time(Date.parse(text), at.range.zone) : "–");
  const told = sightings.map((one, nth) => {
    const klass = one.verdict;
    const { element, body } = panel(sightings.length > 1 ? `Sighting ${nth + 1} of ${sightings.length}` : "Its life", { wide: true, note: `as of version ${events_version}` });
    const fields = Object.entries(one.fields || {}).filter(([, value]) => value !== null && !(Array.isArray(value) && !value.length));
    const story = h(
      "div",
      {},
      h("p", { class: "plain" }, h("span", { class: `tag ${klass}` }, klass), " ", WORDS[klass] || "", one.reason && h("span", { class: "note" }, ` Reason: ${one.reason}.`)),
      h("ol", { class: "story" },
        h("li", {}, h("strong", {}, `${one.kind} happened`), h("div", { class: "note" }, `${when(one.occurred_at)}, by the sender's word`)),
        h("li", {}, h("strong", {}, "Received and on disk"), h("div", { class: "note" }, `${when(one.received_at)}, partition ${one.partition}, offset ${one.offset}`)),
        h("li", {}, h("strong", {}, `Judged: ${klass}`), h("div", { class: "note" }, one.duplicate_of_offset !== null && one.duplicate_of_offset !== undefined ? `the same id stands at offset ${one.duplicate_of_offset}` : one.reason || "nothing speaks against it")),
        h("li", {}, h("strong", {}, "Committed"), h("div", { class: "note mono" }, one.file || "–"))),
    );
    const says = h(
      "div",
      {},
      h("h3", {}, "What it says"),
      table([{ key: "name", title: "Field", number: false, text: ([name]) => name }, { key: "value", title: "Value", number: false, class: "wrap mono", text: ([, value]) => (typeof value === "object" ? JSON.stringify(value) : String(value)) }], fields, { caption: `Fields of ${event_id}` }),
    );
    body.append(h("div", { class: "event-grid" }, story, says));
    if (one.cells?.length) {
      const names = [...new Set(one.cells.flatMap((cell) => Object.keys(cell)))];
      body.append(h("h3", {}, "Cells that it is counted in"), table(names.map((name) => ({ key: name, title: name, number: false, class: name === "values" ? "wrap" : null, text: (cell) => worded(cell[name]) })), one.cells, { caption: "Cells" }));
    }
    return element;
  });
  return h("div", { class: "column" }, told);
}

/** The values of a cell's dimensions, those that it has. */
function worded(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "object") return String(value);
  return Object.entries(value).filter(([, each]) => each !== null).map(([name, each]) => `${name} ${each}`).join(", ");
}
