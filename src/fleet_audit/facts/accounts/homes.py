# SPDX-License-Identifier: Apache-2.0
"""Home folders: whose they are and who may enter. Those elsewhere than in /home are named, not looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.accounts.local import accounts, human_ids, lets_in
from fleet_audit.facts.accounts.metadata import metadata
from fleet_audit.facts.base import Bundle, Unread
from fleet_audit.model import Source, SourceId

HOMES = Source(
    SourceId("homes"), "stat", {"globs": ["/home", "/home/*"]},
    "Metadata of home folders where distributions put them; contents are not read, and nothing of a /home on a network file system.",
)  # fmt: skip
ROOT_HOME = Source(SourceId("root-home"), "stat", {"globs": ["/root"]}, "Metadata of root's home folder.")


@dataclass(frozen=True)
class HomeFolder:
    """A folder below /home, /root, or the home of a human user elsewhere. Source: metadata, passwd(5)."""

    path: Annotated[str, "Path"]
    user_name: Annotated[str | None, "First local user whose home it is; NULL: of none"]
    user_uid: Annotated[int | None, "That user's id"]
    there: Annotated[bool | None, "It exists; NULL: it lies elsewhere and was not looked at"]
    type: Annotated[str | None, "dir, link or another kind of file"]
    mode: Annotated[int | None, "Permission bits as a number: 448 is 0700; NULL for a link"]
    uid: Annotated[int | None, "Owner"]
    gid: Annotated[int | None, "Group"]


def parse_homes(evidence: Bundle) -> Iterator[HomeFolder]:
    """A row per folder found, then one for each root or human user whose home is none of them."""
    people = human_ids(evidence)
    owners: dict[str, tuple[str, int]] = {}
    rest: dict[str, tuple[str, int]] = {}
    for user, _, user_uid, _, home, shell in accounts(evidence):
        path = home.rstrip("/") or "/"
        owners.setdefault(path, (user, user_uid))
        if user_uid == 0 or people is None or (user_uid in people and lets_in(shell)):
            rest.setdefault(path, (user, user_uid))
    document: dict[str, Any] = {}
    for source in (ROOT_HOME, HOMES):
        try:
            found = list(metadata(evidence, source))
        except Unread as unread:
            evidence.gaps.append(str(unread))
            continue
        document |= evidence.document(source)
        for there in found:
            if there.path != "/home":
                name, uid = owners.get(there.path, (None, None))
                mode = None if there.type == "link" else there.mode
                rest.pop(there.path, None)
                yield HomeFolder(there.path, name, uid, True, there.type, mode, there.uid, there.gid)
    listed = document.get("/home", {"status": ""}).get("status") in (None, "absent")
    for path, (name, uid) in rest.items():
        absent = document[path].get("status") == "absent" if path in document else listed and re.fullmatch(r"/home/[^/]+", path)
        if not absent:
            evidence.gap(HOMES, f"{path} was not looked at")
        yield HomeFolder(path, name, uid, False if absent else None, None, None, None, None)
