// Helpers for the document. Texts are inserted as text, never as markup.
"use strict";
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const rounded = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const isUnknown = (value) => value === null || value === undefined;
const percent = (share) => (isUnknown(share) ? "–" : (100 * share).toFixed(1) + " %");
const shown = (value, unit = "") => (isUnknown(value) ? "–" : number.format(value) + unit);
const perMinute = (rate) => (isUnknown(rate) ? "–" : rounded.format(rate < 100 ? rate : Math.round(rate)) + " / min");

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
// The last text of a node is kept beside it, because reading texts of thousands of nodes takes long.
const texts = new WeakMap();
function setText(node, text) {
  if (texts.get(node) === text) return;
  texts.set(node, text);
  node.textContent = text;
}
function setAttribute(node, name, value) { if (node.getAttribute(name) !== value) node.setAttribute(name, value); }
function setHidden(node, hidden) { if (node.hidden !== hidden) node.hidden = hidden; }
function badge(node, { health, word }) {
  if (node.className !== "badge " + health) node.className = "badge " + health;
  setText(node, word);
}
// Healthy verdicts with another word, such as “paused”, are shown without the colour of health.
const calm = (verdict) => (verdict.health === "healthy" && verdict.word !== "healthy" ? { health: "calm", word: verdict.word } : verdict);

// Screen readers get each change once, and not every figure every second.
function announce(text) { setText($("announcement"), text); }

function duration(seconds) {
  if (seconds < 120) return seconds + " s";
  if (seconds < 7200) return Math.floor(seconds / 60) + " min";
  return seconds < 172800 ? Math.floor(seconds / 3600) + " h" : Math.floor(seconds / 86400) + " days";
}
// How long something has been so. What was so at the first look may have been so before.
function lasting(seconds, observed) {
  if (!seconds || observed < 1) return "";
  return "for " + (seconds + 2 >= observed ? "at least " : "") + duration(seconds);
}

// The rows of a table: as many as the list has elements, each filled.
function rows(body, list, cells, fill) {
  while (body.children.length > list.length) body.lastChild.remove();
  list.forEach((one, at) => fill(body.children[at] || body.appendChild(element("tr", {}, ...cells())), one));
}
