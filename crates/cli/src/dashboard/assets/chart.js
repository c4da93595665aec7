// Charts over time, drawn by uPlot. Lines differ by colour and by dashes. Values are read out by pointer or arrow keys.
// An unknown value is a gap.
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const palette = () => dark.matches
  ? ["#74aef5", "#f0a067", "#7ddba9", "#c5a3f5", "#f38cc8", "#c0d66b"]
  : ["#2563b8", "#c2571a", "#16704a", "#8250c4", "#a3176b", "#4d6a00"];
const dashes = [[], [8, 4], [2, 3], [12, 3, 2, 3]];
const dash = (at) => dashes[Math.floor(at / palette().length + at) % dashes.length];
const color = (at) => palette()[at % palette().length];
const chartHeight = 150;
const plots = new Map();

function ago(seconds) {
  const whole = Math.round(-seconds);
  if (whole < 1) return "now";
  return "−" + (whole < 120 ? whole + " s" : whole % 60 ? Math.floor(whole / 60) + " min " + (whole % 60) + " s" : whole / 60 + " min");
}
const span = (seconds) => { const whole = seconds.length ? Math.round(-seconds[0]) : 0; return whole < 120 ? whole + " s" : Math.floor(whole / 60) + " min"; };

// The values of a chart at one moment, in words.
function describe(known, at) {
  const { format } = known;
  const values = known.series.map((one) => {
    const value = one.name + " " + (isUnknown(one.values[at]) ? "unknown" : format(one.values[at]));
    return one.low && !isUnknown(one.low[at]) ? value + " (expected " + format(one.low[at]) + " to " + format(one.high[at]) + ")" : value;
  });
  const { answered, proxies } = known.state;
  const partial = answered[at] < proxies.length ? "; " + answered[at] + " of " + proxies.length + " proxies answered" : "";
  return ago(known.data[0][at]) + ": " + values.join(", ") + partial;
}

function caption(known) {
  const at = known.plot.cursor.idx;
  const text = isUnknown(at) ? known.title : known.title + " – " + describe(known, at);
  setText(known.figure.querySelector("figcaption"), text);
}

// The bands of shares, one for each weight.
function bandsOf(series) {
  const bands = new Map();
  series.forEach((one, at) => { if (one.low && !bands.has(one.configured)) bands.set(one.configured, { ...one, at }); });
  return [...bands.values()];
}

// A chart is created once and then only gets new data. If colours or width change, it is created again.
function chart(figure, title, state, series, format = (value) => rounded.format(value)) {
  const place = figure.querySelector(".plot");
  const bands = bandsOf(series);
  const data = [state.seconds, ...series.map((one) => one.values), ...bands.flatMap((one) => [one.high, one.low])];
  const key = [series.map((one) => one.name).join(), bands.length, dark.matches, place.clientWidth].join("|");
  let known = plots.get(figure);
  if (known && known.key === key) {
    Object.assign(known, { title, series, data, state });
    known.plot.setData(data);
  } else {
    if (known) known.plot.destroy();
    else keys(figure);
    known = { figure, key, title, series, data, state, format, isShare: bands.length > 0 || format === percent };
    plots.set(figure, known);
    known.plot = plot(known, place, bands);
  }
  const summary = title + ". " + describe(known, state.seconds.length - 1);
  setAttribute(figure, "aria-label", summary);
  caption(known);
}

function dropChart(figure) {
  if (plots.has(figure)) plots.get(figure).plot.destroy();
  plots.delete(figure);
}

// Shares are shown around their lines and the end of their bands, counts from 0 on.
function range(known, low, high) {
  if (!known.isShare) return [0, Math.max(high * 1.05, 1)];
  const ends = known.series.flatMap((one) => [one.low, one.high].map((values) => values && values.at(-1)));
  const values = [...known.series.flatMap((one) => one.values), ...ends].filter((value) => !isUnknown(value));
  if (!values.length) return [0, 1];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = Math.max((most - least) * 0.15, 0.005);
  return [Math.max(least - room, 0), Math.min(most + room, 1)];
}

function plot(known, place, bands) {
  const style = getComputedStyle(document.documentElement);
  const [text, line] = ["--quiet", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
  const whole = [1, 2, 5, 10, 20, 50, 100, 200, 500].flatMap((one) => [one, one * 1e3, one * 1e6, one * 1e9]).sort((a, b) => a - b);
  const lines = known.series.length;
  const edge = { stroke: "transparent", width: 0, points: { show: false } };
  return new uPlot({
    width: Math.max(place.clientWidth, 200), height: chartHeight, legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    hooks: { setCursor: [() => known.plot && caption(known)] },
    scales: { x: { time: false, range: (_, low, high) => [Math.min(low, -10), high] }, y: { range: (_, low, high) => range(known, low, high) } },
    axes: [
      { ...axis, incrs: [1, 2, 5, 10, 30, 60, 120, 300], space: 70, values: (_, ticks) => ticks.map(ago) },
      { ...axis, ...(known.isShare ? {} : { incrs: whole }), size: 62, values: (_, ticks) => ticks.map(known.format) },
    ],
    bands: bands.map((one, at) => ({ series: [lines + 1 + 2 * at, lines + 2 + 2 * at], fill: color(one.at) + "26" })),
    series: [
      {},
      ...known.series.map((one, at) => ({ label: one.name, stroke: one.color || color(at), dash: one.fill ? [] : dash(at), width: 2, fill: one.fill, points: { show: false } })),
      ...bands.flatMap(() => [edge, edge]),
    ],
  }, known.data, place);
}

function keys(figure) {
  const move = (to) => {
    const { plot, data } = plots.get(figure);
    const at = Math.min(Math.max(to(plot.cursor.idx ?? data[0].length - 1), 0), data[0].length - 1);
    plot.setCursor({ left: plot.valToPos(data[0][at], "x"), top: 10 });
    announce(describe(plots.get(figure), at));
  };
  const moves = { ArrowLeft: (at) => at - 1, ArrowRight: (at) => at + 1, Home: () => 0, End: () => Infinity };
  figure.addEventListener("keydown", (event) => {
    if (!moves[event.key] || !plots.has(figure)) return;
    event.preventDefault();
    move(moves[event.key]);
  });
  figure.addEventListener("blur", () => plots.get(figure)?.plot.setCursor({ left: -10, top: -10 }));
}
