# SPDX-License-Identifier: Apache-2.0
"""The settings of the running kernel that matter for security. Those of the network are those of the host's namespace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, Unread
from fleet_audit.model import Source, SourceId

_KEYS = {
    "kernel": "randomize_va_space kptr_restrict dmesg_restrict perf_event_paranoid unprivileged_bpf_disabled yama/ptrace_scope"
    " kexec_load_disabled kexec_load_limit_panic kexec_load_limit_reboot modules_disabled modprobe unprivileged_userns_clone"
    " apparmor_restrict_unprivileged_userns apparmor_restrict_unprivileged_unconfined apparmor_restrict_unprivileged_io_uring"
    " io_uring_disabled io_uring_group sysrq core_pattern core_uses_pid core_pipe_limit panic panic_on_oops oops_limit warn_limit"
    " ftrace_enabled bpf_stats_enabled ctrl-alt-del tainted",
    "fs": "protected_hardlinks protected_symlinks protected_fifos protected_regular suid_dumpable",
    "vm": "mmap_min_addr mmap_rnd_bits mmap_rnd_compat_bits legacy_va_layout unprivileged_userfaultfd memfd_noexec",
    "dev": "tty/ldisc_autoload tty/legacy_tiocsti",
    "user": "max_user_namespaces max_net_namespaces max_mnt_namespaces",
    "crypto": "fips_enabled",
    "net/core": "bpf_jit_enable bpf_jit_harden bpf_jit_kallsyms",
    "net/ipv4": "ip_forward tcp_syncookies tcp_timestamps tcp_rfc1337 icmp_echo_ignore_all icmp_echo_ignore_broadcasts"
    " icmp_ignore_bogus_error_responses ip_unprivileged_port_start ping_group_range",
    "net/ipv4/conf/*": "rp_filter accept_redirects secure_redirects send_redirects accept_source_route log_martians forwarding",
    "net/ipv6/conf/*": "disable_ipv6 accept_ra accept_redirects accept_source_route forwarding",
}
RUNNING = Source(
    SourceId("sysctl-running"), "files",
    {"globs": [f"/proc/sys/{folder}/{name}" for folder, names in _KEYS.items() for name in names.split()], "cap_each": 4096},
    "Kernel documentation, admin-guide/sysctl and networking/ip-sysctl; Debian's and Ubuntu's own keys among them."
    " A key that is not there: this kernel lacks it.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class Sysctl:
    """A setting of the running kernel, of a list that matters for security. No row for a key: this kernel lacks it.

    Source: /proc/sys.
    """

    key: Annotated[str, "Key as sysctl(8) writes it, such as kernel.kptr_restrict; dots in an interface's name are slashes"]
    setting: Annotated[str, "The key with `*` for the interface, such as net.ipv4.conf.*.rp_filter"]
    interface: Annotated[str | None, "Network interface, `all` or `default`; NULL: the key is not of one"]
    value: Annotated[str, "Value, with single blanks"]


def parse_sysctls(evidence: Bundle) -> Iterable[Sysctl]:
    """A row per key that this kernel has; that ASLR's key is among them shows that /proc/sys was there to be read."""
    rows = []
    for path, entry in evidence.entries(RUNNING).items():
        text = entry.get("text")
        if not isinstance(text, str):
            evidence.gap(RUNNING, f"{path} is no text")
            continue
        parts = path.removeprefix("/proc/sys/").split("/")
        interface = parts[3] if parts[:1] == ["net"] and parts[2:3] == ["conf"] and len(parts) == 5 else None
        setting = ".".join(["*" if interface and place == 3 else part for place, part in enumerate(parts)])
        rows.append(Sysctl(".".join(part.replace(".", "/") for part in parts), setting, interface, " ".join(text.split())))
    keys = {row.key for row in rows}
    if "kernel.randomize_va_space" not in keys:
        raise Unread("; ".join(evidence.gaps[:3]) or f"{RUNNING.id}: nothing of /proc/sys/kernel")
    if not any(row.setting.startswith("net.ipv4.conf.") for row in rows):
        evidence.gap(RUNNING, "no network interface, not even `all`")
    return rows
