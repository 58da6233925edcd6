# SPDX-License-Identifier: Apache-2.0
"""The join that all matching begins with: installed versions and the ranges of their packages."""

from __future__ import annotations

from typing import Any


def find(run: Any) -> None:
    """`hit`: each installed version with each range of its package, and whether it lies inside. A CVE's own record goes before notices."""
    run(
        """CREATE OR REPLACE TEMP TABLE hit AS
        WITH version AS (SELECT DISTINCT ecosystem, release, package, version, version_key FROM installed),
             near AS (SELECT v.*, unnest(r.cves) AS cve, r.advisory, r.tier, r.fixed, r.high_key, r.unparsed, r.severity,
                             r.unparsed = '' AND (r.low_key IS NULL OR v.version_key >= r.low_key)
                             AND (r.high_key IS NULL OR v.version_key < r.high_key OR (r.inclusive AND v.version_key = r.high_key)) AS inside
                      FROM version AS v JOIN adv_ranges AS r ON r.ecosystem = v.ecosystem AND r.release = v.release AND r.package = v.package),
             told AS (SELECT n.*, coalesce(a.kind, 'cve') AS kind, a.published FROM near AS n LEFT JOIN adv_advisories AS a ON a.id = n.advisory)
        SELECT * FROM told QUALIFY kind <> 'notice'
               OR NOT bool_or(kind <> 'notice' AND tier <> 'not-affected') OVER (PARTITION BY ecosystem, release, package, version, cve)"""
    ).fetchall()
