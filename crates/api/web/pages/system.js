// How the server itself does: for whoever runs it.

import { ask, parseMetrics } from "../api.js";
import { bar, sparkline } from "../charts.js";
import { h, into, panel, table } from "../dom.js";
import * as format from "../format.js";

const EVERY = 5_000;
/** What was seen since the page was opened: five minutes. */
const SEEN_MAX = 60;
const TABLES = { events: ["Events", "Delta table, each event with its verdict"], rollups: ["Rollups", "Delta table, sums by minute, hour, day, month"], attributions: ["Attributions", "Delta table, what conversions are owed to"] };
/** Figures that lag by more are old. */
const OLD_S = 30;

export default function system(at) {
  const place = h("div", {});
  const seen = [];
  const kept = { isOpen: false };
  const load = () =>
    into(
      place,
      async () => {
        const [text, ready] = await Promise.all([ask("/metrics", { as: "text", signal: at.signal }), ask("/readyz", { as: "text", accept: [503], signal: at.signal })]);
        seen.push({ at: Date.now(), metrics: parseMetrics(text) });
        if (seen.length > SEEN_MAX) seen.shift();
        return draw(at, seen, ready.trim(), kept);
      },
      { quiet: true, lines: 8 },
    );
  load();
  // Whoever reads the long list, or stands in it with the keyboard, is not disturbed.
  const again = setInterval(() => !document.hidden && !kept.isOpen && load(), EVERY);
  at.onleave(() => clearInterval(again));
  return place;
}

/** Ways to ask one reading of the metrics. */
function reader({ metrics }) {
  const all = (name) => metrics.filter((metric) => metric.name === name);
  const sum = (name) => {
    const found = all(name);
    return found.length ? found.reduce((total, metric) => total + metric.value, 0) : null;
  };
  const of = (name, label) => all(name).find((metric) => Object.values(metric.labels).includes(label))?.value ?? null;
  const mean = (name) => (sum(`${name}_count`) ? sum(`${name}_sum`) / sum(`${name}_count`) : null);
  return { all, sum, of, mean };
}

function draw(at, seen, ready, kept) {
  const now = seen.at(-1);
  const { sum, mean } = reader(now);
  const isReady = ready === "ready";
  const age = ageOf(now);
  const state = h("div", { class: `wide seal ${isReady ? "holds" : "broken"}`, role: isReady ? "status" : "alert" }, h("span", { class: "seal-mark", "aria-hidden": "true" }, isReady ? "✓" : "!"), h("div", {}, h("strong", {}, isReady ? "Ready" : "Not ready"), h("p", {}, isReady ? "It takes events, counts them and answers." : ready)));
  return h(
    "div",
    { class: "grid three" },
    state,
    headline(seen, age),
    storage(now),
    box("Journal", "what was acknowledged, since the start", [
      ["Records made durable", format.count(sum("tally_journal_records_total"))],
      ["Bytes made durable", format.bytes(sum("tally_journal_written_bytes_total"))],
      ["One sync, on average", format.duration(mean("tally_journal_sync_seconds"))],
      ["Waiting for the disk", format.bytes(sum("tally_journal_queued_bytes"))],
      ["Held for counting, in whole segments", format.bytes(sum("tally_journal_behind_bytes"))],
    ]),
    box("Commits", "from the journal into the tables, since the start", [
      ["Behind the journal", `${format.count(sum("tally_pipeline_lag_records"))} records`],
      ["Age of the figures", format.duration(age), age > OLD_S && "old: look at the log"],
      ["Commits", format.count(sum("tally_pipeline_commits_total"))],
      ["One commit, on average", format.duration(mean("tally_pipeline_commit_seconds"))],
      ["Tried again", format.count(sum("tally_pipeline_commit_retries_total")), sum("tally_pipeline_commit_retries_total") > 0 && "the log says why"],
    ]),
    box("In and out", "connections, questions, viewers", [
      ["Connections", `${format.count(sum("tally_server_connections"))} of ${format.count(sum("tally_server_connections_max"))}`],
      ["Looking at live figures", format.count(sum("tally_live_connections"))],
      ["Questions that wait", format.count(sum("tally_api_waiting"))],
      ["One report, on average", format.duration(mean("tally_api_report_seconds"))],
      ["Reports without an answer", format.count(sum("tally_api_failures_total"))],
      ["Refused for want of room", format.count(sum("tally_capture_shed_events_total") ?? 0), sum("tally_capture_shed_events_total") > 0 && "more comes than can be kept"],
    ]),
    box("Memory for exactness", "what deduplication remembers", [
      ["Event ids", format.count(sum("tally_pipeline_dedup_ids"))],
      ["Memory for them", format.bytes(sum("tally_pipeline_dedup_memory_bytes"))],
      ["Files of ids on disk", format.count(sum("tally_pipeline_dedup_runs"))],
      ["Clicks, for double clicks", format.count(sum("tally_pipeline_double_click_clicks"))],
      ["Campaigns in live seconds", format.count(sum("tally_live_cells"))],
    ]),
    jobs(at, now),
    everything(now, kept),
  );
}

const ageOf = (reading) => {
  const watermark = reader(reading).sum("tally_pipeline_watermark_seconds");
  return watermark ? Math.max(0, reading.at / 1_000 - watermark) : null;
};

/** What matters first, with how it went since the page was opened. */
function headline(seen, age) {
  const { sum } = reader(seen.at(-1));
  const rates = seen.slice(1).map((reading, nth) => Math.max(0, ((reader(reading).sum("tally_journal_records_total") - reader(seen[nth]).sum("tally_journal_records_total")) / (reading.at - seen[nth].at)) * 1_000));
  const lags = seen.map((reading) => reader(reading).sum("tally_pipeline_lag_records") || 0);
  const ages = seen.map((reading) => ageOf(reading) || 0);
  const line = (values, name) => values.length > 1 && sparkline(values, `${name} since this page was opened`);
  const card = (name, value, values) => h("div", { class: "card" }, h("span", { class: "card-name" }, name), h("b", {}, value), line(values, name));
  return h(
    "div",
    { class: "wide cards" },
    h("div", { class: "card-row four" }, card("Events made durable a second", rates.length ? format.count(Math.round(rates.at(-1))) : "…", rates), card("Records behind the journal", format.count(sum("tally_pipeline_lag_records")), lags), card("Age of the figures", format.duration(age), ages), card("On disk", format.bytes((sum("tally_lake_size_bytes") || 0) + (sum("tally_journal_kept_bytes") || 0) + (sum("tally_exports_kept_bytes") || 0)), [])),
  );
}

/** Where the bytes are. */
function storage(now) {
  const { all, of, sum } = reader(now);
  const order = Object.keys(TABLES);
  const tables = all("tally_lake_size_bytes").sort((a, b) => order.indexOf(a.labels.table) - order.indexOf(b.labels.table));
  const rows = tables.map(({ labels: { table: name }, value: bytes }) => ({ name: TABLES[name]?.[0] || name, kind: TABLES[name]?.[1] || "Delta table", rows: of("tally_lake_rows", name), files: of("tally_lake_files", name), bytes }));
  rows.push({ name: "Journal", kind: "log, counted records included", rows: null, files: null, bytes: sum("tally_journal_kept_bytes") });
  rows.push({ name: "Exports", kind: "answers, for a day", rows: null, files: sum("tally_exports_kept"), bytes: sum("tally_exports_kept_bytes") });
  const most = Math.max(...rows.map((row) => row.bytes || 0), 1);
  const total = rows.reduce((all, row) => all + (row.bytes || 0), 0);
  const { element, body } = panel("Storage", { wide: true, note: "tier: local, the disk of this machine; there is no other" });
  body.append(
    table(
      [
        { key: "name", title: "What", number: false, class: "wrap", cell: (row) => [h("div", {}, row.name), h("div", { class: "note" }, row.kind)] },
        { key: "bytes", title: "On disk", text: (row) => format.bytes(row.bytes) },
        { key: "bar", title: "", class: "bar-cell", cell: (row) => bar((row.bytes || 0) / most, "c1") },
        { key: "tier", title: "Tier", number: false, text: () => "local" },
        { key: "files", title: "Files", text: (row) => format.count(row.files) },
        { key: "rows", title: "Rows", text: (row) => format.count(row.rows) },
        { key: "each", title: "Bytes a row", text: (row) => (row.rows ? format.short(row.bytes / row.rows) : "–") },
      ],
      rows,
      { caption: "Storage by place", foot: h("tfoot", {}, h("tr", {}, h("th", { scope: "row", class: "text" }, "All of these"), h("td", { class: "number" }, format.bytes(total)), h("td", { colspan: 5 }))) },
    ),
    h("p", { class: "note" }, "Tables as of their newest version, measured after each round of merging; files that nothing names any more go later."),
  );
  return element;
}

/** What runs beside the events. */
function jobs(at, now) {
  const { of, sum } = reader(now);
  const last = sum("tally_verify_last_run_timestamp_seconds");
  const failures = (name) => sum(name) ?? 0;
  const rows = [
    ["Merging files of events", of("tally_lake_compactions_total", "events") ?? 0, failures("tally_lake_maintenance_failures_total"), ""],
    ["Merging files of rollups", of("tally_lake_compactions_total", "rollups") ?? 0, null, ""],
    ["Nightly recount", sum("tally_verify_runs_total"), failures("tally_verify_failures_total"), last ? `${format.time(last * 1_000, at.range.zone)}, ${format.count(sum("tally_verify_differences"))} differences` : "not since the start"],
    ["Attribution of conversions", null, failures("tally_attribution_failures_total"), `${format.count(sum("tally_attribution_waiting"))} wait for their click`],
    ["Postbacks to advertisers", sum("tally_outbound_delivered_total"), failures("tally_outbound_given_up_total"), sum("tally_outbound_waiting") === null ? "no campaign has an address for them" : `${format.count(sum("tally_outbound_waiting"))} to be sent`],
    ["Exports", null, failures("tally_exports_failures_total"), `${format.count(sum("tally_exports_kept"))} kept`],
  ];
  const { element, body } = panel("Jobs", { note: "since the start" });
  element.classList.add("two-wide");
  body.append(
    table(
      [
        { key: "name", title: "Job", number: false, class: "wrap", text: ([name]) => name },
        { key: "runs", title: "Done", text: ([, runs]) => format.count(runs) },
        { key: "failed", title: "Failed", cell: ([, , failed]) => (failed ? h("span", { class: "wrong" }, format.count(failed)) : format.count(failed)) },
        { key: "state", title: "State", number: false, class: "wrap", text: ([, , , state]) => state },
      ],
      rows,
      { caption: "Jobs" },
    ),
  );
  return element;
}

function box(title, note, rows) {
  const { element, body } = panel(title, { note });
  body.append(h("dl", { class: "facts" }, rows.map(([name, value, warning]) => [h("dt", {}, name), h("dd", {}, value, warning && h("div", { class: "wrong" }, warning))])));
  return element;
}

function everything(now, kept) {
  const { element, body } = panel("All figures of the server", { wide: true, note: "/metrics, for Prometheus" });
  const shown = now.metrics.filter((metric) => !/_bucket$|^tally_access_key/.test(metric.name));
  const columns = [
    { key: "name", title: "Name", number: false, class: "mono", text: (row) => row.name },
    { key: "labels", title: "Labels", number: false, class: "mono wrap", text: (row) => Object.entries(row.labels).map(([name, value]) => `${name}=${value}`).join(" ") },
    { key: "value", title: "Value", text: (row) => format.short(row.value) },
  ];
  body.append(h("details", { ontoggle: (event) => (kept.isOpen = event.target.open) }, h("summary", {}, `${shown.length} figures`), table(columns, shown, { caption: "All figures" })));
  return element;
}
