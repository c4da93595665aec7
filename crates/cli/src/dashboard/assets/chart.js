// Charts over time, drawn by uPlot. Lines differ by colour and by dashes. Values are read out by pointer or arrow keys.
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const number = new Intl.NumberFormat("en");
const palette = () => dark.matches
  ? ["#74aef5", "#f0a067", "#7ddba9", "#c5a3f5", "#f38cc8", "#c0d66b"]
  : ["#2563b8", "#c2571a", "#16704a", "#8250c4", "#a3176b", "#4d6a00"];
const dashes = [[], [8, 4], [2, 3], [12, 3, 2, 3]];
const dash = (at) => dashes[Math.floor(at / palette().length + at) % dashes.length];
const color = (at) => palette()[at % palette().length];
const charts = new Map();

function ago(seconds) {
  const whole = Math.round(-seconds);
  if (whole < 1) return "now";
  return "−" + (whole < 120 ? whole + " s" : whole % 60 ? Math.floor(whole / 60) + " min " + (whole % 60) + " s" : whole / 60 + " min");
}

// The values of a chart at one moment, in words.
function describe(known, at) {
  const values = known.series.map((one, row) => one.name + " " + number.format(known.data[row + 1][at]));
  return ago(known.data[0][at]) + ": " + values.join(", ");
}

function caption(known) {
  const at = known.plot.cursor.idx;
  const text = at === null || at === undefined ? known.title : known.title + " – " + describe(known, at);
  setText(known.figure.querySelector("figcaption"), text);
}

// A chart is created once and then only gets new data. If colours or width change, it is created again.
function chart(figure, title, seconds, series, height) {
  const place = figure.querySelector(".plot");
  const data = [seconds, ...series.map((one) => one.values)];
  const key = [series.map((one) => one.name).join(), dark.matches, place.clientWidth].join("|");
  let known = charts.get(figure);
  if (known && known.key === key) {
    Object.assign(known, { title, series, data });
    known.plot.setData(data);
  } else {
    if (known) known.plot.destroy();
    else keys(figure);
    known = { figure, key, title, series, data };
    charts.set(figure, known);
    known.plot = plot(known, place, height);
  }
  const summary = title + ". " + describe(known, seconds.length - 1);
  if (figure.getAttribute("aria-label") !== summary) figure.setAttribute("aria-label", summary);
  caption(known);
}

function plot(known, place, height) {
  const style = getComputedStyle(document.documentElement);
  const [text, line] = ["--quiet", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
  const whole = [1, 2, 5, 10, 20, 50, 100, 200, 500].flatMap((one) => [one, one * 1e3, one * 1e6, one * 1e9]).sort((a, b) => a - b);
  return new uPlot({
    width: Math.max(place.clientWidth, 200), height, legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    hooks: { setCursor: [() => known.plot && caption(known)] },
    scales: { x: { time: false, range: (_, low, high) => [Math.min(low, -10), high] }, y: { range: (_, low, high) => [0, Math.max(high * 1.05, 1)] } },
    axes: [
      { ...axis, incrs: [1, 2, 5, 10, 30, 60, 120, 300], space: 70, values: (_, ticks) => ticks.map(ago) },
      { ...axis, incrs: whole, size: 62, values: (_, ticks) => ticks.map((tick) => number.format(tick)) },
    ],
    series: [{}, ...known.series.map((one, at) => ({ label: one.name, stroke: one.color || color(at), dash: one.fill ? [] : dash(at), width: 2, fill: one.fill, points: { show: false } }))],
  }, known.data, place);
}

function keys(figure) {
  const move = (to) => {
    const { plot, data } = charts.get(figure);
    const at = Math.min(Math.max(to(plot.cursor.idx ?? data[0].length - 1), 0), data[0].length - 1);
    plot.setCursor({ left: plot.valToPos(data[0][at], "x"), top: 10 });
    announce(describe(charts.get(figure), at));
  };
  const moves = { ArrowLeft: (at) => at - 1, ArrowRight: (at) => at + 1, Home: () => 0, End: () => Infinity };
  figure.addEventListener("keydown", (event) => {
    if (!moves[event.key]) return;
    event.preventDefault();
    move(moves[event.key]);
  });
  figure.addEventListener("blur", () => charts.get(figure).plot.setCursor({ left: -10, top: -10 }));
}
