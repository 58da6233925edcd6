// SPDX-License-Identifier: Apache-2.0
// The page of a check and the page of a host.

const crumb = (...links) => h("p", { class: "crumb" }, links.map((l, i) => [i ? " / " : "", l]));
const missing = (what) => ({ title: what + " not found", nodes: [h("h1", { tabindex: -1 }, what + " not found"), h("p", { class: "sub" }, `This run has no such ${what.toLowerCase()}. `, h("a", { href: "#/overview" }, "Overview"))] });

/** Hosts of a check by reason, most hosts first. */
function byReason(c, codes) {
  const found = new Map();
  for (let j = 0; j < D.H; j++) { const i = c * D.H + j; if (!codes.includes(D.outcome[i])) continue; const key = D.outcome[i] + " " + D.reason[i]; if (!found.has(key)) found.set(key, { code: D.outcome[i], text: reasonOf(i), hosts: [] }); found.get(key).hosts.push(j); }
  return [...found.values()].sort((a, b) => b.hosts.length - a.hosts.length || (a.text < b.text ? -1 : 1));
}

function checkView(name) {
  const c = D.checkOf.get(name);
  if (c === undefined) return missing("Check");
  const k = D.checks[c], n = D.perCheck[c], fails = byReason(c, [FAIL]), unknown = byReason(c, [UNKNOWN, ERROR]), silent = [], na = byReason(c, [NA]);
  for (let j = 0; j < D.H; j++) if (D.outcome[c * D.H + j] === SILENT) silent.push(j);
  const failing = fails.flatMap((f) => f.hosts).sort(risk);
  const reasons = h("tbody", {}), why = h("tbody", {});
  const more = chunked(reasons, (i) => h("tr", { tabindex: -1, "data-row": i }, h("td", { class: "full" }, told(fails[i].text, 400), hostsOf(fails[i].hosts, c)), h("td", { class: "num", "data-l": "hosts" }, num(fails[i].hosts.length)), h("td", { class: "dim small" }, where(fails[i].hosts))), fails.length, 20, "reason");
  const more2 = chunked(why, (i) => h("tr", { tabindex: -1, "data-row": i }, h("td", { class: "full" }, unknown[i].code === ERROR ? h("span", { class: "sev error" }, glyph("error"), "the check broke ") : "", told(unknown[i].text || "no reason given", 400), hostsOf(unknown[i].hosts, c)), h("td", { class: "num unk", "data-l": "hosts" }, num(unknown[i].hosts.length)), h("td", { class: "dim small" }, where(unknown[i].hosts))), unknown.length, 20, "reason");
  const groups = [...D.groups].map(([g, hosts]) => ({ g, n: over(c, hosts) })).sort((a, b) => b.n.failed - a.n.failed || notKnown(b.n) - notKnown(a.n) || (a.g < b.g ? -1 : 1));
  const left = [
    section("Why it fails", "same reason, one line", h("div", { class: "card" }, fails.length ? [table("stack", "Reasons for failure", ["Reason", ">Hosts", "Where"], []), more] : h("p", { class: "pad" }, "It fails on no host", notKnown(n) ? h("span", { class: "unk" }, `; on ${count(notKnown(n), "host")} it is not known.`) : "."), failing.length ? h("div", { class: "foot" }, hostChips(failing)) : null)),
    section("Why it is not known", `${num(n.unknown + n.error)} + ${num(n.noanswer)}`, h("div", { class: "card" },
      unknown.length ? [table("stack", "Reasons why it is not known", ["Reason", ">Hosts", "Where"], []), more2] : null,
      silent.length ? h("div", { class: unknown.length ? "foot" : "pad" }, h("div", {}, h("span", { class: "sev gone" }, glyph("noanswer"), `${count(silent.length, "host")} did not answer. `), hostChips(silent))) : null,
      !notKnown(n) ? h("p", { class: "pad" }, n.expected ? "It is known of every host that it applies to." : "It applies to no host.") : null,
      k.unknown && notKnown(n) ? h("div", { class: "foot" }, h("span", {}, h("b", {}, "What would settle it: "), k.unknown)) : null)),
    section("By group", "most failures first", h("div", { class: "card" }, table("stack", "Results by group", ["Group", "Hosts", ">Fail", ">Not known", ">Pass", ">Not applicable"], groups.map((x) => h("tr", {}, h("td", { class: "full" }, h("a", { href: address("hosts", "", new Map([["group", x.g.replace(/,/g, "‚")]])) }, told(x.g, 60))), h("td", { class: "full" }, bar(x.n)), h("td", { class: "num", "data-l": "fail" }, figure(x.n.failed, k.severity)), h("td", { class: "num", "data-l": "not known" }, figure(notKnown(x.n), "unk")), h("td", { class: "num", "data-l": "pass" }, figure(x.n.passed, "pass")), h("td", { class: "num", "data-l": "not applicable" }, num(x.n.na))))))),
    na.length ? section("Where it does not apply", count(n.na, "host"), h("div", { class: "card" }, h("ul", { class: "why" }, na.slice(0, 20).map((x) => h("li", {}, h("span", { class: "v dim" }, num(x.hosts.length)), h("div", {}, told(x.text, 300), h("span", { class: "dim line" }, where(x.hosts)))))))) : null,
  ];
  if (fails.length) left[0].querySelector("tbody").replaceWith(reasons);
  if (unknown.length) left[1].querySelector("tbody").replaceWith(why);
  const sql = [k.applies && ["Applies", k.applies], ["Decides", k.query]].filter(Boolean);
  const right = [
    section("Fix", null, h("div", { class: "card pad" }, h("p", {}, disruption(k.disruption), k.role ? [" · role ", h("code", {}, k.role)] : h("span", { class: "dim" }, " · no automatic fix")), h("p", { class: "prose" }, k.fix), k.impact ? h("p", { class: "prose sub" }, "For training: ", k.impact) : null)),
    section("Why it matters", null, h("p", { class: "prose" }, k.rationale)),
    failing.length || unknown.length ? section("Evidence", null, h("p", { class: "sub small" }, "From a result back to the bytes that it was decided from:"), command(D.hosts[(failing[0] ?? unknown[0].hosts[0])].name, k.id)) : null,
    section("How it is decided", null, sql.map(([word, text]) => [h("p", { class: "dim small" }, word), h("pre", { tabindex: 0 }, text)]), h("div", { class: "card pad" }, facts([
      k.params.length && ["Parameters", k.params.map(([p, v]) => h("div", { class: "mono" }, p + " = " + v))], ["Tables", h("span", { class: "mono" }, k.tables.join(", "))], ["Sources", h("span", { class: "mono" }, k.sources.join(", "))],
      ["Surface", k.surface.join(", ")], ...k.controls.map(([f, list]) => [f, list.join(", ")])]))),
    k.references.length ? section("References", null, h("ul", { class: "small" }, k.references.map(([url, rest]) => h("li", {}, url && URL.canParse(url) && new URL(url).protocol === "https:" ? [h("a", { href: url, rel: "noreferrer noopener", target: "_blank" }, url), " "] : "", h("span", { class: "dim" }, rest))))) : null,
  ];
  const order = [...D.checks.keys()].sort((a, b) => D.checks[a].rank - D.checks[b].rank || D.perCheck[b].failed - D.perCheck[a].failed || notKnown(D.perCheck[b]) - notKnown(D.perCheck[a]) || (D.checks[a].id < D.checks[b].id ? -1 : 1)), at = order.indexOf(c);
  const go = (d) => { const to = order[at + d]; if (to !== undefined) location.hash = "#/check/" + encodeURIComponent(D.checks[to].id); };
  return {
    title: k.title, keys: { "[": () => go(-1), "]": () => go(1) },
    nodes: [crumb(h("a", { href: "#/overview" }, "Overview"), h("a", { href: "#/checks" }, "Checks"), h("a", { href: address("checks", "", new Map([["area", k.area]])) }, k.area)),
      h("div", { class: "hd" }, h("div", {}, h("h1", { tabindex: -1 }, k.title), h("p", { class: "sub" }, severity(k.severity), " · ", h("span", { class: "mono" }, k.id), " · surface: " + k.surface.join(", "))), stepper(go, at, order.length, "check")),
      n.expected ? null : h("p", { class: "note" }, h("b", {}, "It applies to no host. "), "That is no pass: each host's reason is below."),
      posture(n, "host", { unknown: count(unknown.length, "reason"), noanswer: silent.length ? "never asked" : "every host answered", fail: `${share(n.failed, n.expected)} of expected` }), h("div", { class: "two" }, h("div", {}, left), h("div", {}, right))],
  };
}
const stepper = (go, at, total, word) => h("div", { class: "filters" }, h("button", { type: "button", disabled: at === 0, onclick: () => go(-1), "aria-label": "Worse " + word }, "← Worse"), h("button", { type: "button", disabled: at === total - 1, onclick: () => go(1), "aria-label": "Next " + word }, "Next →"), h("span", { class: "dim small" }, `${num(at + 1)} of ${num(total)}`));
const hostsOf = (hosts, c) => h("details", {}, h("summary", { class: "small" }, count(hosts.length, "host")), lazily(() => [hostChips(hosts, 20), command(D.hosts[hosts[0]].name, D.checks[c].id)]));
/** Content that is made when its <details> is first opened. */
function lazily(make) { const box = h("div", {}); box.ready = () => { if (!box.firstChild) box.append(...make().flat(9).filter(Boolean)); }; box.className = "lazy"; return box; }
document.addEventListener("toggle", (e) => { const box = e.target.open && e.target.querySelector(":scope > .lazy"); if (box && box.ready) box.ready(); }, true);

/** What one result found: subjects with their reasons, 20 first. */
function subjects(row, host, check) {
  const first = D.first[row], many = D.many[row], items = h("ul", { class: "subjects" }), out = [];
  const make = (i) => h("li", { class: OUTCOMES[D.finding_outcome[first + i]] }, h("b", {}, told(D.subjects[D.finding_subject[first + i]] || "the whole host", 200)), " ", told(D.reasons[D.finding_reason[first + i]] || "", 600), D.finding_waiver[first + i] < 0 ? null : h("span", { class: "dim line" }, "Waived by ", h("a", { href: "#/waivers" }, told(D.waivers[D.finding_waiver[first + i]].owner, 100)), ", until " + D.waivers[D.finding_waiver[first + i]].until + ": ", told(D.waivers[D.finding_waiver[first + i]].reason, 300)));
  if (many) out.push(items, chunked(items, make, many, 20, "finding"));
  const all = D.failed_of[row] + D.undetermined_of[row];
  if (all > many && many) out.push(h("p", { class: "dim small" }, `${num(many)} of ${num(all)} subjects are kept in the run.`));
  return [...out, bytesOf(D.hosts.indexOf(host), check), command(host.name, check.id)];
}

/** The bytes that a result was decided from: each source of its check on this host, as far as this file has it. */
function bytesOf(j, check) {
  const E = D.evidence, rows = (E.of[j] || []).filter((r) => check.sources.includes(E.texts[r[0]]));
  if (!rows.length) return null;
  return h("div", { class: "bytes" }, rows.map(([source, status, detail, at]) => {
    const object = at < 0 ? null : E.objects[at], ok = E.texts[status] === "ok", size = object && `${num(object[1])} bytes, sha256 ${object[0]}`;
    const line = [h("code", {}, E.texts[source]), h("span", { class: ok ? "dim" : "unk" }, " " + E.texts[status] + (E.texts[detail] ? ": " : "")), told(E.texts[detail], 300), object ? h("span", { class: "dim" }, " · " + size) : ""];
    if (!object || object[2] === null || !object[2]) return h("p", { class: "small" }, line, object && object[2] === null ? h("span", { class: "dim" }, " · not carried in this file") : "");
    return h("details", {}, h("summary", { class: "small" }, line), lazily(() => [h("pre", { tabindex: 0 }, object[2]), object[1] > BYTES ? h("p", { class: "dim small" }, `The first ${num(BYTES)} bytes.`) : null]));
  }));
}
const BYTES = 1500;

function hostView(name) {
  const j = D.hostOf.get(name);
  if (j === undefined) return missing("Host");
  const x = D.hosts[j], n = D.perHost[j], order = [...D.hosts.keys()].sort(risk), at = order.indexOf(j), query = read().query;
  const go = (d) => { const to = order[at + d]; if (to !== undefined) location.hash = "#/host/" + encodeURIComponent(D.hosts[to].name); };
  const codes = [[FAIL, n.failed], [UNKNOWN, n.unknown], [ERROR, n.error], [SILENT, n.noanswer], [PASS, n.passed], [NA, n.na]].filter((p) => p[1] || p[0] <= UNKNOWN && p[0] !== PASS);
  const wanted = (query.get("out") || "").split(",").map((w) => OUTCOMES.indexOf(w)).filter((c) => c >= 0);
  const chosen = new Set(wanted.length ? wanted : n.noanswer ? [SILENT] : n.failed ? [FAIL] : [UNKNOWN]);
  const tbody = h("tbody", {}), holder = h("div", { class: "card" }), left = h("p", { class: "shown" });
  const rank = new Map([[FAIL, 0], [UNKNOWN, 1], [ERROR, 1], [SILENT, 2], [PASS, 3], [NA, 4]]);
  const chips = codes.map(([code, k]) => ({ code, node: h("button", { type: "button", class: "chip", onclick: () => { if (!chosen.delete(code)) chosen.add(code); store(); draw(); } }, WORDS[code], h("b", {}, num(k))) }));
  const store = () => history.replaceState(null, "", address("host", x.name, new Map([["out", [...chosen].map((c) => OUTCOMES[c]).sort().join(",")]])));
  const page = { title: x.name, keys: { "[": () => go(-1), "]": () => go(1), f: () => { chosen.clear(); chosen.add(FAIL); store(); draw(); }, u: () => { chosen.clear(); chosen.add(UNKNOWN); store(); draw(); } } };
  function draw() {
    const rows = [];
    for (let c = 0; c < D.C; c++) if (chosen.has(D.outcome[c * D.H + j])) rows.push(c);
    const code = (c) => D.outcome[c * D.H + j];
    rows.sort((a, b) => rank.get(code(a)) - rank.get(code(b)) || D.checks[a].rank - D.checks[b].rank || (D.checks[a].id < D.checks[b].id ? -1 : 1));
    for (const chip of chips) chip.node.setAttribute("aria-pressed", chosen.has(chip.code) ? "true" : "false");
    tbody.replaceChildren();
    const make = (i) => {
      const c = rows[i], row = c * D.H + j, k = D.checks[c], subs = D.subjects_of[row], bad = D.failed_of[row] || D.undetermined_of[row];
      return h("tr", { tabindex: -1, "data-row": i }, h("td", {}, severity(k.severity)), h("td", {}, outcome(code(c))),
        h("td", { class: "full" }, checkLink(c), h("span", { class: "dim line mono" }, k.id), reasonOf(row) ? h("p", {}, told(reasonOf(row), 400)) : null,
          code(c) === FAIL || code(c) === UNKNOWN || code(c) === ERROR ? h("details", {}, h("summary", { class: "small" }, bad && subs ? `${num(bad)} of ${count(subs, "subject")}, and evidence` : "Evidence"), lazily(() => subjects(row, x, k))) : null),
        h("td", {}, code(c) === FAIL ? disruption(k.disruption) : ""));
    };
    const more = chunked(tbody, make, rows.length, 150, "result");
    const silentOut = !chosen.has(UNKNOWN) && n.unknown;
    left.replaceChildren(h("span", { id: "shown" }, `${num(rows.length)} of ${count(D.C, "result")} shown`), ...(silentOut ? [". ", h("button", { type: "button", class: "plain unk", onclick: () => { chosen.add(UNKNOWN); store(); draw(); } }, `${num(n.unknown)} unknown not shown`)] : []));
    holder.replaceChildren(rows.length ? h("table", { class: "list stack" }, h("caption", { class: "vh" }, "Results on this host"), h("thead", {}, h("tr", {}, ["Severity", "Result", "Check and reason", "Fix"].map((t) => h("th", { scope: "col" }, t)))), tbody) : h("p", { class: "pad" }, !chosen.size && n.noanswer ? `Nothing was asked of this host: ${count(n.noanswer, "check")} without an answer.` : chosen.size ? `No ${[...chosen].map((c) => WORDS[c]).join(" or ")}.` : "No outcome is chosen.", chosen.size && !n.failed && n.expected > n.passed ? h("span", { class: "unk" }, ` ${count(n.expected - n.passed, "result")} not known.`) : ""), more);
    page.more = more; say(count(rows.length, "result") + " shown");
  }
  draw();
  const total = Object.values(x.sources).reduce((a, b) => a + b, 0), bad = Object.entries(x.sources).filter(([w]) => ["denied", "failed", "timeout", "truncated", "unreached"].includes(w));
  const read_ = empty(); read_.passed = x.sources.ok || 0; read_.unknown = bad.reduce((a, b) => a + b[1], 0); read_.expected = read_.passed + read_.unknown;
  const fix = [...DISRUPTION.keys(), ""].map((d) => [d, D.checks.filter((k, c) => D.outcome[c * D.H + j] === FAIL && (DISRUPTION.has(k.disruption) ? k.disruption : "") === d).length]).filter((p) => p[1]);
  page.nodes = [crumb(h("a", { href: "#/overview" }, "Overview"), h("a", { href: "#/hosts" }, "Hosts"), x.groups.length ? h("a", { href: address("hosts", "", new Map([["group", x.primary.replace(/,/g, "‚")]])) }, told(x.primary, 60)) : "no group"),
    h("div", { class: "hd" }, h("div", {}, h("h1", { tabindex: -1 }, told(x.name, 120)), h("p", { class: "sub" }, [told(x.groups.join(", ") || "no group", 200), " · ", x.answered ? [told(x.os || "system not known", 80), `${x.read && ` · read ${x.read}`} · answered in ${x.seconds} s, ${rootWord(x)}`, x.transport ? [" through ", told(x.transport, 40)] : ""] : "no answer"])), stepper(go, at, order.length, "host")),
    x.reach !== "ok" || x.detail ? h("p", { class: "note" + (x.answered ? "" : " gone") }, h("b", {}, x.answered ? "Answered, but: " : "Did not answer: ", told(x.reach, 60), ". "), told(x.detail.replace(/\.$/, "") || "no sentence was kept", 1000), x.answered ? "." : `. Nothing below is a result: ${count(n.noanswer, "check")} ${n.noanswer === 1 ? "was" : "were"} never asked.`) : null,
    !x.expected ? h("p", { class: "note" }, "The inventory says that this host need not answer.") : null,
    posture(n, "check", { unknown: x.answered ? bad.map(([w, k]) => `${count(k, "source")} ${w}`).join(", ") : "", noanswer: n.noanswer ? "never asked" : "the host answered", fail: SEVERITIES.map((w, k) => (n.worst[k] ? `${num(n.worst[k])} ${w}` : "")).filter(Boolean).join(", ") }),
    h("div", { class: "two" }, h("div", {}, section("Results", "fail first, worst first", h("div", { class: "filters" }, h("div", { class: "set", role: "group", "aria-label": "Outcome" }, chips.map((c) => c.node))), left, holder)),
      h("div", {},
        fix.length ? section("Fix by disruption", count(n.failed, "failure"), h("div", { class: "card" }, h("ul", { class: "why" }, fix.map(([d, k]) => h("li", {}, h("span", { class: "v fail" }, num(k)), h("div", {}, disruption(d))))))) : null,
        section("Sources read", num(total), h("div", { class: "card pad" }, total ? [bar(read_), h("p", { class: "small" }, Object.entries(x.sources).sort((a, b) => b[1] - a[1]).map(([w, k], i) => [i ? ", " : "", h("span", { class: bad.some((b) => b[0] === w) ? "unk" : "" }, `${num(k)} ${w}`)]))] : h("p", { class: "unk" }, "None: nothing came back."))),
        section("This host", null, h("div", { class: "card pad" }, facts([["Groups", told(x.groups.join(", ") || "none", 400)], ["System", x.os ? told(x.os, 100) : h("span", { class: "unk" }, "not known")], ["Kernel", x.kernel ? h("span", { class: "mono" }, told(x.kernel, 100)) : h("span", { class: "unk" }, "not known")], ["Reach", told(x.reach, 100)], ["Account", rootWord(x)], ["Transport", x.transport && told(x.transport, 100)]]))),
        section("Cost on the node", null, h("div", { class: "card pad" }, Object.keys(x.costs).length ? facts(Object.entries(x.costs).map(([w, v]) => costLine(w, v))) : h("p", { class: "dim" }, "Nothing was measured."))),
        x.notes.length ? section("Notes", num(x.notes.length), h("div", { class: "card pad" }, h("ul", { class: "small" }, x.notes.slice(0, 50).map((t) => h("li", {}, told(t, 400))), x.notes.length > 50 ? h("li", { class: "dim" }, `50 of ${num(x.notes.length)} notes`) : null))) : null))];
  return page;
}
