#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: takes rights away from files and folders, and gives them back."""

DOCUMENTATION = r"""
module: fleet_modes
short_description: Take rights away from files with a way back
options:
  rules:
    description: >
      For C(paths) (patterns), or with C(homes) homes below /home, or files of NVIDIA's C(capabilities) (patterns) as the driver tells them
      C(below) a folder: the permission bits to C(clear), and whether root must own them
    type: list
    elements: dict
    default: []
  state: {description: What to do, type: str, choices: [present, restored], default: present}
  saved: {description: Folder in which the rights before are kept, type: path, required: true}
"""

import glob
import os
import pwd
import re
import stat

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule

LEAST_UID = 1000


def homes():
    """The homes of accounts of people that are there; root and services keep theirs as the distribution has it."""
    found = {p.pw_dir for p in pwd.getpwall() if LEAST_UID <= p.pw_uid < 65534 and p.pw_dir.startswith("/home/")}
    return sorted(path for path in found if os.path.isdir(path) and not os.path.islink(path))


def capability_files(below, names):
    """The device files of capabilities of NVIDIA's driver, which tells their minor numbers."""
    told = [fleet_saved.read(path) or "" for name in names for path in sorted(glob.glob(os.path.join(below, name)))]
    minors = [found.group(1) for found in (re.search(r"^DeviceFileMinor:\s*(\d+)$", text, re.MULTILINE) for text in told) if found]
    return ["/dev/nvidia-caps/nvidia-cap" + minor for minor in minors]


def paths_of(rule):
    """What a rule is about."""
    if rule.get("homes"):
        return homes()
    if rule.get("capabilities"):
        return capability_files(rule["below"], rule["capabilities"])
    return [path for pattern in rule.get("paths", []) for path in sorted(glob.glob(pattern))]


def differing(rules):
    """({path: (rights, rights then)} of what has more rights than a rule allows, what root should own and does not)."""
    found, foreign = {}, []
    for rule in rules:
        clear = int(str(rule.get("clear", "0")), 8)
        for path in paths_of(rule):
            try:
                now = os.lstat(path)
            except OSError:
                continue
            if not (stat.S_ISREG(now.st_mode) or stat.S_ISDIR(now.st_mode) or stat.S_ISCHR(now.st_mode)):
                continue
            mode = stat.S_IMODE(now.st_mode)
            wanted = (found[path][1] if path in found else mode) & ~clear
            if wanted != mode:
                found[path] = (mode, wanted)
            if rule.get("owner_root") and now.st_uid != 0:
                foreign.append(path)
    return found, foreign


def give(path, mode):
    """Set the rights of a file or folder that is no link; nobody can put another one in its place meanwhile."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)  # what is no file is not opened for it
    try:
        os.chmod("/proc/self/fd/%d" % handle, mode)
    finally:
        os.close(handle)


def is_still(path, mode):
    """Whether a file has rights as it was given them; what somebody else has set since stays."""
    try:
        now = os.lstat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISLNK(now) and stat.S_IMODE(now) == mode


def changes(found):
    """What is shown of {path: (rights, rights then)}."""
    lines = ["".join("%s %04o\n" % (path, found[path][which]) for path in sorted(found)) for which in (0, 1)]
    return {"before": lines[0], "after": lines[1]}


def main():
    """Do what the parameters say."""
    own = {
        "rules": {"type": "list", "elements": "dict", "default": []},
    }
    module = AnsibleModule(argument_spec=fleet_saved.options(own), supports_check_mode=True)
    p = module.params
    kept = fleet_saved.load(p["saved"]) or {}
    if p["state"] == "restored":
        back = {path: (given, was) for path, (was, given) in kept.items() if is_still(path, given)}
        if not module.check_mode:
            for path in sorted(back):
                give(path, back[path][1])
            fleet_saved.drop(p["saved"])
        module.exit_json(changed=bool(kept), diff=changes(back))
    found, foreign = differing(p["rules"])
    if foreign:  # root's program or rule it would become, whatever its owner wrote into it
        module.fail_json(
            msg="%s: not root's; look at what is in it before you give it to root, or remove it. Nothing was changed"
            % ", ".join(foreign[:5])
        )
    diff = changes(found)
    if not found or module.check_mode:
        module.exit_json(changed=bool(found), diff=diff)
    for path, (was, given) in found.items():
        kept[path] = (kept[path][0] if path in kept else was, given)
    fleet_saved.save(p["saved"], kept)
    for path in sorted(found):
        try:
            give(path, found[path][1])
        except OSError as error:
            module.fail_json(msg="%s: %s; rollback gives back what was changed" % (path, error.strerror))
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
