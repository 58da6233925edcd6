# SPDX-License-Identifier: Apache-2.0
"""A schedule on a booted host: systemd fires the timer, the service audits another host with a key that it alone may read, and the
report lies on the disk. Killed in the middle it leaves the store whole."""

from __future__ import annotations

import importlib.util
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts import HostSpec, Lab
from tests.hosts.standing import standing

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("lab")]

PARTS = (
    "fleet_audit", "click", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "duckdb", "_duckdb", "paramiko",
    "cryptography", "cffi", "_cffi_backend", "bcrypt", "nacl", "invoke", "yaml", "_yaml", "jinja2", "markupsafe", "rich", "pygments", "markdown_it",
    "mdurl", "ansible", "ansible_test", "resolvelib", "packaging", "psutil", "defusedxml", "httpx", "httpcore", "h11", "anyio", "idna", "certifi",
    "sniffio", "cvss", "pynvml", "backports",
)  # fmt: skip
"""What the program is made of, with its core dependencies: the controller has no network to install them from."""
STORE = "/var/lib/fleet-audit"
CHECK = "ssh-x11-forwarding-off"


def places() -> Iterator[tuple[Path, str]]:
    """(folder, name in it) of each part, as it is installed here."""
    for name in PARTS:
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        origin = Path(spec.origin) if spec.origin else None
        found = Path(next(iter(spec.submodule_search_locations))) if spec.submodule_search_locations else origin
        assert found is not None
        yield found.parent, found.name
        for extra in found.parent.glob(f"{name}-*.dist-info"):
            yield extra.parent, extra.name
        for extra in found.parent.glob(f"{name}.libs"):
            yield extra.parent, extra.name


class Controller:
    """A booted host that has the program, an inventory of one other host, and a schedule."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder / "lab")

    def up(self) -> None:
        lab = self.lab
        lab.up([HostSpec("ctl", kind="boot", release="bookworm", disk="1500m"), HostSpec("node", release="bookworm")])
        into = "/usr/lib/python3/dist-packages"
        for folder, name in sorted(set(places())):
            pack = subprocess.Popen(
                ["tar", "-C", str(folder), "--exclude=__pycache__", "--exclude=tests", "-c", "--dereference", name], stdout=subprocess.PIPE
            )
            subprocess.run(
                lab.command(lab.ssh("ctl", f"mkdir -p {into} && tar -C {into} -x", user="root")),
                stdin=pack.stdout,
                check=True,
                timeout=120,
            )
            assert pack.stdout is not None
            pack.stdout.close()
            assert pack.wait() == 0, name
        content = Path(__file__).parents[2]
        for name in ("checks", "playbooks"):
            pack = subprocess.Popen(["tar", "-C", str(content), "-c", name], stdout=subprocess.PIPE)
            target = f"{into}/fleet_audit/content"
            subprocess.run(
                lab.command(lab.ssh("ctl", f"mkdir -p {target} && tar -C {target} -x", user="root")),
                stdin=pack.stdout,
                check=True,
                timeout=60,
            )
            assert pack.stdout is not None
            pack.stdout.close()
            assert pack.wait() == 0
        self.put("/etc/fleet/key", lab.key.read_text(), "600")
        self.put("/etc/fleet/known_hosts", lab.known_hosts.read_text(), "644")
        self.put("/etc/fleet/inventory.ini", f"node ansible_host={lab.address('node')} ansible_user=audit\n"
                 "[all:vars]\nansible_ssh_common_args='-o UserKnownHostsFile=/etc/fleet/known_hosts'\n", "644")  # fmt: skip

    def put(self, path: str, text: str, mode: str) -> None:
        self.sh(f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}", text)

    def sh(self, command: str, text: str = "", *, code: int | None = 0) -> str:
        done = self.lab.run(self.lab.ssh("ctl", command, user="root"), input=text, timeout=120)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return str(done.stdout)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 90
        while not holds():
            assert time.monotonic() < deadline, f"{what}\n" + self.sh("journalctl -u fleet-audit -n 40 --no-pager", code=None)
            time.sleep(1)


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    with standing(Controller(tmp_path_factory.mktemp("scheduled"))) as found:
        yield found


def test_the_timer_fires_a_run_that_is_killed_leaves_the_store_whole_and_the_next_one_starts(controller: Controller) -> None:
    audit = "python3 -m fleet_audit"
    controller.sh(f"{audit} schedule install --system --every hourly --spread 0 --credential /etc/fleet/key --keep-daily 5 --store {STORE} "
                  f"/etc/fleet/inventory.ini -- --check {CHECK} -b")  # fmt: skip
    assert "hourly" in controller.sh(f"{audit} schedule status --store {STORE}")
    assert controller.sh(f"ls {STORE}/runs") == ""
    # The same timer, soon.
    controller.put(
        "/etc/systemd/system/fleet-audit.timer.d/soon.conf",
        "[Timer]\nOnCalendar=\nOnActiveSec=2s\nAccuracySec=1s\nRandomizedDelaySec=0\n",
        "644",
    )
    controller.sh("systemctl daemon-reload && systemctl restart fleet-audit.timer")
    controller.until(lambda: ".html" in controller.sh(f"ls {STORE}/reports 2>/dev/null", code=None), "the timer has made no report")
    controller.until(lambda: "inactive" in controller.sh("systemctl is-active fleet-audit", code=None), "the service goes on")
    assert "Result=success" in controller.sh("systemctl show fleet-audit.service -p Result")
    shown = controller.sh(f"{audit} show hosts --store {STORE}")
    assert "node" in shown and " ok" in shown, shown
    status = controller.sh(f"{audit} schedule status --store {STORE}")
    assert "last run" in status and "none yet" not in status and "OVERDUE" not in status
    assert controller.sh(f"find {STORE} -perm /077 -type f | head -3") == "", "nobody else reads the store"
    assert "ssh-key" not in controller.sh("find /run/credentials -type f 2>/dev/null", code=None), "the credential goes with the service"

    # Killed in the middle.
    before = controller.sh(f"ls {STORE}/runs").split()
    controller.lab.fault("node", "hang")  # so that it is in the middle when it is killed
    controller.sh("systemctl start --no-block fleet-audit.service")
    controller.until(lambda: ".partial" in controller.sh(f"ls {STORE}/runs"), "no run begins")
    controller.sh("systemctl kill -s KILL fleet-audit.service")
    controller.until(lambda: "failed" in controller.sh("systemctl is-active fleet-audit", code=None), "it still runs")
    assert controller.sh(f"{audit} show hosts --store {STORE} | grep -c node").strip() == "1"
    assert "interrupted" in controller.sh(f"{audit} schedule status --store {STORE}", code=3)
    controller.lab.clear("node")
    controller.sh("systemctl start fleet-audit.service")
    runs = [name for name in controller.sh(f"ls {STORE}/runs").split() if "." not in name]
    old = [name for name in before if "." not in name]
    assert len(runs) == 1 and runs != old, "the newest of the day is kept, as --keep-daily has it"
    controller.sh(f"{audit} schedule remove --store {STORE}")
    assert "fleet-audit" not in controller.sh("ls /etc/systemd/system /etc/systemd/system/timers.target.wants", code=None).replace(
        "fleet-audit.timer.d", ""
    )
