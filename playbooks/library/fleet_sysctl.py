#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: settings of the kernel, now and at the next boot, with the values before saved."""

DOCUMENTATION = r"""
module: fleet_sysctl
short_description: Set kernel settings with a way back
options:
  settings: {description: "Key -> value, or `>=N`: at least that; `*` in a key stands for every interface that is there", type: dict, default: {}}
  path: {description: File that sets them at boot, type: path, required: true}
  state: {description: What to do, type: str, choices: [present, restored], default: present}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
"""

import glob

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule


def places(key):
    """Paths below /proc/sys; a dot in an interface's name is a slash in the key, as sysctl(8) has it."""
    return sorted(glob.glob("/proc/sys/" + key.replace(".", "/")))


def parsed(text):
    """The settings of a file of sysctl.d."""
    found = {}
    for line in (text or "").splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith("#"):
            found[name.strip()] = value.strip()
    return found


def at_least(wanted, paths):
    """A value; of `>=N` what is there already, if it is as much. Raises ValueError for what is no number."""
    if not wanted.startswith(">="):
        return wanted
    return str(max([int(wanted[2:])] + [int((fleet_saved.read(path) or "0").strip() or 0) for path in paths]))


def forwarding_first(path):
    """A key to sort by: the kernel sets what belongs to a router or to a host anew when forwarding changes."""
    return ("forward" not in path, path)


def write(path, value):
    """Give the kernel a value."""
    with open(path, "w") as handle:
        handle.write(value + "\n")


def text_of(lines):
    """The file that sets them."""
    return "# Set by fleet-audit.\n" + "".join("%s = %s\n" % (k, lines[k]) for k in sorted(lines))


def restored(text, old):
    """(the file then, {path: value}) with what is still as it was left put back; what others, or another plan, have set since stays."""
    lines = parsed(text)
    for key, (was, given) in old["lines"].items():
        if lines.get(key) == given:
            if was is None:
                del lines[key]
            else:
                lines[key] = was
    values = {name: was for name, (was, given) in old["values"].items() if (fleet_saved.read(name) or "").strip() == given}
    return old["file"] if lines == parsed(old["file"]) else text_of(lines), values


def changes(file, before, after, now, then):
    """What is shown of a change of the file and of the kernel's values."""
    values = ["".join("%s = %s\n" % (path, some[path]) for path in sorted(then)) for some in (now, then)]
    return [
        {"before": before or "", "after": after or "", "before_header": file, "after_header": file},
        {"before": values[0], "after": values[1]},
    ]


def main():
    """Do what the parameters say."""
    own = {
        "settings": {"type": "dict", "default": {}},
        "path": {"type": "path", "required": True},
    }
    module = AnsibleModule(argument_spec=fleet_saved.options(own), supports_check_mode=True)
    p = module.params
    old = fleet_saved.load(p["saved"])
    if p["state"] == "restored":
        if old is None:
            module.exit_json(changed=False, msg="nothing was saved here")
        text, values = restored(fleet_saved.read(p["path"]), old)
        given = {path: old["values"][path][1] for path in values}
        diff = changes(p["path"], fleet_saved.read(p["path"]), text, given, values)
        if not module.check_mode:
            fleet_saved.put(p["path"], text, 0o644)
            for path in sorted(values, key=forwarding_first):
                write(path, values[path])
            fleet_saved.drop(p["saved"])
        module.exit_json(changed=True, diff=diff)
    try:
        wanted = {key: at_least(str(value), places(key)) for key, value in p["settings"].items()}
    except ValueError as error:
        module.fail_json(msg="a setting is no number: %s" % error)
    goal = {path: wanted[key] for key in wanted for path in places(key)}
    now = {path: (fleet_saved.read(path) or "").strip() for path in goal}
    differing = sorted((path for path in goal if now[path] != goal[path]), key=forwarding_first)
    missing = [key for key in sorted(wanted) if not places(key)]
    before = fleet_saved.read(p["path"])
    lines = dict(parsed(before), **{k: v for k, v in wanted.items() if k not in missing})
    content = text_of(lines)
    if not lines or (not differing and before == content):
        module.exit_json(changed=False, missing=missing)
    diff = changes(p["path"], before, content, now, {path: goal[path] for path in differing})
    if module.check_mode:
        module.exit_json(changed=True, diff=diff, missing=missing)
    old = old or {"file": before, "lines": {}, "values": {}}
    # A change of forwarding changes others: then all are written, and all are saved.
    written = sorted(goal, key=forwarding_first) if any("forward" in path for path in differing) else differing
    for path in written:
        old["values"][path] = (old["values"][path][0] if path in old["values"] else now[path], goal[path])
    for key in wanted.keys() - missing:
        old["lines"][key] = (old["lines"][key][0] if key in old["lines"] else parsed(before).get(key), wanted[key])
    fleet_saved.save(p["saved"], old)
    done = []
    try:
        for path in written:
            write(path, goal[path])
            done.append(path)
        fleet_saved.put(p["path"], content, 0o644)
    except OSError as error:
        for path in done:
            write(path, now[path])
        fleet_saved.put(p["path"], before, 0o644)
        module.fail_json(msg="put back: %s" % error)
    module.exit_json(changed=True, diff=diff, missing=missing)


if __name__ == "__main__":
    main()
