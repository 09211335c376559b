// How the server itself does: for whoever runs it.

import { ask, parseMetrics } from "../api.js";
import { h, into, panel, table } from "../dom.js";
import * as format from "../format.js";

const EVERY = 5_000;

export default function system(at) {
  const place = h("div", {});
  let before = null;
  const load = () =>
    into(
      place,
      async () => {
        const [text, ready] = await Promise.all([ask("/metrics", { as: "text", signal: at.signal }), ask("/readyz", { as: "text", accept: [503], signal: at.signal })]);
        const now = { at: Date.now(), metrics: parseMetrics(text) };
        const drawn = draw(now, before, ready.trim());
        before = now;
        return drawn;
      },
      { quiet: true, lines: 8 },
    );
  load();
  const again = setInterval(() => !document.hidden && load(), EVERY);
  at.onleave(() => clearInterval(again));
  return place;
}

function draw(now, before, ready) {
  const all = (name, from = now) => from.metrics.filter((metric) => metric.name === name);
  const sum = (name, from) => {
    const found = all(name, from);
    return found.length ? found.reduce((total, metric) => total + metric.value, 0) : null;
  };
  const rate = (name) => (before && sum(name) !== null && sum(name, before) !== null ? ((sum(name) - sum(name, before)) / (now.at - before.at)) * 1_000 : null);
  const mean = (name) => (sum(`${name}_count`) ? sum(`${name}_sum`) / sum(`${name}_count`) : null);
  const share = (part, whole) => (whole ? part / whole : null);
  const age = sum("tally_pipeline_watermark_seconds") ? Math.max(0, now.at / 1_000 - sum("tally_pipeline_watermark_seconds")) : null;
  const of = (name, table) => all(name).find((metric) => Object.values(metric.labels).includes(table))?.value ?? null;
  const failures = (name) => (sum(name) ? `${format.count(sum(name))} failed: look at the log` : "");
  const bytesPerEvent = () => (of("tally_lake_rows", "events") ? `${format.short(of("tally_lake_size_bytes", "events") / of("tally_lake_rows", "events"))} B an event` : "");
  const perSecond = (name) => (rate(name) === null ? "…" : `${format.count(Math.round(rate(name)))}/s`);
  const groups = [
    ["Journal", [["Records made durable", format.count(sum("tally_journal_records_total")), perSecond("tally_journal_records_total")], ["Bytes made durable", format.bytes(sum("tally_journal_written_bytes_total")), ""], ["Time of a sync, on average", format.duration(mean("tally_journal_sync_seconds")), ""], ["Waits for the disk", format.bytes(sum("tally_journal_queued_bytes")), ""], ["Kept until it is counted", format.bytes(sum("tally_journal_behind_bytes")), ""]]],
    ["Pipeline", [["Behind the journal", `${format.count(sum("tally_pipeline_lag_records"))} records`, ""], ["Age of the figures", format.duration(age), age > 30 ? "old: look at the log" : ""], ["Commits", format.count(sum("tally_pipeline_commits_total")), ""], ["Time of a commit, on average", format.duration(mean("tally_pipeline_commit_seconds")), ""], ["Commits tried again", format.count(sum("tally_pipeline_commit_retries_total")), ""]]],
    ["Lake", [["Rows of events", format.count(of("tally_lake_rows", "events")), ""], ["Rows of rollups", format.count(of("tally_lake_rows", "rollups")), ""], ["Files", format.count(sum("tally_lake_files")), ""], ["On disk", format.bytes(sum("tally_lake_size_bytes")), bytesPerEvent()], ["Times that files were merged", format.count(sum("tally_lake_compactions_total")), failures("tally_lake_maintenance_failures_total")]]],
    ["Jobs and memory", [["Nightly recounts", format.count(sum("tally_verify_runs_total")), failures("tally_verify_failures_total")], ["Differences in the last one", format.count(sum("tally_verify_differences")), ""], ["Event ids remembered", format.count(sum("tally_pipeline_dedup_ids")), format.bytes(sum("tally_pipeline_dedup_memory_bytes"))], ["Files of ids on disk", format.count(sum("tally_pipeline_dedup_runs")), ""], ["Campaigns in live seconds", format.count(sum("tally_live_cells")), ""]]],
    ["Way in and out", [["Connections", `${format.count(sum("tally_server_connections"))} of ${format.count(sum("tally_server_connections_max"))}`, format.ratio(share(sum("tally_server_connections"), sum("tally_server_connections_max")), 1)], ["Looking at live figures", format.count(sum("tally_live_connections")), ""], ["Questions that wait", format.count(sum("tally_api_waiting")), ""], ["Time of a report, on average", format.duration(mean("tally_api_report_seconds")), ""], ["Reports without an answer", format.count(sum("tally_api_failures_total")), ""]]],
  ];
  const box = ([title, rows]) => {
    const { element, body } = panel(title);
    body.append(table([{ key: "name", title: "", number: false, text: (row) => row[0] }, { key: "value", title: "", text: (row) => row[1] }, { key: "note", title: "", cell: (row) => h("span", { class: "note" }, row[2]) }], rows, { caption: title }));
    return element;
  };
  const isReady = ready === "ready";
  const rest = panel("All figures of the server", { wide: true, note: "/metrics, for Prometheus" });
  const shown = now.metrics.filter((metric) => !/_bucket$|^tally_access_key/.test(metric.name));
  rest.body.append(h("details", {}, h("summary", {}, `${shown.length} figures`), table([{ key: "name", title: "Name", number: false, class: "mono", text: (row) => row.name }, { key: "labels", title: "Labels", number: false, class: "mono wrap", text: (row) => Object.entries(row.labels).map(([name, value]) => `${name}=${value}`).join(" ") }, { key: "value", title: "Value", text: (row) => format.short(row.value) }], shown, { caption: "All figures" })));
  return h("div", { class: "grid three" }, h("div", { class: `wide seal ${isReady ? "holds" : "broken"}`, role: isReady ? "status" : "alert" }, h("span", { class: "seal-mark", "aria-hidden": "true" }, isReady ? "✓" : "!"), h("div", {}, h("strong", {}, isReady ? "Ready" : "Not ready"), h("p", {}, isReady ? "It takes events, counts them and answers." : ready))), groups.map(box), rest.element);
}
