# SPDX-License-Identifier: Apache-2.0
"""Packages of a distribution and the running kernel against its advisories, with Livepatch and Ubuntu Pro credited."""

from __future__ import annotations

from typing import Any

from fleet_audit.advisories.hits import find
from fleet_audit.advisories.redhat import MINOR, MODULE

SYSTEMS = {"ubuntu": "ubuntu", "debian": "debian", "rhel": "redhat", "rocky": "rocky", "almalinux": "alma"}
"""`os.id` -> ecosystem of advisories."""
_PRO = ("esm-infra", "esm-apps", "esm-infra-legacy", "pro")
_KERNEL_PARTS = (
    "image", "modules", "headers", "tools", "cloud-tools", "buildinfo", "libc-dev", "doc", "source", "lib-rust", "perf", "kbuild", "compiler",
    "cpupower", "bootwrapper",
)  # fmt: skip
_KERNEL_NAMES = rf"^(linux-({'|'.join(_KERNEL_PARTS)}).*|bpftool|hyperv-daemons|usbip|libcpupower.*|kernel(-.*)?|perf|python3-perf)$"
"""Packages of kernels: of these the running one alone counts, and headers and tools never do."""


def query(run: Any) -> str:
    """The query of rows (content, then the columns) of `vulnerabilities`."""
    systems = " ".join(f"WHEN '{os}' THEN '{system}'" for os, system in SYSTEMS.items())
    run(
        f"""CREATE OR REPLACE TEMP TABLE place AS
        SELECT r.content, r.host, CASE o.id {systems} END AS ecosystem,
               CASE WHEN o.id IN ('rhel', 'rocky', 'almalinux') THEN split_part(o.version_id, '.', 1) ELSE o.version_id END AS release,
               k.release AS kernel, k.signature, m.container IS NULL AS own_kernel,
               c.state = 'applied' AND c.kernel IS NOT NULL AND c.kernel = k.signature AS patched, c.fixes, c.patch_version,
               coalesce(c.installed, false) AND coalesce(c.enabled, true)
               AND (c.state IS NULL OR c.kernel IS NULL OR k.signature IS NULL) AS unsure,
               coalesce(t.number, 0) AS patch, l.state AS livepatch_read, coalesce(s.enabled, []) AS services, v.state AS services_read
        FROM rep AS r JOIN os AS o ON o.host = r.host
        LEFT JOIN (SELECT host, max(TRY_CAST(regexp_extract(name, '_([0-9]+)$', 1) AS BIGINT)) AS number FROM livepatch_modules
                   WHERE vendor = 'canonical' AND enabled AND NOT transition GROUP BY host) AS t ON t.host = r.host
        LEFT JOIN kernel_running AS k ON k.host = r.host
        LEFT JOIN machine AS m ON m.host = r.host LEFT JOIN livepatch_client AS c ON c.host = r.host
        LEFT JOIN _coverage AS l ON l.host = r.host AND l.tab = 'livepatch_client'
        LEFT JOIN _coverage AS v ON v.host = r.host AND v.tab = 'ubuntu_pro_services'
        LEFT JOIN (SELECT host, list(name ORDER BY name) AS enabled FROM ubuntu_pro_services WHERE status = 'enabled' GROUP BY host) AS s
               ON s.host = r.host"""
    ).fetchall()
    run(
        f"""CREATE OR REPLACE TEMP TABLE installed AS
        SELECT DISTINCT l.content, l.ecosystem, l.release, p.package, p.version, p.version_key, false AS kernel, NULL::VARCHAR AS newest
        FROM place AS l JOIN (
            SELECT host, source AS package, source_version AS version, source_version_key AS version_key FROM packages
            WHERE NOT regexp_matches(name, '{_KERNEL_NAMES}')
            UNION ALL
            SELECT host, name, version, version_key FROM packages
            WHERE manager = 'rpm' AND name <> source AND NOT regexp_matches(name, '{_KERNEL_NAMES}')
        ) AS p ON p.host = l.host WHERE l.ecosystem IS NOT NULL AND p.version_key IS NOT NULL"""
    ).fetchall()
    run(
        """CREATE OR REPLACE TEMP TABLE kernels AS
        SELECT l.content, l.ecosystem, l.release, l.kernel,
               CASE WHEN p.manager = 'rpm' THEN CASE p.source WHEN 'kernel-rt' THEN p.source ELSE 'kernel' END
                    WHEN l.ecosystem = 'debian' THEN 'linux'
                    ELSE regexp_replace(p.source, '^linux-(signed|meta|restricted-modules)', 'linux') END AS package,
               CASE WHEN l.ecosystem = 'debian' THEN p.version ELSE p.source_version END AS version,
               CASE WHEN l.ecosystem = 'debian' THEN p.version_key ELSE p.source_version_key END AS version_key,
               CASE WHEN p.manager = 'rpm'
                    THEN regexp_replace(p.version, '^[0-9]+:', '') || '.' || p.arch = regexp_replace(l.kernel, '[+](rt|64k)$', '')
                    ELSE p.name IN ('linux-modules-' || l.kernel, 'linux-image-' || l.kernel, 'linux-image-unsigned-' || l.kernel) END AS runs,
               CASE WHEN starts_with(p.name, 'linux-modules-') THEN 0 WHEN starts_with(p.name, 'linux-image-unsigned') THEN 1 ELSE 2 END AS rank
        FROM place AS l JOIN packages AS p ON p.host = l.host
        WHERE l.own_kernel AND l.kernel IS NOT NULL AND l.ecosystem IS NOT NULL
              AND (regexp_matches(p.name, '^linux-(image(-unsigned)?|modules)-[0-9]')
                   OR (p.manager = 'rpm' AND regexp_matches(p.name, '^kernel(-rt|-64k)?(-core)?$')))"""
    ).fetchall()
    run(
        """INSERT INTO installed SELECT k.content, k.ecosystem, k.release, k.package, k.version, k.version_key, true,
               (SELECT max(o.version_key) FROM kernels AS o WHERE o.content = k.content AND o.package = k.package)
        FROM kernels AS k WHERE k.runs AND k.version_key IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY k.content ORDER BY k.rank, k.package) = 1"""
    ).fetchall()
    run(
        """CREATE OR REPLACE TEMP TABLE patchable AS
        SELECT release, package, cve, min(TRY_CAST(regexp_extract(notice, '^LSN-([0-9]{1,6})', 1) AS BIGINT)) AS number, min(kernel_key) AS least
        FROM adv_livepatches GROUP BY ALL"""
    ).fetchall()
    find(run)
    _of_red_hat(run)
    pro = ", ".join(f"'{tier}'" for tier in _PRO)
    run(
        f"""CREATE OR REPLACE TEMP TABLE verdict AS
        SELECT ecosystem, release, package, version, version_key, cve, list(DISTINCT advisory ORDER BY advisory) AS advisories,
               min(published) AS published, worst(severity) AS severity, bool_or(unparsed <> '' AND tier <> 'not-affected') AS odd,
               bool_or(tier = 'not-affected') AS excused,
               bool_or(tier = 'base' AND unparsed = '') AS base, bool_or(tier = 'base' AND inside) AS base_inside,
               bool_or(tier = 'base' AND inside AND fixed IS NULL) AS base_open,
               max_by(fixed, high_key) FILTER (tier = 'base' AND inside) AS base_fixed,
               max(high_key) FILTER (tier = 'base' AND inside AND fixed IS NOT NULL) AS base_key,
               bool_or(tier IN ({pro}) AND unparsed = '') AS pro, bool_or(tier IN ({pro}) AND inside) AS pro_inside,
               max_by(fixed, high_key) FILTER (tier IN ({pro}) AND inside) AS pro_fixed,
               max(high_key) FILTER (tier IN ({pro}) AND inside AND fixed IS NOT NULL) AS pro_key,
               max(tier) FILTER (tier IN ({pro}) AND inside AND fixed IS NOT NULL) AS service,
               bool_or(starts_with(tier, '{MINOR}') AND unparsed = '' AND NOT inside) AS kept
        FROM hit GROUP BY ALL"""
    ).fetchall()
    return """
        SELECT i.content, i.package, i.version, v.cve, i.kernel,
               CASE WHEN v.excused THEN 'not-affected'
                    WHEN v.odd THEN NULL
                    WHEN i.kernel AND i.newest >= coalesce(v.base_key, v.pro_key) THEN 'fixed-not-active'
                    WHEN i.kernel AND l.patched AND list_contains(l.fixes, v.cve) THEN 'livepatched'
                    WHEN i.kernel AND l.ecosystem = 'ubuntu' AND (l.livepatch_read <> 'complete' OR l.unsure) THEN NULL
                    WHEN i.kernel AND l.patched IS NOT true AND l.patch >= n.number AND i.version_key >= n.least THEN NULL
                    WHEN v.base_fixed IS NOT NULL THEN 'open'
                    WHEN v.pro_fixed IS NOT NULL AND (list_contains(l.services, v.service) OR l.services_read <> 'complete') THEN 'open'
                    WHEN v.pro_fixed IS NOT NULL THEN 'needs-pro'
                    ELSE 'no-fix' END,
               CASE WHEN v.excused THEN 'the vendor says that this release is not affected'
                    WHEN v.odd THEN 'its versions are not understood: look at it by hand'
                    WHEN i.kernel AND i.newest >= coalesce(v.base_key, v.pro_key) THEN 'a kernel with the fix is installed: reboot'
                    WHEN i.kernel AND l.patched AND list_contains(l.fixes, v.cve)
                         THEN 'Livepatch ' || coalesce(l.patch_version, '') || ' closes it until the next boot'
                    WHEN i.kernel AND l.ecosystem = 'ubuntu' AND (l.livepatch_read <> 'complete' OR l.unsure)
                         THEN 'whether Livepatch closes it is not known'
                    WHEN i.kernel AND l.patched IS NOT true AND l.patch >= n.number AND i.version_key >= n.least
                         THEN 'live patch ' || l.patch || ' is loaded, and the client does not say whether it closes it'
                    WHEN v.base_fixed IS NULL AND v.pro_fixed IS NOT NULL AND l.services_read <> 'complete'
                         THEN 'whether Ubuntu Pro is enabled is not known'
               END,
               coalesce(v.severity, 'unknown'), coalesce(v.base_fixed, v.pro_fixed),
               CASE WHEN v.base_fixed IS NOT NULL THEN 'updates' ELSE v.service END,
               v.published, told(k.cve IS NOT NULL), k.since, round(1000 * chance(s.chance))::BIGINT, v.advisories
        FROM installed AS i JOIN place AS l ON l.content = i.content
        JOIN verdict AS v ON v.ecosystem = i.ecosystem AND v.release = i.release AND v.package = i.package AND v.version = i.version
        LEFT JOIN patchable AS n ON n.release = i.release AND n.package = i.package AND n.cve = v.cve AND l.ecosystem = 'ubuntu'
        LEFT JOIN known AS k ON k.cve = v.cve LEFT JOIN score AS s ON s.cve = v.cve
        WHERE v.kept IS NOT true AND (v.odd OR v.base_open IS NOT DISTINCT FROM true AND NOT (v.pro AND NOT coalesce(v.pro_inside, false))
              OR v.base_fixed IS NOT NULL OR (NOT v.base AND v.pro_inside))"""


def _of_red_hat(run: Any) -> None:
    """Of `hit` what does not concern a package of RHEL: another module's stream, or the fix of another minor release.

    A package says both in its release: `.module+el8.10.0`, `.el9_2`. One of a kept minor release whose fix is in is fixed.
    """
    run(
        f"""DELETE FROM hit WHERE ecosystem = 'redhat' AND (
            (starts_with(tier, '{MODULE}') <> contains(version, '.module+') AND NOT starts_with(tier, '{MINOR}'))
            OR (starts_with(tier, '{MODULE}') AND regexp_matches(substr(tier, {len(MODULE) + 1}), '^[0-9][0-9.]*$')
                AND NOT starts_with(regexp_replace(version, '^[0-9]+:', ''), substr(tier, {len(MODULE) + 1}) || '.')
                AND NOT starts_with(regexp_replace(version, '^[0-9]+:', ''), substr(tier, {len(MODULE) + 1}) || '-'))
            OR (starts_with(tier, '{MINOR}')
                AND substr(tier, {len(MINOR) + 1}) <> regexp_replace(regexp_extract(version, '\\.el[0-9]+_[0-9]+'), '\\.el([0-9]+)_', '\\1.')))"""
    ).fetchall()
    run(f"UPDATE hit SET tier = 'base' WHERE starts_with(tier, '{MODULE}')").fetchall()
