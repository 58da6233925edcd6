#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: locks passwords, takes shells away and members out of groups, and gives them back.

Names are read on the node and go to its tools as arguments. No hash of a password leaves /etc/shadow: a lock is the mark that
usermod(8) sets before it.
"""

DOCUMENTATION = r"""
module: fleet_accounts
short_description: Take rights away from accounts with a way back
options:
  lock_empty: {description: Lock accounts without a password, type: bool, default: false}
  lock_root: {description: Lock root's password, type: bool, default: false}
  lock_system: {description: Lock passwords of accounts of the system, type: bool, default: false}
  shell_system: {description: Give accounts of the system nologin, type: bool, default: false}
  shells_kept: {description: Accounts of the system that keep their shell, type: list, elements: str, default: []}
  groups:
    description: Of each C(names) of groups that nobody shall be in, but those of C(kept) and of the groups C(administrators)
    type: list
    elements: dict
    default: []
  state: {description: What to do, type: str, choices: [present, confirmed, restored], default: present}
  confirm_s: {description: Seconds after which the accounts are as before unless it was confirmed; 0 never, type: int, default: 0}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
"""

import os

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule

FILES = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow")
NOLOGIN = ("nologin", "false", "true", "sync", "shutdown", "halt", "git-shell")


def rows(path):
    """The fields of each line of a file such as /etc/passwd."""
    return [line.split(":") for line in (fleet_saved.read(path) or "").splitlines() if line and not line.startswith(("#", "+", "-"))]


def first_human():
    """The first number of accounts of people."""
    for line in (fleet_saved.read("/etc/login.defs") or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "UID_MIN" and words[1].isdigit():
            return int(words[1])
    return 1000


def nologin():
    """A shell that lets nobody in."""
    return next((path for path in ("/usr/sbin/nologin", "/sbin/nologin") if os.path.exists(path)), "/bin/false")


def wanted(p):
    """{"lock": {name: whether its password is empty}, "shell": {name: shell}, "member": [[name, group]]} of what is to be changed."""
    people = [row for row in rows("/etc/passwd") if len(row) == 7 and row[2].isdigit()]
    passwords = {row[0]: row[1] for row in rows("/etc/shadow") if len(row) > 1}
    system = {row[0] for row in people if 0 < int(row[2]) < first_human()}
    lock, shell, member = {}, {}, []
    for row in people:
        name, password = row[0], passwords.get(row[0]) if row[1] == "x" else row[1]
        usable = password is not None and password != "" and password[0] not in "!*"
        if (password == "" and p["lock_empty"]) or (
            usable and ((name == "root" and p["lock_root"]) or (name in system and p["lock_system"]))
        ):
            lock[name] = password == ""
        if p["shell_system"] and name in system and name not in p["shells_kept"] and os.path.basename(row[6] or "/bin/sh") not in NOLOGIN:
            shell[name] = row[6]
    groups = {row[0]: [m for m in row[3].split(",") if m] for row in rows("/etc/group") if len(row) == 4}
    for rule in p["groups"]:
        kept = {"root", *rule.get("kept", [])} | {m for group in rule.get("administrators", []) for m in groups.get(group, [])}
        for group in rule["names"]:
            member += [[name, group] for name in groups.get(group, []) if name not in kept]
    return {"lock": lock, "shell": shell, "member": member}


def run(module, argv):
    """Run a tool of the node. Its failure ends the module."""
    code, out = fleet_saved.run(argv)
    if code:
        module.fail_json(msg="%s: %s; rollback gives back what was changed" % (" ".join(argv[:2]), out))


def in_force(kept):
    """Of what was kept, what is still as it was left: a password or a shell that somebody has given since stays. None if that is nothing."""
    here = {row[0]: row[6] for row in rows("/etc/passwd") if len(row) == 7}
    passwords = {row[0]: row[1] for row in rows("/etc/shadow") if len(row) > 1}
    members = {(member, row[0]) for row in rows("/etc/group") if len(row) == 4 for member in row[3].split(",")}
    found = {
        "lock": {
            name: empty
            for name, empty in kept["lock"].items()
            if name in here and (passwords.get(name) == "!" if empty else passwords.get(name, "").startswith("!"))
        },
        "shell": {name: shell for name, shell in kept["shell"].items() if here.get(name) == nologin()},
        "member": [[name, group] for name, group in kept["member"] if name in here and (name, group) not in members],
    }
    return found if any(found.values()) else None


def give_back(module, kept):
    """Unlock, and give shells and groups back."""
    for name, empty in sorted(kept.get("lock", {}).items()):
        run(module, ["passwd", "--quiet", "--delete", name] if empty else ["usermod", "--unlock", "--", name])
    for name, shell in sorted(kept.get("shell", {}).items()):
        run(module, ["usermod", "--shell", shell, "--", name])
    for name, group in kept.get("member", []):
        run(module, ["gpasswd", "--add", name, group])


def told(found):
    """(how accounts were, how they are then), to be shown."""
    before = ["%s has %s password\n" % (name, "an empty" if empty else "a") for name, empty in sorted(found.get("lock", {}).items())]
    before += ["%s has the shell %s\n" % (name, shell or "/bin/sh") for name, shell in sorted(found.get("shell", {}).items())]
    before += ["%s is in %s\n" % (name, group) for name, group in found.get("member", [])]
    after = ["%s is locked\n" % name for name in sorted(found.get("lock", {}))]
    after += ["%s has %s\n" % (name, nologin()) for name in sorted(found.get("shell", {}))]
    return "".join(before), "".join(after)


def main():
    """Do what the parameters say."""
    flags = {name: {"type": "bool", "default": False} for name in ("lock_empty", "lock_root", "lock_system", "shell_system")}
    lists = {
        "shells_kept": {"type": "list", "elements": "str", "default": []},
        "groups": {"type": "list", "elements": "dict", "default": []},
    }
    own = {
        **flags,
        **lists,
        "confirm_s": {"type": "int", "default": 0},
    }
    module = AnsibleModule(argument_spec=fleet_saved.options(own, ("present", "confirmed", "restored")), supports_check_mode=True)
    p = module.params
    watch = os.path.join(p["saved"], "watch")
    if p["state"] == "confirmed":
        fleet_saved.confirm_or_fail(module, watch, drop_files=True)  # which hold hashes of passwords
    kept = fleet_saved.load(p["saved"])
    if fleet_saved.reverted(watch):  # what an older change did, and was confirmed, is still there
        kept = in_force(kept) if kept else None
        if not module.check_mode:
            fleet_saved.drop(watch)
            if kept:
                fleet_saved.save(p["saved"], kept)
            else:
                fleet_saved.drop(p["saved"])
    if p["state"] == "restored":
        still = (in_force(kept) if kept else None) or {}
        if kept and not module.check_mode:
            fleet_saved.drop(watch)
            give_back(module, still)
            fleet_saved.drop(p["saved"])
        before, after = told(still)
        module.exit_json(
            changed=bool(kept), diff={"before": after, "after": before, "before_header": "accounts", "after_header": "accounts"}
        )
    found = wanted(p)
    before, after = told(found)
    diff = {"before": before, "after": after, "before_header": "accounts", "after_header": "accounts"}
    if not before or module.check_mode:
        module.exit_json(changed=bool(before), diff=diff)
    kept = kept or {"lock": {}, "shell": {}, "member": []}
    for kind in ("lock", "shell"):
        for name, value in found[kind].items():
            kept[kind].setdefault(name, value)
    kept["member"] += [pair for pair in found["member"] if pair not in kept["member"]]
    fleet_saved.save(p["saved"], kept)
    if p["confirm_s"]:
        if fleet_saved.load(watch) is None:  # of a change that was cut, what was there before it comes back
            fleet_saved.save(watch, {"files": {path: fleet_saved.snapshot(path) for path in FILES if os.path.exists(path)}, "back": []})
        fleet_saved.disarm(watch)
        fleet_saved.arm(watch, p["confirm_s"])
    for name in sorted(found["lock"]):
        run(module, ["usermod", "--lock", "--", name])
    for name in sorted(found["shell"]):
        run(module, ["usermod", "--shell", nologin(), "--", name])
    for name, group in found["member"]:
        run(module, ["gpasswd", "--delete", name, group])
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
