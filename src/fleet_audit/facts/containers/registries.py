# SPDX-License-Identifier: Apache-2.0
"""Registries that engines ask without TLS or without its proof, and the trust in images. It cannot know users' own files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.facts.containers.docker import DAEMON, parse_daemons
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Source, SourceId

DEPTH_CAP = 40
_BLANKS = ("", *(" " * n for n in range(1, 13)), " " * 14, " " * 16, *("\t" * n for n in range(1, 7)))


def _lines(*words: str) -> list[str]:
    """Beginnings of the lines to keep, at each usual depth: whole files would hold credentials of registries."""
    return [blanks + word for blanks in _BLANKS for word in words]


CONTAINERD = Source(
    SourceId("containerd-config"), "files",
    {"globs": ["/etc/containerd/config.toml", "/etc/containerd/conf.d/*.toml", "/var/lib/rancher/*/agent/etc/containerd/config.toml",
               "/etc/k0s/containerd.toml", "/var/snap/microk8s/current/args/containerd.toml"],
     "follow": "toml", "redact": True, "cap_each": 1 << 20,
     "keep": _lines("[", "]", '"', "version", "imports", "insecure_skip_verify", "endpoint", "config_path", "registry.", "plugins.")},
    "containerd-config.toml(5), containerd's docs/cri/registry.md: plugin io.containerd.grpc.v1.cri of version 2 (cri of version 1), "
    "io.containerd.cri.v1.images of version 3; registry.configs.*.tls, registry.mirrors.*.endpoint. Lines of other keys are not read.",
    needs_root=True,
)  # fmt: skip
_HOSTS_FOLDERS = r"/etc/containerd/certs\.d|/etc/docker/certs\.d|/var/lib/rancher/[^/]+/agent/etc/containerd/certs\.d"
HOSTS = Source(
    SourceId("registry-hosts"), "files",
    {"globs": ["/etc/containerd/certs.d/*/hosts.toml", "/etc/docker/certs.d/*/hosts.toml",
               "/var/lib/rancher/*/agent/etc/containerd/certs.d/*/hosts.toml"],
     "redact": True, "cap_each": 256 << 10, "keep": _lines("[", "server", "skip_verify", "capabilities")},
    "containerd's docs/hosts.md: server and [host.URL] with skip_verify for the registry that the folder is named after.",
)  # fmt: skip
CONTAINERS = Source(
    SourceId("registries-conf"), "files",
    {"globs": ["/etc/containers/registries.conf", "/etc/containers/registries.conf.d/*.conf", "/etc/crio/crio.conf",
               "/etc/crio/crio.conf.d/*"],
     "redact": True, "cap_each": 1 << 20},
    "containers-registries.conf(5), versions 1 and 2, of podman, CRI-O, buildah and skopeo; crio.conf(5), insecure_registries.",
)  # fmt: skip
POLICY = Source(
    SourceId("image-policy"), "json",
    {"globs": ["/etc/containers/policy.json"], "keep": ["default", "transports"]},
    "containers-policy.json(5): what an image must prove before podman, CRI-O, buildah or skopeo take it.",
)  # fmt: skip


@dataclass(frozen=True)
class InsecureRegistry:
    """A registry that an engine may ask over plain HTTP, or whose certificate it does not check. Source: the engines' files."""

    engine: Annotated[str, "docker, containerd, podman or cri-o; podman's files hold for CRI-O, buildah and skopeo too"]
    registry: Annotated[str, "Registry, network or prefix of images"]
    endpoint: Annotated[str | None, "Mirror or server by which it is asked, if that is the insecure one"]
    plain_http: Annotated[bool, "Images may come over HTTP without TLS"]
    unverified: Annotated[bool, "TLS with any certificate is taken"]
    loopback: Annotated[bool, "It is the node itself"]
    file: Annotated[str | None, "File that says so; NULL: docker's command line or file"]


@dataclass(frozen=True)
class ImagePolicy:
    """What images of a scope must prove. Source: containers-policy.json(5)."""

    file: Annotated[str, "Policy file"]
    transport: Annotated[str, "Where images come from, such as docker; empty: all that no scope names"]
    scope: Annotated[str, "Registry, repository or image; empty: all of the transport"]
    requirements: Annotated[list[str], "insecureAcceptAnything, reject, signedBy or sigstoreSigned; all must hold"]


def toml(text: str) -> dict[str, Any]:
    """A TOML document. Raises `NotUnderstood` for what is none, or nested too deep."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(f"not TOML: {str(error)[:100]}") from None


def documents(evidence: Bundle, source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, document) of each TOML file; those that are not understood are gaps."""
    for path, entry in evidence.entries(source).items():
        try:
            if not isinstance(entry.get("text"), str):
                raise NotUnderstood("no text")
            yield path, toml(entry["text"])
        except NotUnderstood as error:
            evidence.gap(source, f"{path}: {error}")


def tables_at(document: Any, *path: str) -> Mapping[str, Any]:
    """The table at a path, an empty one if there is none or something else."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def is_loopback(registry: str) -> bool:
    """Whether a registry, URL or network is the node itself."""
    host = re.sub(r"^[a-z]+://", "", registry).partition("/")[0]
    host = host[1:].partition("]")[0] if host.startswith("[") else host if host.count(":") > 1 else host.partition(":")[0]
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def _row(
    engine: str, registry: str, file: str | None, *, endpoint: str | None = None, http: bool = False, open_tls: bool = False
) -> InsecureRegistry:
    return InsecureRegistry(engine, registry, endpoint, http, open_tls, is_loopback(endpoint or registry), file)


def _docker(evidence: Bundle) -> Iterator[InsecureRegistry]:
    for daemon in parse_daemons(evidence):
        if daemon.insecure_registries is None:
            evidence.gap(DAEMON, f"the registries of the daemon with process id {daemon.pid} are not known")
        for registry in daemon.insecure_registries or ():
            yield _row("docker", registry, daemon.file, http=True, open_tls=True)


def _strings(value: Any) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else [value] if isinstance(value, str) else []


def _containerd(evidence: Bundle) -> Iterator[InsecureRegistry]:
    found = dict(documents(evidence, CONTAINERD))
    for path, document in found.items():
        plugins = tables_at(document, "plugins")
        for name in ("cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"):
            registry = tables_at(plugins, name, "registry")
            for host, config in tables_at(registry, "configs").items():
                if tables_at(config, "tls").get("insecure_skip_verify") is True:
                    yield _row("containerd", host, path, open_tls=True)
            for host, mirror in tables_at(registry, "mirrors").items():
                for url in _strings(tables_at(mirror).get("endpoint")):
                    if url.lower().startswith("http://"):
                        yield _row("containerd", host, path, endpoint=url, http=True)
            for folder in ":".join(_strings(registry.get("config_path"))).split(":"):
                if folder and not re.fullmatch(_HOSTS_FOLDERS, folder.rstrip("/")):
                    evidence.gap(HOSTS, f"{path} names {folder}, which is not read")
        for name in _strings(document.get("imports")):
            name = name if name.startswith("/") else f"{path.rpartition('/')[0]}/{name}"
            if not re.search(r"[*?[]", name) and name not in found:
                evidence.gap(CONTAINERD, f"{path} imports {name}, which was not read")


def _hosts(evidence: Bundle) -> Iterator[InsecureRegistry]:
    for path, document in documents(evidence, HOSTS):
        registry = path.split("/")[-2]
        urls: list[tuple[str, Any]] = [(url, {}) for url in _strings(document.get("server"))]
        urls += tables_at(document, "host").items()
        for url, host in urls:
            plain = url.lower().startswith("http://")
            if plain or tables_at(host).get("skip_verify") is True:
                yield _row("containerd", registry, path, endpoint=url, http=plain, open_tls=not plain)
        if document.get("skip_verify") is True:
            yield _row("containerd", registry, path, open_tls=True)


def _containers(evidence: Bundle) -> Iterator[InsecureRegistry]:
    for path, document in documents(evidence, CONTAINERS):
        if path.startswith("/etc/crio/"):
            for registry in _strings(tables_at(document, "crio", "image").get("insecure_registries")):
                yield _row("cri-o", registry, path, http=True, open_tls=True)
            continue
        for registry in _strings(tables_at(document, "registries", "insecure").get("registries")):
            yield _row("podman", registry, path, http=True, open_tls=True)
        for entry in document.get("registry", ()) if isinstance(document.get("registry"), list) else ():
            name = str(tables_at(entry).get("prefix") or tables_at(entry).get("location") or "")
            if tables_at(entry).get("insecure") is True:
                yield _row("podman", name, path, http=True, open_tls=True)
            mirrors = tables_at(entry).get("mirror")
            for mirror in mirrors if isinstance(mirrors, list) else ():
                if tables_at(mirror).get("insecure") is True:
                    yield _row("podman", name, path, endpoint=str(mirror.get("location", "")), http=True, open_tls=True)


def parse_registries(evidence: Bundle) -> Iterator[InsecureRegistry]:
    """A row per registry that is insecure; good ones have none."""
    yield from _docker(evidence)
    yield from _containerd(evidence)
    yield from _hosts(evidence)
    yield from _containers(evidence)


def parse_policies(evidence: Bundle) -> Iterable[ImagePolicy]:
    """A row per scope that a policy file names."""
    for path, entry in evidence.entries(POLICY).items():
        values = entry.get("values", {})
        scopes: list[tuple[str, str, Any]] = [("", "", values.get("default"))]
        for kind, inner in tables_at(values, "transports").items():
            scopes += [(kind, scope, needs) for scope, needs in tables_at(inner).items()]
        for transport, scope, needs in scopes:
            kinds = [str(tables_at(need).get("type")) for need in needs] if isinstance(needs, list) else []
            if not kinds or "None" in kinds:
                evidence.gap(POLICY, f"{path}: requirements that are not understood")
            else:
                yield ImagePolicy(path, transport, scope, kinds)


TABLES = (
    Table("insecure_registries", InsecureRegistry, (PROCESSES, DAEMON, CONTAINERD, HOSTS, CONTAINERS), parse_registries),
    Table("image_policies", ImagePolicy, (POLICY,), parse_policies),
)
