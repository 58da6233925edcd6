// SPDX-License-Identifier: Apache-2.0
// Hosts by area: a canvas, column = host, row = area, cell = the worst open failure; beside it a table that reads well aloud.

const STATES = ["pass", "critical", "high", "medium", "low", "info", "unknown", "na"];
const STATE_WORDS = { pass: "all shown to pass", unknown: "unknown", na: "not applicable", gone: "the host did not answer" };

/** Per host and area: worst state, and whether something is unknown too. */
function cells() {
  const A = D.areas.length, worst = new Uint8Array(D.H * A).fill(7), unsure = new Uint8Array(D.H * A), at = D.checks.map((c) => D.areas.indexOf(c.area));
  for (let c = 0, i = 0; c < D.C; c++) for (let j = 0; j < D.H; j++, i++) {
    const k = j * A + at[c], code = D.outcome[i];
    if (code === FAIL) { const v = D.waived[i] ? 5 : 1 + D.checks[c].rank; if (worst[k] === 0 || worst[k] > v) worst[k] = v; }
    else if (code === UNKNOWN || code === ERROR) { unsure[k] = 1; if (worst[k] === 7 || worst[k] === 0) worst[k] = 6; }
    else if (code === PASS && worst[k] === 7) worst[k] = 0;
  }
  return { worst, unsure, A };
}

function heat() {
  if (!D.C || !D.H) return [];
  const { worst, unsure, A } = cells(), first = new Map();
  for (let j = 0; j < D.H; j++) { const g = D.hosts[j].primary; if (!first.has(g)) first.set(g, []); first.get(g).push(j); }
  const dead = (j) => (D.hosts[j].answered ? 1 : 0);
  const groups = [...first].sort((a, b) => b[1].length - a[1].length || (a[0] < b[0] ? -1 : 1)).map(([name, hosts]) => ({ name, hosts: hosts.sort((a, b) => dead(a) - dead(b) || risk(a, b)) }));
  const canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": `Hosts by area: ${num(D.H)} hosts, ${num(D.all.failed)} failures, ${num(notKnown(D.all))} results not known. Use the arrow keys; the same as a table follows.` });
  const line = h("p", { class: "read", "aria-live": "polite" }, "Point at a cell, or focus the map and use the arrow keys. Enter opens the host.");
  let slots = [], ci = 0, ri = 0, rowHeight = 14;
  const small = () => canvas.parentElement && canvas.parentElement.clientWidth < 600 && D.H > 300;
  const box = h("div", {}, canvas);
  const tabled = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Hosts by area as a table" }, table("", "Hosts with an open failure, and hosts where nothing fails but something is not known, by area and group",
    ["Area", ...groups.map((g) => g.name + " · " + num(g.hosts.length))], D.areas.map((a, k) => h("tr", {}, h("th", { scope: "row" }, a), groups.map((g) => {
      let bad = 0, unclear = 0, na = 0; for (const j of g.hosts) { const w = worst[j * A + k]; if (!D.hosts[j].answered || w === 6) unclear++; else if (w >= 1 && w <= 5) bad++; else if (w === 7) na++; }
      return h("td", {}, h("span", { class: bad ? "fail" : "zero" }, num(bad) + " fail"), unclear ? h("span", { class: "unk" }, `, ${num(unclear)} not known`) : "", na === g.hosts.length ? h("span", { class: "na" }, ", not applicable") : "");
    })))));
  const details = h("details", { class: "table" }, h("summary", {}, "The same as a table, by group"), tabled);

  function draw() {
    const W = Math.floor(box.clientWidth || 0);
    canvas.hidden = small();
    if (small()) { details.setAttribute("open", ""); line.textContent = `${num(D.H)} hosts are too many for a map this narrow: counts by group instead.`; return; }
    if (W < 160) return;
    const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue("--" + name).trim();
    const phone = W < 600, label = phone ? 74 : 104, room = W - label, top = 18, gapMin = 10; rowHeight = phone ? 11 : 15;
    const ctx = canvas.getContext("2d"), font = "11px " + style.getPropertyValue("--sans");
    ctx.font = font;
    const cw = Math.max(4, Math.min(10, Math.floor((room - gapMin * (groups.length - 1)) / D.H)));
    // Bands: groups flow on, and break where the width ends.
    const bands = [[]]; let x = 0;
    for (const g of groups) {
      let at = 0;
      while (at < g.hosts.length) {
        const fit = Math.floor((room - x) / cw), left = g.hosts.length - at;
        if (fit < Math.min(left, 6) && x > 0) { bands.push([]); x = 0; continue; }
        const n = Math.max(1, Math.min(left, fit));
        bands[bands.length - 1].push({ g, at, n, x }); at += n; x += n * cw + gapMin;
      }
      const name = ctx.measureText(g.name + " " + g.hosts.length).width;
      const last = bands[bands.length - 1]; x = Math.max(x, last[last.length - 1].x + Math.min(name, 120) + gapMin);
    }
    const bandHeight = top + A * rowHeight + 10, H = bands.length * bandHeight, ratio = window.devicePixelRatio || 1;
    canvas.width = W * ratio; canvas.height = H * ratio; canvas.style.width = W + "px"; canvas.style.height = H + "px";
    ctx.scale(ratio, ratio); ctx.font = font; ctx.textBaseline = "middle";
    const w = cw - 1, hh = rowHeight - 1;
    const tiles = new Map();
    const tile = (state, foot) => {      // each state is drawn once and copied
      const key = state + foot;
      if (tiles.has(key)) return tiles.get(key);
      const t = document.createElement("canvas"); t.width = Math.ceil(w * ratio); t.height = Math.ceil(hh * ratio);
      const c = t.getContext("2d"); c.scale(ratio, ratio);
      if (state === "na") { c.fillStyle = color("edge"); c.fillRect(w / 2 - .75, hh / 2 - .75, 1.5, 1.5); }
      else if (state === "unknown") { c.fillStyle = color("unk-f"); c.fillRect(0, 0, w, hh); c.strokeStyle = color("unk-s"); c.lineWidth = 1.2; c.beginPath(); for (let k = -hh; k < w + hh; k += 4) { c.moveTo(k, hh); c.lineTo(k + hh, 0); } c.stroke(); }
      else { c.fillStyle = color(state === "pass" ? "pass-f" : state === "info" ? "line" : state); c.fillRect(0, 0, w, hh); }
      if (foot) { c.fillStyle = color("surface"); c.fillRect(0, hh - 4, w, 1); c.fillStyle = color("unk-s"); c.fillRect(0, hh - 3, w, 3); }
      tiles.set(key, t); return t;
    };
    slots = [];
    bands.forEach((band, b) => {
      const y0 = b * bandHeight + top;
      ctx.fillStyle = color("ink2"); ctx.textAlign = "right";
      D.areas.forEach((a, k) => ctx.fillText(a.length > 16 ? a.slice(0, 15) + "…" : a, label - 8, y0 + k * rowHeight + rowHeight / 2, label - 10));
      ctx.textAlign = "left";
      for (const part of band) {
        const left = label + part.x;
        ctx.fillText(shorten(ctx, part.at ? part.g.name + " …" : `${part.g.name} ${part.g.hosts.length}`, Math.min(Math.max(part.n * cw, 120), W - left)), left, y0 - 9);
        for (let n = 0; n < part.n; n++) {
          const j = part.g.hosts[part.at + n], px = left + n * cw;
          slots.push({ j, x: px, y: y0, w: cw, g: part.g });
          if (!D.hosts[j].answered) {
            const tall = A * rowHeight - 1; ctx.save(); ctx.beginPath(); ctx.rect(px, y0, w, tall); ctx.clip(); ctx.strokeStyle = color("gone"); ctx.lineWidth = .9; ctx.beginPath();
            for (let k = -w; k < tall + w; k += 5) { ctx.moveTo(px, y0 + k); ctx.lineTo(px + w, y0 + k + w); ctx.moveTo(px + w, y0 + k); ctx.lineTo(px, y0 + k + w); }
            ctx.stroke(); ctx.restore(); ctx.strokeStyle = color("gone"); ctx.lineWidth = 1; ctx.strokeRect(px + .5, y0 + .5, Math.max(1, w - 1), tall - 1);
            continue;
          }
          for (let k = 0; k < A; k++) { const v = worst[j * A + k]; ctx.drawImage(tile(STATES[v], v >= 1 && v <= 5 && unsure[j * A + k] ? 1 : 0), px, y0 + k * rowHeight, w, hh); }
        }
      }
    });
  }
  const tell = (slot, k) => {
    const state = D.hosts[slot.j].answered ? STATES[worst[slot.j * A + k]] : "gone", more = state !== "unknown" && state !== "gone" && unsure[slot.j * A + k] ? ", and some unknown" : "";
    line.replaceChildren(h("b", {}, told(D.hosts[slot.j].name, 60)), " · ", told(slot.g.name, 40), " · " + D.areas[k] + ": " + (STATE_WORDS[state] || "worst open failure " + state) + more);
  };
  const hit = (e) => { const r = canvas.getBoundingClientRect(), x = e.clientX - r.left, y = e.clientY - r.top; const n = slots.findIndex((q) => x >= q.x && x < q.x + q.w && y >= q.y && y < q.y + A * rowHeight); return n < 0 ? null : [n, Math.min(A - 1, Math.floor((y - slots[n].y) / rowHeight))]; };
  canvas.addEventListener("pointermove", (e) => { const p = hit(e); canvas.style.cursor = p ? "pointer" : "default"; if (p) tell(slots[p[0]], p[1]); });
  canvas.addEventListener("click", (e) => { const p = hit(e); if (p) location.hash = "#/host/" + encodeURIComponent(D.hosts[slots[p[0]].j].name); });
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[e.key];
    if (e.key === "Enter" && slots[ci]) { location.hash = "#/host/" + encodeURIComponent(D.hosts[slots[ci].j].name); return; }
    if (!step || !slots.length) return;
    e.preventDefault(); e.stopPropagation();
    ci = Math.max(0, Math.min(slots.length - 1, ci + step[0])); ri = Math.max(0, Math.min(A - 1, ri + step[1])); tell(slots[ci], ri);
  });
  const key = (cls, word) => h("span", {}, h("i", { class: cls.startsWith("foot") ? cls : "sw f-" + cls }), word);
  const node = section("Hosts by area", `${count(D.H, "host")} × ${count(A, "area")} · worst first in each group`, h("div", { class: "card pad" }, line, box,
    h("div", { class: "key" }, h("span", {}, "Worst open failure:"), key("critical", "critical"), key("high", "high"), key("medium", "medium"), key("low", "low"), key("unk", "unknown"), key("gone", "no answer"), key("pass", "all shown to pass"), key("na", "not applicable"), key("foot-mark", "violet foot: some unknown too")),
    details));
  node.draw = draw;
  return [node];
}
function shorten(ctx, text, width) {
  if (ctx.measureText(text).width <= width) return text;
  while (text.length > 1 && ctx.measureText(text + "…").width > width) text = text.slice(0, -1);
  return text + "…";
}
