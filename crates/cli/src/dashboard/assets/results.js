// The part of a card about results: goals by variant, and decisions by reason.
"use strict";
// The most goals that have a chart.
const DRAWN_MAX = 3;
const goalColumns = ["variant", "reached", "conversion", "difference in points", "interval"];
const points = (share) => (isUnknown(share) ? "–" : (share < 0 ? "−" : "+") + Math.abs(100 * share).toFixed(2));

function goalOf(experiment, goal) {
  return element("section", { class: "goal" }, element("div", { class: "scroll" }, element("table", {},
    element("caption", {}, "goal " + goal.key),
    element("thead", {}, element("tr", {}, ...goalColumns.map((heading, column) => element("th", { scope: "col", class: column ? "n" : "" }, heading)))),
    element("tbody"))), figure("goal-chart"));
}

function goals(node, experiment, state) {
  setHidden(node, experiment.goals.length === 0);
  const shape = experiment.goals.map((goal) => goal.key).join();
  if (node.dataset.shape !== shape) {
    node.querySelectorAll(".goal").forEach((old) => { old.querySelectorAll("figure").forEach(dropChart); old.remove(); });
    node.append(...experiment.goals.map((goal) => goalOf(experiment, goal)));
    node.dataset.shape = shape;
  }
  experiment.goals.forEach((goal, at) => {
    const part = node.querySelectorAll(".goal")[at];
    const cells = () => [element("th", { scope: "row" }, swatch(), element("span")), ...goalColumns.slice(1).map(() => element("td", { class: "n" }))];
    let row = 0;
    rows(part.querySelector("tbody"), goal.variants, cells, (line, variant) => {
      stroke(line.querySelector("line"), row++);
      setText(line.querySelector("th span"), variant.key + (variant.baseline ? " (baseline)" : ""));
      conversion(line.querySelectorAll("td"), variant);
    });
    const drawing = part.querySelector("figure");
    const isDrawn = at < DRAWN_MAX && state.seconds.length > 1 && goal.variants.every((variant) => variant.per_minute);
    setHidden(drawing, !isDrawn);
    if (isDrawn) chart(drawing, goal.key + " per minute, last " + span(state.seconds), state, goal.variants.map(({ key, per_minute }) => ({ name: key, values: per_minute })));
  });
}

// What is certain about a variant, in a word: its interval does not include 0.
function conversion(cells, { converted, rate, baseline, lift }) {
  const word = lift && lift.certain ? (lift.low > 0 ? ", higher" : ", lower") : "";
  const missing = isUnknown(rate) && converted ? "not comparable" : baseline ? "" : "too few exposures";
  const interval = lift ? points(lift.low) + " to " + points(lift.high) + word : missing;
  const texts = [shown(converted), isUnknown(rate) ? "–" : (100 * rate).toFixed(2) + " %", lift ? points(lift.difference) : "", interval];
  cells.forEach((cell, at) => setText(cell, texts[at]));
}

function reasons(node, list) {
  setHidden(node, list.length === 0);
  const cells = () => [element("th", { scope: "row" }), element("td", { class: "n" }), element("td", { class: "n" }), element("td")];
  rows(node.querySelector("tbody"), list, cells, (line, { reason, count, share, meaning }) => {
    [reason, shown(count), percent(share), meaning].forEach((text, at) => setText(line.children[at], text));
  });
}
