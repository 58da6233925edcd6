# SPDX-License-Identifier: Apache-2.0
"""A synthetic report of any size: seeded, marked as synthetic, with text that a hostile node would send."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

from fleet_audit.advisories.priorities import Action
from fleet_audit.excerpts import Excerpt, Excerpts
from fleet_audit.findings import CheckView, HostView, Report
from fleet_audit.landscape import Landscape, Level, Levels, Port, Rung
from fleet_audit.model import CheckId, Finding, HostName, Outcome, Result, Severity, SourceId
from fleet_audit.runs import HostEntry
from fleet_audit.waivers import Waiver

GROUPS = ("train-h100", "infer-l40s", "train-b200", "cvm-h100", "edge-lab", "login-mgmt")
SHARES = (43, 16, 21, 11, 5, 4)
AREAS = (
    ("kernel", "Running kernel is the newest that is installed", "kernel-reboot", "reboot", ("hardware", "tools")),
    ("gpu", "GPU driver is at or above the minimum of its branch", "gpu_driver", "drain", ("hardware",)),
    ("firmware", "BMC firmware is at or above the vendor's minimum", None, None, ("hardware", "edge")),
    ("network", "Inbound traffic is denied unless allowed", "firewall", "none", ("edge",)),
    ("ml-tools", "Ray dashboard asks for a token", "ml_services", "service-restart", ("model", "tools")),
    ("data", "Dataset mounts are not writable by every user", "mounts", "none", ("data",)),
    ("ssh", "Root does not log in over SSH with a password", "ssh_hardening", "service-restart", ("people",)),
    ("accounts", "No account but root has uid 0", None, None, ("people",)),
    ("audit", "The audit log cannot be changed after the fact", "auditd", "service-restart", ("data", "people")),
    ("containers", "No container runs with all privileges", "containers", "drain", ("tools", "model")),
    ("slurm", "Slurm credentials are readable by their daemon only", "slurm", "service-restart", ("tools",)),
    ("time", "The clock is kept by authenticated sources", "chrony", "none", ("edge", "tools")),
)
HOSTILE = (
    "<script>window.pwned=1;alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>",
    "\x1b[2J\x1b[31mred\x1b[0m", "\u202egnp.exe\u2066", "nul\x00byte", "__proto__", "constructor", "=HYPERLINK(\"http://evil/\")",
    "a\nfleet-audit run --all\n",
    "{{ 7*7 }} ${7*7}", "javascript:alert(3)", "x" * 9000, "\udcff bad utf-8",
    "\u200bzero\u200dwidth", "'\"><svg onload=alert(4)>",
)  # fmt: skip
REASONS = (
    "580.95.05 is below 580.178.04",
    "mode is 0666, 0660 is wanted",
    "PermitRootLogin is yes",
    "input policy is accept",
    "listens on 0.0.0.0:8265 without a token",
)
GAPS = (
    "sudo was refused: source needs root",
    "nvml did not answer within 5 s",
    "mlxfwmanager ended with status 1",
    "no minimum is known for this board",
    "the output was not understood",
)
SILENCES = (
    ("timeout", "no reply within 30 s"), ("auth", "the server refused every key that was offered"),
    ("host key", "the host key is not the one in known_hosts"), ("no python", "no Python 3.6 or newer was found"),
)  # fmt: skip
_SEVERITIES = (
    Severity.MEDIUM,
    Severity.HIGH,
    Severity.MEDIUM,
    Severity.LOW,
    Severity.CRITICAL,
    Severity.MEDIUM,
    Severity.LOW,
    Severity.HIGH,
    Severity.LOW,
    Severity.INFO,
)


def sample(
    hosts: int = 150, checks: int = 200, *, hostile: bool = False, silent: float = 0.05, seed: int = 7, applies: bool = True,
    fails: float = 1.0, unknowns: float = 1.0,
) -> Report:  # fmt: skip
    """A report of `hosts` x `checks` results; the same arguments give the same report."""
    dice = random.Random(seed)
    host_views = tuple(sorted((_host(i, hosts, dice, hostile, silent) for i in range(hosts)), key=lambda h: h.name))
    check_views = tuple(sorted((_check(i, hostile) for i in range(checks)), key=lambda c: c.id))
    results: list[Result] = []
    findings: list[Finding] = []
    for check in check_views:
        badness, gap, broken = (
            dice.choice((0, 0, 0, 0, 0, 0.02, 0.1, 0.5)) * fails,
            dice.choice((0, 0, 0, 0, 0.02, 0.05, 0.3)) * unknowns,
            dice.random() < 0.01 * unknowns,
        )
        absent = {g for g in GROUPS if dice.random() < 0.12}
        for host in host_views:
            result, found = _result(check, host, dice, badness, gap, broken, applies and not absent & set(host.entry.groups), hostile)
            results.append(result)
            findings += found
    waivers, findings = _waivers(findings, hostile)
    open_ = {(f.check, f.host) for f in findings if f.outcome is Outcome.FAIL and f.waiver is None}
    waived = {(f.check, f.host) for f in findings if f.waiver is not None} - open_
    results = [replace(r, waived=True) if (r.check, r.host) in waived else r for r in results]
    return Report(
        "20261124T060000Z-ab12", "0.1.0", datetime(2026, 11, 24, 6, 0, tzinfo=UTC), datetime(2026, 11, 24, 6, 0, tzinfo=UTC),
        "5f" * 32, {"profile": "baseline", "policy": "profile: baseline\nparams:\n  gpu-driver-minimum: {min: \"580.178.04\"}\n",
                    "policy_file": "policy.yaml", "checks": [c.id for c in check_views], "synthetic": True},
        "20261124T060000Z-ab12", host_views, check_views, tuple(results), tuple(findings), waivers,
        bytes_of=lambda: _excerpts(results, check_views, hostile), maps=lambda: _landscape(host_views, random.Random(seed), hostile),
    )  # fmt: skip


def _waivers(findings: list[Finding], hostile: bool) -> tuple[tuple[Waiver, ...], list[Finding]]:
    """One that accepts the first failures, one that has ended, one that fits nothing."""
    failed = [f for f in findings if f.outcome is Outcome.FAIL]
    if not failed:
        return (), findings
    text, check = HOSTILE[0] if hostile else "no window before the next maintenance", failed[0].check
    mine = {id(f) for f in failed if f.check == check}
    waivers = (
        Waiver(check, text, text, "2027-02-01", (), (), None, expired=False, soon=False, accepted=len(mine)),
        Waiver(CheckId("gone-check"), "Ops", text, "2026-01-31", (text,), (GROUPS[0],), text, expired=True, soon=False),
        Waiver(check, "Ops", text, "2026-12-01", ("x*",), (), "", expired=False, soon=True, idle="no host of this name"),
    )
    return waivers, [replace(f, waiver=0) if id(f) in mine else f for f in findings]


def _excerpts(results: list[Result], checks: tuple[CheckView, ...], hostile: bool) -> Excerpts:
    """Two sources of each host with a bad result: one that was read, one that was not."""
    body = "\n".join(HOSTILE).encode("utf-8", "surrogatepass") if hostile else b"PermitRootLogin yes\nX11Forwarding no\n"
    sources = sorted({s for c in checks for s in c.sources})
    of = {
        r.host: tuple(
            Excerpt(SourceId(s), "ok", "", "5f" * 32, 9000) if s == "files" else Excerpt(SourceId(s), "denied", HOSTILE[3], None, 0)
            for s in sources
        ) for r in results if r.outcome is Outcome.FAIL
    }  # fmt: skip
    return Excerpts(of, {"5f" * 32: body})


def _landscape(hosts: tuple[HostView, ...], dice: random.Random, hostile: bool) -> Landscape:
    """Maps of the sample's hosts; they need not agree with its results."""
    texts = HOSTILE if hostile else ("6.8.0-87-generic", "6.8.0-88-generic", "6.11.0-29-generic")

    def text() -> str:
        return dice.choice(texts)

    names = tuple(h.name for h in hosts if h.entry.answered)
    levels = tuple(
        Levels(kind, group, tuple(
            Level(f"{text()} {n}", dice.randint(1, 9), dice.choice((0, 0, 1))) for n in range(dice.randint(0, 5))
        ), dice.randint(0, 3), 1)
        for kind in ("Kernel", "NVIDIA driver") for group in GROUPS
    )  # fmt: skip
    ports = tuple(
        Port(f"{8000 + n}/tcp", (text(), "python3"), {g: dice.randint(1, 9) for g in dice.sample(GROUPS, 2)}, 9,
             dice.choice((0, 3)), dice.choice((0, 2)))
        for n in range(12)
    )  # fmt: skip
    rungs = tuple(Rung(t, "guest", rung, text(), names[:7]) for t in ("gpu", "tdx") for rung in ("active", "not known", "absent"))
    actions = []
    for n in range(8):
        action = Action(f"update {text()}", "update", set(names[:5]), {f"CVE-2026-{n}{k}": "critical" for k in range(50)})
        action.exploited |= {f"CVE-2026-{n}1"} if n < 2 else set()
        actions.append(action)
    return Landscape(levels, ports, 3, {GROUPS[0]: 2}, rungs, tuple(actions), 5, (("vulnerabilities", 4, text()),))


def _host(index: int, total: int, dice: random.Random, hostile: bool, silent: float) -> HostView:
    group = dice.choices(GROUPS, SHARES)[0]
    name = f"{group[0]}{index // 16:02d}-n{index % 16 + 1:02d}"
    detail, notes = "", ["RLIMIT_AS could not be set"] if dice.random() < 0.1 else []
    os_, kernel = (
        dice.choice(("Ubuntu 24.04.3 LTS", "Rocky Linux 9.6", "Debian GNU/Linux 12")),
        dice.choice(("6.8.0-87-generic", "6.8.0-88-generic", "6.11.0-29-generic")),
    )
    if hostile and index < len(HOSTILE):
        name, detail, notes, os_, kernel = f"{name}-{HOSTILE[index][:60]}", HOSTILE[index], list(HOSTILE), HOSTILE[index], HOSTILE[-index]
    gone = dice.random() < silent * (4 if group == "edge-lab" else 0.8)
    root = dice.random() > 0.2
    if gone:
        reach, why = dice.choice(SILENCES)
        entry = HostEntry(groups=[group], expected=True, reach=reach, detail=detail or why, answered=False, privileged=None, transport="",
                          seconds=30.0, costs={}, notes=[])  # fmt: skip
        return HostView(HostName(name), entry, None, None, {"unreached": 51})
    costs = {"cpu_self": round(0.05 + dice.random() / 8, 3), "cpu_children": round(dice.random() / 6, 3),
             "rss_kib": float(dice.randint(14_000, 22_000)),
             "seconds": round(0.4 + dice.random() * 3, 2), "wire_sent": 31_000.0,
             "wire_received": float(dice.randint(30_000, 90_000)), "connections": 1.0, "execs": 1.0}  # fmt: skip
    reach = "ok" if root else "become refused"
    entry = HostEntry(groups=sorted({group, "gpu"} if group.startswith(("train", "cvm")) else {group}), expected=True, reach=reach,
                      detail=detail or ("" if root else "sudo refused: the probe ran as an ordinary account"), answered=True,
                      privileged=root, transport="paramiko",
                      seconds=costs["seconds"], costs=costs, notes=notes)  # fmt: skip
    sources = {"ok": 44, "absent": 3, "denied": 1, "timeout": 3} if root else {"ok": 38, "absent": 3, "denied": 10}
    return HostView(HostName(name), entry, os_, kernel, sources)


def _check(index: int, hostile: bool) -> CheckView:
    area, title, role, disruption, surface = AREAS[index % len(AREAS)]
    number = index // len(AREAS)
    severity = _SEVERITIES[(index * 7 + number) % len(_SEVERITIES)]
    text = HOSTILE[0] if hostile and index == 3 else ""
    return CheckView(
        CheckId(f"{area}-state-{index:03d}"), title + (f", part {number + 1}" if number else "") + text, area, severity, surface,
        f"What this state keeps away, in two sentences. An old or open {area} lets one job reach the memory and the data of another.",
        f"The {area} facts were not read as root; an account with sudo settles it.", f"{title.replace(' is ', ' must be ')}. Then audit again.",
        "Jobs wait for the drain." if index % 5 == 0 else None,
        {"nist-800-53": ["AC-6(2)", "SI-2"], "cis-ubuntu-24.04": [f"5.1.{index}"]},
        ("https://example.org/guide?a=1#x (read 2026-11-24)", "javascript:alert(5) https://example.org/", "NIST SP 800-53 r5"),
        {"minimum": "580.178.04", "allowed": ["no", "prohibit-password"]},
        "SELECT host, keyword AS subject,\n       value < $minimum AS pass,\n       'x' AS reason\nFROM settings",
        "SELECT host, installed AS applies FROM service" if index % 2 else None, (area, "settings"), (f"{area}_read", "files"), role, disruption,
    )  # fmt: skip


def _result(
    check: CheckView, host: HostView, dice: random.Random, badness: float, gap: float, broken: bool, applies: bool, hostile: bool
) -> tuple[Result, list[Finding]]:
    def result(outcome: Outcome, reason: str, counts: tuple[int, int, int] = (0, 0, 0)) -> Result:
        return Result(check.id, host.name, outcome, reason, *counts)

    def finding(subject: str, outcome: Outcome, reason: str) -> Finding:
        return Finding(check.id, host.name, subject, outcome, reason, f"{dice.getrandbits(128):032x}")

    roll = dice.random()
    if not host.entry.answered:
        return result(Outcome.UNKNOWN, "the host did not answer"), [finding("", Outcome.UNKNOWN, "the host did not answer")]
    if not applies:
        return result(Outcome.NOTAPPLICABLE, "the host lacks what this check is about"), []
    if broken and roll < 0.02:
        return result(Outcome.ERROR, "the check broke on this host: division by zero"), [finding("", Outcome.ERROR, "division by zero")]
    if roll < badness * (2.0 if sum(map(ord, host.name)) % 5 == 0 else 0.7):
        n = dice.choice((1, 1, 1, 2, 3, 25))
        reason = (
            dice.choice(HOSTILE) if hostile and dice.random() < 0.3 else f"{dice.choice(REASONS)} (bulletin {dice.randint(5861, 5863)})"
        )
        found = [finding(f"/dev/nvidia{k}" if not hostile else HOSTILE[k % len(HOSTILE)] + str(k), Outcome.FAIL, reason) for k in range(n)]
        return result(Outcome.FAIL, reason + (f", and {n - 1} more" if n > 1 else ""), (n + 3, n, 0)), found
    if roll > 1 - gap * (1.0 if host.entry.privileged else 1.8):
        reason = (
            dice.choice(HOSTILE) if hostile and dice.random() < 0.3 else GAPS[0] if not host.entry.privileged else dice.choice(GAPS[1:])
        )
        return result(Outcome.UNKNOWN, reason, (2, 0, 1)), [finding("settings", Outcome.UNKNOWN, reason)]
    return result(Outcome.PASS, "", (dice.randint(1, 9), 0, 0)), []
