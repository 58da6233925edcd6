# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit advisories`: the data set of known vulnerabilities."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options

SHOWN = 50
_fewer = click.option("--fewer", is_flag=True, help="Replace a source even by less than half as many documents.")


@click.group()
def command() -> None:
    """Take in, search and show what is known of vulnerabilities."""


def _database(store_folder: Path | None) -> Any:
    from fleet_audit.advisories.database import Database
    from fleet_audit.runs import default_folder

    return Database((store_folder or default_folder()) / "advisories")


@command.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|DIR...")
@_fewer
@options.store
@options.form
@options.verbosity
def import_(paths: tuple[Path, ...], store_folder: Path | None, output_format: str, *, fewer: bool, quiet: bool, verbose: bool) -> int:
    """Take in files, folders and archives as vendors publish them; they replace what their sources held before.

    A source stays as it was where an archive of it breaks off, or where less than half as many documents would replace
    it. Exit status: 0 all was read, 3 some documents were refused or a source stays, 2 nothing was read.
    """
    import sys

    from fleet_audit.advisories.database import as_json
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean, count

    for path in paths:
        if not path.exists():
            raise FleetAuditError(f"{path}: no such file or folder")
    live = not quiet and sys.stderr.isatty()
    done = _database(store_folder).take(
        paths, "import", lambda number: click.echo(f"\r{number:,} documents", nl=False, err=True) if live else None, fewer=fewer
    )
    code = 3 if done.refused_count or done.kept else 0
    if live:
        click.echo("\r\033[K", nl=False, err=True)
    if output_format == "json":
        click.echo(as_json({"sources": {n: s.model_dump() for n, s in done.sources.items()}, "refused": done.refused_count,
                            "kept": done.kept, "problems": [{"document": d, "reason": r} for d, r in done.refused]}))  # fmt: skip
        return code
    for name, entry in done.sources.items():
        what = ", ".join(f"{n:,} {table}" for table, n in entry.counts.items() if n)
        dated = f", as of {entry.as_of:%Y-%m-%d}" if entry.as_of else ""
        click.echo(f"{name}: {count(entry.documents, 'document')}{dated}: {what or 'nothing that concerns a host'}")
        if entry.unparsed:
            click.echo(f"  {count(entry.unparsed, 'range')} not understood: to be checked by hand, never taken for safe")
        if entry.refused:
            click.echo(f"  {count(entry.refused, 'document')} among them could not be read: what is not found is not known to be absent")
    for name, why in done.kept.items():
        click.echo(f"{name}: not replaced: {clean(why, 300)}", err=True)
    shown = done.refused if verbose else done.refused[:10]
    for document, reason in shown:
        click.echo(f"refused: {clean(document, 300)}: {clean(reason, 300)}", err=True)
    if done.refused_count > len(shown):
        click.echo(f"refused: {done.refused_count - len(shown)} more; --verbose names up to 100", err=True)
    return code


@command.command()
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only this source; may be repeated. [default: all]")
@click.option("--url", "urls", multiple=True, metavar="NAME=URL", help="Where a source is had from, such as a mirror; may be repeated.")
@_fewer
@options.store
@options.form
@options.verbosity
def update(
    sources: tuple[str, ...],
    urls: tuple[str, ...],
    store_folder: Path | None,
    output_format: str,
    *,
    fewer: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Download what has changed since the last time; proxies are those of the environment.

    Exit status: 0 all is current, 3 some sources could not be updated and what was there stays in use, 2 none could.
    """
    import sys

    from fleet_audit.advisories import update as updating
    from fleet_audit.advisories.database import as_json
    from fleet_audit.model import FleetAuditError, did_you_mean
    from fleet_audit.report.text import clean

    given = dict(updating.URLS)
    for text in urls:
        name, equals, url = text.partition("=")
        if not equals or name not in given or not url.startswith(("http://", "https://")):
            raise FleetAuditError(f"--url {text!r}: write it as NAME=URL, with a NAME of {', '.join(given)}")
        given[name] = url
    for name in sources:
        if name not in given:
            raise FleetAuditError(f"--source: there is no source {name!r}{did_you_mean(name, given)}")
    live = not quiet and sys.stderr.isatty()

    def told(source: str, so_far: int, total: int | None) -> None:
        if live:
            whole = f" of {total / 1e6:,.0f}" if total else ""
            click.echo(f"\r\033[K{source}: {so_far / 1e6:,.0f}{whole} MB", nl=False, err=True)

    done = updating.update(_database(store_folder), sources or given, given, told, fewer=fewer)
    if live:
        click.echo("\r\033[K", nl=False, err=True)
    if output_format == "json":
        click.echo(as_json([updating.as_dict(entry) for entry in done]))
    for entry in done if output_format != "json" and not quiet else ():
        refused = f", {entry.imported.refused_count} documents refused" if entry.imported and entry.imported.refused_count else ""
        said = f"not updated: {clean(entry.problem, 400)}" if entry.problem else f"updated{refused}" if entry.changed else "unchanged"
        click.echo(f"{entry.source}: {said}", err=bool(entry.problem))
        for document, reason in entry.imported.refused if verbose and entry.imported else ():
            click.echo(f"  refused: {clean(document, 300)}: {clean(reason, 300)}", err=True)
    failed = sum(bool(entry.problem) for entry in done)
    return 0 if not failed else 2 if failed == len(done) else 3


@command.command()
@options.store
@options.form
def status(store_folder: Path | None, output_format: str) -> int:
    """Say which sources there are and how old they are."""
    from fleet_audit.advisories.database import as_json
    from fleet_audit.advisories.reading import SOURCES

    database = _database(store_folder)
    manifest = database.manifest()
    now = datetime.now(UTC).replace(tzinfo=None)
    if output_format == "json":
        entries = {n: {**e.model_dump(), "age_days": round(e.age_days(now), 1)} for n, e in sorted(manifest.sources.items())}
        click.echo(as_json({"id": manifest.id if manifest.sources else None, "sources": entries}))
        return 0
    if not manifest.sources:
        click.echo("no advisories yet: `fleet-audit advisories import FILE|DIR` takes them in, `update` downloads them")
        return 0
    click.echo(f"data set {manifest.id}")
    for name, title in SOURCES.items():
        if entry := manifest.sources.get(name):
            dated = f"as of {entry.as_of:%Y-%m-%d}" if entry.as_of else "without a date of its own"
            missing = f", {entry.refused:,} documents unread" if entry.refused else ""
            click.echo(f"  {name:<12} {dated}, {entry.age_days(now):.0f} d old, {sum(entry.counts.values()):,} records{missing}, {title}")
        else:
            click.echo(f"  {name:<12} none: {title}")
    return 0


@command.command()
@click.argument("words", nargs=-1, required=True)
@options.store
@options.form
def search(words: tuple[str, ...], store_folder: Path | None, output_format: str) -> int:
    """Find advisories by CVE, id, package or words of their summary; all WORDS must fit."""
    from fleet_audit.advisories.database import as_json, opened
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean

    words = tuple(word for text in words for word in text.split())  # a phrase in quotes is its words
    if not words:
        raise FleetAuditError("a word is needed: a CVE, an id, a package, or one of a summary")
    with opened(_database(store_folder)) as (connection, manifest):
        if not manifest.sources:
            raise FleetAuditError("there are no advisories here yet: `fleet-audit advisories update` or `import` takes them in")
        where = " AND ".join(
            "(lower(a.id) = ? OR len(list_filter(a.cves, lambda c: lower(c) = ?)) > 0 OR contains(lower(a.summary), ?) "
            "OR EXISTS (SELECT 1 FROM adv_ranges AS r WHERE r.advisory = a.id AND r.package = ?))" for _ in words
        )  # fmt: skip
        rows = connection.execute(
            f"SELECT a.id, a.severity, a.published, a.cves, a.summary FROM adv_advisories AS a WHERE {where} "
            f"ORDER BY a.published DESC NULLS LAST, a.id LIMIT {SHOWN + 1}", [w.lower() for w in words for _ in range(4)]
        ).fetchall()  # fmt: skip
        if not rows and len(words) == 1:  # known as exploited, by a catalogue that describes nothing
            rows = connection.execute(
                "SELECT cve, NULL, min(added), [cve], 'known to be exploited; no advisory here describes it' FROM adv_exploited "
                "WHERE lower(cve) = ? GROUP BY cve", [words[0].lower()]
            ).fetchall()  # fmt: skip
    if output_format == "json":
        names = ("id", "severity", "published", "cves", "summary")
        click.echo(as_json([dict(zip(names, row, strict=True)) for row in rows[:SHOWN]]))
        return 0
    for name, severity, published, cves, summary in rows[:SHOWN]:
        dated = f"{published:%Y-%m-%d}" if published else "no date   "
        more = f" ({', '.join(cves[:3])}{'...' if len(cves) > 3 else ''})" if cves and cves != [name] else ""
        click.echo(f"{dated}  {severity or 'unknown':<8}  {clean(name, 60)}{more}  {clean(summary or '', 100)}")
    click.echo(f"only the first {SHOWN} are shown" if len(rows) > SHOWN else "" if rows else "nothing was found", err=True)
    return 0


@command.command()
@click.argument("name")
@options.store
@options.form
def show(name: str, store_folder: Path | None, output_format: str) -> int:
    """Show all that is known of a CVE or an advisory."""
    from fleet_audit.advisories.database import as_json, opened
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean

    wanted = name.upper() if re.match(r"(?i)cve-", name) else name
    with opened(_database(store_folder)) as (connection, _):

        def ask(query: str) -> list[dict[str, Any]]:
            cursor = connection.execute(query, {"n": wanted})
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        value = {
            "advisories": ask("SELECT * FROM adv_advisories WHERE id = $n OR list_contains(cves, $n) ORDER BY id"),
            "ranges": ask("SELECT DISTINCT advisory, ecosystem, release, tier, package, low, high, inclusive, fixed, severity, unparsed "
                          "FROM adv_ranges WHERE advisory = $n OR list_contains(cves, $n) ORDER BY ALL"),
            "livepatches": ask("SELECT DISTINCT notice, release, package, kernel FROM adv_livepatches WHERE cve = $n OR notice = $n ORDER BY ALL"),
            "exploited": ask("SELECT min(added) AS added, min(due) AS due, bool_or(ransomware) AS ransomware FROM adv_exploited "
                             "WHERE cve = $n GROUP BY cve"),
            "scores": ask("SELECT probability, percentile FROM adv_scores WHERE cve = $n ORDER BY ALL"),
        }  # fmt: skip
    if not any(value.values()):
        raise FleetAuditError(f"nothing is known of {name!r} here; `fleet-audit advisories status` shows the sources")
    if output_format == "json":
        click.echo(as_json(value))
        return 0
    for advisory in value["advisories"]:
        click.echo(f"{clean(advisory['id'])}  {advisory['severity'] or 'severity unknown'}  {clean(', '.join(advisory['cves'][:10]), 300)}")
        click.echo(f"  {clean(advisory['summary'] or '', 300)}")
    for entry in value["exploited"]:
        click.echo(f"known to be exploited since {entry['added']:%Y-%m-%d}{', by ransomware' if entry['ransomware'] else ''}")
    for entry in value["scores"]:
        click.echo(
            f"exploited within 30 days with a probability of {entry['probability']:.1%} (more likely than {entry['percentile']:.1%} of all)"
        )
    for entry in value["ranges"]:
        click.echo(f"  {_range(entry)}")
    for entry in value["livepatches"]:
        click.echo(f"  live patch {clean(entry['notice'])} for {clean(entry['package'])} {entry['release']} from {clean(entry['kernel'])}")
    return 0


def _range(entry: dict[str, Any]) -> str:
    from fleet_audit.report.text import clean

    where = " ".join(w for w in (entry["ecosystem"], entry["release"], "" if entry["tier"] == "base" else entry["tier"]) if w)
    if entry["unparsed"]:
        versions = f"not understood: {clean(entry['unparsed'], 120)}"
    elif entry["tier"] == "not-affected":
        versions = "not affected"
    else:
        low = f"from {clean(entry['low'], 60)} " if entry["low"] else ""
        high = f"{'to' if entry['inclusive'] else 'before'} {clean(entry['high'], 60)}" if entry["high"] else "without a fix"
        versions = low + high
    return f"{where}: {clean(entry['package'], 60)} {versions}"
