# SPDX-License-Identifier: Apache-2.0
"""Matching a thousand hosts of 1,500 packages, each with others of its own, against a data set of full size.

The data set is made: 1.5 million ranges over 30,000 source packages of one release, as many as Ubuntu's 20.04 to 24.04 with Pro have
(flavours of kernels are most of them), and 250,000 scores.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._result import Result, at_most

if TYPE_CHECKING:
    from fleet_audit.facts.base import Extract, Table

HOSTS, PACKAGES, SHARE, RANGES, SOURCES, SCORES = 1000, 1500, 0.05, 1_500_000, 30_000, 250_000
MEMORY = 2.0
"""GiB that the process may take."""


def data_set(
    folder: Path, ecosystem: str = "ubuntu", releases: tuple[str, ...] = ("20.04", "22.04", "24.04"), names: tuple[str, ...] = ()
) -> None:
    """The Parquet files and manifest of a made data set; of the source packages that it is about, some are `names`."""
    from datetime import UTC, datetime

    from fleet_audit.advisories.database import COLUMNS, MANIFEST, Manifest, SourceEntry
    from fleet_audit.tables import connect
    from fleet_audit.versions import key

    connection = connect()
    keys = [(f"{n // 10}.{n % 10}-1", key("dpkg", f"{n // 10}.{n % 10}-1")) for n in range(200)]
    connection.execute("CREATE TABLE v (n BIGINT, version VARCHAR, version_key VARCHAR)").fetchall()
    appender = connection.appender("v")
    appender.append_rows([(n, *pair) for n, pair in enumerate(keys)])
    appender.flush()
    connection.execute("CREATE TABLE names (n BIGINT, name VARCHAR)").fetchall()
    if names:
        appender = connection.appender("names")
        appender.append_rows(list(enumerate(names)))
        appender.flush()
    columns = {
        "advisories": f"SELECT 'A-' || i AS id, 'cve' AS kind, ['CVE-2026-' || (10000 + i)] AS cves, 'made' AS summary, 'high' AS severity, "
                      f"TIMESTAMP '2026-01-01' AS published, TIMESTAMP '2026-01-01' AS modified FROM range({RANGES // 10}) AS t(i)",
        "ranges": f"SELECT 'A-' || (i % {RANGES // 10}) AS advisory, ['CVE-2026-' || (10000 + i % {RANGES // 10})] AS cves, "
                  f"'{ecosystem}' AS ecosystem, {list(releases)}[1 + i % {len(releases)}] AS release, 'base' AS tier, "
                  f"coalesce(names.name, 'p' || (hash(i) % {SOURCES})) AS package, 'dpkg' AS kind, "
                  "NULL AS low, NULL AS low_key, v.version AS high, v.version_key AS high_key, false AS inclusive, v.version AS fixed, "
                  f"'high' AS severity, '' AS unparsed FROM range({RANGES}) AS t(i) JOIN v ON v.n = hash(i * 7) % 40 "
                  f"LEFT JOIN names ON names.n = hash(i) % {SOURCES}",
        "scores": f"SELECT 'CVE-2026-' || (10000 + i) AS cve, 0.01 AS probability, 0.5 AS percentile FROM range({SCORES}) AS t(i)",
    }  # fmt: skip
    (folder / f"{ecosystem}-made").mkdir(parents=True)
    for table, query in columns.items():
        path = folder / f"{ecosystem}-made/{table}.parquet"
        connection.execute(
            f"COPY (SELECT {', '.join(COLUMNS[table])} FROM ({query}) ORDER BY ALL) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
        ).fetchall()
    now = datetime.now(UTC).replace(tzinfo=None)
    entry = SourceEntry(
        folder=f"{ecosystem}-made", sha256="made", as_of=now, taken_at=now, origin="made", documents=1, withdrawn=0, counts={"ranges": RANGES},
        unparsed=0,
    )  # fmt: skip
    (folder / MANIFEST).write_text(Manifest(sources={ecosystem: entry}).model_dump_json())


def _measure() -> None:
    """In a process of its own: facts of all hosts, then the time that matching takes."""
    from datetime import UTC, datetime

    from fleet_audit.advisories import matching
    from fleet_audit.advisories.database import Database
    from fleet_audit.facts import tables
    from fleet_audit.facts.base import Extract
    from fleet_audit.model import Coverage, HostName
    from fleet_audit.tables import Facts
    from fleet_audit.versions import key

    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        data_set(folder / "advisories")
        used = ["vulnerabilities", *matching.NEEDED["vulnerabilities"]]
        facts = Facts({table: tables()[table] for table in used})
        versions = [f"{n // 10}.{n % 10}-1" for n in range(34, 60)]  # of the fixes, which end with 40, the last are missing here and there
        sortable = {v: key("dpkg", v) for v in versions}
        order = [c.name for c in tables()["packages"].columns]
        empty = Extract((), Coverage.COMPLETE, "")

        def package(number: int, version: str) -> tuple[object, ...]:
            row = {"name": f"p{number}", "version": version, "version_key": sortable[version], "arch": "amd64", "source": f"p{number}",
                   "source_version": version, "source_version_key": sortable[version], "manager": "dpkg"}  # fmt: skip
            return tuple(row[c] for c in order)

        shape = random.Random(2)
        image = [(number, shape.choice(versions)) for number in range(PACKAGES)]
        for number in range(HOSTS):
            chance, host = random.Random(number), HostName(f"h{number:04}")
            own = set(chance.sample(range(PACKAGES), int(PACKAGES * SHARE)))
            rows = tuple(package(n, chance.choice(versions) if n in own else v) for n, v in image)
            facts.add_host(host, ("g",))
            facts.add(host, "packages", f"packages-{number}", Extract(rows, Coverage.COMPLETE, ""))
            facts.add(host, "os", "os", _row(tables()["os"], id="ubuntu", version_id="22.04"))
            facts.add(host, "machine", "machine", _row(tables()["machine"], container="docker"))
            for table in ("kernel_running", "livepatch_client", "livepatch_modules", "ubuntu_pro_services"):
                facts.add(host, table, table, empty)
        facts.finish()
        begin, before = time.monotonic(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        matching.decide(facts, Database(folder / "advisories"), datetime.now(UTC).replace(tzinfo=None), 30)
        wall, cpu = time.monotonic() - begin, sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before
        count = facts.connection.execute("SELECT count(*) FROM vulnerabilities").fetchall()[0][0]
        print(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), count)


def _row(table: Table, **values: object) -> Extract:
    """One row of a table whose other columns are neutral."""
    from fleet_audit.facts.base import Extract
    from fleet_audit.model import Coverage

    neutral = {"VARCHAR": "x", "BIGINT": 0, "BOOLEAN": False, "VARCHAR[]": []}
    row = tuple(values.get(c.name, None if c.nullable else neutral[c.type]) for c in table.columns)
    return Extract((row,), Coverage.COMPLETE, "")


def run() -> Result:
    """The time of matching alone; the bar is for it, and for the memory of the process, facts included."""
    done = subprocess.run(
        [sys.executable, "-c", "from benchmarks.advisories import _measure; _measure()"], check=True, capture_output=True, text=True
    )
    wall, cpu, gib, count = map(float, done.stdout.split())
    detail = [
        f"{HOSTS} hosts of {PACKAGES} packages, {SHARE:.0%} of them each host's own, against {RANGES:,} made ranges",
        f"{cpu:.1f} CPU s, {count:,.0f} vulnerabilities found, process {gib:.2f} GiB (bar {MEMORY:g} GiB)",
    ]  # fmt: skip
    return at_most("advisories", wall, 10, "s", detail, also=gib <= MEMORY)
