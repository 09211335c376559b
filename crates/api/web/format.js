// Numbers and times as the reader's locale writes them.

const locale = navigator.language || "en";
const MICROS = 1_000_000;
/** Made once for each kind: a table asks for hundreds. */
const numbers = new Map();
function number(options) {
  const key = JSON.stringify(options);
  if (!numbers.has(key)) numbers.set(key, new Intl.NumberFormat(locale, options));
  return numbers.get(key);
}

const whole = new Intl.NumberFormat(locale);
const compact = new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });
const decimal = new Intl.NumberFormat(locale, { maximumFractionDigits: 2 });
const DASH = "–";

const isNothing = (value) => value === null || value === undefined || Number.isNaN(value);

export const count = (value) => (isNothing(value) ? DASH : whole.format(value));
export const short = (value) => (isNothing(value) ? DASH : Math.abs(value) < 10_000 ? decimal.format(value) : compact.format(value));

export function ratio(value, digits = 2) {
  if (isNothing(value)) return DASH;
  return number({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** Millionths of a currency. Without one currency for all, the number stands alone. */
export function money(micros, currency, { small = false } = {}) {
  if (isNothing(micros)) return DASH;
  return units(micros / MICROS, currency, { small });
}

export function units(value, currency, { small = false } = {}) {
  if (isNothing(value)) return DASH;
  const isShort = small && Math.abs(value) >= 10_000;
  const notation = isShort ? { notation: "compact", maximumFractionDigits: 1 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  if (currency) {
    try {
      // As many digits as the currency has. Not the narrow symbol: dollars of five countries would look the same.
      return number({ style: "currency", currency, ...(isShort ? notation : {}) }).format(value);
    } catch {
      // Not the form of a currency, so the number stands alone.
    }
  }
  return number(notation).format(value);
}

/** A number on an axis, where there is little room. */
export const axisMoney = (currency) => (micros) => money(micros, currency, { small: true }).replace(/[.,]00$/, "");

export function change(value) {
  if (isNothing(value)) return DASH;
  return number({ style: "percent", signDisplay: "exceptZero", maximumFractionDigits: 1 }).format(value);
}

export function signed(value) {
  return isNothing(value) ? DASH : number({ signDisplay: "exceptZero", maximumFractionDigits: 2 }).format(value);
}

export function bytes(value) {
  if (isNothing(value)) return DASH;
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1_024 && at < names.length - 1) {
    value /= 1_024;
    at += 1;
  }
  return `${decimal.format(value)} ${names[at]}`;
}

export function duration(seconds) {
  if (isNothing(seconds)) return DASH;
  if (seconds < 0.001) return `${decimal.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${decimal.format(seconds * 1_000)} ms`;
  if (seconds < 120) return `${decimal.format(seconds)} s`;
  if (seconds < 7_200) return `${decimal.format(seconds / 60)} min`;
  if (seconds < 172_800) return `${decimal.format(seconds / 3_600)} h`;
  return `${decimal.format(seconds / 86_400)} days`;
}

const formats = new Map();

function format(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale, options));
  return formats.get(key);
}

export const time = (ms, zone) => format({ timeZone: zone, dateStyle: "medium", timeStyle: "medium" }).format(ms);
export const clock = (ms, zone) => format({ timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);

/** The beginning of a bucket, as long as its grain needs. */
export function bucket(ms, grain, zone) {
  const day = { timeZone: zone, month: "short", day: "numeric" };
  if (grain === "minute" || grain === "hour") return format({ ...day, hour: "2-digit", minute: "2-digit" }).format(ms);
  if (grain === "month") return format({ timeZone: zone, month: "long", year: "numeric" }).format(ms);
  return format({ ...day, weekday: "short", year: "numeric" }).format(ms);
}

/** Marks of a time axis, in seconds: the day where it begins, the time of day between. */
export function ticks(marks, zone) {
  const step = marks.length > 1 ? marks[1] - marks[0] : 86_400;
  const day = (at) => format({ timeZone: zone, month: "short", day: "numeric" }).format(at * 1_000);
  if (step >= 86_400) return marks.map(day);
  const minutes = step % 3_600 === 0 ? { hour: "numeric" } : { hour: "numeric", minute: "2-digit" };
  const clock = format({ timeZone: zone, ...minutes, ...(step < 60 ? { second: "2-digit" } : {}) });
  return marks.map((at, nth) => (step >= 60 && (nth === 0 || day(at) !== day(marks[nth - 1])) ? `${clock.format(at * 1_000)}\n${day(at)}` : clock.format(at * 1_000)));
}

/** A country's name, in the reader's language. */
export function country(code) {
  if (!code) return "unknown";
  try {
    return new Intl.DisplayNames([locale], { type: "region" }).of(code) || code;
  } catch {
    return code;
  }
}

/** Ids are long and mostly differ at their beginning. */
export const shortId = (id) => (id && id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id || "none");

/** How a metric is written. */
export function metric(name, value, currency) {
  if (name.endsWith("_micros")) return money(value, currency);
  if (name === "ctr" || name === "cvr") return ratio(value);
  if (name === "cpc" || name === "cpa" || name === "rpc") return units(value, currency);
  if (name === "roas") return isNothing(value) ? DASH : decimal.format(value);
  if (name === "users") return isNothing(value) ? DASH : count(Math.round(value));
  return count(value);
}

export const METRICS = {
  impressions: "Impressions",
  clicks: "Clicks",
  conversions: "Conversions",
  ctr: "CTR",
  cvr: "CVR",
  cost_micros: "Spend",
  revenue_micros: "Revenue",
  cpc: "CPC",
  cpa: "CPA",
  rpc: "Revenue per click",
  roas: "ROAS",
  users: "People",
  gross_clicks: "Gross clicks",
  duplicate_clicks: "Duplicate clicks",
  invalid_clicks: "Invalid clicks",
};

export const DIMENSIONS = {
  ad_id: "Ads",
  placement_id: "Placements",
  publisher_id: "Publishers",
  country: "Countries",
  device: "Devices",
  os: "Systems",
  browser: "Browsers",
  age_group: "Age groups",
  gender: "Gender",
  variant: "Variants",
  segment: "Segments",
};
