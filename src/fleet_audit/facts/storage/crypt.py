# SPDX-License-Identifier: Apache-2.0
"""dm-crypt in detail: ciphers in force, and how volumes are to be unlocked. Headers of volumes are not read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import understood
from fleet_audit.facts.base import Bundle, NotUnderstood, Unread
from fleet_audit.facts.storage.devices import Devices, read_devices
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId, Status

TARGETS = Source(
    SourceId("dm-crypt-targets"), "command", {"argv": ["dmsetup", "table", "--target", "crypt"]},
    "dmsetup(8), kernel documentation dm-crypt: name, start, length, `crypt`, cipher, key (zeros, or where it is kept), offsets, options. "
    "Only where there are mapped devices: else dmsetup would load the module and make its device file.",
    when_exists="/sys/block/dm-*", needs_root=True,
)  # fmt: skip
CRYPTTAB = Source(
    SourceId("crypttab"), "file", {"paths": ["/etc/crypttab"], "redact": True}, "crypttab(5): name, device, key file, options.",
)  # fmt: skip
KEY_FILES = Source(
    SourceId("volume-key-files"), "stat",
    {"globs": ["/etc/cryptsetup-keys.d/*", "/run/cryptsetup-keys.d/*", "/etc/keys/*", "/etc/luks-keys/*", "/etc/luks/*", "/root/*key*",
               "/crypto_keyfile.bin", "/boot/*key*", "/etc/cryptsetup-keys.d"],
     "targets": True},
    "crypttab(5): NAME.key in cryptsetup-keys.d unlocks a volume by itself; the other places are habits. Never a content.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class CryptTarget:
    """A segment of a volume that dm-crypt encrypts now. Source: dmsetup(8) table."""

    name: Annotated[str, "Mapped name of the volume"]
    cipher: Annotated[str, "Cipher, such as aes-xts-plain64"]
    key_bits: Annotated[int | None, "Length of the key; xts halves it"]
    key_in_keyring: Annotated[bool | None, "The key is in the kernel's keyring, where no table can show it"]
    device: Annotated[str, "Number of the device beneath, major:minor"]
    options: Annotated[list[str], "Options, such as allow_discards"]
    discards: Annotated[bool, "Discards reach the device: which blocks are in use shows there"]


@dataclass(frozen=True)
class CrypttabEntry:
    """A volume that is to be unlocked. No row: none is configured. Source: crypttab(5)."""

    name: Annotated[str, "Mapped name"]
    device: Annotated[str, "Device or UUID that is encrypted"]
    unlock: Annotated[
        str, "file, random (a new key at each boot), tpm2, fido2, pkcs11, script; asked: a person or a token in the volume's header answers"
    ]
    key_file: Annotated[str | None, "File of the key, if one is named or put where it is looked for"]
    key_mode: Annotated[int | None, "That file's mode bits, of a link those of what it leads to; NULL: no file, or it was not looked at"]
    key_uid: Annotated[int | None, "Its owner"]
    key_encrypted: Annotated[bool | None, "The file itself lies on an encrypted volume; NULL: no file, or not determined"]
    options: Annotated[list[str], "Options as written"]


def parse_targets(evidence: Bundle) -> Iterable[CryptTarget]:
    """A row per segment; none where there are no mapped devices."""
    if evidence.item(TARGETS).status is Status.SKIPPED:
        return
    for line in lines(evidence, TARGETS):
        if line == "No devices found":
            continue
        name, _, rest = line.rpartition(": ") if line.count(": ") > 1 else line.partition(": ")
        words = rest.split()
        if len(words) < 8 or words[2] != "crypt" or not re.fullmatch(r"\d+:\d+", words[6], re.ASCII):
            evidence.gap(TARGETS, "a line that is no crypt target")
            continue
        ring = re.match(r":(\d{1,6}):", words[4], re.ASCII)
        bits = int(ring[1]) * 8 if ring else len(words[4]) * 4 if re.fullmatch(r"[0-9a-f]+", words[4]) else None
        yield CryptTarget(name, words[3], bits, None if bits is None else bool(ring), words[6], words[9:], "allow_discards" in words[9:])


_TOKENS = (("tpm2-device", "tpm2"), ("fido2-device", "fido2"), ("pkcs11-uri", "pkcs11"), ("keyscript", "script"))


def parse_crypttab(evidence: Bundle) -> Iterable[CrypttabEntry]:
    """A row per entry; none where the file was looked for and is not there."""
    if evidence.item(CRYPTTAB).status is Status.ABSENT:
        return
    entries = lines(evidence, CRYPTTAB)
    keys, devices = {key.path: key for key in understood(evidence, KEY_FILES)}, _devices(evidence)
    for line in entries:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not 2 <= len(words) <= 4:
            evidence.gap(CRYPTTAB, "a line that is no entry")
            continue
        key, options = (*words[2:], "none", "")[0], words[3].split(",") if len(words) > 3 else []
        unlock, path = _unlock(words[0], key, {option.partition("=")[0] for option in options}, keys)
        file = keys.get(path or "")
        if file and file.type == "link":
            file = file.behind[0] if file.behind else None
            where = file.path if file else None
        else:
            where = path
        encrypted = devices.encrypted(devices.of_file(where)) if devices and where else None
        mode, uid = (file.mode, file.uid) if file else (None, None)
        yield CrypttabEntry(words[0], words[1], unlock, path, mode, uid, encrypted, options)


def _devices(evidence: Bundle) -> Devices | None:
    try:
        return read_devices(evidence)
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        return None


def _unlock(name: str, key: str, options: set[str], keys: Collection[str]) -> tuple[str, str | None]:
    """(how it is unlocked, file of the key)."""
    own = next((path for folder in ("etc", "run") if (path := f"/{folder}/cryptsetup-keys.d/{name}.key") in keys), None)
    token = next((word for option, word in _TOKENS if option in options), None)
    if token:
        return token, key if key.startswith("/") and not key.startswith("/dev/") else None
    if key in ("/dev/urandom", "/dev/random", "/dev/hwrng", "/dev/hw_random"):
        return "random", None
    if key not in ("none", "-"):
        return "file", key.partition(":")[0]
    return ("file", own) if own else ("asked", None)
