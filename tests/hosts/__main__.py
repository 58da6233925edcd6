# SPDX-License-Identifier: Apache-2.0
"""Stand up hosts by hand: ``python -m tests.hosts up N [--kind light|boot] [--release R,R] [--run CMD...]``.

Without ``--run`` the lab stays until Ctrl-C or SIGTERM. With it, CMD runs in the lab's network with
FLEET_LAB_INVENTORY, FLEET_LAB_KNOWN_HOSTS, FLEET_LAB_KEY and FLEET_LAB_SSH_CONFIG set; then the lab is taken
down and CMD's exit status is passed on.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests.hosts import HostSpec, Lab, LabError


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="stand up N hosts")
    up.add_argument("number", type=int, metavar="N")
    up.add_argument("--kind", choices=("light", "boot"), default="light")
    up.add_argument("--release", default="bookworm", help="releases, comma separated, dealt out in turn")
    up.add_argument("--run", nargs=argparse.REMAINDER, metavar="CMD", help="run CMD in the lab, then take it down")
    return parser.parse_args(argv)


def specs(args: argparse.Namespace) -> list[HostSpec]:
    """Describe the hosts that were asked for: h0001, h0002, ..."""
    releases = args.release.split(",")
    return [HostSpec(f"h{index + 1:04d}", kind=args.kind, release=releases[index % len(releases)]) for index in range(args.number)]


def environment(lab: Lab) -> dict[str, str]:
    """Return the environment of a command that runs in the lab."""
    return dict(os.environ) | {
        "FLEET_LAB_INVENTORY": str(lab.inventory),
        "FLEET_LAB_KNOWN_HOSTS": str(lab.known_hosts),
        "FLEET_LAB_KEY": str(lab.key),
        "FLEET_LAB_SSH_CONFIG": str(lab.ssh_config),
    }


def stay(lab: Lab) -> int:
    """Say how to reach the hosts and wait for a signal."""
    print(f"inventory: {lab.inventory}")
    print(f"in the lab's network: {shlex.join(lab.command(['COMMAND']))}")
    print(f"log in: {shlex.join(lab.command(lab.ssh('h0001')))}")
    print("Ctrl-C takes the hosts down.", flush=True)
    while True:
        signal.pause()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: list[str]) -> int:
    """Stand the hosts up, run the command or wait, take them down."""
    args = parse(argv)
    signal.signal(signal.SIGTERM, _terminate)
    with tempfile.TemporaryDirectory(prefix="fleet-lab-") as folder, Lab(Path(folder)) as lab:
        started = time.monotonic()
        try:
            lab.up(specs(args))
            print(f"{args.number} hosts up in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
            if not args.run:
                return stay(lab)
            return subprocess.run(lab.command(args.run), env=environment(lab)).returncode
        except KeyboardInterrupt:
            return 130
        except (LabError, ValueError) as error:
            print(f"fleet lab: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
