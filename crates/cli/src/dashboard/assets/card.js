// The card of an experiment: its verdict and causes, its variants, and its charts.
"use strict";
const variantColumns = ["variant", "share", "weight", "exposures", "delivered", "lost", "5xx"];

const figure = (name) => element("figure", { class: "chart " + name, tabindex: 0, role: "group" }, element("figcaption"), element("div", { class: "plot", "aria-hidden": "true" }));

function cardOf(experiment, id) {
    const table = (name, caption, headings) => element("div", { class: "scroll " + name }, element("table", {},
    element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, ...headings.map((heading, column) => element("th", { scope: "col", class: column ? "n" : "" }, heading)))),
    element("tbody")));
  const body = element("article", { "aria-labelledby": id + "-title" },
    element("div", { class: "explanation" }, element("p", { class: "verdict-text" }), element("p", { class: "response quiet" })),
    element("div", { class: "causes", hidden: "" }, element("h3", {}, "Possible causes, the likely ones first"), element("ol")),
    element("dl", { class: "facts" }),
    table("variants", experiment.key + ": exposures by variant, their delivery, their shares, and the share of responses with a server error", variantColumns),
    element("div", { class: "charts" }, figure("shares-chart"), figure("rate-chart")),
    element("div", { class: "goals", hidden: "" }, element("h3", {}, "Goals"),
      element("p", { class: "note" }, "Operational figures: counted once per worker and window, and not deduplicated by visitor over workers and proxies. Base decisions on the warehouse.")),
    element("div", { class: "reasons", hidden: "" }, element("h3", {}, "Decisions by reason"), element("div", { class: "scroll" }, element("table", {},
      element("caption", { class: "unseen" }, experiment.key + ": decisions by reason"),
      element("thead", {}, element("tr", {}, ...["reason", "decisions", "share"].map((heading, column) => element("th", { scope: "col", class: column ? "n" : "" }, heading)), element("th", { scope: "col" }, "meaning"))),
      element("tbody")))));
  return element("tr", { role: "row", class: "detail" }, element("td", { role: "cell", colspan: columns.length }, body));
}

function card(one, experiment, at, state) {
  const id = "experiment-" + at;
  const shape = id + "|" + experiment.variants.map((variant) => variant.key).join();
  if (!one.card || one.card.dataset.shape !== shape) {
    const made = cardOf(experiment, id);
    made.dataset.shape = shape;
    if (one.card) { one.card.querySelectorAll("figure").forEach(dropChart); one.card.replaceWith(made); } else one.node.append(made);
    one.card = made;
  }
  const part = (name) => one.card.querySelector("." + name);
  const { verdict } = experiment;
  setText(part("verdict-text"), [verdict.text, lasting(verdict.since_s, state.observed_s)].filter(Boolean).join(" – "));
  setText(part("response"), verdict.response);
  setHidden(part("causes"), experiment.causes.length === 0);
  causes(part("causes").querySelector("ol"), experiment.causes);
  facts(part("facts"), experiment);
  setHidden(part("variants"), experiment.variants.length === 0);
  variants(part("variants").querySelector("tbody"), experiment);
  charts(one.card, experiment, state);
  goals(part("goals"), experiment, state);
  reasons(part("reasons"), experiment.reasons);
}

const supports = { likely: "broken", possible: "watch", unknown: "asking", unlikely: "calm" };
function causes(node, list) {
  while (node.children.length > list.length) node.lastChild.remove();
  list.forEach(({ cause, support, evidence }, at) => {
    const line = node.children[at] || node.appendChild(element("li", {}, element("span", { class: "badge" }), element("b"), element("span")));
    badge(line.children[0], { health: supports[support], word: support });
    setText(line.children[1], cause);
    setText(line.children[2], evidence);
  });
}

function facts(node, experiment) {
  const list = [
    ["state", experiment.state], ["line", experiment.problem && experiment.problem.line], ["route", experiment.route], ["audience", experiment.audience],
    ["traffic", experiment.traffic], ["guardrail", experiment.guardrail],
  ].filter(([, text]) => text);
  while (node.children.length > list.length) node.lastChild.remove();
  list.forEach(([name, text], at) => {
    const line = node.children[at] || node.appendChild(element("div", {}, element("dt"), element("dd")));
    setText(line.children[0], name);
    setText(line.children[1], String(text));
  });
}

function variants(body, experiment) {
  const cells = () => [element("th", { scope: "row" }, swatch(), element("span")), ...variantColumns.slice(1).map(() => element("td", { class: "n" }))];
  let at = 0;
  rows(body, experiment.variants, cells, (line, variant) => {
    stroke(line.querySelector("line"), at);
    setText(line.querySelector("th span"), variant.key + (variant.baseline ? " (baseline)" : ""));
    const delivered = variant.delivered_at_least === variant.exposures ? "" : "≥ ";
    const errors = variant.responses ? percent(variant.server_errors / variant.responses) : "–";
    const texts = [
      percent(variant.observed), percent(variant.configured), shown(variant.exposures), delivered + shown(variant.delivered_at_least),
      (variant.lost_at_most ? "≤ " : "") + shown(variant.lost_at_most), variant.off ? errors + ", off" : errors,
    ];
    line.querySelectorAll("td").forEach((cell, column) => setText(cell, texts[column]));
    at += 1;
  });
}

// A sample of the variant's line in the charts.
function swatch() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of [["width", 24], ["height", 10], ["aria-hidden", true]]) svg.setAttribute(name, value);
  for (const [name, value] of [["x2", 24], ["y1", 5], ["y2", 5], ["stroke-width", 3]]) line.setAttribute(name, value);
  svg.append(line);
  return svg;
}
function stroke(line, at) {
  setAttribute(line, "stroke", color(at));
  setAttribute(line, "stroke-dasharray", dash(at).join(" "));
}

function charts(node, experiment, state) {
  const { variants } = experiment;
  const isDrawn = experiment.state === "running" && experiment.exposures > 0 && state.seconds.length > 1 && variants.every((variant) => variant.history);
  const [sharesFigure, rateFigure] = node.querySelectorAll(".charts figure");
  const hasShares = isDrawn && variants.length > 1;
  setHidden(sharesFigure, !hasShares);
  setHidden(rateFigure, !isDrawn);
  const time = ", last " + span(state.seconds);
  if (hasShares) {
    const isExpected = variants.some((variant) => variant.low.some((low) => low !== null));
    const title = "shares of exposures" + (isExpected ? " within their expected bands" : "") + time;
    const series = variants.map(({ key, shares, low, high, configured }) => ({ name: key, values: shares, low, high, configured }));
    chart(sharesFigure, title, state, series, percent);
  }
  if (isDrawn) chart(rateFigure, "exposures per minute" + time, state, variants.map(({ key, per_minute }) => ({ name: key, values: per_minute })));
}
