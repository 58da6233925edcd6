// SPDX-License-Identifier: Apache-2.0
// Routes, keys, theme, printing, and the start.

const VIEWS = new Map([["checks", checksView], ["hosts", hostsView], ["check", checkView], ["host", hostView], ["unknown", unknownView], ["actions", actionsView], ["maps", mapsView], ["vulns", vulnsView], ["controls", controlsView], ["waivers", waiversView], ["run", runView], ["search", searchView]]);
const RAIL = new Map([["check", "checks"], ["host", "hosts"]]);
let page = null, heatMap = null, before = "";

function route(first) {
  const state = read(), make = VIEWS.get(state.view), view = make ? state.view : "overview";
  page = make ? make(state.name) : null;
  $("overview").hidden = Boolean(page); $("view").hidden = !page;
  $("view").replaceChildren(...(page ? page.nodes.flat(9).filter(Boolean) : []));
  for (const link of $("rail").querySelectorAll("a")) { if (link.dataset.view === (RAIL.get(view) || view)) { link.setAttribute("aria-current", "page"); link.scrollIntoView({ block: "nearest", inline: "center" }); } else link.removeAttribute("aria-current"); }
  document.title = `${page ? page.title : "Overview"} · fleet-audit run ${D.run.id}`;
  if (view === "overview") { if (!heatMap) { heatMap = heat()[0]; if (heatMap) $("heat").append(heatMap); } if (heatMap) heatMap.draw(); }
  if (view !== "search" && document.activeElement !== $("q")) $("q").value = "";
  if (view === "search" && document.activeElement !== $("q")) $("q").value = state.query.get("q") || "";
  const left = history.state && history.state.y;
  if (left && document.activeElement !== $("q")) { if (page && page.more && page.more.grow) page.more.grow(history.state.rows); scrollTo(0, left); return; }
  if (!first && document.activeElement !== $("q")) { scrollTo(0, 0); const title = (page ? $("view") : $("overview")).querySelector("h1"); if (title) title.focus({ preventScroll: true }); }
}
/** Where one was on a page is kept with its place in the history, so that Back leads there. */
let keeping = 0;
addEventListener("scroll", () => { clearTimeout(keeping); keeping = setTimeout(() => { if (D) history.replaceState({ y: scrollY, rows: document.querySelectorAll("main tr[data-row]").length }, "", location.href); }, 120); }, { passive: true });
const redraw = () => { if (heatMap && !$("overview").hidden) heatMap.draw(); };

$("q").addEventListener("input", () => {
  const text = $("q").value.trim().slice(0, 200), to = address("search", "", new Map([["q", text]])), inside = read().view === "search";
  if (!inside) before = location.hash || "#/overview";
  history[inside ? "replaceState" : "pushState"](null, "", text ? to : inside ? before : to); route(false);
});
addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const typing = e.target instanceof Element && e.target.matches("input, select, textarea");
  if (e.key === "Escape") {
    if ($("help").open) return;
    if (typing) { e.target.blur(); return; }
    const open = e.target instanceof Element && e.target.closest("tr") && e.target.closest("tr").querySelector("details[open]");
    if (open) open.open = false; else if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    return;
  }
  if (typing || !D) { return; }
  const rows = [...document.querySelectorAll("main table tr[data-row], #overview:not([hidden]) .acts tbody tr")].filter((r) => r.offsetParent !== null);
  const here = e.target instanceof Element ? rows.indexOf(e.target.closest("tr")) : -1;
  const step = e.key === "j" || (e.key === "ArrowDown" && here >= 0) ? 1 : e.key === "k" || (e.key === "ArrowUp" && here >= 0) ? -1 : 0;
  if (e.key === "/") { $("q").focus(); $("q").select(); }
  else if (e.key === "?") { $("help").showModal(); }
  else if (step && rows.length) { const to = rows[Math.max(0, Math.min(rows.length - 1, here < 0 ? 0 : here + step))]; to.tabIndex = -1; to.focus(); to.scrollIntoView({ block: "nearest" }); }
  else if (e.key === "Enter" && e.target instanceof Element && e.target.matches("tr")) { const row = e.target, link = row.querySelector("a[href^='#']"), box = row.querySelector("details"); if (read().view === "host" && box) box.open = !box.open; else if (link) link.click(); else if (box) box.open = !box.open; }
  else if (page && page.keys && page.keys[e.key] && Object.hasOwn(page.keys, e.key)) page.keys[e.key]();
  else return;
  e.preventDefault();
});
const dark = () => { const set = document.documentElement.dataset.theme; return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches; };
$("theme").addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; redraw(); });
$("keys").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());
$("print").addEventListener("click", () => print());
$("link").addEventListener("click", () => copy(location.href, $("link"), null));
document.querySelector(".skip").addEventListener("click", (e) => { e.preventDefault(); $("main").focus(); });
let printing = null;
addEventListener("beforeprint", () => { printing = document.documentElement.dataset.theme || ""; document.documentElement.dataset.theme = "light"; if (page && page.more && page.more.grow) { page.more.grow(500); } redraw(); });
addEventListener("afterprint", () => { if (printing) document.documentElement.dataset.theme = printing; else delete document.documentElement.dataset.theme; redraw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", redraw);

/** The summary that Python wrote and what was unpacked here must say the same. */
function contradictions() {
  const mine = { passed: D.all.passed, unknown: D.all.unknown + D.all.error, no_answer: D.all.noanswer, failed: D.all.failed };
  return [...document.querySelectorAll("[data-total]")].filter((e) => e.textContent !== num(mine[e.dataset.total])).map((e) => e.dataset.total);
}
const trouble = (text) => { $("broken").textContent = text; $("broken").hidden = false; };
async function start() {
  const began = performance.now();
  try { D = await unpack(); } catch (error) { trouble("Only the summary is shown: " + (error instanceof Error ? error.message : "the data cannot be read") + "."); return; }
  document.documentElement.dataset.decoded = (performance.now() - began).toFixed(1);
  const wrong = contradictions();
  if (wrong.length) trouble("This file contradicts itself: its lists and its summary differ in " + wrong.join(", ") + ". Do not rely on it.");
  $("tools").hidden = false;
  addEventListener("hashchange", () => route(false));
  route(true);
  document.documentElement.dataset.ready = "yes";
}
start();
