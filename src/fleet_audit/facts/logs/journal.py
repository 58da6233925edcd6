# SPDX-License-Identifier: Apache-2.0
"""systemd's journal: whether it outlives a reboot, how it is bounded, and where journal-upload sends it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle
from fleet_audit.facts.logs.rows import LogForward
from fleet_audit.facts.texts import boolean, in_order, of_systemd, places, settings
from fleet_audit.model import Source, SourceId

JOURNALD = of_systemd("journald-conf", "journald.conf", "journald.conf(5): section [Journal]; the first main file, then the drop-ins.")
UPLOAD = of_systemd("journal-upload-conf", "journal-upload.conf", "journal-upload.conf(5): section [Upload]; without URL nothing is sent.")
PLACES = Source(
    SourceId("journal-places"), "stat", {"globs": ["/run/systemd/system", "/var/log/journal", "/var/log/journal/*/system.journal"]},
    "sd_booted(3): systemd runs where /run/systemd/system is; journald.conf(5): with Storage=auto /var/log/journal decides.",
)  # fmt: skip


@dataclass(frozen=True)
class Journald:
    """How the journal is kept; no row where systemd does not run. NULL: the built-in default holds. Source: journald.conf(5)."""

    storage: Annotated[str, "auto, persistent, volatile or none"]
    persistent: Annotated[bool, "It is kept on disk over reboots: by the setting or, with auto, by the folder being there"]
    written: Annotated[bool, "A journal of the system lies on disk"]
    max_use: Annotated[str | None, "Space that it may take on disk, as written"]
    keep_free: Annotated[str | None, "Space that it leaves free, as written"]
    retention: Annotated[str | None, "How long entries are kept at most, as written"]
    rate_limited: Annotated[bool, "Floods of a service are cut off, as is the default"]
    rate_limit_interval: Annotated[str | None, "Interval of the limit, as written"]
    rate_limit_burst: Annotated[str | None, "Messages of a service in an interval, as written"]
    forward_to_syslog: Annotated[bool | None, "Entries are handed to a syslog daemon; the default differs by distribution"]
    seal: Annotated[bool | None, "Sealing is allowed, where keys were made"]
    compress: Annotated[bool | None, "Large entries are compressed; NULL also where a size is set"]
    files: Annotated[list[str], "Configuration files that count, in their order"]


def parse_journald(evidence: Bundle) -> Iterable[Journald]:
    """One row where systemd runs."""
    there = places(evidence, PLACES)
    if "/run/systemd/system" not in there:
        return
    given = {name: values[-1] for name, values in settings(evidence, JOURNALD, "Journal").items()}
    storage = given.get("Storage", "auto")
    if storage not in ("auto", "persistent", "volatile", "none"):
        evidence.gap(JOURNALD, "a storage that is not known: the default holds")
        storage = "auto"
    interval, burst = given.get("RateLimitIntervalSec", given.get("RateLimitInterval")), given.get("RateLimitBurst")
    limited = not any(re.fullmatch(r"0+\s*[a-z]*", text) for text in (interval, burst) if text)
    yield Journald(
        storage, storage == "persistent" or (storage == "auto" and "/var/log/journal" in there),
        any(path.endswith("system.journal") for path in there), given.get("SystemMaxUse"), given.get("SystemKeepFree"),
        given.get("MaxRetentionSec"), limited, interval, burst, boolean(given.get("ForwardToSyslog")), boolean(given.get("Seal")),
        boolean(given.get("Compress")), in_order(evidence.entries(JOURNALD)),
    )  # fmt: skip


def read_upload(evidence: Bundle) -> list[LogForward]:
    """Where journal-upload is configured to send the journal; nothing without a URL."""
    given = {name: values[-1] for name, values in settings(evidence, UPLOAD, "Upload").items()}
    if "URL" not in given:
        return []
    url = given["URL"] if "://" in given["URL"] else f"https://{given['URL']}"
    tls = url.startswith("https://")
    files = in_order(evidence.entries(UPLOAD))
    return [LogForward("journal-upload", files[-1], "http", url, None, tls, given.get("TrustedCertificateFile") != "all" if tls else None)]
