// SPDX-License-Identifier: Apache-2.0
// Building the page: elements and text only. Nothing here, or anywhere in this script, parses markup.

const SVG = "http://www.w3.org/2000/svg";
const ATTRIBUTES = new Set(["class", "href", "type", "scope", "title", "id", "role", "tabindex", "rel", "target", "value", "placeholder",
  "aria-label", "aria-pressed", "aria-sort", "aria-hidden", "aria-live", "data-l", "data-row", "x", "y", "x1", "x2", "y1", "y2", "width", "height",
  "colspan", "text-anchor", "autocomplete", "spellcheck", "disabled"]);
const $ = (id) => document.getElementById(id);

/** Fill an element: attributes of the list above, `on*` handlers, and children (text, nodes, arrays, nothing). */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (ATTRIBUTES.has(name)) element.setAttribute(name, String(value));
    else throw new Error("attribute " + name);
  }
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Text that came from a node: isolated for its direction, cut with a mark. It was cleaned before it was packed. */
function told(text, limit = 4096) {
  return text.length > limit ? h("bdi", { title: text.slice(0, 4096) }, text.slice(0, limit - 1) + "…") : h("bdi", {}, text);
}

const num = (n) => String(n).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
const count = (n, word, plural) => num(n) + " " + (n === 1 ? word : plural || word + "s");
/** A share in per cent: one decimal, 100 and 0 only when exact. The same rule as in Python. */
function share(part, whole) {
  if (!whole) return "none expected";
  const value = 100 * part / whole;
  if (part === 0 || part === whole) return value + " %";
  if (value > 99.9) return "> 99.9 %";
  if (value < 0.1) return "< 0.1 %";
  const tenths = Math.floor(value * 10), rest = value * 10 - tenths;
  return ((rest > 0.5 || (rest === 0.5 && tenths % 2) ? tenths + 1 : tenths) / 10).toFixed(1) + " %";
}

const glyph = (name) => s("svg", { class: "g", "aria-hidden": "true" }, (() => { const u = s("use"); u.setAttribute("href", "#g-" + name); return u; })());
const SEVERITIES = ["critical", "high", "medium", "low", "info"];
const severity = (name) => h("span", { class: "sev cap " + name }, glyph(name), name);
const DISRUPTION = new Map([["none", "no disruption"], ["service-restart", "service restart"], ["reboot", "reboot"], ["drain", "drain jobs"]]);
const disruption = (name) => h("span", { class: "dis d-" + (DISRUPTION.has(name) ? name : "hand") }, h("i", { "aria-hidden": "true" }), DISRUPTION.get(name) || "by hand");
const OUTCOMES = ["pass", "fail", "unknown", "error", "na", "noanswer"];   // in the order of their bytes
const WORDS = ["pass", "fail", "unknown", "error", "not applicable", "no answer"];
const outcome = (code) => h("span", { class: "sev " + OUTCOMES[code] }, glyph(OUTCOMES[code]), WORDS[code]);

/** Counts as segments, the ends of what is known apart: pass, unknown, no answer, fail. Even one shows. */
function parts(c) {
  const list = [["pass", c.passed], ["unk", c.unknown + c.error], ["gone", c.noanswer], ["fail", c.failed]].filter((p) => p[1]);
  const total = list.reduce((a, p) => a + p[1], 0), widths = list.map((p) => Math.max(0.4, 100 * p[1] / total));
  const sum = widths.reduce((a, w) => a + w, 0);
  let x = 0;
  return list.map(([kind, n], i) => { const w = 100 * widths[i] / sum, at = x; x += w; return { kind, n, x: at, w }; });
}
function bar(c, big) {
  const list = parts(c);
  if (!list.length) return h("span", { class: "dim small" }, c.na ? "not applicable" : "nothing expected");
  const label = `pass ${num(c.passed)}, unknown ${num(c.unknown + c.error)}, no answer ${num(c.noanswer)}, fail ${num(c.failed)} of ${num(c.expected)}`;
  return s("svg", { class: "bar" + (big ? " big" : ""), role: "img", "aria-label": label },
    list.map((p) => s("rect", { class: "f-" + p.kind, x: p.x + "%", y: 0, width: p.w + "%", height: "100%" })),
    list.slice(1).map((p) => s("line", { class: "part", x1: p.x + "%", x2: p.x + "%", y1: 0, y2: "100%" })));
}
/** The bar of a page with its bracket, its interval and four figures. */
function posture(c, what, notes) {
  const gap = parts(c).filter((p) => p.kind === "unk" || p.kind === "gone"), known = c.passed + c.failed === c.expected;
  const left = gap.length && gap[0].x, right = gap.length && gap[gap.length - 1].x + gap[gap.length - 1].w;
  const figure = (kind, word, n, note) => h("div", {}, h("span", { class: "k" }, h("i", { class: "sw f-" + kind }), word),
    h("strong", { class: { pass: "pass", unk: "unk", fail: "high" }[kind] || "" }, num(n)), h("span", { class: "n" }, note));
  return h("section", { class: "card posture", "aria-label": "Results" }, h("div", { class: "pad" }, c.expected ? [bar(c, true),
    gap.length ? s("svg", { class: "brack low", "aria-hidden": "true" }, [[left, left, 3, 10], [right, right, 3, 10], [left, right, 10, 10]].map((l) =>
      s("line", { x1: l[0] + "%", x2: l[1] + "%", y1: l[2], y2: l[3] }))) : null,
    h("p", { class: "ends" }, h("span", {}, `${num(c.passed)} of ${count(c.expected, "expected " + what)} shown to pass`),
      h("b", {}, known ? "exactly " + share(c.passed, c.expected) : `at least ${share(c.passed, c.expected)}, at most ${share(c.expected - c.failed, c.expected)}`))]
    : h("p", { class: "sub" }, c.na ? `Nothing was expected: ${count(c.na, what)} not applicable, left out.` : "Nothing was expected.")),
  h("div", { class: "figures" },
    figure("pass", "Shown to pass", c.passed, c.na ? `${num(c.na)} not applicable left out` : c.expected ? share(c.passed, c.expected) : "none expected"),
    figure("unk", "Unknown", c.unknown + c.error, c.error ? `! ${num(c.error)} broke in the check itself` : notes.unknown || ""),
    figure("gone", "No answer", c.noanswer, notes.noanswer || ""),
    figure("fail", "Fail", c.failed, c.failed ? notes.fail || "" : c.expected - c.passed ? `0 fail, ${num(c.expected - c.passed)} not known` : "none")));
}

const section = (title, right, ...body) => h("section", {}, h("div", { class: "sh" }, h("h2", {}, title), right ? h("span", { class: "r" }, right) : null), body);
const table = (cls, caption, heads, rows) => h("table", { class: cls }, h("caption", { class: "vh" }, caption),
  h("thead", {}, h("tr", {}, heads.map((t) => h("th", { scope: "col", class: t.startsWith(">") ? "num" : null }, t.replace(/^>/, ""))))), h("tbody", {}, rows));
const facts = (pairs) => h("dl", { class: "kv" }, pairs.filter((p) => p && p[1] !== "" && p[1] !== null && p[1] !== undefined).map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]));
const say = (() => { let timer; return (text) => { clearTimeout(timer); timer = setTimeout(() => { $("live").textContent = text; }, 300); }; })();

/** Copy a text that is shown in full; if the browser refuses, select it. */
function copy(text, button, shown) {
  const done = () => { const was = button.textContent; button.textContent = "Copied"; say("Copied"); setTimeout(() => { button.textContent = was; }, 1200); };
  const select = () => { if (shown) getSelection().selectAllChildren(shown); button.textContent = "Selected"; };
  try { navigator.clipboard.writeText(text).then(done, select); } catch { select(); }
}
/** `fleet-audit explain HOST CHECK`: only ids of ours and plain inventory names go into a command. */
function command(host, check) {
  const plain = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;
  if (!plain.test(host) || !plain.test(check)) return h("p", { class: "dim small" }, "No command: this host's name is not safe to paste into a shell.");
  return commandBox(`fleet-audit explain ${host} ${check}`);
}
/** A command that is shown in full, with a button that copies it. */
function commandBox(text) {
  const code = h("code", {}, text);
  return h("div", { class: "cmd" }, code, h("button", { type: "button", class: "sm", "aria-label": "Copy " + text, onclick: (e) => copy(text, e.currentTarget, code) }, "Copy"));
}
/** The first rows, and the rest in steps: when the end comes near, or by a button. */
function chunked(container, make, total, step, word) {
  const more = h("div", { class: "more" });
  let at = 0;
  const grow = (n) => { const end = Math.min(total, at + n), rows = []; for (; at < end; at++) rows.push(make(at)); container.append(...rows); draw(); };
  const draw = () => more.replaceChildren(...(at < total ? [h("span", {}, `${num(at)} of ${count(total, word)}`),
    h("button", { type: "button", class: "plain", onclick: () => grow(step) }, `Show ${num(Math.min(step, total - at))} more`)] : []));
  const watch = () => { if (at >= total) more.hidden = true; };
  grow(step); watch();
  if (at < total && step >= 100 && typeof IntersectionObserver !== "undefined") {
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((e) => e.isIntersecting) && more.isConnected) { grow(step); watch(); if (at >= total) observer.disconnect(); }
    }, { rootMargin: "400px" });
    observer.observe(more);
  }
  more.grow = (n) => { if (at < n) { grow(n - at); watch(); } };
  return more;
}
