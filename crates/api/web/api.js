// Asks the server. Whatever goes wrong comes as an error whose message is a sentence with a cure.

export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail);
    this.status = status;
    this.title = title;
  }
}

/** Gives the answer, its body as JSON or text, or throws. */
export async function ask(path, { body, signal, as = "json", accept = [] } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "", "It may be restarting, or the network is away. All of this comes back by itself.");
  }
  if (!answer.ok && !accept.includes(answer.status)) throw await problemOf(answer);
  return as === "text" ? answer.text() : answer.json();
}

async function problemOf(answer) {
  if (answer.status === 401) document.dispatchEvent(new CustomEvent("tally:sign-in"));
  const problem = await answer.json().catch(() => ({}));
  const fallback = answer.status === 404 ? "It does not have the endpoint that the view asks; a newer version of Tally does." : `The server answered ${answer.status}. Its log says why.`;
  return new Problem(answer.status, problem.title, problem.detail || fallback);
}

export const query = (question, signal) => ask("/v1/query", { body: question, signal });
export const analysis = (name, question, signal) => ask(`/v1/analyses/${name}`, { body: question, signal });

/** Figures of Prometheus text: [{name, labels, value}]. */
export function parseMetrics(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const match = /^([a-z_:A-Z0-9]+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] || "").matchAll(/([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, name, value]) => [name, value]));
    found.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return found;
}
