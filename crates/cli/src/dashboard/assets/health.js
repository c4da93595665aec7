// The parts beside the experiments: problems, delivery, proxies, minted ids and errors.
"use strict";
// The most experiments and proxies that the list of problems names; the others are at the top of their own lists anyway.
const NAMED_MAX = 5;

let known = new Map();
function attention(state) {
  const places = { experiments: [], proxies: [] };
  for (const one of state.attention) (one.place.startsWith("experiment-") ? places.experiments : one.place === "proxies" ? places.proxies : []).push(one);
  const cut = new Set(Object.values(places).flatMap((list) => list.slice(NAMED_MAX)));
  const list = state.attention.filter((one) => !cut.has(one));
  const more = state.attention.length - list.length;
  setHidden($("attention"), list.length === 0);
  setHidden($("attention-more"), more === 0);
  setText($("attention-more"), more + " more need attention: see the lists of experiments and proxies.");
  const nodes = $("attention-list");
  while (nodes.children.length > list.length) nodes.lastChild.remove();
  list.forEach((one, at) => {
    const node = nodes.children[at] || nodes.appendChild(element("li", {}, element("span", { class: "badge" }), element("a"), element("span", { class: "quiet small" }), element("span", { class: "text" }), element("span", { class: "response quiet" })));
    badge(node.children[0], one);
    setText(node.children[1], one.what);
    setAttribute(node.children[1], "href", "#" + one.place);
    setText(node.children[2], lasting(one.since_s, state.observed_s));
    setText(node.children[3], one.text);
    setText(node.children[4], one.response);
  });
  const now = new Map(state.attention.map((one) => [one.what + ": " + one.word, one.health]));
  const news = [...now].filter(([what]) => !known.has(what)).map(([what, health]) => health + ", " + what);
  const gone = [...known.keys()].filter((what) => !now.has(what)).map((what) => "resolved: " + what);
  const many = (list) => (list.length > NAMED_MAX ? [...list.slice(0, NAMED_MAX), list.length - NAMED_MAX + " more"] : list);
  if (news.length + gone.length) announce([...many(news), ...many(gone), "overall " + state.overall].join("; "));
  known = now;
}

// Folds a part away when it becomes healthy, and unfolds it when it no longer is. In between, it stays as it was left.
function fold(node, verdict) {
  const health = verdict.health === "healthy" ? "healthy" : "not healthy";
  if (node.dataset.health !== health) {
    node.open = health !== "healthy";
    node.dataset.health = health;
  }
}

function delivery(state) {
  const { delivery } = state;
  fold($("delivery"), delivery.verdict);
  badge($("delivery-badge"), delivery.verdict);
  setText($("delivery-text"), delivery.verdict.text);
  setText($("delivery-response"), delivery.verdict.response);
  const dropped = isUnknown(delivery.dropped_overflow) ? null : delivery.dropped_overflow + delivery.dropped_expired;
  fill($("figures"), "figure-", [
    ["emitted", "events", delivery.emitted], ["delivered", "events", delivery.delivered], ["queued", "events", delivery.queued_events],
    ["oldest", "seconds", delivery.oldest_age_s], ["rejected", "events", delivery.rejected],
    ["dropped", "events", dropped], ["diverted", "events", delivery.diverted],
  ]);
  if ($("delivery").open && state.seconds.length) {
    const queued = { name: "waiting", values: delivery.history.queued, color: palette()[1], fill: palette()[1] + "33" };
    chart($("outbox"), "events waiting in buffers and in the outbox, last " + span(state.seconds), state, [queued]);
  }
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
  setHidden($("mint"), minted + insecure + other === 0);
  fill($("mint-figures"), "mint-", [["minted", "ids", minted], ["no https", "refused", insecure], ["no page", "refused", other]]);
}

const proxyColumns = ["emitted", "delivered", "lost", "queued", "oldest", "revision", "confirmed", "fetch failures", "VMs"];
function proxies(state) {
  const list = state.proxies;
  const order = ["healthy", "asking", "watch", "broken"];
  const worst = [state.agreement, ...list.map((one) => one.verdict)].reduce((a, b) => (order.indexOf(b.health) > order.indexOf(a.health) ? b : a));
  fold($("proxies"), worst);
  badge($("proxies-badge"), worst);
  const healthy = list.filter((one) => one.verdict.health === "healthy").length;
  setText($("proxies-text"), healthy + " of " + list.length + " healthy. " + state.agreement.text);
  setText($("proxies-response"), state.agreement.response);
  const cells = () => [
    element("th", { scope: "row" }), element("td", {}, element("span", { class: "badge" }), element("span", { class: "quiet small block" })),
    ...proxyColumns.map((name) => element("td", { class: name === "revision" ? "" : "n" })),
  ];
  rows(document.querySelector("#proxies tbody"), list, cells, (row, proxy) => {
    setText(row.children[0], proxy.address);
    badge(row.querySelector(".badge"), proxy.verdict);
    const { verdict } = proxy;
    const text = verdict.health === "healthy" ? verdict.text : [verdict.text, lasting(verdict.since_s, state.observed_s) + ".", verdict.response].join(" ");
    setText(row.querySelector(".small"), text);
    const vms = shown(proxy.vms_active) + (proxy.vms_started ? " (" + proxy.vms_started + " new)" : "");
    const texts = [
      shown(proxy.emitted), shown(proxy.delivered), shown(proxy.lost), shown(proxy.queued), shown(proxy.oldest_age_s, " s"),
      proxy.revisions.join(", ") || "–", shown(proxy.config_age_s, " s ago"), shown(proxy.fetch_failures), vms,
    ];
    texts.forEach((text, cell) => setText(row.children[cell + 2], text));
  });
}

function errors(list) {
  setHidden($("errors"), list.length === 0);
  const cells = () => [element("th", { scope: "row" }), element("td", { class: "n" }), element("td")];
  rows(document.querySelector("#errors tbody"), list, cells, (row, { kind, count, meaning }) => {
    [kind, number.format(count), meaning].forEach((text, cell) => setText(row.children[cell], text));
  });
}
