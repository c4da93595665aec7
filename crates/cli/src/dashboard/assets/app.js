// Fetches the state once a second and draws it.
"use strict";
// Scrollable parts must be reachable by keyboard. Widths are read after the browser has laid the page out: reading them
// earlier would make it do that twice.
function scrollable() {
  for (const node of document.querySelectorAll(".wide, .scroll")) {
    if (node.scrollWidth > node.clientWidth) node.tabIndex = 0; else node.removeAttribute("tabindex");
  }
}

function selection(state) {
  const select = $("proxy");
  setHidden(select.parentElement, state.proxies.length < 2);
  const addresses = ["all proxies", ...state.proxies.map((proxy) => proxy.address)];
  if (select.options.length === addresses.length) return;
  select.replaceChildren(...addresses.map((address, at) => element("option", { value: at ? at - 1 : "" }, address)));
}

let last = null;
function show(state) {
  last = state;
  badge($("overall"), { health: state.overall, word: state.overall });
  document.title = (state.overall === "healthy" ? "" : state.overall + " – ") + "Edgesplit";
  setText($("revision"), state.revision === null ? "" : "experiments " + state.revision);
  attention(state);
  setHidden($("config-text"), state.config.text === "");
  setText($("config-text"), [state.config.text, state.config.response].join(" "));
  selection(state);
  experiments(state);
  delivery(state);
  proxies(state);
  mint(state.mint);
  errors(state.errors);
  requestAnimationFrame(() => setTimeout(scrollable));
}

let paused = false, answered = null, asking = 0;
async function draw() {
  if (paused || document.hidden) return;
  const number = ++asking;
  const query = "?open=" + openPlaces() + ($("proxy").value ? "&proxy=" + $("proxy").value : "");
  try {
    const response = await fetch("/state.json" + query, { signal: AbortSignal.timeout(4000) });
    const state = await response.json();
    // A later answer may have come first.
    if (paused || number < asking && answered && Date.now() - answered < 1000) return;
    answered = new Date();
    document.body.classList.remove("stale");
    show(state);
    setText($("as-of"), "as of " + answered.toLocaleTimeString());
  } catch {
    if (!paused) showStale();
  }
}
function showStale() {
  if (!document.body.classList.contains("stale")) announce("the dashboard does not answer");
  document.body.classList.add("stale");
  document.title = "no answer – Edgesplit";
  badge($("overall"), { health: "broken", word: "the dashboard does not answer" });
  setText($("as-of"), answered ? "last update at " + answered.toLocaleTimeString() : "check that `edgesplit dashboard` is running");
}
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  setText($("pause"), paused ? "Resume" : "Pause");
  if (paused) setText($("as-of"), "paused" + (answered ? " at " + answered.toLocaleTimeString() : "")); else draw();
});
$("search").addEventListener("input", () => last && show(last));
$("proxy").addEventListener("change", draw);
$("attention-list").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link) reveal(link.getAttribute("href").slice(1));
});
for (const [source, event] of [[dark, "change"], [window, "resize"], [$("delivery"), "toggle"], [document, "visibilitychange"]]) {
  source.addEventListener(event, () => last && show(last));
}
draw();
setInterval(draw, 1000);
