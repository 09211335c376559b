// Takes an API key for a cookie that scripts cannot read.

import { h, replace } from "../dom.js";

export default function signin(at) {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const key = h("input", { type: "password", id: "key", autocomplete: "current-password", required: true, spellcheck: "false", placeholder: "tally_…" });
  const send = async (event) => {
    event.preventDefault();
    replace(wrong);
    const answer = await fetch("/session", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ key: key.value }) }).catch(() => null);
    if (answer?.ok) {
      const next = at.parameters.get("next") || "/";
      // Within this server only: an address from a link must not lead elsewhere.
      location.assign(next.startsWith("/") && !next.startsWith("//") && !next.startsWith("/\\") ? next : "/");
      return;
    }
    const problem = answer ? await answer.json().catch(() => ({})) : { detail: "The server cannot be reached; try again in a moment." };
    replace(wrong, problem.detail || "The key is not taken.");
    key.focus();
  };
  return h(
    "form",
    { class: "panel sign-in", onsubmit: send },
    h("div", { class: "panel-body" }, h("label", { for: "key" }, "API key with the scope query"), key, wrong, h("button", { class: "button primary" }, "Sign in"), h("p", { class: "note" }, "Whoever runs the server makes one with ", h("code", {}, "tally keys create NAME --scopes query"), ". You stay signed in for twelve hours, in this browser only.")),
  );
}
