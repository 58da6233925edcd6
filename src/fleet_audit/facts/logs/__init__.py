# SPDX-License-Identifier: Apache-2.0
"""Logs: how the journal is kept, where logs are sent, and who may send logs here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fleet_audit.facts.base import Bundle, Table, Unread
from fleet_audit.facts.logs import deliveries, journal, rsyslog, shippers, syslog_ng
from fleet_audit.facts.logs.rows import LogForward, LogReceiver


def parse_forwards(evidence: Bundle) -> Iterator[LogForward]:
    """A row per place that logs are sent to; a program whose configuration could not be read is a gap."""
    for read in (rsyslog.read_forwards, syslog_ng.read_forwards, journal.read_upload, shippers.read_shippers):
        try:
            yield from read(evidence)
        except Unread as unread:
            evidence.gaps.append(str(unread))


def parse_receivers(evidence: Bundle) -> Iterable[LogReceiver]:
    """A row per port on which logs are taken."""
    return [*rsyslog.read(evidence)[1], *syslog_ng.read(evidence)[1]]


TABLES = (
    Table("journald", journal.Journald, (journal.JOURNALD, journal.PLACES), journal.parse_journald),
    Table("log_forwards", LogForward, (rsyslog.RSYSLOG, syslog_ng.SYSLOG_NG, journal.UPLOAD, shippers.SHIPPERS), parse_forwards),
    Table("log_deliveries", deliveries.LogDelivery, (deliveries.STATES,), deliveries.parse_deliveries),
    Table("log_receivers", LogReceiver, (rsyslog.RSYSLOG, syslog_ng.SYSLOG_NG), parse_receivers),
)
