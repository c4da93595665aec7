// The list of experiments: one row for each, sorted by need for attention. A row opens into its card.
"use strict";
// The most variants that a row shows; of more, those furthest from their weights.
const SHOWN_MAX = 4;
const columns = ["experiment", "verdict", "shares", "exposures", "state", "visitors", "guardrail"];

const list = new Map();
const opened = new Set();

function rank(experiment) {
  const health = { broken: 0, watch: 1, asking: 2, healthy: 3 }[experiment.verdict.health];
  return health * 2 + (experiment.state === "running" ? 0 : 1);
}

function line(name) {
  const cell = (column) => element("td", { role: "cell", class: column });
  const title = element("th", { role: "rowheader", scope: "row", class: "experiment" }, element("button", { type: "button", class: "name", "aria-expanded": false }));
  const node = element("tbody", { role: "rowgroup", tabindex: -1 }, element("tr", { role: "row", class: "row" }, title, ...columns.slice(1).map(cell)));
  const parts = {};
  for (const column of columns) parts[column] = node.querySelector("." + column);
  parts.button = title.firstChild;
  parts.verdict.append(parts.badge = element("span", { class: "badge" }), parts.since = element("span", { class: "quiet small" }), parts.text = element("span", { class: "text" }));
  parts.exposures.append(parts.rate = element("span"), parts.total = element("span", { class: "quiet small block" }));
  parts.state.append(parts.word = element("span"), parts.stateSince = element("span", { class: "quiet small block" }));
  parts.visitors.append(...["route", "audience", "traffic"].map((name) => (parts[name] = element("span", { class: "block " + name }))));
  parts.button.addEventListener("click", () => toggle(name, !opened.has(name)));
  return { node, parts, card: null };
}

// Opens or closes the card of an experiment.
function toggle(name, open) {
  if (open) opened.add(name); else opened.delete(name);
  const one = list.get(name);
  if (one) setAttribute(one.parts.button, "aria-expanded", String(open));
  if (one && one.card && !open) {
    one.card.querySelectorAll("figure").forEach(dropChart);
    one.card.remove();
    one.card = null;
  }
  if (open) draw();
  else if (last) show(last);
}

// The shares of a row: name, share and weight of each variant that it has room for.
function shares(cell, experiment) {
  const distance = (one) => (isUnknown(one.observed) || isUnknown(one.configured) ? 0 : Math.abs(one.observed - one.configured));
  const { variants } = experiment;
  const many = variants.length > SHOWN_MAX;
  const some = many ? [...variants].sort((a, b) => distance(b) - distance(a)).slice(0, SHOWN_MAX - 1) : variants;
  while (cell.children.length > some.length + (many ? 1 : 0)) cell.lastChild.remove();
  some.forEach((variant, at) => {
    let node = cell.children[at];
    if (!node || !node.classList.contains("share")) {
      node = element("span", { class: "share" }, element("span", { class: "key" }), element("b", { class: "n" }), element("span", { class: "quiet n" }));
      if (cell.children[at]) cell.children[at].replaceWith(node); else cell.append(node);
    }
    setText(node.children[0], variant.key);
    setText(node.children[1], percent(variant.observed));
    setText(node.children[2], isUnknown(variant.configured) ? "" : "of " + percent(variant.configured));
  });
  if (many) {
    const node = cell.children[some.length] || cell.appendChild(element("span", { class: "quiet small" }));
    setText(node, "and " + (variants.length - some.length) + " nearer to their weights");
  }
}

function guardrail(experiment) {
  const off = experiment.variants.filter((variant) => variant.off).map((variant) => variant.key + " off");
  return off.length ? off.join(", ") : experiment.guardrail === null ? "none" : "armed";
}

function row({ parts }, experiment, at, state) {
  const { verdict } = experiment;
  parts.button.id = "experiment-" + at + "-title";
  setText(parts.button, experiment.key);
  badge(parts.badge, calm(verdict));
  setText(parts.since, verdict.health === "healthy" ? "" : lasting(verdict.since_s, state.observed_s));
  setText(parts.text, verdict.text);
  shares(parts.shares, experiment);
  setText(parts.rate, experiment.state === "running" ? perMinute(experiment.per_minute) : "–");
  setText(parts.total, experiment.exposures ? number.format(experiment.exposures) + " in all" : "");
  setText(parts.word, experiment.state);
  const at_ = { running: "since ", scheduled: "starts ", ended: "at " }[experiment.state];
  setText(parts.stateSince, experiment.state_at && at_ ? at_ + experiment.state_at : lasting(experiment.state_since_s, state.observed_s));
  setText(parts.route, experiment.route);
  setText(parts.audience, experiment.audience);
  setText(parts.traffic, experiment.traffic);
  setText(parts.guardrail, guardrail(experiment));
}

const searched = (experiment) => [experiment.key, experiment.state, experiment.verdict.word, experiment.route, experiment.audience].join(" ").toLowerCase();

function experiments(state) {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = state.experiments.map((experiment, at) => ({ experiment, at })).filter(({ experiment }) => !words.length || words.every((word) => searched(experiment).includes(word)));
  found.sort((a, b) => rank(a.experiment) - rank(b.experiment) || a.at - b.at);
  const names = new Set(state.experiments.map((experiment) => experiment.key));
  for (const [name, one] of list) if (!names.has(name)) { one.node.remove(); list.delete(name); opened.delete(name); }
  const nodes = found.map(({ experiment, at }) => {
    let one = list.get(experiment.key);
    if (!one) list.set(experiment.key, (one = line(experiment.key)));
    one.node.id = "experiment-" + at;
    if (one.node.dataset.health !== experiment.verdict.health) one.node.dataset.health = experiment.verdict.health;
    row(one, experiment, at, state);
    if (opened.has(experiment.key)) card(one, experiment, at, state);
    return one.node;
  });
  arrange($("list"), nodes);
  const count = found.length === state.experiments.length ? number.format(found.length) : number.format(found.length) + " of " + number.format(state.experiments.length);
  setText($("count"), count + (state.experiments.length === 1 ? " experiment" : " experiments"));
  setHidden($("list-frame"), found.length === 0);
  setText($("none-found"), found.length || !state.experiments.length ? "" : "No experiment matches the search.");
}

// Puts the rows in this order. They are moved only if it has changed, and the focus stays where it was.
function arrange(table, nodes) {
  const present = [...table.tBodies];
  if (present.length === nodes.length && present.every((node, at) => node === nodes[at])) return;
  const focused = document.activeElement;
  for (const node of present) if (!nodes.includes(node)) node.remove();
  nodes.forEach((node, at) => { if (table.tBodies[at] !== node) table.insertBefore(node, table.tBodies[at] || null); });
  if (focused !== document.activeElement && table.contains(focused)) focused.focus({ preventScroll: true });
}

// The places of the open experiments, for the query of the state.
const openPlaces = () => [...opened].map((name) => list.get(name)).filter((one) => one && one.node.id).map((one) => one.node.id.slice("experiment-".length)).join();

// A link to an experiment opens its card, even if the search hides it.
function reveal(place) {
  const at = place.startsWith("experiment-") && last ? Number(place.slice("experiment-".length)) : -1;
  const experiment = at >= 0 ? last.experiments[at] : null;
  const part = $(place);
  if (part && part.tagName === "DETAILS") part.open = true;
  if (!experiment) return;
  if (!part || !part.isConnected) { $("search").value = ""; show(last); }
  toggle(experiment.key, true);
}
