// Tally's tag: tells the server of impressions that were seen, and of clicks with where they were.
//
//   <script async src="https://tally.example/tag.js"></script>
//   <div data-tally-campaign-id="spring" data-tally-ad-id="a1"> .. </div>
//
// Every attribute data-tally-.. is an event field, on the ad or, for all ads, on the script. Nothing is stored of a person: the
// only thing kept, in localStorage, is events that the server has not acknowledged yet.
(() => {
  "use strict";
  const script = document.currentScript;
  if (!script || window.tally) return;

  const server = script.src.replace(/\/tag[^/]*$/, "");
  // Seen means half of the pixels for a second without a break, or 30 % of a large ad (MRC Viewable Ad Impression Measurement).
  const SEEN_MS = 1000;
  const SEEN_PART = 0.5;
  const LARGE_PIXELS = 242500;
  const LARGE_PART = 0.3;
  const QUEUE_KEY = "tally.queue " + server;
  const QUEUE_MAX = 50;
  // The server knows an event again for a day: half of that later, one whose answer was lost would still not count twice.
  const QUEUE_AGE_MAX_MS = 12 * 3600 * 1000;
  // Another tab may be about to send what it has just queued.
  const OTHERS_AGE_MIN_MS = 10000;
  const RETRY_MIN_MS = 1000;
  const RETRY_MAX_MS = 60000;
  const SEND_MS = 10000;

  // ---- what waits to be acknowledged: [{id, at, body}], oldest first

  let memory = [];
  const own = new Set();

  function queued() {
    try {
      const stored = JSON.parse(localStorage.getItem(QUEUE_KEY) || "[]");
      return Array.isArray(stored) ? stored : [];
    } catch {
      return memory;
    }
  }

  function keep(events) {
    const now = Date.now();
    memory = events.filter((event) => now - event.at < QUEUE_AGE_MAX_MS).slice(-QUEUE_MAX);
    try {
      if (memory.length) localStorage.setItem(QUEUE_KEY, JSON.stringify(memory));
      else localStorage.removeItem(QUEUE_KEY);
    } catch {
      // Full, or not allowed here: the page's own memory has to do.
    }
  }

  function forget(id) {
    own.delete(id);
    keep(queued().filter((event) => event.id !== id));
  }

  // ---- sending

  const underWay = new Set();
  const beaconed = new Set();
  let retryMs = RETRY_MIN_MS;
  let retry = 0;

  async function post(event) {
    if (underWay.has(event.id)) return true;
    underWay.add(event.id);
    try {
      const answer = await fetch(server + "/v1/events", {
        method: "POST",
        body: new URLSearchParams(event.body),
        keepalive: true,
        credentials: "omit",
        signal: AbortSignal.timeout?.(SEND_MS),
      });
      // What the server cannot take now it may take later; what it refuses it will always refuse.
      if (answer.status >= 500 || answer.status === 408 || answer.status === 429) return false;
      forget(event.id);
      return true;
    } catch {
      return false;
    } finally {
      underWay.delete(event.id);
    }
  }

  async function flush() {
    clearTimeout(retry);
    const now = Date.now();
    const mine = queued().filter((event) => own.has(event.id) || now - event.at > OTHERS_AGE_MIN_MS);
    const sent = await Promise.all(mine.map(post));
    if (sent.every(Boolean)) {
      retryMs = RETRY_MIN_MS;
      return;
    }
    clearTimeout(retry);
    retry = setTimeout(flush, retryMs * (0.5 + Math.random() / 2));
    retryMs = Math.min(2 * retryMs, RETRY_MAX_MS);
  }

  // The page goes away, and may never come back: a beacon outlives it, as does what is under way. Whether it arrives is not told,
  // so the event stays queued, and comes again under the same id if this browser comes again.
  function sendBeacons() {
    for (const event of queued()) {
      if (!own.has(event.id) || underWay.has(event.id) || beaconed.has(event.id)) continue;
      if (navigator.sendBeacon?.(server + "/v1/events", new URLSearchParams(event.body))) beaconed.add(event.id);
    }
  }

  function uuid() {
    if (crypto.randomUUID) return crypto.randomUUID();
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
  }

  // An event of any kind, with fields of the API; gives its id.
  function send(fields) {
    const id = uuid();
    const body = { ...consent, ...fieldsOf(script), ...fields, event_id: id, occurred_at: new Date().toISOString() };
    for (const name of Object.keys(body)) {
      if (body[name] === undefined || body[name] === null || body[name] === "") delete body[name];
      else body[name] = String(body[name]);
    }
    own.add(id);
    keep([...queued(), { id, at: Date.now(), body }]);
    flush();
    return id;
  }

  // data-tally-campaign-id="spring" gives {campaign_id: "spring"}.
  function fieldsOf(element) {
    const fields = {};
    for (const [key, value] of Object.entries(element.dataset)) {
      const name = key.match(/^tally([A-Z].*)$/)?.[1];
      if (name) fields[name.replace(/[A-Z]/g, (letter, at) => (at ? "_" : "") + letter.toLowerCase())] = value;
    }
    return fields;
  }

  // ---- consent and privacy, as the page's consent manager says it

  const consent = {};
  if (typeof navigator.globalPrivacyControl === "boolean") consent.gpc = navigator.globalPrivacyControl ? 1 : 0;

  function ask(api, ...question) {
    try {
      if (typeof window[api] === "function") window[api](...question);
    } catch {
      // A consent manager that fails says nothing.
    }
  }

  function askForConsent() {
    ask("__tcfapi", "addEventListener", 2, (data, ok) => {
      if (!ok || !data) return;
      consent.gdpr = data.gdprApplies === undefined ? undefined : Number(data.gdprApplies);
      consent.gdpr_consent = data.tcString;
    });
    ask("__gpp", "ping", (data, ok) => {
      if (!ok || !data) return;
      consent.gpp = data.gppString;
      consent.gpp_sid = (data.applicableSections || []).filter((section) => section > 0).join(",");
    });
    ask("__uspapi", "getUSPData", 1, (data, ok) => {
      if (ok && data) consent.us_privacy = data.uspString;
    });
  }

  // ---- impressions

  const timers = new Map();
  const seen = new WeakSet();
  const known = new WeakSet();
  const steps = [0, LARGE_PART, SEEN_PART];
  const observer = new IntersectionObserver((entries) => entries.forEach(watch), { threshold: steps });

  function watch({ target, intersectionRatio, boundingClientRect: box }) {
    const part = box.width * box.height >= LARGE_PIXELS ? LARGE_PART : SEEN_PART;
    const isInView = intersectionRatio >= part && document.visibilityState === "visible";
    if (!isInView) {
      clearTimeout(timers.get(target));
      timers.delete(target);
    } else if (!timers.has(target) && !seen.has(target)) {
      timers.set(target, setTimeout(() => wasSeen(target), SEEN_MS));
    }
  }

  function wasSeen(target) {
    timers.delete(target);
    if (document.visibilityState !== "visible") return;
    seen.add(target);
    observer.unobserve(target);
    send({ ...fieldsOf(target), kind: "impression" });
  }

  // A page that was hidden shows nothing: the second begins anew.
  function visibilityChanged() {
    if (document.visibilityState === "hidden") {
      timers.forEach(clearTimeout);
      timers.clear();
      sendBeacons();
    } else {
      // Observed anew, so that each ad is told of once more.
      ads().filter((ad) => !seen.has(ad)).forEach((ad) => (observer.unobserve(ad), observer.observe(ad)));
      flush();
    }
  }

  const ads = () => Array.from(document.querySelectorAll("[data-tally-ad-id]")).filter((ad) => ad !== script);

  let scanDue = 0;

  // Pages change in bursts: one look for all of it.
  function scanSoon() {
    scanDue ||= setTimeout(() => ((scanDue = 0), scan()), 100);
  }

  function scan() {
    for (const ad of ads()) {
      if (known.has(ad)) continue;
      known.add(ad);
      observer.observe(ad);
    }
  }

  // ---- clicks

  function clicked(event) {
    const ad = event.target.closest?.("[data-tally-ad-id]");
    if (!ad || ad === script || !event.isTrusted || event.button > 1) return;
    const box = ad.getBoundingClientRect();
    const place = {};
    // The keyboard clicks nowhere.
    if (box.width && box.height && (event.clientX || event.clientY)) {
      place.x = ((event.clientX - box.left) / box.width).toFixed(4);
      place.y = ((event.clientY - box.top) / box.height).toFixed(4);
    }
    const link = event.target.closest("a[href]");
    if (link && link.href.startsWith(server + "/v1/click?")) {
      // The redirect counts this click; it only does not know where it was.
      const url = new URL(link.href);
      Object.entries(place).forEach(([name, value]) => url.searchParams.set(name, value));
      link.href = url.href;
      return;
    }
    send({ ...fieldsOf(ad), ...place, kind: "click" });
  }

  // ---- beginning

  function begin() {
    askForConsent();
    scan();
    new MutationObserver(scanSoon).observe(document.documentElement, { childList: true, subtree: true });
    // Before handlers of the page, which may stop the event on its way.
    addEventListener("click", clicked, true);
    addEventListener("auxclick", clicked, true);
    addEventListener("visibilitychange", visibilityChanged);
    addEventListener("pagehide", sendBeacons);
    addEventListener("online", flush);
    flush();
  }

  window.tally = { send, scan };
  // A page that is rendered ahead was not shown to anybody yet.
  if (document.prerendering) document.addEventListener("prerenderingchange", begin, { once: true });
  else begin();
})();
