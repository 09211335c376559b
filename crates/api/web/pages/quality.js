// What does not count, why, and since when.

import { bar, timeChart } from "../charts.js";
import { ask, query } from "../api.js";
import { csvButton, empty, h, into, panel, table } from "../dom.js";
import * as format from "../format.js";
import { asQuestion, bucketStart, buckets } from "../range.js";

const REASONS = {
  same_id: ["Same id", "Sent again: the event had been received before."],
  double_click: ["Double click", "The same person clicked the same ad within moments."],
  declared_bot: ["Declared robot", "The agent says of itself that it is a robot."],
  link_preview: ["Link preview", "A chat or a feed looked where the link leads."],
  prefetch: ["Prefetch", "Fetched ahead, before anybody went there."],
  head_request: ["HEAD request", "Looked where the link leads, and showed nothing."],
  rate_limited: ["Over a rate limit", "Came faster than a person can."],
  click_unresolved: ["Click not known", "A conversion whose click nobody knows."],
  not_approved: ["Not approved", "A postback that says pending or rejected."],
  undecodable: ["Cannot be read", "A record that this version cannot read."],
  judging_failed: ["Judging failed", "A fault of ours; the event is kept."],
};
const KINDS = ["impressions", "clicks", "conversions"];
const CLASSES = [["", "Counted", "c1"], ["duplicate_", "Duplicates", "c2"], ["invalid_", "Invalid", "c3"], ["quarantined_", "Quarantined", "c5"]];
const SUMMED = CLASSES.flatMap(([klass]) => KINDS.map((kind) => `${klass}${kind}`));

export default function quality(at) {
  const { range } = at;
  const over = panel("Share that does not count", { wide: true, note: "of all events received, by class" });
  const reasons = panel("Reasons");
  const worst = panel("Campaigns with the most that does not count");
  const kept = panel("Quarantine", { wide: true, note: "kept until somebody mends it" });
  const sum = (row, klass) => KINDS.reduce((total, kind) => total + (row[`${klass}${kind}`] || 0), 0);
  const received = (row) => CLASSES.reduce((total, [klass]) => total + sum(row, klass), 0);
  into(over.body, async () => {
    const { rows } = await query({ metrics: SUMMED, group_by: [range.grain], ...asQuestion(range) }, at.signal);
    if (!rows.length) return empty("No event in this period.", "Choose a longer one above.");
    const found = new Map(rows.map((row) => [bucketStart(row[range.grain], range.zone), row]));
    const all = buckets(range);
    const share = (klass) => all.map((ms) => (found.has(ms) && received(found.get(ms)) ? sum(found.get(ms), klass) / received(found.get(ms)) : null));
    const text = (value) => format.ratio(value, 1);
    const whole = rows.reduce((total, row) => total + received(row), 0) || 1;
    const series = CLASSES.slice(1).map(([klass, name, colour]) => ({ name, values: share(klass), colour, text, summary: text(rows.reduce((total, row) => total + sum(row, klass), 0) / whole) }));
    return timeChart({ times: all.map((ms) => ms / 1_000), series, zone: range.zone, grain: range.grain, title: "Share of what was received", axis: (value) => format.ratio(value, 0), isWhole: false, onzoom: (from, to) => at.zoom(from, to) }).element;
  });
  into(reasons.body, async () => {
    const { rows } = await query({ metrics: ["gross_impressions", "gross_clicks", "gross_conversions"], group_by: ["reason"], ...asQuestion(range) }, at.signal);
    const found = rows.filter((row) => row.reason !== null).map((row) => ({ ...row, events: row.gross_impressions + row.gross_clicks + row.gross_conversions })).sort((a, b) => b.events - a.events);
    if (!found.length) return empty("Everything counted.", "No event of this period was a duplicate, invalid or quarantined.");
    const most = found[0].events || 1;
    return [
      table(
        [
          { key: "reason", title: "Reason", number: false, class: "wrap", cell: (row) => [h("div", {}, (REASONS[row.reason] || [row.reason])[0]), h("div", { class: "note" }, (REASONS[row.reason] || [])[1])] },
          { key: "bar", title: "", class: "bar-cell", cell: (row) => bar(row.events / most, "c3") },
          { key: "events", title: "Events", text: (row) => format.count(row.events) },
          { key: "clicks", title: "Clicks", text: (row) => format.count(row.gross_clicks) },
        ],
        found,
        { caption: "Reasons" },
      ),
      h("div", { class: "panel-tools" }, h("span", {}), csvButton("tally-reasons", () => ["reason", "gross_impressions", "gross_clicks", "gross_conversions"].map((key) => ({ name: key, value: (row) => row[key] })), () => found)),
    ];
  });
  into(worst.body, async () => {
    const { rows } = await query({ metrics: SUMMED, group_by: ["campaign_id"], ...asQuestion(range) }, at.signal);
    const found = rows.map((row) => ({ id: row.campaign_id, received: received(row), lost: received(row) - sum(row, "") })).filter((row) => row.lost).sort((a, b) => b.lost - a.lost).slice(0, 12);
    if (!found.length) return empty("No campaign lost anything.");
    return table(
      [
        { key: "id", title: "Campaign", number: false, cell: (row) => h("a", { href: at.href("/campaigns", { campaign: row.id }), title: row.id }, format.shortId(row.id)) },
        { key: "received", title: "Received", text: (row) => format.count(row.received) },
        { key: "lost", title: "Not counted", text: (row) => format.count(row.lost) },
        { key: "share", title: "Share", text: (row) => format.ratio(row.lost / row.received, 1) },
      ],
      found,
      { caption: "Campaigns with the most that does not count" },
    );
  });
  into(kept.body, async () => {
    const { events } = await ask("/v1/quarantine?limit=50", { signal: at.signal });
    if (!events.length) return empty("Nothing is in quarantine.");
    return table(
      [
        { key: "event_id", title: "Event", number: false, cell: (row) => h("a", { href: at.href("/event", { id: row.event_id }), class: "mono" }, format.shortId(row.event_id)) },
        { key: "why", title: "Why", number: false, class: "wrap", text: (row) => row.why },
        { key: "kind", title: "Kind", number: false, text: (row) => row.kind },
        { key: "received", title: "Received", text: (row) => (row.received_at ? format.time(Date.parse(row.received_at), range.zone) : "–") },
      ],
      events,
      { caption: "Quarantine" },
    );
  });
  return h("div", { class: "grid even" }, over.element, reasons.element, worst.element, kept.element);
}
