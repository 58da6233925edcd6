#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Plays a program on the hosts of test_flips.py: tells its version, or listens where $LISTEN says, and waits.

Copied to the path of the program that it plays, it is run as Python's console scripts are, with their words.
"""

import os
import signal
import socket
import sys

if sys.argv[1:] in (["--version"], ["-V"]):
    with open(os.path.join("/etc/play", os.path.basename(sys.argv[0]))) as told:
        print(told.read().strip())
    sys.exit()
held = []
for place in os.environ.get("LISTEN", "").split():
    proto, host, port = place.split("|")
    held.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM))
    held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held[-1].bind((host, int(port)))
    if proto == "tcp":
        held[-1].listen()
if "NOTIFY_SOCKET" in os.environ:  # sd_notify(3)
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
while True:
    signal.pause()
