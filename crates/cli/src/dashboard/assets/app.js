// Fetches the state once a second and draws it. Texts are inserted as text, never as markup.
"use strict";
const $ = (id) => document.getElementById(id);
const percent = (share) => (share === null ? "–" : (100 * share).toFixed(1) + " %");
const shown = (value, unit = "") => (value === null ? "–" : number.format(value) + unit);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function setText(node, text) { if (node.textContent !== text) node.textContent = text; }
function badge(node, { health, word }) {
  if (node.className !== "badge " + health) node.className = "badge " + health;
  setText(node, word);
}
// Screen readers get each change once, and not every figure every second.
function announce(text) { setText($("announcement"), text); }

let known = new Map();
function attention(list, overall) {
  $("attention").hidden = list.length === 0;
  const nodes = $("attention-list");
  while (nodes.children.length > list.length) nodes.lastChild.remove();
  list.forEach((one, at) => {
    const node = nodes.children[at] || nodes.appendChild(element("li", {}, element("span", { class: "badge" }), element("a"), element("span", { class: "quiet" })));
    badge(node.children[0], one);
    setText(node.children[1], one.what);
    if (node.children[1].getAttribute("href") !== "#" + one.place) node.children[1].setAttribute("href", "#" + one.place);
    setText(node.children[2], one.text);
  });
  const now = new Map(list.map((one) => [one.what + ": " + one.word, one.health]));
  const news = [...now].filter(([what]) => !known.has(what)).map(([what, health]) => health + ", " + what);
  const gone = [...known.keys()].filter((what) => !now.has(what)).map((what) => "resolved: " + what);
  if (news.length + gone.length) announce([...news, ...gone, "overall " + overall].join("; "));
  known = now;
}

function figures(delivery) {
  const dropped = delivery.dropped_overflow === null ? null : delivery.dropped_overflow + delivery.dropped_expired;
  const list = [
    ["emitted", "events", delivery.emitted], ["delivered", "events", delivery.delivered], ["queued", "events", delivery.queued_events],
    ["oldest", "seconds", delivery.oldest_age_s], ["rejected", "events", delivery.rejected],
    ["dropped", "events", dropped], ["diverted", "events", delivery.diverted],
  ];
  fill($("figures"), "figure-", list);
}

function fill(figures, prefix, list) {
  if (!figures.children.length) {
    figures.append(...list.map(([name, unit]) => element("div", {}, element("dt", {}, name), element("dd", { id: prefix + name.replace(/ /g, "-") }), element("dd", { class: "unit" }, unit))));
  }
  for (const [name, , value] of list) setText($(prefix + name.replace(/ /g, "-")), shown(value));
}

// Why requests without an id got none. Plugins that mint no ids have nothing to show.
function mint(counts) {
  const { minted = 0, refused_insecure: insecure = 0, refused_not_navigation: other = 0 } = counts;
  $("mint").hidden = minted + insecure + other === 0;
  fill($("mint-figures"), "mint-", [["minted", "ids", minted], ["no https", "refused", insecure], ["no page", "refused", other]]);
}

const columns = ["variant", "exposures", "delivered", "lost", "observed", "configured", "5xx"];
function table(experiment) {
  return element("div", { class: "scroll" }, element("table", {},
    element("caption", { class: "unseen" }, experiment.key + ": exposures by variant, their delivery, their shares, and the share of responses with a server error"),
    element("thead", {}, element("tr", {}, ...columns.map((name, column) => element("th", { scope: "col", class: column ? "n" : "" }, name)))),
    element("tbody", {}, ...experiment.variants.map((variant, row) => element("tr", {},
      element("th", { scope: "row" }, swatch(row), variant.key),
      ...columns.slice(1).map(() => element("td", { class: "n" })))))));
}
// A sample of the variant's line in the chart.
function swatch(row) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of [["width", 24], ["height", 10], ["aria-hidden", true]]) svg.setAttribute(name, value);
  for (const [name, value] of [["x2", 24], ["y1", 5], ["y2", 5], ["stroke-width", 3], ["stroke-dasharray", dash(row).join(" ")]]) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}

function card(experiment, at, seconds) {
  const id = "experiment-" + at;
  let node = $(id);
  const shape = experiment.key + "|" + experiment.variants.map((variant) => variant.key).join();
  if (!node || node.dataset.shape !== shape) {
    const made = element("article", { id, tabindex: -1, "aria-labelledby": id + "-title" },
      element("div", { class: "title" }, element("h3", { id: id + "-title" }, experiment.key), element("span", { class: "badge" }), element("span", { class: "quiet small" })),
      element("p", { class: "verdict" }),
      table(experiment),
      element("figure", { class: "chart", tabindex: 0, role: "group" }, element("figcaption"), element("div", { class: "plot", "aria-hidden": true })));
    made.dataset.shape = shape;
    if (node) { charts.delete(node.querySelector("figure")); node.replaceWith(made); } else $("cards").append(made);
    node = made;
  }
  node.className = experiment.verdict.health + "-card";
  badge(node.querySelector(".badge"), calm(experiment.verdict));
  setText(node.querySelector(".small"), experiment.state + ", " + number.format(experiment.exposures) + " exposures");
  setText(node.querySelector(".verdict"), experiment.verdict.text);
  experiment.variants.forEach((variant, row) => {
    const line = node.querySelectorAll("tbody tr")[row];
    line.querySelector("line").setAttribute("stroke", color(row));
    const delivered = variant.delivered_at_least === variant.exposures ? "" : "≥ ";
    const errors = variant.responses ? percent(variant.server_errors / variant.responses) : "–";
    const texts = [
      number.format(variant.exposures), delivered + number.format(variant.delivered_at_least),
      (variant.lost_at_most ? "≤ " : "") + number.format(variant.lost_at_most),
      percent(variant.observed), percent(variant.configured), variant.off ? errors + ", off" : errors,
    ];
    line.querySelectorAll("td").forEach((cell, column) => setText(cell, texts[column]));
  });
  const drawn = experiment.state === "running" && experiment.exposures > 0;
  node.querySelector("figure").hidden = !drawn;
  if (drawn) {
    const title = "new exposures in the last " + span(seconds);
    chart(node.querySelector("figure"), title, seconds, experiment.variants.map((variant) => ({ name: variant.key, values: variant.history })), 150);
  }
}
// Healthy verdicts with another word, such as “paused”, are shown without the colour of health.
const calm = (verdict) => (verdict.health === "healthy" && verdict.word !== "healthy" ? { health: "calm", word: verdict.word } : verdict);
const span = (seconds) => { const whole = Math.round(-seconds[0]); return whole < 120 ? whole + " s" : Math.floor(whole / 60) + " min"; };

function rows(body, list, cells, fill) {
  while (body.children.length > list.length) body.lastChild.remove();
  list.forEach((one, at) => fill(body.children[at] || body.appendChild(element("tr", {}, ...cells())), one));
}

function proxies(list) {
  const cells = () => [
    element("th", { scope: "row" }), element("td", {}, element("span", { class: "badge" }), element("span", { class: "quiet small block" })),
    ...columnsOfProxies.map((name) => element("td", { class: name === "revision" ? "" : "n" })),
  ];
  rows(document.querySelector("#proxies tbody"), list, cells, (row, proxy) => {
    setText(row.children[0], proxy.address);
    badge(row.querySelector(".badge"), proxy.verdict);
    setText(row.querySelector(".small"), proxy.verdict.text);
    const vms = shown(proxy.vms_active) + (proxy.vms_started ? " (" + proxy.vms_started + " new)" : "");
    const texts = [
      shown(proxy.emitted), shown(proxy.delivered), shown(proxy.lost), shown(proxy.queued), shown(proxy.oldest_age_s, " s"),
      proxy.revisions.join(", ") || "–", shown(proxy.config_age_s, " s ago"), shown(proxy.fetch_failures), vms,
    ];
    texts.forEach((text, cell) => setText(row.children[cell + 2], text));
  });
}
const columnsOfProxies = ["emitted", "delivered", "lost", "queued", "oldest", "revision", "confirmed", "fetch failures", "VMs"];

function errors(list) {
  $("errors").hidden = list.length === 0;
  const cells = () => [element("th", { scope: "row" }), element("td", { class: "n" }), element("td")];
  rows(document.querySelector("#errors tbody"), list, cells, (row, { kind, count, meaning }) => {
    [kind, number.format(count), meaning].forEach((text, cell) => setText(row.children[cell], text));
  });
}

// Scrollable parts must be reachable by keyboard.
function scrollable() {
  for (const node of document.querySelectorAll(".wide, .scroll")) {
    if (node.scrollWidth > node.clientWidth) node.tabIndex = 0; else node.removeAttribute("tabindex");
  }
}

let last = null;
function show(state) {
  last = state;
  badge($("overall"), { health: state.overall, word: state.overall });
  document.title = (state.overall === "healthy" ? "" : state.overall + " – ") + "Edgesplit";
  setText($("revision"), state.revision === null ? "" : "experiments " + state.revision);
  attention(state.attention, state.overall);
  badge($("delivery-badge"), state.delivery.verdict);
  setText($("delivery-text"), state.delivery.verdict.text);
  figures(state.delivery);
  if (state.seconds.length) {
    const queued = { name: "waiting", values: state.delivery.history.queued, color: palette()[1], fill: palette()[1] + "33" };
    chart($("outbox"), "events waiting in buffers and in the outbox, last " + span(state.seconds), state.seconds, [queued], 150);
  }
  $("config-text").hidden = state.config.text === "";
  setText($("config-text"), state.config.text);
  state.experiments.forEach((experiment, at) => card(experiment, at, state.seconds));
  while ($("cards").children.length > state.experiments.length) $("cards").lastChild.remove();
  proxies(state.proxies);
  mint(state.mint);
  errors(state.errors);
  scrollable();
  document.body.dataset.drawn = "yes";
}

let [answered, paused] = [null, false];
async function draw() {
  if (paused) return;
  const state = await fetch("/state.json", { signal: AbortSignal.timeout(5000) }).then((answer) => answer.json()).catch(() => null);
  if (paused) return;
  if (state === null) return showStale();
  answered = new Date();
  document.body.classList.remove("stale");
  setText($("as-of"), "as of " + answered.toLocaleTimeString());
  show(state);
}
// Without an answer, the last figures stay, with their time.
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
for (const [source, event] of [[dark, "change"], [window, "resize"]]) source.addEventListener(event, () => last && show(last));
draw();
setInterval(draw, 1000);
