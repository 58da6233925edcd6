#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: packages of apt that are released, removed or updated, with the versions before saved."""

DOCUMENTATION = r"""
module: fleet_packages
short_description: Change packages with a way back, as far as their repository still has the versions before
options:
  release: {description: Whether packages that are held are released, type: bool, default: false}
  held: {description: Beginnings of names that stay held, type: list, elements: str, default: []}
  absent: {description: Packages that shall not be there, type: list, elements: str, default: []}
  updated: {description: Packages brought to the version of their repository if they are there, type: list, elements: str, default: []}
  state: {description: What to do, type: str, choices: [present, restored], default: present}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
"""

import os
import re

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule

NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?\Z")
APT = ["apt-get", "--yes", "--quiet", "-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=120"]


def lines(module, argv):
    """What a tool of the node says, line by line. Its failure ends the module."""
    code, out = fleet_saved.run(argv)
    if code:
        module.fail_json(msg="%s: %s" % (" ".join(argv[:2]), out[-500:]))
    return out.splitlines()


def versions():
    """{package: version} of what is installed."""
    _, out = fleet_saved.run(["dpkg-query", "-W", "-f", "${Package}\t${Version}\t${db:Status-Status}\n"])
    rows = [line.split("\t") for line in out.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def candidates(module, names):
    """{package: version that its repository has} of these."""
    found, name = {}, ""
    for line in lines(module, ["apt-cache", "policy", "--", *names]) if names else []:
        if line and not line[0].isspace():
            name = line.rstrip(":").split(":")[0]
        elif line.strip().startswith("Candidate:"):
            found[name] = line.split(":", 1)[1].strip()
    return {name: version for name, version in found.items() if version != "(none)"}


def removed(module, words):
    """What apt would take away."""
    return [line.split()[1] for line in lines(module, ["apt-get", "--simulate", "--quiet", *words]) if line.startswith("Remv ")]


def changes(before, after):
    """What is shown of a change."""
    return {"before": "".join(before), "after": "".join(after), "before_header": "packages", "after_header": "packages"}


def main():
    """Do what the parameters say."""
    own = {
        "release": {"type": "bool", "default": False},
        "held": {"type": "list", "elements": "str", "default": []},
        "absent": {"type": "list", "elements": "str", "default": []},
        "updated": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(argument_spec=fleet_saved.options(own), supports_check_mode=True)
    p = module.params
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    os.environ["LC_ALL"] = "C.UTF-8"
    os.environ["NEEDRESTART_SUSPEND"] = "1"  # it would restart services that have nothing to do with this
    if fleet_saved.run(["apt-get", "--version"])[0]:
        module.fail_json(msg="this node has no apt, and this module knows no other")
    kept = fleet_saved.load(p["saved"])
    here = versions()
    if p["state"] == "restored":
        # What somebody else has installed since stays.
        back = {name: was for name, (was, given) in (kept or {"versions": {}})["versions"].items() if here.get(name) == given != was}
        hold = kept["held"] if kept else []
        if kept and not module.check_mode:
            if back:
                words = ["%s=%s" % (name, back[name]) for name in sorted(back)]
                lines(module, [*APT, "install", "--allow-downgrades", "--no-install-recommends", "--", *words])
            if hold:
                lines(module, ["apt-mark", "hold", "--", *hold])
            fleet_saved.drop(p["saved"])
        before = ["%s %s\n" % (name, here[name]) for name in sorted(back) if name in here]
        after = ["%s is held\n" % name for name in hold] + ["%s %s\n" % (name, back[name]) for name in sorted(back)]
        module.exit_json(changed=bool(kept), diff=changes(before, after))
    wrong = [name for name in [*p["absent"], *p["updated"]] if not NAME.match(name)]
    if wrong:
        module.fail_json(msg="%r is no name of a package" % wrong[0])
    held = [name for name in lines(module, ["apt-mark", "showhold"]) if NAME.match(name)] if p["release"] else []
    held = [name for name in held if not name.startswith(tuple(p["held"]))]
    absent = [name for name in p["absent"] if name in here]
    there = candidates(module, [name for name in p["updated"] if name in here])
    updated = {name: there[name] for name in p["updated"] if name in here and there.get(name, here[name]) != here[name]}
    also = removed(module, ["remove", "--", *absent]) if absent else []
    wanted = ["%s=%s" % (name, there[name]) for name in sorted(updated)]
    also += removed(module, ["install", "--allow-change-held-packages", "--no-install-recommends", "--", *wanted]) if wanted else []
    if set(also) - set(absent):
        module.fail_json(msg="apt would also take %s away; nothing was changed" % ", ".join(sorted(set(also) - set(absent))))
    before = ["%s is held\n" % name for name in held] + ["%s %s\n" % (name, here[name]) for name in sorted({*absent, *updated})]
    after = ["%s %s\n" % (name, there[name]) for name in sorted(updated)]
    diff = changes(before, after)
    if not (before or after) or module.check_mode:
        module.exit_json(changed=bool(before or after), diff=diff)
    kept = kept or {"versions": {}, "held": []}
    for name in [*absent, *updated]:
        kept["versions"][name] = (
            kept["versions"][name][0] if name in kept["versions"] else here[name],
            there.get(name) if name in updated else None,
        )
    kept["held"] += [name for name in held if name not in kept["held"]]
    fleet_saved.save(p["saved"], kept)
    if held:
        lines(module, ["apt-mark", "unhold", "--", *held])
    if absent:
        lines(module, [*APT, "remove", "--", *absent])
    if wanted:
        lines(module, [*APT, "install", "--no-install-recommends", "--", *wanted])
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
