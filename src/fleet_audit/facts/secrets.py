# SPDX-License-Identifier: Apache-2.0
"""Files in which secrets are kept, and who can read them; never a secret. It cannot know secrets in other places, or of unknown looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.model import Source, SourceId

_SSH = [f".ssh/id_{kind}" for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk")]
_UNITS = "/etc/systemd/system"

HOMES = Source(
    SourceId("token-files-homes"), "tokens",
    {"names": [".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".huggingface/token", ".netrc", ".config/wandb/settings",
               ".kaggle/kaggle.json", ".kaggle/access_token", ".config/kaggle/kaggle.json", ".aws/credentials", ".aws/config",
               ".config/gcloud/application_default_credentials.json", ".azure/msal_token_cache.json", ".azure/accessTokens.json",
               ".azure/service_principal_entries.json", ".docker/config.json", ".config/containers/auth.json", ".ngc/config",
               ".git-credentials", ".config/git/credentials", ".config/gh/hosts.yml", ".config/glab-cli/config.yml", ".pypirc", ".npmrc",
               ".kube/config", *_SSH, ".comet.config", ".env", ".config/pip/pip.conf", ".pip/pip.conf", ".condarc", ".pgpass", ".my.cnf",
               ".config/rclone/rclone.conf", ".s3cfg", ".mc/config.json", ".boto", ".vault-token", ".mlflow/credentials", ".bashrc",
               ".bash_profile", ".profile", ".zshrc"]},
    "Each program's manual names its file (huggingface_hub HF_TOKEN_PATH, netrc(5), ssh-keygen(1), git-credential-store(1), ...).",
    needs_root=True,
)  # fmt: skip
SYSTEM = Source(
    SourceId("token-files-system"), "tokens",
    {"names": [],
     "globs": ["/etc/environment", "/etc/environment.d/*.conf", "/etc/profile", "/etc/profile.d/*.sh", "/etc/bash.bashrc", "/etc/bashrc",
               f"{_UNITS}/*.service", f"{_UNITS}/*.service.d/*.conf", "/etc/systemd/system.conf", "/etc/systemd/system.conf.d/*.conf",
               "/etc/crontab", "/etc/cron.d/*", "/etc/default/*", "/etc/sysconfig/*", "/etc/pip.conf", "/etc/conda/.condarc",
               "/etc/slurm/*.sh", "/etc/slurm/prolog.d/*", "/etc/slurm/epilog.d/*", "/var/lib/kubelet/config.json"]},
    "environment(5) of pam_env(8), systemd.exec(5) Environment=, crontab(5), Slurm's Prolog and Epilog Guide: places that hand values on.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class SecretFile:
    """A kind of secret in a file of a home, and who can read that. A file without any has no row. Source: well-known files, their inodes."""

    path: Annotated[str, "File"]
    kind: Annotated[
        str, "huggingface, aws, github, jwt, private-key (encrypted ones too), hash, default (a publicly known one), value (other), ..."
    ]
    count: Annotated[int, "How many of that kind the file holds"]
    user_name: Annotated[str | None, "In whose home it is; NULL outside of homes"]
    uid: Annotated[int, "Owner of the file"]
    gid: Annotated[int, "Group of the file"]
    mode: Annotated[int, "Its permission bits"]
    reach: Annotated[str, "Who can read it by its mode and the folders above: owner, group or others; ACLs are not regarded"]


class SystemSecretFile(SecretFile):
    """A kind of secret in a file outside of homes, and who can read that. A file without any has no row. Source: well-known files."""


def _rows(evidence: Bundle, source: Source) -> Iterable[SecretFile]:
    for path, entry in evidence.entries(source, masks=source is SYSTEM).items():
        kinds = entry.get("kinds")
        if not isinstance(kinds, dict) or entry.get("reach") not in ("owner", "group", "others"):
            evidence.gap(source, f"{path}: not understood")
            continue
        for kind, count in sorted(kinds.items()):
            yield SecretFile(path, kind, count, entry.get("user"), entry["uid"], entry["gid"], entry["mode"], entry["reach"])


def parse_homes(evidence: Bundle) -> Iterable[SecretFile]:
    """A row per file and kind in the homes of local accounts."""
    return _rows(evidence, HOMES)


def parse_system(evidence: Bundle) -> Iterable[SecretFile]:
    """A row per file and kind in places of the whole system."""
    return _rows(evidence, SYSTEM)


TABLES = (
    Table("secret_files", SecretFile, (HOMES,), parse_homes),
    Table("system_secret_files", SystemSecretFile, (SYSTEM,), parse_system),
)
