#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a file that is saved before it is changed, validated in its place, and put back by itself unless confirmed."""

DOCUMENTATION = r"""
module: fleet_file
short_description: Write a file with a way back
options:
  path: {description: The file, type: path, required: true}
  content: {description: What it shall hold; needed for present, type: str}
  mode: {description: Its permission bits, type: str, default: "0644"}
  state: {description: What to do, type: str, choices: [present, confirmed, restored], default: present}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
  validate: {description: Command that must end with 0 once the file is in place, type: list, elements: str, default: []}
  reload: {description: Command that makes the service read it, type: list, elements: str, default: []}
  confirm_s: {description: Seconds after which the state before comes back unless it was confirmed; 0 never, type: int, default: 0}
"""

import contextlib
import json
import os
import subprocess
import sys
import time

from ansible.module_utils.basic import AnsibleModule

WAIT = r"""
import json, os, subprocess, sys, time
saved, seconds, token = sys.argv[1], float(sys.argv[2]), sys.argv[3]
time.sleep(seconds)
note = os.path.join(saved, "state.json")
with open(os.path.join(saved, "armed")) as handle:
    if handle.read() != token:
        sys.exit(0)  # a later change has its own watch
if os.path.exists(os.path.join(saved, "confirmed")) or not os.path.exists(note):
    sys.exit(0)
with open(note) as handle:
    before = json.load(handle)
if before["content"] is None:
    if os.path.exists(before["path"]):
        os.unlink(before["path"])
else:
    with open(before["path"] + ".fleet", "w") as handle:
        handle.write(before["content"])
    os.chmod(before["path"] + ".fleet", before["mode"])
    os.rename(before["path"] + ".fleet", before["path"])
if before["reload"]:
    subprocess.call(before["reload"])
os.rename(note, os.path.join(saved, "reverted.json"))
"""


def read(path):
    """The text of a file, None if it cannot be read."""
    try:
        with open(path) as handle:
            return handle.read()
    except OSError:
        return None


def put(path, content, mode):
    """Replace a file whole; without content remove it."""
    if content is None:
        if os.path.exists(path):
            os.unlink(path)
        return
    new = path + ".fleet"
    with open(new, "w") as handle:
        handle.write(content)
    os.chmod(new, mode)
    os.rename(new, path)


def missing_folders(path):
    """Folders above a path that are not there, the outermost first."""
    found, folder = [], os.path.dirname(path)
    while folder and not os.path.isdir(folder):
        found.insert(0, folder)
        folder = os.path.dirname(folder)
    return found


def drop(folders):
    """Remove folders that were made for a file, the innermost first, unless somebody uses them."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def run(argv):
    """Exit status and output of a command."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = process.communicate()[0].decode("utf-8", "replace")
    return process.returncode, out.strip()


def main():
    """Do what the parameters say."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str"},
            "mode": {"type": "str", "default": "0644"},
            "state": {"type": "str", "choices": ["present", "confirmed", "restored"], "default": "present"},
            "saved": {"type": "path", "required": True},
            "validate": {"type": "list", "elements": "str", "default": []},
            "reload": {"type": "list", "elements": "str", "default": []},
            "confirm_s": {"type": "int", "default": 0},
        },
        required_if=[("state", "present", ["content"])],
        supports_check_mode=True,
    )
    p = module.params
    note, confirmed = os.path.join(p["saved"], "state.json"), os.path.join(p["saved"], "confirmed")
    if p["state"] == "confirmed":
        if os.path.exists(os.path.join(p["saved"], "reverted.json")):
            module.fail_json(msg="it was not confirmed in time, and the state before is back")
        changed = os.path.exists(note) and not os.path.exists(confirmed)
        if changed and not module.check_mode:
            open(confirmed, "w").close()
        module.exit_json(changed=changed)
    before = read(p["path"])
    if p["state"] == "restored":
        kept = read(note)
        if kept is None:
            module.exit_json(changed=False, msg="nothing was saved here")
        old = json.loads(kept)
        if not module.check_mode:
            put(old["path"], old["content"], old["mode"])
            drop(old.get("made", []))
            if p["reload"]:
                code, out = run(p["reload"])
                if code:
                    module.fail_json(msg="restored, but the service did not read it: " + out)
            for path in (note, confirmed):
                if os.path.exists(path):
                    os.unlink(path)
        module.exit_json(changed=True, diff={"before": before or "", "after": old["content"] or ""})
    diff = {"before": before or "", "after": p["content"], "before_header": p["path"], "after_header": p["path"]}
    if before == p["content"]:
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True, diff=diff)
    if not os.path.isdir(p["saved"]):
        os.makedirs(p["saved"], 0o700)
    mode = os.stat(p["path"]).st_mode & 0o7777 if before is not None else int(p["mode"], 8)
    made = missing_folders(p["path"])
    if not os.path.exists(note):
        put(note, json.dumps({"path": p["path"], "content": before, "mode": mode, "reload": p["reload"], "made": made}), 0o600)
    for folder in made:
        os.mkdir(folder, 0o755)
    for left in (confirmed, os.path.join(p["saved"], "reverted.json")):
        if os.path.exists(left):
            os.unlink(left)
    put(p["path"], p["content"], int(p["mode"], 8))
    if p["validate"]:
        code, out = run(p["validate"])
        if code:
            put(p["path"], before, mode)
            drop(made)
            module.fail_json(msg="refused by {}, and put back: {}".format(p["validate"][0], out))
    if p["confirm_s"]:  # armed before the service reads it: from here on the node helps itself
        token = "{}-{}".format(time.time(), os.getpid())
        put(os.path.join(p["saved"], "armed"), token, 0o600)
        subprocess.Popen(
            [sys.executable, "-c", WAIT, p["saved"], str(p["confirm_s"]), token],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            close_fds=True,
        )
    if p["reload"]:
        code, out = run(p["reload"])
        if code:
            put(p["path"], before, mode)
            run(p["reload"])
            module.fail_json(msg="the service did not read it, and it was put back: " + out)
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
