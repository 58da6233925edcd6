// SPDX-License-Identifier: Apache-2.0
// The fleet beside its results: levels, open ports, confidential computing, vulnerabilities, and controls.

const groupLink = (g) => D.groups.has(g) ? h("a", { href: address("hosts", "", new Map([["group", g.replace(/,/g, "‚")]])) }, told(g, 60)) : told(g, 60);
const hostNames = (names, first) => hostChips(names.map((n) => D.hostOf.get(n)).filter((j) => j !== undefined), first);
const region = (label, ...body) => h("div", { class: "card scroll", tabindex: 0, role: "region", "aria-label": label }, body);

/** Hosts by level as a bar: what most have is quiet, what is too low is red, what differs is sand, what is not known is hatched. */
function levelBar(row) {
  const list = row.levels.map(([, n, low], i) => ({ n, kind: low ? "fail" : i ? "low" : "same" })).concat(row.unknown ? [{ n: row.unknown, kind: "unk" }] : [], row.silent ? [{ n: row.silent, kind: "gone" }] : []);
  const total = list.reduce((a, p) => a + p.n, 0);
  let x = 0;
  const rects = list.map((p) => { const w = 100 * p.n / total, at = x; x += w; return s("rect", { class: "f-" + p.kind, x: at + "%", y: 0, width: w + "%", height: "100%" }); });
  x = 0;
  const lines = list.slice(0, -1).map((p) => { x += 100 * p.n / total; return s("line", { class: "part", x1: x + "%", x2: x + "%", y1: 0, y2: "100%" }); });
  return s("svg", { class: "bar", "aria-hidden": "true" }, rects, lines);
}
function levelsSection(kind, rows) {
  const body = rows.map((row) => {
    const shown = row.levels.slice(0, 3), rest = row.levels.slice(3);
    return h("tr", { tabindex: -1, "data-row": 0 }, h("td", {}, groupLink(row.group)), h("td", { class: "wide" }, levelBar(row)), h("td", { class: "full" },
      shown.map(([value, n, low], i) => h("div", {}, h("b", {}, num(n)), " × ", h("span", { class: "mono" }, told(value, 120)), low ? h("span", { class: "sev high" }, " ", glyph("high"), low === n ? "a check fails" : `a check fails on ${num(low)}`) : i ? h("span", { class: "medium" }, " unlike most") : "")),
      rest.length ? h("div", { class: "dim" }, `${num(rest.reduce((a, l) => a + l[1], 0))} × ${count(rest.length, "other level")}`) : null,
      row.unknown ? h("div", { class: "unk" }, glyph("unknown"), ` ${num(row.unknown)} not known`) : null, row.silent ? h("div", { class: "gone" }, glyph("noanswer"), ` ${num(row.silent)} did not answer`) : null));
  });
  return section(kind, rows.some((r) => r.levels.length > 1) ? "differs within a group" : "alike in each group, as far as known", h("div", { class: "card" }, table("stack levels", kind + " by group", ["Group", "Hosts by level", "Levels"], body)));
}
function portsSection() {
  const groups = used(D.ports.flatMap((p) => Object.keys(p.groups))).sort(), unread = Object.entries(D.ports_unread || {});
  const wide = groups.length <= 8;
  const rows = D.ports.map((p) => h("tr", { tabindex: -1, "data-row": 0 }, h("th", { scope: "row", class: "mono nw" }, p.port), h("td", {}, p.names.map((n, i) => [i ? ", " : "", told(n, 60)])),
    h("td", {}, p.bare ? h("span", { class: "sev critical" }, glyph("critical"), `no login on ${count(p.bare, "host")}`) : p.unsure ? h("span", { class: "sev unk" }, glyph("unknown"), `not known on ${num(p.unsure)}`) : h("span", { class: "dim" }, "–")),
    h("td", { class: "num", "data-l": "hosts" }, num(p.hosts)), wide ? groups.map((g) => h("td", { class: Object.hasOwn(p.groups, g) ? "num" : "num none", "data-l": g }, Object.hasOwn(p.groups, g) ? num(p.groups[g]) : h("span", { class: "zero" }, "·", h("span", { class: "vh" }, "none seen")))) : null));
  return section("Open beyond the loopback", `${count(D.ports.length, "port")}${D.more_ports ? `, ${num(D.more_ports)} more in facts` : ""}`, unread.length ? h("p", { class: "note unk" }, "Sockets were not all read on ", unread.map(([g, n], i) => [i ? ", " : "", count(n, "host"), " of ", told(g, 60)]), ": what is not listed is not shown to be closed.") : null,
    D.ports_unread === null ? h("p", { class: "pad card" }, "The run asked for no sockets.") : D.ports.length ? region("Open ports", table("stack", "Open ports by group", ["Port", "Service or program", "Login", ">Hosts", ...(wide ? groups.map((g) => ">" + g) : [])], rows)) : h("p", { class: "pad card" }, "No open port was seen."),
    h("p", { class: "dim small" }, "A port here listens on an address beyond the loopback; a firewall may still close it. A dot: none seen."));
}
const RUNGS = ["absent", "capable", "enabled", "active"], TEE = new Map([["gpu", "NVIDIA GPU"], ["tdx", "Intel TDX"], ["sgx", "Intel SGX"], ["sev", "AMD SEV"], ["sev-es", "AMD SEV-ES"], ["sev-snp", "AMD SEV-SNP"]]);
function ladderSection() {
  const make = (r) => {
    const at = RUNGS.indexOf(r.rung);
    return h("tr", { tabindex: -1, "data-row": 0 }, h("td", {}, h("b", {}, TEE.get(r.technology) || r.technology), h("span", { class: "dim line" }, r.side)),
      h("td", { class: "nw" }, h("span", { class: "rungs" + (at < 0 ? " f-unk" : ""), "aria-hidden": "true" }, RUNGS.slice(1).map((_, i) => h("i", { class: at > i ? "on" : "" }))), " ", at < 0 ? h("span", { class: "unk" }, r.rung) : r.rung),
      h("td", { class: "dim" }, r.missing ? ["next: ", told(r.missing, 200)] : ""), h("td", { class: "num", "data-l": "hosts" }, num(r.hosts.length)), h("td", { class: "full" }, hostNames(r.hosts, 4)));
  };
  const some = D.rungs.filter((r) => r.rung !== "absent"), none = D.rungs.filter((r) => r.rung === "absent"), heads = ["Technology", "Rung", "Missing", ">Hosts", "Which"];
  return section("Confidential computing", "as far as the nodes themselves show: nothing here is attested", D.rungs.length ? region("Confidential computing",
    some.length ? table("stack", "How far each node is", heads, some.map(make)) : h("p", { class: "pad" }, "No node is shown to have any."),
    none.length ? h("details", { class: "foot" }, h("summary", {}, count(none.length, "technology", "technologies") + " shown to be absent"), lazily(() => [table("stack", "What is absent", heads, none.map(make))])) : null) : h("p", { class: "pad card" }, "The run's profile asks for nothing of it: ", h("code", {}, "--profile confidential"), " does."));
}
function mapsView() {
  const kinds = new Map();
  for (const row of D.levels) { if (!kinds.has(row.kind)) kinds.set(row.kind, []); kinds.get(row.kind).push(row); }
  return { title: "Maps", nodes: [head("Maps", "Levels, open ports and confidential computing. Each host counts once, in its smallest group; what is not known is drawn, never left out."),
    h("p", { class: "key" }, [["same", "what most of the group have"], ["low", "unlike most"], ["fail", "a check of levels fails"], ["unk", "not known"], ["gone", "no answer"]].map(([k, w]) => h("span", {}, h("i", { class: "sw f-" + k }), w))),
    [...kinds].map(([kind, rows]) => levelsSection(kind, rows)), D.levels.length ? null : h("p", { class: "card pad" }, "No level was read."), portsSection(), ladderSection()] };
}

function vulnsView() {
  const list = D.vulns, tbody = h("tbody", {});
  const make = (i) => {
    const v = list[i];
    return h("tr", { tabindex: -1, "data-row": i }, h("td", { class: "rank" }, i + 1), h("td", { class: "full" }, h("b", {}, told(v.title, 200)), v.exploited ? h("span", { class: "sev critical" }, " ", glyph("critical"), num(v.exploited) + " known to be exploited") : "", h("span", { class: "dim line" }, told(v.reasons, 200)),
      !v.count ? null : h("details", {}, h("summary", { class: "small" }, count(v.count, "vulnerability", "vulnerabilities")), lazily(() => [h("p", { class: "mono small" }, v.cves.map(([id, word], k) => [k ? ", " : "", id, h("span", { class: "dim" }, " " + word)]), v.count > v.cves.length ? ` and ${num(v.count - v.cves.length)} more: fleet-audit vulnerabilities --format json` : "")]))),
      h("td", {}, v.kind), h("td", { class: "num", "data-l": "hosts" }, num(v.hosts.length)), h("td", {}, hostNames(v.hosts, 3)));
  };
  const more = chunked(tbody, make, list.length, 50, "action"), t = table("list stack acts", "What closes vulnerabilities", ["", "Action", "Kind", ">Hosts", "Which"], []);
  t.querySelector("tbody").replaceWith(tbody);
  const gaps = D.vuln_gaps.map(([name, n, why]) => h("p", { class: "note unk" }, h("b", {}, `${name.replace(/_/g, " ")}: not whole on ${count(n, "host")}. `), told(why, 300)));
  return { title: "Vulnerabilities", more, nodes: [head("Vulnerabilities", "What closes known vulnerabilities: exploited ones first, then likely ones, then by severity. A live patch counts where it is shown to hold."), gaps,
    h("div", { class: "card" }, list.length ? [t, more, D.more_vulns ? h("p", { class: "foot" }, `${num(D.more_vulns)} further actions: fleet-audit vulnerabilities`) : null] : h("p", { class: "pad" }, gaps.length ? "None is known to be open where it could be told." : "No known vulnerability is open."))] };
}

/** Controls by their worst check: fail, not known, shown to pass; a check may count in several. */
function controlsView() {
  const frameworks = new Map();
  D.checks.forEach((k, c) => k.controls.forEach(([framework, numbers]) => numbers.forEach((n) => {
    if (!frameworks.has(framework)) frameworks.set(framework, new Map());
    const f = frameworks.get(framework);
    if (!f.has(n)) f.set(n, []);
    f.get(n).push(c);
  })));
  const sum = (list) => { const n = empty(); for (const c of list) for (const f of [...FIELDS, "expected"]) n[f] += D.perCheck[c][f]; return n; };
  const parts_ = [...frameworks].sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([framework, numbers]) => {
    const rows = [...numbers].map(([name, list]) => ({ name, list, n: sum(list) })).sort((a, b) => (b.n.failed > 0) - (a.n.failed > 0) || (notKnown(b.n) > 0) - (notKnown(a.n) > 0) || (a.name < b.name ? -1 : 1));
    const bad = rows.filter((r) => r.n.failed).length, dark = rows.filter((r) => !r.n.failed && notKnown(r.n)).length, none = rows.filter((r) => !r.n.expected).length;
    return section(framework, `${count(rows.length, "control")}: ${num(bad)} with failures, ${num(dark)} more not wholly known, ${num(rows.length - bad - dark - none)} shown to pass, ${num(none)} not applicable`, h("div", { class: "card" }, (() => { const tbody = h("tbody", {}), t = table("stack levels", framework, ["Control", "Results", ">Fail", ">Not known", ">Pass", "Checks"], []); t.querySelector("tbody").replaceWith(tbody); return [t, chunked(tbody, (i) => make(rows[i]), rows.length, 25, "control")]; })()));
  });
  function make(r) {
    return h("tr", { tabindex: -1, "data-row": 0 },
      h("th", { scope: "row", class: "mono nw" }, told(r.name, 60)), h("td", { class: "wide" }, bar(r.n)), h("td", { class: "num", "data-l": "fail" }, figure(r.n.failed, "high")), h("td", { class: "num", "data-l": "not known" }, figure(notKnown(r.n), "unk")), h("td", { class: "num", "data-l": "pass" }, figure(r.n.passed, "pass")),
      h("td", { class: "full" }, h("details", {}, h("summary", { class: "small" }, count(r.list.length, "check")), lazily(() => [h("ul", { class: "small" }, r.list.map((c) => h("li", {}, severity(D.checks[c].severity), " ", checkLink(c))))]))));
  }
  return { title: "Controls", nodes: [head("Controls", "What the checks of this run say of each control that they bear on. A control is more than its checks: none of this certifies it."), parts_] };
}

/** What the policy accepts, until when, and which findings that are. */
function waiversView() {
  const accepted = new Map();
  for (let row = 0; row < D.C * D.H; row++) for (let i = 0; i < D.many[row]; i++) {
    const w = D.finding_waiver[D.first[row] + i];
    if (w >= 0) { if (!accepted.has(w)) accepted.set(w, []); accepted.get(w).push([row, D.first[row] + i]); }
  }
  const state = (w) => (w.expired ? 0 : w.soon ? 1 : w.accepted ? 2 : 3), order = [...D.waivers.keys()].sort((a, b) => state(D.waivers[a]) - state(D.waivers[b]) || (D.waivers[a].until < D.waivers[b].until ? -1 : 1));
  const scope = (w) => [w.hosts.join(", ") || "all hosts", w.groups.length ? " in " + w.groups.join(" or ") : "", w.subject === null ? "" : ": " + (w.subject || "the empty subject")].join("");
  const tbody = h("tbody", {}), make = (n) => {
    const i = order[n], w = D.waivers[i], list = accepted.get(i) || [], c = D.checkOf.get(w.check);
    return h("tr", { tabindex: -1, "data-row": n }, h("td", { class: "full" }, c === undefined ? h("code", {}, w.check) : checkLink(c), h("span", { class: "dim line mono" }, c === undefined ? "not in this run" : w.check), h("p", {}, told(scope(w), 300)),
      list.length ? h("details", {}, h("summary", { class: "small" }, count(list.length, "finding") + " accepted"), lazily(() => [h("ul", { class: "subjects" }, list.slice(0, 200).map(([row, f]) => h("li", {}, hostLink(row % D.H), " ", h("b", {}, told(D.subjects[D.finding_subject[f]] || "the whole host", 200)), " ", told(D.reasons[D.finding_reason[f]] || "", 300)))), list.length > 200 ? h("p", { class: "dim small" }, `200 of ${num(list.length)} shown.`) : null])) : null),
      h("td", { class: "full" }, told(w.owner, 100), h("span", { class: "dim line" }, told(w.reason, 400))),
      h("td", {}, w.until, w.expired ? h("span", { class: "sev high line" }, glyph("high"), "expired: it accepts nothing") : w.soon ? h("span", { class: "unk line" }, "ends within 30 days") : null),
      h("td", { class: "num", "data-l": "findings" }, num(w.accepted), w.idle ? h("span", { class: "dim line" }, told(w.idle, 200)) : null));
  };
  const more = chunked(tbody, make, order.length, 100, "waiver"), t = table("list stack", "Waivers of the policy", ["Check, and where", "Owner and reason", "Until", ">Findings"], []);
  t.querySelector("tbody").replaceWith(tbody);
  return { title: "Waivers", more, nodes: [head("Waivers", "What the policy accepts. A waived finding stays in every list and every count; only the exit status passes over it, until its last day."),
    h("div", { class: "card" }, order.length ? [t, more] : h("p", { class: "pad" }, "The policy accepts nothing that is wrong."))] };
}
