// What pages say of figures alike: money by its currency, and where figures come from.

import { query } from "./api.js";
import { h } from "./dom.js";
import * as format from "./format.js";

export const MONEY = ["cost_micros", "revenue_micros"];
export const isMoney = (metric) => MONEY.includes(metric);
/** Values that the second question names; beyond, it asks for all. */
const NAMED_MAX = 1_000;
const GROUPS_MAX = 200_000;
/** Currencies that are told in one place; the CSV has all. */
const LINES_MAX = 4;

/**
 * Asks, and asks for the money once more by currency: sums of several mean nothing. Each row gets `money`, which has for each
 * metric a list of [currency, micros]; the answer gets `currencies`, those that hold any.
 */
export async function queryMoney(question, signal) {
  const answer = await query(question, signal);
  const { order_by: _, limit: __, ...asked } = question;
  const groups = question.group_by || [];
  const metrics = question.metrics.filter(isMoney);
  const filters = [...(question.filters || [])];
  if (groups.length === 1 && answer.rows.length && answer.rows.length <= NAMED_MAX) filters.push({ field: groups[0], values: answer.rows.map((row) => row[groups[0]]) });
  const parts = await query({ ...asked, metrics, filters, group_by: [...groups, "currency"], limit: GROUPS_MAX }, signal);
  return { ...answer, currencies: splitMoney(answer.rows, parts.rows, groups, metrics, (micros) => micros !== 0 && micros !== null) };
}

/** Gives each row the money of its parts, and tells which currencies there are. */
export function splitMoney(rows, parts, groups, metrics, isAny) {
  const keyOf = (row) => JSON.stringify(groups.map((name) => row[name]));
  const found = new Map();
  const currencies = new Set();
  for (const part of parts) {
    for (const metric of metrics.filter((name) => isAny(part[name]))) {
      const key = keyOf(part);
      if (!found.has(key)) found.set(key, {});
      (found.get(key)[metric] ||= []).push([part.currency, part[metric]]);
      currencies.add(part.currency);
    }
  }
  for (const row of rows) row.money = found.get(keyOf(row)) || {};
  return [...currencies].sort();
}

/** The sums of many rows, by currency. */
export function sumMoney(rows, metric) {
  const sums = new Map();
  for (const [currency, micros] of rows.flatMap((row) => row.money[metric] || [])) sums.set(currency, (sums.get(currency) || 0) + micros);
  return [...sums].sort(([a], [b]) => (a ?? "~").localeCompare(b ?? "~"));
}

/** Amounts one below the other, each in its currency. */
export function amounts(list, { small = false } = {}) {
  if (!list?.length) return format.money(0, null, { small });
  const texts = list.map(([currency, micros]) => format.money(micros, currency, { small }));
  if (texts.length === 1) return texts[0];
  const more = texts.length - LINES_MAX;
  return h("span", { class: "amounts", title: texts.join(", ") }, texts.slice(0, LINES_MAX).map((text) => h("span", {}, text)), more > 0 && h("span", { class: "note" }, `+ ${more} more`));
}

/** A figure of a row, money included. */
export const figure = (row, metric, options) => (isMoney(metric) ? amounts(row.money?.[metric], options) : format.metric(metric, row[metric]));

/** By currency, then by amount: dollars are neither more nor less than yen. */
export function compareMoney(a, b) {
  const [[currencyA, microsA] = ["", 0]] = a || [];
  const [[currencyB, microsB] = ["", 0]] = b || [];
  return currencyA === currencyB ? microsA - microsB : (currencyB ?? "~").localeCompare(currencyA ?? "~");
}

/** Columns of a CSV: money has one for each currency. */
export function csvColumns(names, currencies) {
  return names.flatMap((name) => {
    if (!isMoney(name) || !currencies.length) return { name, value: (row) => row[name] };
    return currencies.map((currency) => ({ name: currency ? `${name}_${currency}` : name, value: (row) => (row.money[name] || []).find(([each]) => each === currency)?.[1] ?? 0 }));
  });
}

/** Which currencies a measure has, and the one that the address asks for: bars and forecasts are of one. */
export async function currencyOf(at, metric, filters = []) {
  if (!isMoney(metric)) return { currency: undefined, currencies: [], filters };
  const { rows } = await query({ metrics: [metric], group_by: ["currency"], filters, from: new Date(at.range.from).toISOString(), to: new Date(at.range.to).toISOString() }, at.signal);
  const currencies = rows.filter((row) => row[metric]).map((row) => row.currency);
  const asked = at.parameters.get("currency");
  const currency = currencies.includes(asked) ? asked : currencies[0];
  return { currency, currencies, filters: currencies.length > 1 ? [...filters, { field: "currency", values: [currency] }] : filters };
}

/** Where figures come from and how far they go. */
export function source(at, meta) {
  const upTo = meta?.watermark && `, complete up to ${format.time(Date.parse(meta.watermark), at.range.zone)}`;
  return h("span", { class: "note" }, meta?.source && `From ${meta.source}`, meta?.table_version !== undefined && `, version ${meta.table_version}`, upTo, meta?.elapsed_ms !== undefined && `, in ${format.duration(meta.elapsed_ms / 1_000)}`);
}

/** Said where money of several currencies is on screen. */
export const severalCurrencies = (currencies) => currencies.length > 1 && h("p", { class: "note" }, `Amounts are in ${currencies.map((one) => one ?? "no currency").join(", ")}, each for itself: they are not converted, and not added up.`);
