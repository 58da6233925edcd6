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
  installed: {description: Packages that shall be there in the version of their repository, type: list, elements: str, default: []}
  replaces: {description: Beginnings of names of packages that may go for those, type: list, elements: str, default: []}
  updated: {description: Packages brought to the version of their repository if they are there, type: list, elements: str, default: []}
  state: {description: What to do, type: str, choices: [present, restored], default: present}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
"""

import os
import re

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule

NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?\Z")
PAST_HOLDS = ["--allow-change-held-packages"]
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


def planned(module, words):
    """{package: (version now, version then), None without one} of all that apt would change."""
    found = {}
    for line in lines(module, ["apt-get", "--simulate", "--quiet", *words]):
        step = re.match(r"(?:Inst|Remv) (\S+)(?: \[([^\]]+)\])?(?: \((\S+))?", line)
        if step and NAME.match(step.group(1)):
            found[step.group(1)] = (step.group(2), step.group(3) if line.startswith("Inst ") else None)
    return found


def changes(before, after):
    """What is shown of a change."""
    return {"before": "".join(before), "after": "".join(after), "before_header": "packages", "after_header": "packages"}


def restore(module, saved, kept, here):
    """Give versions and holds back; what somebody else has installed since stays."""
    kept = kept or {"versions": {}, "held": []}
    back = {name: was for name, (was, given) in kept["versions"].items() if here.get(name) == given != was}
    before = ["%s %s\n" % (name, here[name]) for name in sorted(back) if name in here]
    after = ["%s is held\n" % name for name in kept["held"]] + ["%s %s\n" % (name, back[name]) for name in sorted(back) if back[name]]
    if not module.check_mode:
        words = [name + ("=" + back[name] if back[name] else "-") for name in sorted(back)]
        if words:
            lines(module, [*APT, "install", "--allow-downgrades", *PAST_HOLDS, "--no-install-recommends", "--", *words])
        if kept["held"]:
            lines(module, ["apt-mark", "hold", "--", *kept["held"]])
        fleet_saved.drop(saved)
    module.exit_json(changed=kept != {"versions": {}, "held": []}, diff=changes(before, after))


def commands(module, p, here):
    """(words of apt-get, one after the other; {package: (version now, version then)} of all that they would change)."""
    wrong = [name for name in [*p["absent"], *p["installed"], *p["updated"]] if not NAME.match(name)]
    if wrong:
        module.fail_json(msg="%r is no name of a package" % wrong[0])
    there = candidates(module, [*p["installed"], *(name for name in p["updated"] if name in here)])
    unknown = [name for name in p["installed"] if name not in there]
    if unknown:
        module.fail_json(msg="no repository of this node has %s; nothing was changed" % ", ".join(unknown))
    absent = [name for name in p["absent"] if name in here]
    wanted = ["%s=%s" % (name, there[name]) for name in sorted(there) if here.get(name) != there[name]]
    found = [["remove", "--", *absent]] if absent else []
    if wanted:
        past = [*(["--ignore-hold"] if p["installed"] else []), *(PAST_HOLDS if p["installed"] or p["release"] else [])]
        found.append(["install", "--no-install-recommends", *past, "--", *wanted])
    steps = {}
    for words in found:
        steps.update(planned(module, words))
    also = [name for name in sorted(steps) if steps[name][1] is None and name not in absent and not name.startswith(tuple(p["replaces"]))]
    if also:
        module.fail_json(msg="apt would also take %s away; nothing was changed" % ", ".join(also))
    return found, steps


def main():
    """Do what the parameters say."""
    own = {name: {"type": "list", "elements": "str", "default": []} for name in ("held", "absent", "installed", "replaces", "updated")}
    own["release"] = {"type": "bool", "default": False}
    module = AnsibleModule(argument_spec=fleet_saved.options(own), supports_check_mode=True)
    p = module.params
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    os.environ["LC_ALL"] = "C.UTF-8"
    os.environ["NEEDRESTART_SUSPEND"] = "1"  # it would restart services that have nothing to do with this
    if fleet_saved.run(["apt-get", "--version"])[0]:
        module.fail_json(msg="this node has no apt, and this module knows no other")
    kept, here = fleet_saved.load(p["saved"]), versions()
    if p["state"] == "restored":
        restore(module, p["saved"], kept, here)
    found, steps = commands(module, p, here)
    held = [name for name in lines(module, ["apt-mark", "showhold"]) if NAME.match(name)]
    released = [name for name in held if p["release"] and not name.startswith(tuple(p["held"]))]
    before = ["%s is held\n" % name for name in released] + ["%s %s\n" % (name, steps[name][0]) for name in sorted(steps) if steps[name][0]]
    after = ["%s %s\n" % (name, steps[name][1]) for name in sorted(steps) if steps[name][1]]
    diff = changes(before, after)
    if not (before or after) or module.check_mode:
        module.exit_json(changed=bool(before or after), diff=diff)
    kept = kept or {"versions": {}, "held": []}
    for name, (now, then) in steps.items():
        kept["versions"][name] = (kept["versions"][name][0] if name in kept["versions"] else now, then)
    kept["held"] += [name for name in held if (name in released or name in steps) and name not in kept["held"]]
    fleet_saved.save(p["saved"], kept)
    if released:
        lines(module, ["apt-mark", "unhold", "--", *released])
    for words in found:
        lines(module, [*APT, *words])
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
