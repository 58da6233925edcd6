# SPDX-License-Identifier: Apache-2.0
"""Agents that watch a node: detection, file integrity, antivirus, audit, monitoring, logs, backup. Present, and running.

Whether an agent reports to anybody, and is configured well, its console knows. A process may carry any name: see who runs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, utc
from fleet_audit.facts.packages import DPKG, RPM, Package, parse_packages
from fleet_audit.facts.processes import PROCESSES, documents
from fleet_audit.facts.texts import places, program_names
from fleet_audit.model import Source, SourceId


@dataclass(frozen=True)
class _Known:
    """How an agent shows: words of one list each; `/` at the end means all programs of a folder."""

    name: str
    kind: str
    packages: str
    programs: str
    processes: str


# Source: the vendors' Linux installation guides, as of 2026-11.
_KNOWN = tuple(_Known(*row) for row in (
    ("falco", "detection", "falco", "/usr/bin/falco", "falco"),
    ("tetragon", "detection", "tetragon", "/usr/local/bin/tetragon /usr/bin/tetragon", "tetragon"),
    ("tracee", "detection", "tracee", "/usr/bin/tracee /usr/local/bin/tracee", "tracee tracee-ebpf"),
    ("kubearmor", "detection", "kubearmor", "/opt/kubearmor/kubearmor", "kubearmor"),
    ("osquery", "detection", "osquery", "/opt/osquery/bin/osqueryd /usr/bin/osqueryd", "osqueryd"),
    ("wazuh", "detection", "wazuh-agent wazuh-manager", "/var/ossec/bin/wazuh-agentd /var/ossec/bin/wazuh-control",
     "wazuh-agentd wazuh-syscheckd wazuh-modulesd wazuh-logcollector wazuh-execd wazuh-analysisd"),
    ("ossec", "detection", "ossec-hids ossec-hids-agent ossec-hids-server", "/var/ossec/bin/ossec-agentd /var/ossec/bin/ossec-control",
     "ossec-agentd ossec-syscheckd ossec-logcollector ossec-analysisd"),
    ("sysdig", "detection", "draios-agent draios-agent-slim", "/opt/draios/bin/dragent", "dragent"),
    ("crowdstrike", "edr", "falcon-sensor", "/opt/CrowdStrike/falcond", "falcond falcon-sensor falcon-sensor-bpf"),
    ("sentinelone", "edr", "sentinelagent SentinelAgent", "/opt/sentinelone/bin/sentinelctl",
     "s1-agent s1-orchestrator s1-network s1-scanner s1-firewall /opt/sentinelone/"),
    ("defender", "edr", "mdatp", "/opt/microsoft/mdatp/sbin/wdavdaemon", "wdavdaemon"),
    ("trellix", "edr", "xagt McAfeeESP McAfeeTP ISecESP", "/opt/fireeye/bin/xagt /opt/McAfee/ens/tp/init/mfetpd-control.sh", "xagt mfetpd"),
    ("elastic-endpoint", "edr", "", "/opt/Elastic/Endpoint/elastic-endpoint", "elastic-endpoint"),
    ("carbon-black", "edr", "cb-psc-sensor cbagent", "/opt/carbonblack/psc/bin/cbagentd", "cbagentd cbdaemon"),
    ("cortex-xdr", "edr", "cortex-agent", "/opt/traps/bin/cytool", "/opt/traps/"),
    ("sophos", "edr", "", "/opt/sophos-spl/bin/wdctl /opt/sophos-av/bin/savdctl", "/opt/sophos-spl/ savscand"),
    ("trend-micro", "edr", "ds-agent ds_agent", "/opt/ds_agent/ds_agent", "ds_agent"),
    ("bitdefender", "edr", "bitdefender-security-tools", "/opt/bitdefender-security-tools/bin/bdsecd", "/opt/bitdefender-security-tools/"),
    ("aide", "integrity", "aide", "/usr/bin/aide /usr/sbin/aide", "aide"),
    ("samhain", "integrity", "samhain", "/usr/sbin/samhain /usr/local/sbin/samhain", "samhain"),
    ("tripwire", "integrity", "tripwire", "/usr/sbin/tripwire", "tripwire"),
    ("clamav", "antivirus", "clamav clamav-daemon clamd clamav-server", "/usr/sbin/clamd /usr/bin/clamscan", "clamd clamonacc freshclam"),
    ("rkhunter", "rootkit", "rkhunter", "/usr/bin/rkhunter", "rkhunter"),
    ("chkrootkit", "rootkit", "chkrootkit", "/usr/sbin/chkrootkit", "chkrootkit"),
    ("fail2ban", "banning", "fail2ban fail2ban-server", "/usr/bin/fail2ban-server", "fail2ban-server"),
    ("crowdsec", "banning", "crowdsec", "/usr/bin/crowdsec", "crowdsec"),
    ("auditd", "audit", "auditd audit", "/usr/sbin/auditd /sbin/auditd", "auditd"),
    ("rsyslog", "logs", "rsyslog", "/usr/sbin/rsyslogd", "rsyslogd"),
    ("syslog-ng", "logs", "syslog-ng syslog-ng-core", "/usr/sbin/syslog-ng", "syslog-ng"),
    ("fluent-bit", "logs", "fluent-bit td-agent-bit", "/opt/fluent-bit/bin/fluent-bit /usr/bin/fluent-bit", "fluent-bit td-agent-bit"),
    ("fluentd", "logs", "fluent-package td-agent calyptia-fluentd", "/opt/fluent/bin/fluentd /opt/td-agent/bin/fluentd", "fluentd td-agent"),
    ("vector", "logs", "vector", "/usr/bin/vector", "vector"),
    ("filebeat", "logs", "filebeat", "/usr/share/filebeat/bin/filebeat", "filebeat"),
    ("auditbeat", "detection", "auditbeat", "/usr/share/auditbeat/bin/auditbeat", "auditbeat"),
    ("promtail", "logs", "promtail", "/usr/bin/promtail", "promtail"),
    ("alloy", "logs", "alloy", "/usr/bin/alloy", "alloy"),
    ("splunk", "logs", "splunkforwarder splunk", "/opt/splunkforwarder/bin/splunkd /opt/splunk/bin/splunkd", "splunkd"),
    ("journal-upload", "logs", "systemd-journal-remote", "/usr/lib/systemd/systemd-journal-upload", "systemd-journal-upload"),
    ("elastic-agent", "monitoring", "elastic-agent", "/opt/Elastic/Agent/elastic-agent /usr/bin/elastic-agent", "elastic-agent"),
    ("datadog", "monitoring", "datadog-agent", "/opt/datadog-agent/bin/agent/agent", "/opt/datadog-agent/"),
    ("otelcol", "monitoring", "otelcol otelcol-contrib", "/usr/bin/otelcol /usr/bin/otelcol-contrib", "otelcol otelcol-contrib"),
    ("node-exporter", "monitoring", "prometheus-node-exporter node_exporter golang-github-prometheus-node-exporter",
     "/usr/bin/prometheus-node-exporter /usr/local/bin/node_exporter /usr/bin/node_exporter", "prometheus-node-exporter node_exporter"),
    ("dcgm", "monitoring", "datacenter-gpu-manager datacenter-gpu-manager-4-core", "/usr/bin/nv-hostengine", "nv-hostengine"),
    ("dcgm-exporter", "monitoring", "datacenter-gpu-manager-exporter dcgm-exporter", "/usr/bin/dcgm-exporter", "dcgm-exporter"),
    ("telegraf", "monitoring", "telegraf", "/usr/bin/telegraf", "telegraf"),
    ("collectd", "monitoring", "collectd collectd-core", "/usr/sbin/collectd", "collectd"),
    ("zabbix", "monitoring", "zabbix-agent zabbix-agent2", "/usr/sbin/zabbix_agentd /usr/sbin/zabbix_agent2", "zabbix_agentd zabbix_agent2"),
    ("netdata", "monitoring", "netdata netdata-core", "/usr/sbin/netdata", "netdata"),
    ("nrpe", "monitoring", "nagios-nrpe-server nrpe", "/usr/sbin/nrpe", "nrpe"),
    ("checkmk", "monitoring", "check-mk-agent", "/usr/bin/check_mk_agent", "cmk-agent-ctl"),
    ("icinga2", "monitoring", "icinga2 icinga2-bin", "/usr/sbin/icinga2", "icinga2"),
    ("google-ops-agent", "monitoring", "google-cloud-ops-agent", "/opt/google-cloud-ops-agent/libexec/google_cloud_ops_agent_engine",
     "/opt/google-cloud-ops-agent/"),
    ("cloudwatch", "monitoring", "amazon-cloudwatch-agent", "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent",
     "amazon-cloudwatch-agent"),
    ("azure-monitor", "monitoring", "azuremonitoragent", "/opt/microsoft/azuremonitoragent/bin/mdsd", "/opt/microsoft/azuremonitoragent/"),
    ("restic", "backup", "restic", "/usr/bin/restic /usr/local/bin/restic", "restic"),
    ("borg", "backup", "borgbackup borgmatic", "/usr/bin/borg /usr/local/bin/borg /usr/bin/borgmatic", "borg borgmatic"),
    ("duplicity", "backup", "duplicity", "/usr/bin/duplicity", "duplicity"),
    ("rsnapshot", "backup", "rsnapshot", "/usr/bin/rsnapshot", "rsnapshot"),
    ("bacula", "backup", "bacula-fd bacula-client", "/usr/sbin/bacula-fd /opt/bacula/bin/bacula-fd", "bacula-fd"),
    ("bareos", "backup", "bareos-filedaemon", "/usr/sbin/bareos-fd", "bareos-fd"),
    ("veeam", "backup", "veeam", "/usr/sbin/veeamservice", "veeamservice"),
    ("storage-protect", "backup", "TIVsm-BA tivsm-ba", "/opt/tivoli/tsm/client/ba/bin/dsmc", "dsmc dsmcad"),
    ("netbackup", "backup", "VRTSnbclt", "/usr/openv/netbackup/bin/bpcd", "/usr/openv/netbackup/"),
    ("commvault", "backup", "", "/opt/commvault/Base/cvd", "/opt/commvault/"),
    ("qualys", "vulnerability", "qualys-cloud-agent", "/usr/local/qualys/cloud-agent/bin/qualys-cloud-agent", "qualys-cloud-agent"),
    ("nessus", "vulnerability", "nessusagent NessusAgent", "/opt/nessus_agent/sbin/nessusd", "/opt/nessus_agent/"),
    ("rapid7", "vulnerability", "", "/opt/rapid7/ir_agent/ir_agent", "/opt/rapid7/"),
    ("tanium", "vulnerability", "taniumclient TaniumClient", "/opt/Tanium/TaniumClient/TaniumClient", "/opt/Tanium/"),
))  # fmt: skip

PROGRAMS = Source(
    SourceId("agent-programs"), "stat", {"globs": sorted(path for known in _KNOWN for path in known.programs.split())},
    "Where the agents' packages and installers put their programs.",
)  # fmt: skip
DATABASES = Source(
    SourceId("detection-databases"), "stat",
    {"globs": ["/var/lib/aide/aide.db*", "/var/lib/tripwire/*.twd", "/var/lib/samhain/samhain_file", "/var/state/samhain/samhain_file",
               "/var/lib/rkhunter/db/rkhunter.dat", "/var/ossec/queue/fim/db/fim.db", "/var/lib/clamav/daily.c[lv]d",
               "/var/lib/clamav/main.c[lv]d"]},
    "Manuals of AIDE, Tripwire, Samhain, rkhunter, Wazuh and ClamAV: where their baselines and signatures lie by default.",
    needs_root=True,
)  # fmt: skip
IMA = Source(
    SourceId("ima"), "attrs", {"globs": ["/sys/kernel/security/ima"], "names": ["runtime_measurements_count", "violations"]},
    "Kernel documentation, ABI/testing/ima_policy; security/integrity/ima/ima_fs.c: numbers since boot.",
    needs_root=True,
)  # fmt: skip
SECURITYFS = Source(
    SourceId("securityfs"), "stat", {"globs": ["/sys/kernel/security/lsm", "/sys/kernel/security/ima"]},
    "securityfs is mounted where it has `lsm`, which it always has; IMA's folder is there where the kernel has IMA.",
)  # fmt: skip


@dataclass(frozen=True)
class Agent:
    """A known agent that is installed or runs; one without a row is neither. Source: packages, programs, processes."""

    name: Annotated[str, "Agent, such as falco, crowdstrike or aide"]
    kind: Annotated[str, "detection, edr, integrity, antivirus, rootkit, banning, audit, logs, monitoring, backup or vulnerability"]
    package: Annotated[str | None, "Package that brought it; NULL: by hand, in a container, or packages could not be read"]
    version: Annotated[str | None, "Version of the package"]
    program: Annotated[str | None, "A program of it that is on disk; NULL: in none of the known places"]
    running: Annotated[bool | None, "A process of it runs now; some run only on schedule; NULL: processes could not be read"]
    running_program: Annotated[str | None, "What runs: path of its program, or the process's name where the path may not be seen"]
    uid: Annotated[int | None, "Who runs it; the lowest where more do"]
    contained: Annotated[bool | None, "All of it that runs does so in containers"]


@dataclass(frozen=True)
class DetectionDatabase:
    """A baseline of files, or signatures, of a detection tool. No row: none in the default places. Source: stat(2)."""

    tool: Annotated[str, "aide, tripwire, samhain, rkhunter, wazuh or clamav"]
    path: Annotated[str, "File; AIDE's new ones are not yet in use"]
    modified_at: Annotated[datetime, "When it was last written"]
    size_bytes: Annotated[int, "Size; an empty one holds nothing"]


@dataclass(frozen=True)
class Ima:
    """What the kernel's integrity measurement has done; no row: the kernel has none. Source: securityfs."""

    measurements: Annotated[int | None, "Files measured since boot; 1 is the boot aggregate alone: no policy measures"]
    violations: Annotated[int | None, "Measurements that cannot be trusted, as of files open for writing"]


def _running(evidence: Bundle) -> list[dict[str, Any]] | None:
    try:
        return documents(evidence)
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        return None


def _packages(evidence: Bundle) -> dict[str, Package]:
    try:
        return {package.name: package for package in parse_packages(evidence)}
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        return {}


def parse_agents(evidence: Bundle) -> Iterable[Agent]:
    """A row per agent that shows anywhere."""
    programs, packages, processes = evidence.entries(PROGRAMS), _packages(evidence), _running(evidence)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for process in processes or ():
        for name in program_names(process):
            by_name.setdefault(name, []).append(process)
    folders = [(str(process.get("exe")), process) for process in processes or () if process.get("exe")]
    for known in _KNOWN:
        package = next((packages[name] for name in known.packages.split() if name in packages), None)
        program = next((path for path in known.programs.split() if path in programs), None)
        found: list[dict[str, Any]] = []
        for name in known.processes.split():
            if name.endswith("/"):
                found += [process for exe, process in folders if exe.startswith(name)]
            else:
                found += by_name.get(name, [])
        if package or program or found:
            uids = [process["uid"] for process in found if type(process.get("uid")) is int]
            first = next((text for process in found for text in (process.get("exe"), process.get("comm")) if isinstance(text, str)), None)
            yield Agent(
                known.name, known.kind, package.name if package else None, package.version if package else None, program,
                None if processes is None else bool(found), first, min(uids) if uids else None,
                all(process.get("contained") is True for process in found) if found else None,
            )  # fmt: skip


_TOOLS = (("/aide/", "aide"), ("/tripwire/", "tripwire"), ("/samhain/", "samhain"), ("/rkhunter/", "rkhunter"), ("/ossec/", "wazuh"))


def parse_databases(evidence: Bundle) -> Iterable[DetectionDatabase]:
    """A row per file; a link, which may lead nowhere, is a gap."""
    for path, entry in evidence.entries(DATABASES).items():
        tool = next((word for part, word in _TOOLS if part in path), "clamav")
        when, size = entry.get("mtime"), entry.get("size")
        if entry.get("type") == "file" and type(when) is int and type(size) is int and (modified := utc(when)):
            yield DetectionDatabase(tool, path, modified, size)
        else:
            evidence.gap(DATABASES, f"{path}: no file that is understood")


def parse_ima(evidence: Bundle) -> Iterable[Ima]:
    """One row where the kernel has IMA, which securityfs proves."""
    there = places(evidence, SECURITYFS)
    if "/sys/kernel/security/ima" not in there:
        if "/sys/kernel/security/lsm" not in there:
            raise Unread(f"{SECURITYFS.id}: securityfs is not to be seen")
        return
    state = evidence.entries(IMA).get("/sys/kernel/security/ima", {})
    numbers = [integer(text) if isinstance(text := state.get(name), str) else None for name in IMA.args["names"]]
    if None in numbers:
        evidence.gap(IMA, "numbers that were not read")
    yield Ima(*numbers)


TABLES = (
    Table("agents", Agent, (DPKG, RPM, PROCESSES, PROGRAMS), parse_agents),
    Table("detection_databases", DetectionDatabase, (DATABASES,), parse_databases),
    Table("ima", Ima, (IMA, SECURITYFS), parse_ima),
)
