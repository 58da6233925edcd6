// SPDX-License-Identifier: Apache-2.0
// Not known, actions, the run, and search.

const head = (title, sub) => h("div", { class: "hd" }, h("div", {}, h("h1", { tabindex: -1 }, title), h("p", { class: "sub" }, sub)));

/** Why results are not known: one cause for each reason, silent hosts by the word of their silence. */
function causes() {
  const found = new Map();
  for (let c = 0, i = 0; c < D.C; c++) for (let j = 0; j < D.H; j++, i++) {
    const code = D.outcome[i];
    if (code !== UNKNOWN && code !== ERROR && code !== SILENT) continue;
    const text = code === SILENT ? "no answer: " + D.hosts[j].reach : reasonOf(i), key = (code === SILENT ? "1" : "0") + text;
    let cause = found.get(key);
    if (!cause) found.set(key, cause = { text, silent: code === SILENT, error: code === ERROR, n: 0, hosts: new Set(), checks: new Set() });
    cause.n++; cause.hosts.add(j); cause.checks.add(c);
  }
  return [...found.values()].sort((a, b) => b.silent - a.silent || b.n - a.n || (a.text < b.text ? -1 : 1));
}

function unknownView() {
  const list = causes(), all = D.all, tbody = h("tbody", {});
  const unread = (text) => !/^[a-z_0-9]+ (none|partial): /.test(text || "") ? null
    : [/denied|needs root/.test(text) ? "Read it as root: run with -b, or give the audit account the line that `fleet-audit probe sudoers` prints."
      : /timeout|in time/.test(text) ? "The node was slow, or something hangs there: run again, with a longer --timeout if need be."
      : /unreached|not asked/.test(text) ? "Its reply ended before it came to this: run again."
      : "Look at what came back: `fleet-audit explain HOST CHECK`."];
  const settle = (c) => (c.silent ? [...new Set([...c.hosts].map((j) => D.hosts[j].detail))].filter(Boolean) : unread(c.text) || [...new Set([...c.checks].map((k) => D.checks[k].unknown))].filter(Boolean));
  const make = (i) => {
    const c = list[i], words = settle(c), hosts = [...c.hosts].sort(risk), checks = [...c.checks].sort((a, b) => D.checks[a].rank - D.checks[b].rank || a - b);
    return h("tr", { tabindex: -1, "data-row": i }, h("td", { class: "num " + (c.silent ? "gone" : "unk"), "data-l": "results" }, h("b", {}, num(c.n))),
      h("td", { class: "full" }, c.silent ? h("span", { class: "sev gone" }, glyph("noanswer")) : c.error ? h("span", { class: "sev error" }, glyph("error")) : "", h("b", {}, told(c.text || "no reason given", 400)), c.error ? h("p", { class: "sub" }, "Our own failure: the check must be mended.") : words.slice(0, 2).map((t) => h("p", { class: "sub" }, c.silent ? "" : h("span", { class: "dim" }, "What would settle it: "), told(t, 500))), words.length > 2 && !c.error ? h("p", { class: "dim small" }, `and ${num(words.length - 2)} more ${c.silent ? "sentences, on the hosts' pages" : "ways, on the checks' pages"}`) : null,
        h("details", {}, h("summary", { class: "small" }, "Hosts and checks"), lazily(() => [hostChips(hosts, 20), h("ul", { class: "small" }, checks.slice(0, 20).map((k) => h("li", {}, checkLink(k))), checks.length > 20 ? h("li", { class: "dim" }, `20 of ${count(checks.length, "check")}`) : null)]))),
      h("td", { class: "num", "data-l": "hosts" }, num(c.hosts.size)), h("td", { class: "num", "data-l": "checks" }, num(c.checks.size)));
  };
  const more = chunked(tbody, make, list.length, 100, "cause"), t = table("list stack", "Why results are not known", [">Results", "Why, and what would settle it", ">Hosts", ">Checks"], []);
  t.querySelector("tbody").replaceWith(tbody);
  return { title: "Not known", more, nodes: [head("Not known", `${num(all.unknown + all.error)} of ${count(all.expected, "expected result")} could not be determined; ${num(all.noanswer)} more were never asked. Silent hosts first, then what costs most results.`),
    h("div", { class: "card" }, list.length ? [t, more] : h("p", { class: "pad" }, all.expected ? "Every result was determined." : "No result was expected, so none is missing."))] };
}

function actionsView() {
  const list = D.actions, tbody = h("tbody", {}), top = Math.max(1, ...list.map((a) => a.weight));
  const make = (i) => {
    const a = list[i], ids = a.checks.filter((id) => D.checkOf.has(id));
    return h("tr", { tabindex: -1, "data-row": i }, h("td", { class: "rank" }, i + 1), h("td", { class: "full" }, h("a", { class: "t", href: "#/check/" + encodeURIComponent(ids[0]) }, told(a.title, 200)), a.critical ? [" ", h("span", { class: "sev critical" }, glyph("critical"), num(a.critical) + " critical")] : "", a.role ? h("span", { class: "dim line" }, "role ", h("code", {}, a.role)) : h("span", { class: "dim line" }, "no automatic fix"),
      ids.length > 1 ? h("details", {}, h("summary", { class: "small" }, count(ids.length, "check")), lazily(() => [h("ul", { class: "small" }, ids.map((id) => h("li", {}, checkLink(D.checkOf.get(id)))))])) : null),
    h("td", {}, disruption(a.kind)), h("td", { class: "num", "data-l": "hosts" }, num(a.hosts)), h("td", { class: "num", "data-l": "failures" }, num(a.failures)), h("td", { class: "num", "data-l": "closes" }, h("span", { class: "risk" }, s("svg", { "aria-hidden": "true" }, s("rect", { class: "f-fail", width: 100 * a.weight / top + "%", height: 8 })), a.share)));
  };
  const more = chunked(tbody, make, list.length, 100, "action"), t = table("list stack acts", "Actions", ["", "Action", "Disruption", ">Hosts", ">Failures", ">Weight closed"], []);
  t.querySelector("tbody").replaceWith(tbody);
  const unsure = notKnown(D.all);
  return { title: "Actions", more, nodes: [head("Actions", "What closes failures: criticals first, then weight closed, then less disruption. Each failure counts once."),
    h("div", { class: "card" }, list.length ? [t, more, h("p", { class: "foot" }, "Weight = 10 × critical + 5 × high + 2 × medium + 1 × low, of open failures.")] : h("p", { class: "pad" }, "Nothing to do for what was examined. ", unsure ? h("a", { class: "unk", href: "#/unknown" }, count(unsure, "result") + " not known") : ""))] };
}

const COSTS = { cpu_self: ["CPU of the probe", 1, "s"], cpu_children: ["CPU of its commands", 1, "s"], cpu_init: ["CPU of process 1", 1, "s"], rss_kib: ["Peak memory", 1 / 1024, "MiB"], rss_children_kib: ["Peak memory of a command", 1 / 1024, "MiB"], seconds: ["Time on the node", 1, "s"], raw_bytes: ["Read", 1e-3, "kB"], wire_sent: ["Sent to it", 1e-3, "kB"], wire_received: ["Received from it", 1e-3, "kB"], connections: ["Connections", 1, ""], execs: ["Commands over SSH", 1, ""] };
const amount = (name, v) => { const c = Object.hasOwn(COSTS, name) ? COSTS[name] : [name, 1, ""], n = v * c[1]; return (Number.isInteger(n) ? num(n) : n < 10 ? n.toFixed(2) : n.toFixed(1)) + (c[2] ? " " + c[2] : ""); };
const costLine = (name, v) => [Object.hasOwn(COSTS, name) ? COSTS[name][0] : told(name, 60), amount(name, v)];

function runView() {
  const r = D.run, names = used(D.hosts.flatMap((x) => Object.keys(x.costs))), reach = new Map(), ways = new Map();
  for (const x of D.hosts) { const w = x.answered ? (x.reach === "ok" ? "answered" : "answered, " + x.reach) : "no answer: " + x.reach; reach.set(w, (reach.get(w) || 0) + 1); if (x.transport) ways.set(x.transport, (ways.get(x.transport) || 0) + 1); }
  const costs = names.map((name) => {
    const v = D.hosts.filter((x) => name in x.costs).map((x) => [x.costs[name], x]).sort((a, b) => a[0] - b[0] || (a[1].name < b[1].name ? -1 : 1)), mid = v.length >> 1, worst = v[v.length - 1];
    const median = v.length % 2 ? v[mid][0] : (v[mid - 1][0] + v[mid][0]) / 2;
    return h("tr", {}, h("td", { class: "full" }, costLine(name, 0)[0]), h("td", { class: "num", "data-l": "median" }, amount(name, median)), h("td", { class: "num", "data-l": "p95" }, amount(name, v[Math.min(v.length - 1, Math.ceil(v.length * 0.95) - 1)][0])), h("td", { class: "num", "data-l": "worst" }, amount(name, worst[0])), h("td", {}, h("a", { href: "#/host/" + encodeURIComponent(worst[1].name) }, told(worst[1].name, 60))), h("td", { class: "num", "data-l": "hosts" }, num(v.length)));
  });
  const lines = (map) => [...map].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([w, k]) => h("div", {}, num(k) + " ", told(w, 100)));
  return { title: "The run", nodes: [head("The run", "Who was asked, when, by which version and which rules."),
    h("div", { class: "two" }, h("div", {}, section("What ran", null, h("div", { class: "card pad" }, facts([["Run", h("span", { class: "mono" }, told(r.id, 100))], ["Started", r.started], ["Ages as of", r.as_of], ["fleet-audit", r.version], ["Program sha256", h("span", { class: "mono" }, r.program)], ["Evidence", r.evidence_of === r.id ? "collected by this run" : ["collected by run ", h("span", { class: "mono" }, r.evidence_of)]], ["Checks", `${count(D.C, "check")}${r.selected !== null && r.selected !== D.C ? `, ${num(r.selected)} selected` : ""}`], ...r.inputs.map(([k, v]) => [k.replace(/_/g, " "), told(v, 600)])]))),
      section("Cost on the nodes", "per node", h("div", { class: "card scroll", tabindex: 0, role: "region", "aria-label": "Cost on the nodes" }, costs.length ? table("stack", "Cost per node", ["What", ">Median", ">p95", ">Worst", "Where", ">Hosts"], costs) : h("p", { class: "pad dim" }, "Nothing was measured.")))),
    h("div", {}, section("Hosts", num(D.H), h("div", { class: "card pad" }, facts([["Answers", lines(reach)], ["Transport", lines(ways)]]))),
      section("Results", num(D.H * D.C), h("div", { class: "card pad" }, facts([["Shown to pass", num(D.all.passed)], ["Unknown", num(D.all.unknown)], ["Broken checks", num(D.all.error)], ["No answer", num(D.all.noanswer)], ["Fail", num(D.all.failed)], ["Expected", num(D.all.expected)], ["Not applicable", num(D.all.na)]]))),
      section("Policy", null, r.policy ? h("pre", { tabindex: 0 }, r.policy) : h("p", { class: "dim" }, "No policy file: the defaults.")))) ] };
}

function searchView() {
  const words = (read().query.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean), hit = (text) => words.every((w) => text.toLowerCase().includes(w));
  const groupOf = (title, items, make) => items.length ? section(title, num(items.length), h("div", { class: "card" }, (() => { const t = h("tbody", {}), more = chunked(t, (i) => h("tr", { tabindex: -1, "data-row": i }, h("td", {}, make(items[i]))), items.length, 20, "match"); return [h("table", {}, h("caption", { class: "vh" }, title), t), more]; })())) : null;
  const hosts = words.length ? [...D.hosts.keys()].filter((j) => hit([D.hosts[j].name, ...D.hosts[j].groups, D.hosts[j].os, D.hosts[j].kernel].join(" "))).sort(risk) : [];
  const checks = words.length ? [...D.checks.keys()].filter((c) => hit([D.checks[c].id, D.checks[c].title, D.checks[c].area, ...D.checks[c].controls.flat(2)].join(" "))).sort((a, b) => D.checks[a].rank - D.checks[b].rank || a - b) : [];
  const groups = words.length ? [...D.groups.keys()].filter(hit) : [], seen = new Map();
  if (words.length) {
    const good = new Set(); D.reasons.forEach((t, i) => { if (t && hit(t)) good.add(i); });
    for (let i = 0; i < D.outcome.length; i++) if (good.has(D.reason[i]) && D.outcome[i] !== SILENT) { const k = D.reason[i] + " " + Math.floor(i / D.H); if (!seen.has(k)) seen.set(k, { r: D.reason[i], c: Math.floor(i / D.H), n: 0 }); seen.get(k).n++; }
  }
  const reasons = [...seen.values()].sort((a, b) => D.checks[a.c].rank - D.checks[b.c].rank || b.n - a.n || a.r - b.r), total = hosts.length + checks.length + groups.length + reasons.length;
  say(count(total, "match", "matches"));
  return { title: "Search", nodes: [head("Search", words.length ? `${count(total, "match", "matches")} in hosts, groups, checks and reasons.` : "Type a host, a group, a check or a part of a reason."),
    groupOf("Hosts", hosts, (j) => [hostLink(j), " ", h("span", { class: "dim" }, told(D.hosts[j].groups.join(", "), 80))]), groupOf("Groups", groups, (g) => h("a", { href: address("hosts", "", new Map([["group", g.replace(/,/g, "‚")]])) }, told(g, 80))),
    groupOf("Checks", checks, (c) => [severity(D.checks[c].severity), " ", checkLink(c), " ", h("span", { class: "dim mono" }, D.checks[c].id)]), groupOf("Reasons", reasons, (x) => [told(D.reasons[x.r], 300), h("span", { class: "dim line" }, checkLink(x.c), ` · ${count(x.n, "host")}`)])] };
}
