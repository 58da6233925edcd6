# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's software and firmware against its bulletins: the few distinct versions are judged one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fleet_audit.advisories import nvidia
from fleet_audit.versions import key


def query(run: Any) -> str:
    """The query of rows (content, then the columns) of `nvidia_vulnerabilities`."""
    run(
        """CREATE OR REPLACE TEMP TABLE product AS
        SELECT DISTINCT r.content, 'gpu-driver' AS package, coalesce(d.loaded_version, d.disk_version) AS version,
               CASE WHEN d.loaded_version IS NOT NULL THEN d.disk_version END AS disk,
               coalesce((SELECT string_agg(DISTINCT CASE WHEN contains(g.name, 'GeForce') THEN 'geforce'
                                 WHEN regexp_matches(g.name, 'RTX|Quadro|NVS') THEN 'rtx' ELSE 'tesla' END, ',')
                         FROM gpus AS g WHERE g.host = r.host AND g.name IS NOT NULL), 'geforce,rtx,tesla') AS lines
        FROM rep AS r JOIN nvidia_driver AS d ON d.host = r.host WHERE coalesce(d.loaded_version, d.disk_version) IS NOT NULL
        UNION
        SELECT DISTINCT r.content, CASE WHEN starts_with(p.name, 'datacenter-gpu-manager') THEN 'dcgm' ELSE 'container-toolkit' END,
               regexp_extract(p.version, '^(?:[0-9]+:)?([0-9]+(?:\\.[0-9]+)+)', 1), NULL, 'base'
        FROM rep AS r JOIN packages AS p ON p.host = r.host
        WHERE p.name IN ('nvidia-container-toolkit', 'nvidia-container-toolkit-base', 'libnvidia-container1', 'datacenter-gpu-manager',
                         'datacenter-gpu-manager-4-core')
        UNION
        SELECT DISTINCT r.content, 'cuda-toolkit', regexp_extract(p.version, '^(?:[0-9]+:)?([0-9]+(?:\\.[0-9]+)+)', 1), NULL, 'base'
        FROM rep AS r JOIN packages AS p ON p.host = r.host WHERE regexp_matches(p.name, '^cuda-toolkit-[0-9]+-[0-9]+$')"""
    ).fetchall()
    _judge(run)
    return """
        SELECT p.content, p.package, p.version, j.cve, j.state, j.why, coalesce(j.severity, 'unknown'), j.fixed, j.published,
               told(k.cve IS NOT NULL), j.advisories
        FROM product AS p JOIN judged AS j ON j.package = p.package AND j.version = p.version
             AND j.disk IS NOT DISTINCT FROM p.disk AND j.lines = p.lines
        LEFT JOIN known AS k ON k.cve = j.cve"""


def firmware(run: Any) -> str:
    """The query of rows of `nvidia_firmware_vulnerabilities`: network adapters by the first part of their version, DGX systems by name."""
    adapters = ", ".join(f"('{first}', '{model}')" for first, model in nvidia.ADAPTERS.items())
    run(
        f"""CREATE OR REPLACE TEMP TABLE product AS
        SELECT DISTINCT r.content, '{nvidia.NIC}' AS package, n.device, n.firmware AS shown, m.model AS lines, NULL::VARCHAR AS disk,
               regexp_replace(n.firmware, '^[0-9]+[.]', '') AS version
        FROM rep AS r JOIN nic_firmware AS n ON n.host = r.host
        JOIN (VALUES {adapters}) AS m(first, model) ON n.firmware LIKE m.first || '.%' WHERE starts_with(n.driver, 'mlx')
        UNION
        SELECT r.content, '{nvidia.SBIOS}', d.product_name, d.bios_version,
               regexp_replace(regexp_extract(lower(d.product_name), 'dgx[ -]?(?:station[ -]?)?[a-z]?[0-9]+'), '[ -]', '', 'g'), NULL, d.bios_version
        FROM rep AS r JOIN dmi AS d ON d.host = r.host WHERE contains(lower(d.product_name), 'dgx') AND d.bios_version IS NOT NULL"""
    ).fetchall()
    _judge(run)
    return """
        SELECT p.content, p.package, p.device, p.lines, p.shown, j.cve, j.state, j.why, coalesce(j.severity, 'unknown'),
               CASE WHEN p.shown <> p.version THEN regexp_extract(p.shown, '^[0-9]+[.]') ELSE '' END || j.fixed, j.published,
               told(k.cve IS NOT NULL), j.advisories
        FROM product AS p JOIN judged AS j ON j.package = p.package AND j.version = p.version AND j.lines = p.lines
        LEFT JOIN known AS k ON k.cve = j.cve"""


def triton(run: Any) -> str:
    """The query of rows of `triton_vulnerabilities`: the tag of a container's image is its release."""
    run(
        """CREATE OR REPLACE TEMP TABLE product AS
        SELECT DISTINCT r.content, 'triton' AS package, c.id, c.image, NULL::VARCHAR AS disk, 'base' AS lines,
               regexp_extract(c.image, '(?:^|/)tritonserver:([0-9]{2}[.][0-9]{2})(?:[-@]|$)', 1) AS version
        FROM rep AS r JOIN containers AS c ON c.host = r.host WHERE regexp_matches(c.image, '(?:^|/)tritonserver(?:[:@]|$)')"""
    ).fetchall()
    _judge(run)
    return """
        SELECT p.content, p.id, p.image, nullif(p.version, ''), j.cve, j.state, j.why, coalesce(j.severity, 'unknown'), j.fixed, j.published,
               told(k.cve IS NOT NULL), j.advisories
        FROM product AS p JOIN judged AS j ON j.version = p.version LEFT JOIN known AS k ON k.cve = j.cve"""


def _judge(run: Any) -> None:
    """`judged`: what the bulletins say of each distinct version in `product`."""
    ranges = run(
        """SELECT r.package, r.release, r.tier, r.cves[1], r.advisory, r.high, r.high_key, r.inclusive, r.low_key, r.fixed, r.severity, r.unparsed,
                  coalesce(a.modified, a.published), a.published
           FROM adv_ranges AS r JOIN adv_advisories AS a ON a.id = r.advisory WHERE r.ecosystem = 'nvidia' ORDER BY ALL"""
    ).fetchall()
    run(
        "CREATE OR REPLACE TEMP TABLE judged (package VARCHAR, version VARCHAR, disk VARCHAR, lines VARCHAR, cve VARCHAR, state VARCHAR, "
        "why VARCHAR, severity VARCHAR, fixed VARCHAR, published TIMESTAMP, advisories VARCHAR[])"
    ).fetchall()
    for package, version, disk, lines in run("SELECT DISTINCT package, version, disk, lines FROM product ORDER BY ALL").fetchall():
        mine = [row for row in ranges if row[0] == package and row[2] in lines.split(",")]
        rows = _driver(version, disk, mine) if package == nvidia.DRIVER else _plain(version, _line(version, mine))
        for row in rows:
            run("INSERT INTO judged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [package, version, disk, lines, *row]).fetchall()


def _line(version: str, ranges: Sequence[Any]) -> list[Any]:
    """Of each vulnerability the ranges for the line of versions that this one is of: a long-term line has fixes of its own."""
    branch, found = version.partition(".")[0], list[Any]()
    for cve in sorted({row[3] for row in ranges}):
        of_it = [row for row in ranges if row[3] == cve]
        own = [row for row in of_it if row[1] == branch]
        newest = [row for row in of_it if row[1] == ""] or [max(of_it, key=lambda row: row[6] or "")]
        found += own or newest
    return found


Judged = tuple[str, str | None, str | None, str | None, str | None, Any, list[str]]
"""(cve, state, why, severity, fixed, published, advisories)."""


def _inside(sortable: str, low: str | None, high: str | None, inclusive: bool) -> bool:
    return (low is None or sortable >= low) and (high is None or sortable < high or (inclusive and sortable == high))


def _plain(version: str, ranges: Sequence[Any]) -> list[Judged]:
    """A product with one line of versions."""
    sortable = key("dotted", version)
    found: list[Judged] = []
    for _, _, _, cve, advisory, _, high, inclusive, low, fixed, severity, odd, _, published in ranges:
        if odd or sortable is None:
            why = f"{advisory} says {odd!r}: look at it by hand" if odd else "its version is not understood"
            found.append((cve, None, why, severity, fixed, published, [advisory]))
        elif _inside(sortable, low, high, inclusive):
            found.append((cve, "open" if fixed else "no-fix", None, severity, fixed, published, [advisory]))
    return found


def _driver(version: str, disk: str | None, ranges: Sequence[Any]) -> list[Judged]:
    """A driver, by its branch.

    A branch that a bulletin does not list for a CVE, and lists for another, is not affected by it. One that it lists nowhere:
    older than all that it lists, the branch has no fix any more; newer, it came out later, if a later bulletin lists it; else it is not known.
    """
    sortable, branch = key("dotted", version), version.partition(".")[0]
    on_disk = key("dotted", disk) if disk else None
    if sortable is None or not branch.isdigit():
        return [(row[3], None, "the driver's version is not understood", row[10], None, row[13], [row[4]]) for row in ranges]
    bulletins: dict[str, list[Any]] = {}
    for row in ranges:
        bulletins.setdefault(row[4], []).append(row)
    listed = {name: {row[1] for row in rows} for name, rows in bulletins.items()}
    last = max((rows[0][12] for name, rows in bulletins.items() if branch in listed[name]), default=None)
    found: dict[str, Judged] = {}
    for name, rows in sorted(bulletins.items(), key=lambda item: (item[1][0][12], item[0])):
        for cve in sorted({row[3] for row in rows}):
            mine = [row for row in rows if row[3] == cve and row[1] == branch]
            others = [row for row in rows if row[3] == cve]
            severity, published = others[0][10], others[0][13]
            judged: Judged | None = None
            if mine:
                judged = _of_branch(cve, name, sortable, on_disk, mine, severity, published)
            elif branch not in listed[name]:
                numbers = sorted(int(b) for b in listed[name] if b.isdigit())
                if numbers and int(branch) < numbers[-1] and (int(branch) > numbers[0] or last is None or last < rows[0][12]):
                    newest = f"branch {branch} is no longer mended: move to branch {numbers[-1]}"
                    judged = (cve, "no-fix", newest, severity, None, published, [name])
                elif last is None or last < rows[0][12]:
                    judged = (cve, None, f"no bulletin since {name} speaks of branch {branch}", severity, None, published, [name])
            if judged:
                found[cve] = judged
    return list(found.values())


def _of_branch(
    cve: str, name: str, sortable: str, on_disk: str | None, rows: Sequence[Any], severity: str | None, published: Any
) -> Judged | None:
    """What the rows of a branch say of a version: concerned if any product line of the GPUs is."""
    fixed = next((row[9] for row in rows if row[9]), None)
    if any(not row[11] and _inside(sortable, row[8], row[6], row[7]) for row in rows):
        if on_disk and not any(_inside(on_disk, row[8], row[6], row[7]) for row in rows if not row[11]):
            return cve, "fixed-not-active", "the fix is on disk: reload the module or reboot", severity, fixed, published, [name]
        return cve, "open" if fixed else "no-fix", None, severity, fixed, published, [name]
    if odd := next((row[11] for row in rows if row[11]), None):
        return cve, None, f"{name} says {odd!r}: look at it by hand", severity, fixed, published, [name]
    return None
