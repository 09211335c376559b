// From when to when, in which time zone: kept in the address, so that every view can be shared.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const PRESETS = [
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["today", "Today"],
  ["yesterday", "Yesterday"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
  ["month", "This month"],
  ["last-month", "Last month"],
  ["custom", "Custom…"],
];

export const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

export function zones() {
  const all = typeof Intl.supportedValuesOf === "function" ? Intl.supportedValuesOf("timeZone") : [];
  return [...new Set(["UTC", ownZone, ...all])];
}

export function isZone(name) {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** Year, month, day, hour and so on that clocks show in a zone. */
function shown(ms, zone) {
  const format = new Intl.DateTimeFormat("en-CA", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const parts = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
  return { year: parts.year, month: parts.month, day: parts.day, hour: parts.hour, minute: parts.minute, second: parts.second };
}

/** The instant at which clocks in a zone show this. Twice: the first guess may be on the other side of a change of the clocks. */
export function instant(year, month, day, hour, minute, zone) {
  const wanted = Date.UTC(year, month - 1, day, hour, minute);
  let guess = wanted;
  for (let round = 0; round < 2; round += 1) {
    const seen = shown(guess, zone);
    guess += wanted - Date.UTC(seen.year, seen.month - 1, seen.day, seen.hour, seen.minute);
  }
  return guess;
}

function midnight(ms, zone, days = 0) {
  const { year, month, day } = shown(ms, zone);
  return instant(year, month, day + days, 0, 0, zone);
}

/** The range that the address asks for, as of now. On the edges of cells, so that rollups can answer. */
export function rangeOf(parameters, now = Date.now()) {
  const zone = isZone(parameters.get("tz") || "") ? parameters.get("tz") : ownZone;
  const name = parameters.get("range") || (parameters.get("from") ? "custom" : "24h");
  const nextMinute = Math.floor(now / MINUTE) * MINUTE + MINUTE;
  const nextHour = Math.floor(now / HOUR) * HOUR + HOUR;
  const tomorrow = midnight(now, zone, 1);
  const { year, month } = shown(now, zone);
  const spans = {
    "1h": () => [nextMinute - HOUR, nextMinute],
    "24h": () => [nextHour - DAY - HOUR, nextHour],
    today: () => [midnight(now, zone), tomorrow],
    yesterday: () => [midnight(now, zone, -1), midnight(now, zone)],
    "7d": () => [midnight(now, zone, -6), tomorrow],
    "30d": () => [midnight(now, zone, -29), tomorrow],
    month: () => [instant(year, month, 1, 0, 0, zone), tomorrow],
    "last-month": () => [instant(year, month - 1, 1, 0, 0, zone), instant(year, month, 1, 0, 0, zone)],
    custom: () => [Date.parse(parameters.get("from")), Date.parse(parameters.get("to"))],
  };
  let [from, to] = (spans[name] || spans["24h"])();
  if (!(to > from)) [from, to] = spans["24h"]();
  return { name: spans[name] ? name : "24h", from, to, zone, grain: grainOf(to - from), isCurrent: to > now };
}

export function grainOf(length) {
  if (length <= 3 * HOUR) return "minute";
  if (length <= 4 * DAY) return "hour";
  if (length <= 120 * DAY) return "day";
  return "month";
}

/** As the server takes them. */
export const asQuestion = (range) => ({ from: new Date(range.from).toISOString(), to: new Date(range.to).toISOString(), time_zone: range.zone });

/** The beginning of a bucket as the server writes it, as an instant. */
export function bucketStart(text, zone) {
  if (text.includes("T")) return Date.parse(text);
  const [year, month, day] = text.split("-").map(Number);
  return instant(year, month, day || 1, 0, 0, zone);
}

/** Every bucket of a range, so that quiet ones show as zero and not as a line across. */
export function buckets(range) {
  const all = [];
  if (range.grain === "minute" || range.grain === "hour") {
    const step = range.grain === "minute" ? MINUTE : HOUR;
    // Hours begin where clocks of the zone show them: at half past in UTC, in India.
    const { minute, second } = shown(range.from, range.zone);
    const late = (range.grain === "hour" ? minute * MINUTE : 0) + second * 1_000 + (range.from % 1_000);
    for (let at = range.from - late; at < range.to; at += step) all.push(at);
    return all;
  }
  const { year, month, day } = shown(range.from, range.zone);
  for (let nth = 0; all.length < 5_000; nth += 1) {
    const at = range.grain === "day" ? instant(year, month, day + nth, 0, 0, range.zone) : instant(year, month + nth, 1, 0, 0, range.zone);
    if (at >= range.to) return all;
    all.push(at);
  }
  return all;
}

/** For an input of type datetime-local. */
export function asLocal(ms, zone) {
  const seen = shown(ms, zone);
  const two = (value) => String(value).padStart(2, "0");
  return `${seen.year}-${two(seen.month)}-${two(seen.day)}T${two(seen.hour)}:${two(seen.minute)}`;
}

export function fromLocal(text, zone) {
  const [date, clock] = text.split("T");
  const [year, month, day] = date.split("-").map(Number);
  const [hour, minute] = (clock || "00:00").split(":").map(Number);
  return instant(year, month, day, hour, minute, zone);
}
