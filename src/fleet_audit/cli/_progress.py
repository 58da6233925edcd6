# SPDX-License-Identifier: Apache-2.0
"""The progress of collecting: a few fixed lines on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

import click

from fleet_audit.model import Host, HostEvidence
from fleet_audit.report.text import clean, count

_PLAIN_EVERY_S = 10.0


class Progress:
    """Shows hosts done, failed, in flight, rate and time left, on standard error."""

    def __init__(self, total: int, *, quiet: bool, verbose: bool, already: int = 0) -> None:
        self.total, self.quiet, self.verbose = total, quiet, verbose
        self.done, self.failed, self.already = already, 0, already
        self.flight: dict[str, float] = {}
        self._lock, self._begin = threading.Lock(), time.monotonic()
        self._live = not quiet and sys.stderr.isatty()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if not self.quiet and self.total:
            self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2)

    def begun(self, host: Host) -> None:
        """A worker took a host."""
        with self._lock:
            self.flight[host.name] = time.monotonic()

    def ended(self, evidence: HostEvidence) -> None:
        """A host is done."""
        with self._lock:
            self.flight.pop(evidence.host, None)
            self.done += 1
            self.failed += evidence.reach != "ok"
            if self.verbose and not self.quiet:
                words = f" in {evidence.seconds:.1f} s" if evidence.answered else ""
                words += f": {clean(evidence.detail, 300)}" if evidence.detail else ""
                click.echo(f"{clean(evidence.host, 64)} {evidence.reach}{words}", err=True)

    def lines(self) -> list[str]:
        """The state now."""
        with self._lock:
            now = time.monotonic()
            spent = now - self._begin
            fresh = self.done - self.already
            rate = fresh / spent if spent > 0.5 else 0.0
            left = f"about {(self.total - self.done) / rate:.0f} s left" if rate and self.done < self.total else ""
            slow = sorted((since, name) for name, since in self.flight.items())[:2]
            slowest = ", ".join(f"{clean(name, 30)} {now - since:.0f} s" for since, name in slow)
            filled = 30 * self.done // max(1, self.total)
            return [
                f"  Collect  {'█' * filled}{'·' * (30 - filled)}  {self.done} of {count(self.total, 'host')}   {self.failed} failed   "
                f"{len(self.flight)} at work" + (f"   {rate:.1f} hosts/s" if rate else ""),
                f"  Slowest  {slowest}" if slowest else "  Slowest  -",
                f"  {int(spent) // 60:02d}:{int(spent) % 60:02d}    {left + '    ' if left else ''}Ctrl-C keeps what is done",
            ]

    def _tick(self) -> None:
        if not self._live:
            while not self._stop.wait(_PLAIN_EVERY_S):
                line = self.lines()[0].split("  ", 4)
                click.echo(" ".join(line[-1].split()), err=True)
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(stderr=True)
        with Live(console=console, refresh_per_second=8, transient=True, get_renderable=lambda: Text("\n".join(self.lines()))):
            self._stop.wait()
