# SPDX-License-Identifier: Apache-2.0
"""Installed Python packages against the advisories of PyPI; those that the distribution looks after are left to its own."""

from __future__ import annotations

from typing import Any

from fleet_audit.advisories.hits import find


def query(run: Any) -> str:
    """The query of rows (content, then the columns) of `python_vulnerabilities`.

    Of a version the local part says who built it, and nothing of its code.
    """
    run(
        """CREATE OR REPLACE TEMP TABLE installed AS
        SELECT DISTINCT r.content, 'pypi' AS ecosystem, '' AS release, p.name AS package, p.version,
               regexp_replace(p.version_key, '[^/]*$', '') AS version_key, p.environment, p.distribution IS NULL AS unsure,
               contains(p.version, '+') AND regexp_matches(p.version, '(a0\\+|\\.nv)') AS vendor
        FROM rep AS r JOIN python_packages AS p ON p.host = r.host
        WHERE p.version_key IS NOT NULL AND p.distribution IS DISTINCT FROM true"""
    ).fetchall()
    find(run)
    return """
        SELECT i.content, i.environment, i.package, i.version, v.cve,
               CASE WHEN v.odd OR i.unsure OR i.vendor THEN NULL WHEN v.fixed IS NOT NULL THEN 'open' ELSE 'no-fix' END,
               CASE WHEN v.odd THEN 'its versions are not understood: look at it by hand'
                    WHEN i.unsure THEN 'whether the distribution has patched it is not known'
                    WHEN i.vendor THEN 'a build of a vendor, which may have patched it' END,
               coalesce(v.severity, 'unknown'), v.fixed, v.published, told(k.cve IS NOT NULL), round(1000 * chance(s.chance))::BIGINT, v.advisories
        FROM installed AS i JOIN (
            SELECT package, version, cve, list(DISTINCT advisory ORDER BY advisory) AS advisories, min(published) AS published,
                   worst(severity) AS severity, bool_or(unparsed <> '') AND NOT bool_or(inside) AS odd,
                   min_by(fixed, high_key) FILTER (inside) AS fixed
            FROM hit WHERE inside OR unparsed <> '' GROUP BY package, version, cve) AS v ON v.package = i.package AND v.version = i.version
        LEFT JOIN known AS k ON k.cve = v.cve LEFT JOIN score AS s ON s.cve = v.cve"""
