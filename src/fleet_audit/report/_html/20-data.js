// SPDX-License-Identifier: Apache-2.0
// Unpacking: base64, raw DEFLATE, a JSON header, then columns of bytes and varints.

const SCHEMA = 4;
const PASS = 0, FAIL = 1, UNKNOWN = 2, ERROR = 3, NA = 4, SILENT = 5;
let D = null;   // the data, once it is unpacked

async function unpack() {
  const block = $("data"), text = block.textContent;
  if (block.dataset.schema !== String(SCHEMA)) throw new Error(`the data has layout ${block.dataset.schema}, this page reads ${SCHEMA}`);
  if (typeof DecompressionStream === "undefined") throw new Error("this browser cannot unpack it: Chrome 103, Firefox 113, Safari 16.4 or newer can");
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  if (bytes.length !== Number(block.dataset.size) || adler(bytes) !== Number(block.dataset.adler)) throw new Error("the file is damaged: its checksum is wrong");
  block.remove();
  return decode(bytes);
}

/** Adler-32, to tell a cut or changed file from a whole one. */
function adler(bytes) {
  let a = 1, b = 0;
  for (let i = 0; i < bytes.length;) {
    const end = Math.min(bytes.length, i + 3800);
    for (; i < end; i++) { a += bytes[i]; b += a; }
    a %= 65521; b %= 65521;
  }
  return b * 65536 + a;
}

function decode(bytes) {
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const d = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const columns = new Map();
  let at = 4 + length;
  for (const [name, size] of d.columns) { columns.set(name, bytes.subarray(at, at + size)); at += size; }
  const reader = (name) => {
    const column = columns.get(name);
    let i = 0;
    return () => { let n = 0, k = 1, byte; do { byte = column[i++]; n += (byte & 127) * k; k *= 128; } while (byte & 128); return n; };
  };
  const deltas = (name) => { const next = reader(name); let last = 0; return () => { const n = next(); return (last += n % 2 ? -(n + 1) / 2 : n / 2); }; };
  const H = d.hosts.length, C = d.checks.length, total = H * C;
  d.H = H; d.C = C; d.outcome = columns.get("outcome");
  d.reason = new Int32Array(total).fill(-1); d.subjects_of = new Uint32Array(total); d.failed_of = new Uint32Array(total); d.undetermined_of = new Uint32Array(total);
  const reason = deltas("reason"), subjects = reader("subjects"), failed = reader("failed"), undetermined = reader("undetermined");
  // A silent host's result was never asked for, whatever its row says: it has all columns too.
  for (let i = 0; i < total; i++) {
    d.subjects_of[i] = subjects();
    if (d.outcome[i] !== PASS) { d.reason[i] = reason(); d.failed_of[i] = failed(); d.undetermined_of[i] = undetermined(); }
  }
  const row = deltas("finding_row"), subject = deltas("finding_subject"), why = deltas("finding_reason");
  d.finding_outcome = columns.get("finding_outcome");
  const waiver = reader("finding_waiver"), waived = deltas("waived");
  d.waived = new Uint8Array(total); d.finding_waiver = new Int32Array(d.findings);
  for (let i = 0; i < d.waived_results; i++) d.waived[waived()] = 1;
  d.finding_subject = new Int32Array(d.findings); d.finding_reason = new Int32Array(d.findings);
  d.first = new Int32Array(total + 1).fill(-1); d.many = new Uint32Array(total);
  for (let i = 0; i < d.findings; i++) {
    const r = row();
    d.finding_subject[i] = subject(); d.finding_reason[i] = why(); d.finding_waiver[i] = waiver() - 1;
    if (d.first[r] < 0) d.first[r] = i;
    d.many[r]++;
  }
  return index(d);
}

const empty = () => ({ passed: 0, failed: 0, waived: 0, unknown: 0, error: 0, na: 0, noanswer: 0, expected: 0, worst: [0, 0, 0, 0, 0] });
const FIELDS = ["passed", "failed", "unknown", "error", "na", "noanswer"];

/** Counts for each host, check and for all; groups; names to places. The one function that counts here. */
function index(d) {
  d.hostOf = new Map(); d.checkOf = new Map(); d.groups = new Map(); d.areas = [...new Set(d.checks.map((c) => c.area))].sort();
  d.all = empty(); d.perHost = d.hosts.map(empty); d.perCheck = d.checks.map(empty);
  d.hosts.forEach((host, i) => {
    if (!d.hostOf.has(host.name)) d.hostOf.set(host.name, i); else { let n = 2; while (d.hostOf.has(host.name + "~" + n)) n++; host.name += "~" + n; d.hostOf.set(host.name, i); }
    for (const g of host.groups.length ? host.groups : ["no group"]) { if (!d.groups.has(g)) d.groups.set(g, []); d.groups.get(g).push(i); }
  });
  // A host may be in groups within groups: where each host counts once, it counts in its smallest.
  for (const host of d.hosts) host.primary = [...host.groups].sort((a, b) => d.groups.get(a).length - d.groups.get(b).length || (a < b ? -1 : 1))[0] || "no group";
  d.groups = new Map([...d.groups].sort((a, b) => (a[0] < b[0] ? -1 : 1)));
  d.checks.forEach((check, i) => { d.checkOf.set(check.id, i); check.rank = SEVERITIES.indexOf(check.severity); });
  for (let c = 0, i = 0; c < d.C; c++) {
    const rank = d.checks[c].rank;
    for (let j = 0; j < d.H; j++, i++) {
      const code = d.outcome[i], field = FIELDS[code];
      for (const to of [d.all, d.perHost[j], d.perCheck[c]]) { to[field]++; if (code !== NA) to.expected++; if (d.waived[i]) to.waived++; else if (code === FAIL) to.worst[rank]++; }
    }
  }
  return d;
}
/** Counts of a check over some hosts. */
function over(check, hosts) {
  const c = empty();
  for (const j of hosts) { const code = D.outcome[check * D.H + j]; c[FIELDS[code]]++; if (code !== NA) c.expected++; }
  return c;
}
const notKnown = (c) => c.unknown + c.error + c.noanswer;
const reasonOf = (i) => (D.reason[i] < 0 ? "" : D.reasons[D.reason[i]] || "");
const hostLink = (j, text) => h("a", { href: "#/host/" + encodeURIComponent(D.hosts[j].name) }, told(text || D.hosts[j].name, 80));
const checkLink = (c, text) => h("a", { href: "#/check/" + encodeURIComponent(D.checks[c].id) }, text || D.checks[c].title);
/** "train 22, infer 9" for some hosts, by their smallest group. */
function where(hosts) {
  const n = new Map();
  for (const j of hosts) { const g = D.hosts[j].primary; n.set(g, (n.get(g) || 0) + 1); }
  const list = [...n].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return [list.slice(0, 4).map(([g, k], i) => [i ? ", " : "", told(g, 40), " " + num(k)]), list.length > 4 ? ` and ${list.length - 4} more groups` : ""];
}
/** Chips for hosts: the first few, then the rest on demand. */
function hostChips(hosts, first = 8) {
  const box = h("div", { class: "chips" }, hosts.slice(0, first).map((j) => hostLink(j)));
  if (hosts.length > first) box.append(h("button", { type: "button", class: "plain", onclick: (e) => { e.currentTarget.remove(); box.append(...hosts.slice(first, 2000).map((j) => hostLink(j)), hosts.length > 2000 ? ` 2,000 of ${num(hosts.length)} shown` : ""); } }, `${num(hosts.length - first)} more`));
  return box;
}
