# SPDX-License-Identifier: Apache-2.0
"""What is asked of a host: the baseline, filled up to as many checks as the project means to ship."""

from __future__ import annotations

import json
from pathlib import Path

LEAST_CHECKS = 40
PACKAGES = 500


def checks_folder(folder: Path) -> tuple[list[Path], str]:
    """Folders of checks to add to the baseline, and a sentence that says what it then is.

    While the baseline has fewer than `LEAST_CHECKS`, checks made from the tables' columns fill it up,
    in three shapes that shipped ones have too; the first shape covers every table, so all sources are read.
    """
    from fleet_audit import checks
    from fleet_audit.facts import tables

    shipped = checks.load(tables=tables()).select("baseline")
    if len(shipped) >= LEAST_CHECKS:
        return [], f"baseline of {len(shipped)} checks"
    area = folder / "made"
    area.mkdir(parents=True)
    read = {name for check in shipped for name in check.tables}
    made = 0
    for shape in range(3):
        for name, table in tables().items():
            if (shape == 0 and name in read) or (shape and len(shipped) + made >= LEAST_CHECKS):
                continue
            column = next((c.name for c in table.columns if c.type == "VARCHAR"), table.columns[0].name)
            _write(area, name, shape, column)
            made += 1
    return [folder], f"baseline of {len(shipped)} shipped checks and {made} made ones, which read all {len(tables())} tables"


def _write(area: Path, table: str, shape: int, column: str) -> None:
    value = f'CAST(t."{column}" AS VARCHAR)'
    query = (
        f"SELECT host, {value} AS subject, {value} <> 'none' AS pass, 'made for a benchmark' AS reason FROM {table} t",
        f"SELECT h.host, '' AS subject, NOT EXISTS (SELECT 1 FROM {table} t WHERE t.host = h.host AND {value} = 'none') AS pass, "
        "'made for a benchmark' AS reason FROM hosts h",
        f"SELECT t.host, {value} AS subject, o.id <> 'none' AS pass, 'made for a benchmark' AS reason "
        f"FROM {table} t JOIN os o ON o.host = t.host WHERE {value} LIKE '%a%'",
    )[shape]
    ident = f"made-{table.replace('_', '-')}-{shape}"
    check = {
        "id": ident, "title": f"Made for a benchmark from {table}", "severity": "info", "surface": ["tools"],
        "rationale": "To measure.", "fix": "Nothing.", "profiles": ["baseline"], "query": query, "none": "pass",
        "references": ["benchmarks/_workload.py"], "examples": [{"result": "pass"}, {"result": "unknown"}],
    }  # fmt: skip
    (area / f"{ident}.yaml").write_text(json.dumps(check))


def dpkg_status(count: int = PACKAGES) -> str:
    """A dpkg database of so many packages, with all fields and lists that real stanzas have."""
    stanzas = []
    for number in range(count):
        source = f"Source: made-source-{number // 3}\n" if number % 3 else ""
        stanzas.append(
            f"Package: made-{number:04}\nStatus: install ok installed\nPriority: optional\nSection: libs\n"
            f"Installed-Size: {100 + number}\nMaintainer: Made for a benchmark <nobody@example.invalid>\n"
            f"Architecture: amd64\nMulti-Arch: same\n{source}Version: {number % 7}.{number % 11}.{number}-{1 + number % 4}+deb12u{number % 5}\n"
            f"Depends: libc6 (>= 2.34), made-{(number * 7) % count:04} (= 1.0), made-{(number * 13) % count:04}\n"
            f"Conffiles:\n /etc/made/{number:04}.conf 0123456789abcdef0123456789abcdef\n"
            "Description: a package that was made for a benchmark\n" + " Its description takes some lines.\n" * 6
        )
    return "\n".join(stanzas)
