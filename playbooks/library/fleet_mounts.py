#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: mounts with further options, now and at boot, and given back as they were."""

DOCUMENTATION = r"""
module: fleet_mounts
short_description: Add options to mounts with a way back
options:
  rules:
    description: >
      `options` (nodev, nosuid, noexec) that the mounts at `folders` shall have, or those of the `types` of file systems but for `kept`;
      a folder that is no mount of its own is left so
    type: list
    elements: dict
    default: []
  fstab: {description: The file that mounts them at boot, type: path, default: /etc/fstab}
  state: {description: What to do, type: str, choices: [present, restored], default: present}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
"""

import re

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule

SIZES = ("size=", "mode=", "nr_inodes=", "uid=", "gid=", "huge=")
CLOSING = ("nodev", "nosuid", "noexec")
PER_MOUNT = ("nodev", "nosuid", "noexec", "ro", "rw", "relatime", "noatime", "nodiratime", "strictatime")


def unescaped(word):
    """A word of mountinfo or fstab, whose spaces are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), word)


def mounts():
    """{folder: (source, type, options of the mount, size and rights of a tmpfs)} as the kernel has them; the last of a folder counts."""
    found = {}
    for line in (fleet_saved.read("/proc/self/mountinfo") or "").splitlines():
        words, _, rest = line.partition(" - ")
        words, rest = words.split(), rest.split()
        if len(words) > 5 and len(rest) > 1:
            found[unescaped(words[4])] = (rest[1], rest[0], words[5].split(","), [o for o in rest[-1].split(",") if o.startswith(SIZES)])
    return found


def with_options(text, folder, options, now):
    """A fstab whose line of a folder has the options; a line is added where there is none, for what can be mounted so."""
    lines = text.splitlines()
    for n, line in enumerate(lines):
        words = line.split()
        if len(words) > 3 and not line.lstrip().startswith("#") and unescaped(words[1]) == folder:
            have = words[3].split(",")
            opposite = [option[2:] for option in options]
            words[3] = ",".join([o for o in have if o not in opposite] + [o for o in options if o not in have])
            lines[n] = line if words[3].split(",") == have else "\t".join(words)
            return "\n".join(lines) + "\n"
    source, kind, have, sizes = now
    if kind != "tmpfs":  # what mounts it is not known: the kernel alone is told, and the audit says so after a boot
        return text
    text = text if text.endswith("\n") or not text else text + "\n"
    plain = [o for o in have if o in PER_MOUNT and o not in options]
    return text + "%s\t%s\t%s\t%s\t0\t0\n" % (source, folder.replace(" ", "\\040"), kind, ",".join(plain + list(options) + sizes))


def remount(module, folder, options):
    """Give a mount other options, and it alone, whatever else shares its file system."""
    code, out = fleet_saved.run(["mount", "-o", "remount,bind," + ",".join(options), "--", folder])
    if code:
        module.fail_json(msg="mount -o remount of %s: %s; rollback gives back what was changed" % (folder, out))


def main():
    """Do what the parameters say."""
    own = {
        "rules": {"type": "list", "elements": "dict", "default": []},
        "fstab": {"type": "path", "default": "/etc/fstab"},
    }
    module = AnsibleModule(argument_spec=fleet_saved.options(own), supports_check_mode=True)
    p = module.params
    kept, now = fleet_saved.load(p["saved"]), mounts()
    if p["state"] == "restored":
        file = (kept or {}).get("file") or fleet_saved.snapshot(p["fstab"])
        if kept and fleet_saved.digest(p["fstab"]) not in (kept["wrote"], fleet_saved.hashed(file["content"])):
            module.fail_json(msg="%s was changed by others since: nothing was put back" % p["fstab"])
        diff = fleet_saved.shown(p["fstab"], fleet_saved.read(p["fstab"]), file["content"])
        if kept and not module.check_mode:
            fleet_saved.put(p["fstab"], file["content"], file["mode"], file["uid"], file["gid"])
            for folder, options in sorted(kept["mounts"].items()):
                if folder in now:
                    remount(module, folder, options)
            fleet_saved.drop(p["saved"])
        module.exit_json(changed=bool(kept), diff=diff)
    wanted = {}
    for rule in p["rules"]:
        for folder in now:
            if folder in rule.get("folders", []) or (now[folder][1] in rule.get("types", []) and folder not in rule.get("kept", [])):
                options = wanted.setdefault(folder, [])
                options += [option for option in rule["options"] if option in CLOSING and option not in options]
    lacking = {folder: [o for o in options if o not in now[folder][2]] for folder, options in wanted.items()}
    before = fleet_saved.read(p["fstab"])
    after = before or ""
    for folder in sorted(wanted):
        after = with_options(after, folder, wanted[folder], now[folder])
    lacking = {folder: options for folder, options in lacking.items() if options}
    diff = [
        fleet_saved.shown(p["fstab"], before, after),
        {
            "before": "".join("%s %s\n" % (f, ",".join(now[f][2])) for f in sorted(lacking)),
            "after": "".join("%s %s\n" % (f, ",".join(now[f][2] + lacking[f])) for f in sorted(lacking)),
        },
    ]
    changed = bool(lacking) or after != (before or "")
    if not changed or module.check_mode:
        module.exit_json(changed=changed, diff=diff)
    kept = kept or {"file": fleet_saved.snapshot(p["fstab"]), "mounts": {}}
    kept["wrote"] = fleet_saved.hashed(after if after != (before or "") else before)
    for folder in lacking:
        have = [o for o in now[folder][2] if o in PER_MOUNT]
        kept["mounts"].setdefault(folder, have + [o[2:] for o in lacking[folder]])
    fleet_saved.save(p["saved"], kept)
    if after != (before or ""):
        file = fleet_saved.snapshot(p["fstab"])
        fleet_saved.put(p["fstab"], after, file["mode"] or 0o644, file["uid"], file["gid"])
    for folder, options in sorted(lacking.items()):
        remount(module, folder, [o for o in now[folder][2] if o in PER_MOUNT] + options)
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
