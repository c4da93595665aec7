// Asks for the state once a second and draws it. Texts go in as text, never as markup.
"use strict";
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const number = new Intl.NumberFormat("en");
const percent = (share) => (share === null ? "–" : (100 * share).toFixed(1) + " %");
const palette = () => dark.matches
  ? ["#74aef5", "#f0a067", "#7ddba9", "#c5a3f5", "#f38cc8", "#c0d66b"]
  : ["#2563b8", "#c2571a", "#16704a", "#8250c4", "#a3176b", "#4d6a00"];
const colors = () => {
  const style = getComputedStyle(document.documentElement);
  return { text: style.getPropertyValue("--quiet").trim(), line: style.getPropertyValue("--line").trim() };
};
const charts = new Map();

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}
function say(node, text) { if (node.textContent !== text) node.textContent = text; }
function badge(node, health, text = health) {
  if (node.className !== "badge " + health) node.className = "badge " + health;
  say(node, text);
}

// A chart is made once and only fed anew; in other colours it is made again.
function chart(place, id, series, height) {
  const length = series[0].values.length;
  const times = Array.from({ length }, (_, at) => at - length + 1);
  const data = [times, ...series.map((one) => one.values)];
  const key = [series.map((one) => one.name).join(), dark.matches, place.clientWidth].join("|");
  const known = charts.get(id);
  if (known && known.key === key && place.contains(known.plot.root)) return known.plot.setData(data);
  if (known) known.plot.destroy();
  const { text, line } = colors();
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
  const plot = new uPlot({
    width: Math.max(place.clientWidth - 12, 200), height, legend: { show: false }, cursor: { show: false },
    scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(low, 0), Math.max(high * 1.05, 1)] } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "now" : tick + " s")) },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => number.format(tick)) },
    ],
    series: [{}, ...series.map((one) => ({ label: one.name, stroke: one.color, width: 2, fill: one.fill, points: { show: false } }))],
  }, data, place);
  charts.set(id, { key, plot });
}

const figure = (name) => "figure-" + name.split(",")[0];

function figures(delivery) {
  const shown = [
    ["emitted", delivery.emitted], ["delivered", delivery.delivered], ["queued", delivery.queued_events], ["oldest, s", delivery.oldest_age_s],
    ["rejected", delivery.rejected], ["dropped", delivery.dropped_overflow + delivery.dropped_expired], ["diverted", delivery.diverted],
  ];
  const list = $("figures");
  if (!list.children.length) {
    list.append(...shown.map(([name]) => element("div", {}, element("dt", {}, name), element("dd", { id: figure(name) }))));
  }
  for (const [name, value] of shown) say($(figure(name)), number.format(value));
}

function card(experiment, at) {
  const id = "experiment-" + at;
  let node = $(id);
  const shape = experiment.key + "|" + experiment.variants.map((variant) => variant.key).join();
  if (!node || node.dataset.shape !== shape) {
    const made = element("article", { id, "aria-labelledby": id + "-title" });
    made.dataset.shape = shape;
    made.append(
      element("div", { class: "title" }, element("h3", { id: id + "-title" }, experiment.key), element("span", { class: "badge" }), element("span", { class: "small" })),
      element("p", { class: "verdict", "aria-live": "polite" }),
      element("table", {},
        element("thead", {}, element("tr", {}, ...["variant", "exposures", "observed", "configured", "5xx of responses"].map((name, column) => element("th", { scope: "col", class: column ? "n" : "" }, name)))),
        element("tbody", {}, ...experiment.variants.map((variant) => element("tr", {},
          element("th", { scope: "row" }, element("span", { class: "swatch", "aria-hidden": "true" }), variant.key),
          ...Array.from({ length: 4 }, () => element("td", { class: "n" })))))),
      element("div", { class: "chart", role: "img", "aria-label": "Exposures of " + experiment.key + " by variant over time; the table has the figures" }));
    if (node) node.replaceWith(made); else $("cards").append(made);
    node = made;
  }
  const health = experiment.verdict.health;
  node.className = health === "broken" ? "broken-card" : "";
  const isOff = experiment.variants.some((variant) => variant.off > 0);
  badge(node.querySelector(".badge"), health, health !== "broken" ? health : isOff ? "switched off" : "sample ratio mismatch");
  say(node.querySelector(".title .small"), experiment.state + ", " + number.format(experiment.exposures) + " exposures");
  const p = experiment.test === null || isOff ? "" : " (p = " + (experiment.test.p_value < 0.001 ? "less than 0.001" : experiment.test.p_value.toFixed(3)) + ")";
  say(node.querySelector(".verdict"), experiment.verdict.text + p);
  const hues = palette();
  experiment.variants.forEach((variant, row) => {
    const line = node.querySelectorAll("tbody tr")[row];
    line.querySelector(".swatch").style.background = hues[row % hues.length];
    const cells = line.querySelectorAll("td");
    say(cells[0], number.format(variant.exposures));
    say(cells[1], percent(variant.observed));
    say(cells[2], percent(variant.configured));
    const errors = variant.responses ? percent(variant.server_errors / variant.responses) : "–";
    say(cells[3], errors + (variant.off ? ", off" : ""));
  });
  if (experiment.variants.length) {
    chart(node.querySelector(".chart"), id, experiment.variants.map((variant, row) => ({ name: variant.key, values: variant.history, color: hues[row % hues.length] })), 150);
  }
}

function proxies(list) {
  const body = document.querySelector("#proxies tbody");
  const shown = (value, unit = "") => (value === null ? "–" : number.format(value) + unit);
  while (body.children.length > list.length) body.lastChild.remove();
  list.forEach((proxy, at) => {
    let row = body.children[at];
    if (!row) {
      row = element("tr", {}, element("th", { scope: "row" }), element("td", {}, element("span", { class: "badge" }), element("span", { class: "small" })), ...Array.from({ length: 6 }, () => element("td", { class: "n" })));
      body.append(row);
    }
    say(row.querySelector("th"), proxy.address);
    badge(row.querySelector(".badge"), proxy.verdict.health);
    say(row.querySelector(".small"), proxy.verdict.text);
    const cells = row.querySelectorAll("td.n");
    const age = proxy.config_age_s === null ? "–" : proxy.config_age_s + " s ago";
    [shown(proxy.emitted), shown(proxy.queued), shown(proxy.oldest_age_s, " s"), age, shown(proxy.fetch_failures), shown(proxy.vms_active)].forEach((text, cell) => say(cells[cell], text));
  });
}

function note(text) {
  $("note").hidden = text === "";
  say($("note"), text);
}

async function draw() {
  try {
    const state = await (await fetch("/state.json")).json();
    badge($("overall"), state.overall);
    document.title = (state.overall === "healthy" ? "" : state.overall + " – ") + "Edgesplit";
    say($("revision"), state.revision === null ? "" : "experiments " + state.revision);
    note(state.config.text);
    badge($("delivery-badge"), state.delivery.verdict.health);
    say($("delivery-text"), state.delivery.verdict.text);
    figures(state.delivery);
    if (state.delivery.history.queued.length) {
      chart($("outbox"), "outbox", [{ name: "queued", values: state.delivery.history.queued, color: palette()[1], fill: palette()[1] + "33" }], 150);
    }
    state.experiments.forEach(card);
    while ($("cards").children.length > state.experiments.length) $("cards").lastChild.remove();
    proxies(state.proxies);
    document.body.dataset.drawn = "yes";
  } catch (error) {
    badge($("overall"), "broken", "the dashboard does not answer");
  }
}
draw();
setInterval(draw, 1000);
