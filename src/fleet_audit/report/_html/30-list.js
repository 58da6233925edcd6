// SPDX-License-Identifier: Apache-2.0
// State lives in the hash: #/checks?out=fail&sev=critical. Lists filter by it, in a stated default order, worst first.

function read() {
  const match = location.hash.match(/^#\/([a-z]+)(?:\/([^?]*))?(?:\?(.*))?$/);
  let name = "";
  try { name = match && match[2] ? decodeURIComponent(match[2]) : ""; } catch { name = ""; }
  return { view: match ? match[1] : "overview", name, query: new Map(new URLSearchParams(match && match[3] ? match[3] : "")) };
}
function address(view, name, query) {
  const text = new URLSearchParams([...query].filter((p) => p[1]).sort((a, b) => (a[0] < b[0] ? -1 : 1))).toString().replace(/%2C/g, ",");
  return "#/" + view + (name ? "/" + encodeURIComponent(name) : "") + (text ? "?" + text : "");
}

/** The filters of a list as a command; null where the command line has no such filter, or a name is not safe to paste. */
function asCommand(spec, chosen, needle) {
  if (needle.trim() || !/^[A-Za-z0-9-]+$/.test(D.run.id)) return null;
  const words = [`fleet-audit show ${spec.command.kind} --run ${D.run.id}`];
  for (const [key, set] of chosen) {
    if (!set.size) continue;
    const flag = spec.command.flags.get(key), values = [...set].sort().map((v) => (flag && flag[1] ? flag[1].get(v) : v));
    if (!flag || values.some((v) => v === undefined || !/^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(v))) return null;
    words.push(`${flag[0]} ${values.join(",")}`);
  }
  return words.join(" ");
}

/**
 * A list with filters. `spec`: title, word, total, columns [{key, head, num, cell(i), by(i), cls}], dims [{key, label, values, of(i), select}],
 * text(i), order(a, b), hidden(shown) -> a sentence about what the filter leaves out, or nothing.
 */
function list(spec) {
  const state = read(), query = state.query;
  const chosen = new Map(spec.dims.map((d) => [d.key, new Set((query.get(d.key) || "").split(",").filter((v) => d.values.some((x) => x[0] === v)))]));
  const has = spec.dims.map((d) => new Map(d.values.map(([v]) => [v, new Uint8Array(spec.total)])));   // one bitmap a value
  spec.dims.forEach((d, k) => { for (let i = 0; i < spec.total; i++) for (const v of d.of(i)) { const map = has[k].get(v); if (map) map[i] = 1; } });
  let needle = (query.get("q") || "").slice(0, 200), sort = query.get("sort") || "";
  const shell = h("div", {}), found = h("p", { class: "shown" }), body = h("div", { class: "card" }), texts = [];
  const field = h("input", { class: "field", type: "search", placeholder: "Filter by text", "aria-label": "Filter this list by text", autocomplete: "off", spellcheck: "false",
    oninput: () => { needle = field.value; store(false); draw(); } });
  field.value = needle;
  const store = (push) => {
    const q = new Map([...chosen].map(([k, set]) => [k, [...set].sort().join(",")])); q.set("q", needle.trim()); q.set("sort", sort);
    const to = address(state.view, "", q);
    if (to !== location.hash) history[push ? "pushState" : "replaceState"](null, "", to);
  };
  const matches = (i) => { if (!needle.trim()) return true; texts[i] = texts[i] ?? spec.text(i).toLowerCase(); return needle.toLowerCase().split(/\s+/).every((w) => texts[i].includes(w)); };
  const passes = (i, but) => spec.dims.every((d, k) => { const set = chosen.get(d.key); if (k === but || !set.size) return true; for (const v of set) if (has[k].get(v)[i]) return true; return false; });
  const controls = spec.dims.map((d, k) => {
    if (d.select) {
      const box = h("select", { onchange: () => { chosen.set(d.key, new Set(box.value ? [box.value] : [])); store(true); draw(); } },
        h("option", { value: "" }, "all"), d.values.map(([v, w]) => h("option", { value: v }, w)));
      return { k, d, box, node: h("label", {}, d.label, box) };
    }
    const chips = d.values.map(([v, w, mark]) => { const n = h("b", {}); return { v, n, node: h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => toggle(d.key, v) }, mark ? h("span", { class: mark }, glyph(mark)) : null, w, n) }; });
    return { k, d, chips, node: h("div", { class: "set", role: "group", "aria-label": d.label }, chips.map((c) => c.node)) };
  });
  const toggle = (key, value, only) => { const set = chosen.get(key); if (only) { set.clear(); set.add(value); } else if (!set.delete(value)) set.add(value); store(true); draw(); };
  function draw() {
    const started = performance.now(), rows = [];
    const hit = new Uint8Array(spec.total);
    for (let i = 0; i < spec.total; i++) if ((hit[i] = matches(i) ? 1 : 0) && passes(i, -1)) rows.push(i);
    for (const { k, d, box, chips } of controls) {
      const set = chosen.get(d.key);
      if (box) box.value = [...set][0] || "";
      for (const chip of chips || []) {
        let n = 0; const map = has[k].get(chip.v);
        for (let i = 0; i < spec.total; i++) if (hit[i] && map[i] && passes(i, k)) n++;
        chip.n.textContent = num(n); chip.node.setAttribute("aria-pressed", set.has(chip.v) ? "true" : "false");
      }
    }
    const column = spec.columns.find((c) => c.key === sort.replace(/^-/, "") && c.by), sign = sort.startsWith("-") ? -1 : 1;
    const order = column ? (a, b) => { const x = column.by(a), y = column.by(b); return (x < y ? -sign : x > y ? sign : 0) || spec.order(a, b); } : spec.order;
    rows.sort(order);
    const heads = spec.columns.map((c) => h("th", { scope: "col", class: [c.num ? "num" : "", c.wide ? "wide" : ""].join(" ").trim() || null, "aria-sort": column === c ? (sign < 0 ? "descending" : "ascending") : null },
      c.by ? h("button", { type: "button", onclick: () => { sort = sort === "-" + c.key ? c.key : sort === c.key ? "" : "-" + c.key; store(true); draw(); const again = [...body.querySelectorAll("th button")].find((b) => b.textContent === c.head); if (again) again.focus(); } }, c.head) : c.head));
    const tbody = h("tbody", {});
    const row = (at) => h("tr", { tabindex: -1, "data-row": at }, spec.columns.map((c) => h("td", { class: [c.num ? "num" : "", c.full ? "full" : ""].join(" ").trim() || null, "data-l": c.l }, c.cell(rows[at]))));
    const more = chunked(tbody, row, rows.length, 150, spec.word);
    body.replaceChildren(rows.length ? h("table", { class: "list stack" }, h("caption", { class: "vh" }, spec.title), h("thead", {}, h("tr", {}, heads)), tbody)
      : h("p", { class: "pad" }, spec.total ? `No ${spec.word} fits this filter. That says nothing about the other ${num(spec.total)}.` : spec.none), more);
    const left = spec.hidden(rows, chosen);
    const text = asCommand(spec, chosen, needle);
    shell.replaceChildren(...(text ? [commandBox(text)] : [h("p", { class: "dim small" }, "No command has this filter.")]));
    found.replaceChildren(h("span", { id: "shown" }, `${num(rows.length)} of ${count(spec.total, spec.word)} shown`), ...(left ? [". ", left] : []), ...(column ? [] : [h("span", { class: "dim" }, " · " + spec.ordered)]));
    say(count(rows.length, spec.word) + " shown");
    page.more = more; page.took = performance.now() - started;
  }
  const asText = h("details", { class: "small" }, h("summary", {}, "As a command"), shell);
  const page = { title: spec.title, toggle, keys: { f: () => spec.fail && toggle(...spec.fail, true), u: () => spec.unknown && toggle(...spec.unknown, true) } };
  page.nodes = [h("div", { class: "hd" }, h("div", {}, h("h1", { tabindex: -1 }, spec.title), h("p", { class: "sub" }, spec.sub))),
    h("div", { class: "filters" }, controls.filter((c) => c.chips).map((c) => c.node)), h("div", { class: "filters" }, controls.filter((c) => c.box).map((c) => c.node), field), found, body, asText];
  draw();
  return page;
}

const used = (values) => [...new Set(values)].sort();
const figure = (n, cls) => h("span", { class: n ? cls : "zero" }, num(n));

function checksView() {
  const per = D.perCheck, unknownOnly = (i) => !per[i].failed && notKnown(per[i]);
  const outs = (c) => [c.failed && "fail", (c.unknown) && "unknown", c.error && "error", c.noanswer && "noanswer", c.passed && "pass", c.na && "na", !c.expected && "none"].filter(Boolean);
  return list({
    title: "Checks", word: "check", total: D.C, none: "No check was selected for this run.", ordered: "severity, then failures, then not known",
    sub: `${count(D.C, "check")} on ${count(D.H, "host")}. Fail, not known and pass count hosts; a check is listed under every outcome that some host has.`,
    fail: ["out", "fail"], unknown: ["out", "unknown"],
    command: { kind: "checks", flags: new Map([["sev", ["--severity"]], ["area", ["--area"]], ["out", ["--result", new Map([["fail", "fail"], ["unknown", "unknown"], ["error", "error"], ["noanswer", "no-answer"], ["pass", "pass"], ["na", "notapplicable"]])]]]) },
    text: (i) => { const c = D.checks[i]; return [c.id, c.title, c.area, c.severity, c.role, ...c.surface, ...c.controls.flat(2)].join(" "); },
    order: (a, b) => D.checks[a].rank - D.checks[b].rank || per[b].failed - per[a].failed || notKnown(per[b]) - notKnown(per[a]) || (D.checks[a].id < D.checks[b].id ? -1 : 1),
    dims: [
      { key: "sev", label: "Severity", values: SEVERITIES.filter((n) => n !== "info" || D.checks.some((c) => c.severity === n)).map((n) => [n, n, n]), of: (i) => [D.checks[i].severity] },
      { key: "out", label: "Outcome", values: [["fail", "fail", "fail"], ["unknown", "unknown", "unknown"], ["error", "error", "error"], ["noanswer", "no answer", "noanswer"], ["pass", "pass", "pass"], ["na", "not applicable", "na"], ["none", "applies to no host"]].filter((v) => v[0] === "fail" || v[0] === "unknown" || per.some((c) => outs(c).includes(v[0]))), of: (i) => outs(per[i]) },
      { key: "area", label: "Area", select: true, values: D.areas.map((a) => [a, a]), of: (i) => [D.checks[i].area] },
      { key: "surface", label: "Surface", select: true, values: used(D.checks.flatMap((c) => c.surface)).map((a) => [a, a]), of: (i) => D.checks[i].surface },
    ],
    hidden: (rows, chosen) => {
      const out = chosen.get("out");
      if (!out.size || out.has("unknown") || out.has("noanswer")) return null;
      const shown = new Set(rows), n = D.checks.filter((_, i) => !shown.has(i) && notKnown(per[i])).length;
      return n ? h("a", { class: "unk", href: "#/checks?out=error,noanswer,unknown" }, `${count(n, "check")} with unknown results not shown`) : null;
    },
    columns: [
      { key: "sev", head: "Severity", cell: (i) => severity(D.checks[i].severity), by: (i) => -D.checks[i].rank },
      { key: "id", head: "Check", full: true, cell: (i) => [checkLink(i), h("span", { class: "dim line" }, h("span", { class: "mono" }, D.checks[i].id), " · " + D.checks[i].area)], by: (i) => D.checks[i].id },
      { key: "bar", head: "Hosts", wide: true, full: true, cell: (i) => bar(per[i]) },
      { key: "fail", head: "Fail", num: true, l: "fail", cell: (i) => figure(per[i].failed, D.checks[i].severity), by: (i) => per[i].failed },
      { key: "unknown", head: "Not known", num: true, l: "not known", cell: (i) => figure(notKnown(per[i]), "unk"), by: (i) => notKnown(per[i]) },
      { key: "pass", head: "Pass", num: true, l: "pass", cell: (i) => figure(per[i].passed, "pass"), by: (i) => per[i].passed },
    ],
  });
}

/** Risk of a host, for order only: failures by severity, then what is not known. */
const risk = (a, b) => { const x = D.perHost[a], y = D.perHost[b]; for (let k = 0; k < 5; k++) if (x.worst[k] !== y.worst[k]) return y.worst[k] - x.worst[k]; return notKnown(y) - notKnown(x) || (D.hosts[a].name < D.hosts[b].name ? -1 : 1); };

function hostsView() {
  const per = D.perHost, rank = new Int32Array(D.H); [...D.hosts.keys()].sort(risk).forEach((j, at) => { rank[j] = at; });
  const worst = (i) => SEVERITIES.filter((_, k) => per[i].worst[k]);
  return list({
    title: "Hosts", word: "host", total: D.H, none: "No host is in this run.", ordered: "failures by severity, then not known, then name",
    sub: `${count(D.H, "host")}; ${num(D.hosts.filter((x) => x.answered).length)} answered. Critical to low count open failures on the host.`,
    fail: ["has", "fail"], unknown: ["has", "unknown"],
    command: { kind: "hosts", flags: new Map([["group", ["--group"]], ["has", ["--result", new Map([["fail", "fail"]])]], ["answered", ["--result", new Map([["no", "no-answer"]])]]]) },
    text: (i) => { const x = D.hosts[i]; return [x.name, ...x.groups, x.os, x.kernel, x.reach, x.detail].join(" "); },
    order: (a, b) => rank[a] - rank[b],
    dims: [
      { key: "answered", label: "Answered", values: [["yes", "answered"], ["no", "no answer", "noanswer"]], of: (i) => [D.hosts[i].answered ? "yes" : "no"] },
      { key: "has", label: "Has", values: [["fail", "fail", "fail"], ["unknown", "unknown", "unknown"], ["clear", "no failure, all known", "pass"]], of: (i) => [per[i].failed && "fail", (per[i].unknown || per[i].error) && "unknown", per[i].expected && per[i].passed === per[i].expected && "clear"].filter(Boolean) },
      { key: "sev", label: "Worst failure", values: SEVERITIES.slice(0, 4).map((n) => [n, n, n]), of: (i) => worst(i).slice(0, 1) },
      { key: "group", label: "Group", select: true, values: [...D.groups.keys()].map((g) => [g.replace(/,/g, "‚"), g]), of: (i) => (D.hosts[i].groups.length ? D.hosts[i].groups : ["no group"]).map((g) => g.replace(/,/g, "‚")) },
    ],
    hidden: (rows, chosen) => {
      const has = chosen.get("has"), shown = new Set(rows);
      if ((!has.size || has.has("unknown")) && !chosen.get("sev").size) return null;
      const n = D.hosts.filter((_, i) => !shown.has(i) && notKnown(per[i])).length;
      return n ? h("a", { class: "unk", href: "#/hosts" }, `${count(n, "host")} with unknown results or without an answer not shown`) : null;
    },
    columns: [
      { key: "name", head: "Host", full: true, cell: (i) => [hostLink(i), h("span", { class: "dim line" }, told(D.hosts[i].groups.join(", ") || "no group", 60))], by: (i) => D.hosts[i].name },
      { key: "answered", head: "Answered", cell: (i) => (D.hosts[i].answered ? [D.hosts[i].reach === "ok" ? h("span", { class: "sub" }, "yes") : h("span", { class: "unk" }, "yes, ", told(D.hosts[i].reach, 40)), h("span", { class: "dim line" }, rootWord(D.hosts[i]))] : [h("span", { class: "sev gone" }, glyph("noanswer"), "no"), h("span", { class: "dim line" }, told(D.hosts[i].reach, 40))]) },
      { key: "bar", head: "Results", wide: true, full: true, cell: (i) => bar(per[i]) },
      ...SEVERITIES.slice(0, 4).map((name, k) => ({ key: name, head: name[0].toUpperCase() + name.slice(1), num: true, l: name, cell: (i) => (D.hosts[i].answered ? figure(per[i].worst[k], name) : h("span", { class: "unk", title: "not known" }, "?")), by: (i) => per[i].worst[k] })),
      { key: "unknown", head: "Not known", num: true, l: "not known", cell: (i) => figure(notKnown(per[i]), "unk"), by: (i) => notKnown(per[i]) },
      { key: "os", head: "System", full: true, cell: (i) => (D.hosts[i].os || D.hosts[i].kernel ? [told(D.hosts[i].os || "not known", 40), h("span", { class: "dim line mono" }, told(D.hosts[i].kernel, 40))] : h("span", { class: "unk" }, "not known")), by: (i) => D.hosts[i].os },
    ],
  });
}
const rootWord = (host) => (host.root === null ? "root not known" : host.root ? "as root" : "not as root");
