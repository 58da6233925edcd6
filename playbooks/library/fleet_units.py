#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: units of systemd that run or do not, now and at boot, and are given back as they were."""

DOCUMENTATION = r"""
module: fleet_units
short_description: Start or stop units with a way back
options:
  running: {description: "Units that shall run and begin at boot; of `a|b` the first that is there", type: list, elements: str, default: []}
  stopped: {description: Units that shall not; those that are not there are passed over, type: list, elements: str, default: []}
  state: {description: What to do, type: str, choices: [present, restored], default: present}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
"""

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule


def named(unit):
    """The name of a unit that may be called by another one."""
    code, out = fleet_saved.run(["systemctl", "show", "-p", "Id", "--value", "--", unit])
    return out if code == 0 and out else unit


def told(unit):
    """(whether it is there, enabled, active) of a unit."""
    code, out = fleet_saved.run(["systemctl", "show", "-p", "LoadState,UnitFileState,ActiveState", "--", unit])
    found = dict(line.partition("=")[::2] for line in out.splitlines())
    there = code == 0 and found.get("LoadState") not in (None, "not-found")
    return (
        there,
        found.get("UnitFileState") in ("enabled", "enabled-runtime"),
        found.get("ActiveState") in ("active", "activating", "reloading"),
    )


def set_unit(module, unit, enabled, active, was):
    """Bring a unit into a state."""
    for wanted, now, words in ((enabled, was[0], ("enable", "disable")), (active, was[1], ("start", "stop"))):
        if wanted != now:
            code, out = fleet_saved.run(["systemctl", "--quiet", words[0] if wanted else words[1], "--", unit])
            if code:
                module.fail_json(msg="systemctl %s %s: %s" % (words[0] if wanted else words[1], unit, out))


def changes(before, after):
    """What is shown of {unit: (enabled, active)} before and after."""
    lines = [
        "".join(
            "%s is%s enabled and%s active\n" % (unit, "" if e else " not", "" if a else " not") for unit, (e, a) in sorted(some.items())
        )
        for some in (before, after)
    ]
    return {"before": lines[0], "after": lines[1], "before_header": "units", "after_header": "units"}


def main():
    """Do what the parameters say."""
    own = {
        "running": {"type": "list", "elements": "str", "default": []},
        "stopped": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(argument_spec=fleet_saved.options(own), supports_check_mode=True)
    p = module.params
    kept = fleet_saved.load(p["saved"])
    if p["state"] == "restored":
        before, after = {}, {}
        for unit, (enabled, active, given) in (kept or {"units": {}})["units"].items():
            there, *now = told(unit)
            if there:  # what somebody else has set since stays
                before[unit], after[unit] = now, [enabled if now[0] == given else now[0], active if now[1] == given else now[1]]
        if not module.check_mode and kept:
            # What was stopped for another one begins again only after that one is gone.
            for unit in sorted(after, key=lambda name: after[name][1]):
                set_unit(module, unit, after[unit][0], after[unit][1], before[unit])
            fleet_saved.drop(p["saved"])
        module.exit_json(changed=bool(kept), diff=changes(before, after))
    wanted, running = {}, []
    for names in p["running"]:
        found = [unit for unit in names.split("|") if told(unit)[0]]
        if not found:
            module.fail_json(msg="%s is not installed here" % names.replace("|", " or "))
        running.append(named(found[0]))
    for unit in [*[u for u in map(named, p["stopped"]) if u not in running], *running]:
        there, *now = told(unit)
        if there and now != [unit in running] * 2:
            wanted[unit] = now
    diff = changes(wanted, {unit: [unit in running] * 2 for unit in wanted})
    if not wanted or module.check_mode:
        module.exit_json(changed=bool(wanted), diff=diff)
    kept = kept or {"units": {}}
    for unit, now in wanted.items():
        kept["units"][unit] = [*(kept["units"][unit][:2] if unit in kept["units"] else now), unit in running]
    fleet_saved.save(p["saved"], kept)
    for unit, now in wanted.items():  # what is stopped comes first: two may be in each other's way
        set_unit(module, unit, unit in running, unit in running, now)
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
