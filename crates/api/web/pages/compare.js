// One period beside another, and variants beside a control, in plain words.

import { interval } from "../charts.js";
import { analysis, query } from "../api.js";
import { csvButton, empty, folded, h, into, panel, segmented, select, table } from "../dom.js";
import { isMoney, severalCurrencies, source, splitMoney } from "../figures.js";
import * as format from "../format.js";
import { asQuestion } from "../range.js";

const METRICS = ["impressions", "clicks", "ctr", "conversions", "cvr", "cost_micros", "revenue_micros"];
const ROWS_SHOWN = 10;
const GROUPS = { campaign_id: "Campaigns", ad_id: "Ads", country: "Countries", device: "Devices", variant: "Variants", none: "All together" };
const SPLITS = { variant: "Variant", ad_id: "Ad", placement_id: "Placement", device: "Device" };

export default function compare(at) {
  return h("div", { class: "grid" }, periods(at), test(at));
}

function periods(at) {
  const by = GROUPS[at.parameters.get("by")] ? at.parameters.get("by") : "campaign_id";
  const { element, body } = panel("This period and the one before", { wide: true, tools: [select("By", Object.entries(GROUPS), by, (value) => at.set({ by: value }), { hidden: true })] });
  into(body, async () => {
    const group_by = by === "none" ? [] : [by];
    const money = METRICS.filter(isMoney);
    const [{ rows, meta }, parts] = await Promise.all([
      analysis("compare", { metrics: METRICS, group_by, ...asQuestion(at.range) }, at.signal),
      analysis("compare", { metrics: money, group_by: [...group_by, "currency"], ...asQuestion(at.range) }, at.signal),
    ]);
    const currencies = splitMoney(rows, parts.rows, group_by, money, (one) => Boolean(one?.now || one?.before));
    if (!rows.length) return empty("Nothing in either period.", "Choose a longer one above.");
    rows.sort((a, b) => (b.clicks?.now || 0) - (a.clicks?.now || 0));
    const length = at.range.to - at.range.from;
    const cell = (key) => ({
      key,
      title: format.METRICS[key],
      cell: (row) => {
        const each = isMoney(key) ? row.money[key] || [[null, { now: 0, before: 0 }]] : [[null, row[key]]];
        return each.map(([currency, one]) => [h("div", {}, format.metric(key, one?.now ?? (isMoney(key) ? 0 : null), currency)), h("div", { class: "note" }, told(key, one, currency))]);
      },
    });
    const csvParts = (key) => ["now", "before", "change", "change_ratio"].flatMap((part) => {
      if (!isMoney(key) || !currencies.length) return { name: `${key}_${part}`, value: (row) => row[key]?.[part] };
      return currencies.map((currency) => ({ name: [key, currency, part].filter(Boolean).join("_"), value: (row) => (row.money[key] || []).find(([one]) => one === currency)?.[1][part] }));
    });
    const columns = () => [...group_by.map((name) => ({ name, value: (row) => row[name] })), ...METRICS.flatMap(csvParts)];
    return [
      h("div", { class: "panel-tools" }, h("span", { class: "note" }, `${format.time(at.range.from, at.range.zone)} to ${format.time(at.range.to, at.range.zone)}, beside the ${format.duration(length / 1_000)} before`), csvButton("tally-compare", columns, () => rows)),
      folded(rows.slice(0, 500), ROWS_SHOWN, (shown) => table([{ key: "name", title: GROUPS[by], number: false, cell: (row) => name(at, by, row[by]) }, ...METRICS.map(cell)], shown, { caption: "Two periods", rowClass: () => "two-lines" })),
      severalCurrencies(currencies),
      h("div", { class: "panel-tools" }, source(at, meta)),
    ];
  });
  return element;
}

function name(at, by, value) {
  if (by === "none") return "All";
  if (by === "country") return format.country(value);
  return by === "campaign_id" && value ? h("a", { href: at.href("/campaigns", { campaign: value }), title: value }, format.shortId(value)) : format.shortId(value);
}

/** How it changed, by words as much as by signs. */
function told(key, figure, currency) {
  const ratio = figure?.change_ratio;
  if (ratio === null || ratio === undefined) return figure?.now ? "none before" : "";
  return `${ratio > 0 ? "▲" : ratio < 0 ? "▼" : ""} ${format.change(ratio)} from ${format.metric(key, figure.before, currency)}`;
}

function test(at) {
  const metric = at.parameters.get("metric") === "cvr" ? "cvr" : "ctr";
  const split = SPLITS[at.parameters.get("split")] ? at.parameters.get("split") : "variant";
  const campaign = at.parameters.get("campaign");
  const set = (changes) => at.set(changes);
  const { element, body } = panel("A/B test", { wide: true, tools: [segmented("Rate", [["ctr", "CTR"], ["cvr", "CVR"]], metric, (value) => set({ metric: value })), select("Split by", Object.entries(SPLITS), split, (value) => set({ split: value, control: null }), { hidden: true })] });
  into(body, async () => {
    const filters = campaign ? [{ field: "campaign_id", values: [campaign] }] : [];
    const trials = metric === "ctr" ? "impressions" : "clicks";
    const { rows } = await query({ metrics: [trials], group_by: [split], filters, order_by: [{ field: trials, desc: true }], limit: 20, ...asQuestion(at.range) }, at.signal);
    const values = rows.filter((row) => row[split] !== null && row[trials] > 0).map((row) => row[split]).sort();
    if (values.length < 2) return empty(`There are not two values of ${SPLITS[split].toLowerCase()} to compare.`, "Send events with the field variant, or split by another one above.");
    const control = values.includes(at.parameters.get("control")) ? at.parameters.get("control") : values[0];
    const answer = await analysis("ab-test", { metric, split, control, filters, ...asQuestion(at.range) }, at.signal);
    const variants = new Map(answer.variants.map((variant) => [variant.value, variant]));
    const choice = select("Control", values.map((value) => [value, format.shortId(value)]), control, (value) => set({ control: value }));
    const ratio = answer.sample_ratio;
    return [
      h("div", { class: "filters" }, choice, campaign && h("span", {}, "in campaign ", h("span", { class: "mono" }, format.shortId(campaign)), " ", h("a", { href: at.href("/compare", { metric, split }) }, "all campaigns"))),
      ratio?.mismatch && h("p", { class: "state-note", role: "alert" }, "The variants were not shown as often as an even split would give (sample ratio mismatch). Something may decide who sees what; find out before you trust the result."),
      answer.tests.slice(0, 6).map((one) => h("p", { class: "plain" }, words(one, metric, variants, control))),
      table(
        [
          { key: "value", title: SPLITS[split], number: false, text: (row) => (row.value === control ? `${format.shortId(row.value)} (control)` : format.shortId(row.value)) },
          { key: "trials", title: metric === "ctr" ? "Impressions" : "Clicks", text: (row) => format.count(row.trials) },
          { key: "successes", title: metric === "ctr" ? "Clicks" : "Conversions", text: (row) => format.count(row.successes) },
          { key: "rate", title: metric.toUpperCase(), text: (row) => format.ratio(row.rate) },
          { key: "interval", title: "Difference from the control", number: false, cell: (row) => drawn(answer.tests.find((one) => one.value === row.value)) },
          { key: "p", title: "p", text: (row) => probability(answer.tests.find((one) => one.value === row.value)?.p_value) },
        ],
        answer.variants,
        { caption: "Variants beside the control" },
      ),
      h("div", { class: "panel-tools" }, h("span", { class: "note" }, "Two-proportion z test, each variant against the control; the line in the picture is no difference, the bar reaches over 95 % confidence."), source(at, answer.meta)),
    ];
  });
  return element;
}

function drawn(one) {
  if (!one?.interval || one.interval.some((end) => end === null)) return "–";
  return interval(one.interval, one.difference, `${points(one.difference)}, between ${points(one.interval[0])} and ${points(one.interval[1])}`);
}

const points = (value) => `${format.signed(value * 100)} percentage points`;
const probability = (value) => (value === null || value === undefined ? "–" : value < 0.001 ? "< 0.001" : value.toFixed(3));

/** How often a difference as large as this would show if there were none. */
const chance = (p) => `If they were alike, a difference as large would show in ${p < 0.001 ? `less than ${format.ratio(0.001, 1)}` : format.ratio(p, 1)} of tests.`;

/** What a test says, for people who do not test every day. */
function words(one, metric, variants, control) {
  const name = h("strong", {}, format.shortId(one.value));
  const rate = (value) => format.ratio(variants.get(value)?.rate);
  const seen = ` (${rate(one.value)} against ${rate(control)} of ${format.shortId(control)})`;
  const between = one.interval && one.interval.every((end) => end !== null) ? `; the true difference lies between ${points(one.interval[0])} and ${points(one.interval[1])}, with 95 % confidence` : "";
  if (one.verdict === "better") return [name, ` has a higher ${metric.toUpperCase()} than the control${seen}${between}. ${chance(one.p_value)}`];
  if (one.verdict === "worse") return [name, ` has a lower ${metric.toUpperCase()} than the control${seen}${between}. ${chance(one.p_value)}`];
  const power = one.power !== null && one.power !== undefined && one.power < 0.8 ? " With so few events only a large difference would show: wait for more." : "";
  return [name, ` and the control cannot be told apart${seen}${between}.${power}`];
}
