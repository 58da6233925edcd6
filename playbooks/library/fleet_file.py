#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: files that are saved before they are changed, validated in their place, and put back by themselves unless confirmed."""

DOCUMENTATION = r"""
module: fleet_file
short_description: Write or edit files with a way back
options:
  path: {description: A file that is ours alone, type: path}
  content: {description: What it shall hold, type: str}
  paths: {description: Files of others that are edited (patterns); those that are not there are left so unless `create`, type: list, elements: str}
  edits:
    description: >
      What is changed in them, in this order. C(keys) (a setting -> its value, or null to take it out; with C(equals), what stands between
      them, C(section), C(continued) and C(merge)), C(json) (members to merge, null takes one out), C(drop) (lines that this pattern finds go),
      C(replace) and C(by) (in each line), C(lines) (are there, at the end)
    type: list
    elements: dict
    default: []
  create: {description: Whether files that are not there are made, type: bool, default: false}
  also: {description: Further files that `reload` changes (patterns): saved and put back with the rest, type: list, elements: str, default: []}
  mode: {description: Permission bits of a new file, type: str, default: "0644"}
  state: {description: What to do, type: str, choices: [present, confirmed, restored], default: present}
  saved: {description: Folder in which the state before is kept, type: path, required: true}
  validate: {description: Command that must end with 0 once the files are in place, type: list, elements: str, default: []}
  reload: {description: Command that makes the service read them, type: list, elements: str, default: []}
  restart: {description: Units that then begin anew, if they run at all, and must go on, type: list, elements: str, default: []}
  back: {description: Command that makes the service read the state before; by default `reload`, type: list, elements: str}
  confirm_s: {description: Seconds after which the state before comes back unless it was confirmed; 0 never, type: int, default: 0}
"""

import json
import re

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule


def lines_of(text):
    """The lines of a text, at line feeds alone."""
    return text[:-1].split("\n") if text.endswith("\n") else text.split("\n") if text else []


def with_keys(text, edit):
    """Settings of a file of `KEY = value` lines; the first line of a key is replaced, its others go.

    A line after a backslash, and with `continued` one that is indented below a key, is part of its value. With `merge` words of a
    list that are there stay.
    """
    equals, section = str(edit.get("equals", "=")), edit.get("section")
    lines = lines_of(text)
    begin, end = 0, len(lines)
    if section is not None:
        headers = [n for n, line in enumerate(lines) if line.lstrip().startswith("[")]
        header = re.compile(r"\s*\[%s\]\s*(#.*)?$" % re.escape(section))
        at = [n for n in headers if header.match(lines[n])] if section else [-1]
        if not at:
            new = ["%s%s%s" % (key, equals, value) for key, value in edit["keys"].items() if value is not None]
            return "\n".join([*lines, "", "[%s]" % section, *new]) + "\n" if new else text
        begin = at[0] + 1
        end = next((n for n in headers if n >= begin), len(lines))
    part = lines[begin:end]
    for key, value in edit["keys"].items():
        found = re.compile(("" if equals.strip() == ":" else r"\s*") + re.escape(key) + r"(\s*[=:]|\s+|$)", re.IGNORECASE)
        line = None if value is None else "%s%s%s" % (key, equals, value)
        if line is not None and edit.get("merge"):
            have = [found.sub("", old, count=1).strip() for old in part if found.match(old)]
            values = [word.strip() for word in ",".join(have).split(",") if word.strip()]
            line = "%s%s%s" % (key, equals, ",".join(values + [w for w in str(value).split(",") if w not in values]))
        kept, within, goes_on = [], False, False
        for n, old in enumerate(part):
            indented = edit.get("continued") and old[:1].isspace() and old.strip() != ""
            if edit.get("continued") and (not old.strip() or old.lstrip().startswith(("#", ";"))):
                rest = [line for line in part[n + 1 :] if line.strip() and not line.lstrip().startswith(("#", ";"))]
                indented = bool(rest) and rest[0][:1].isspace()  # a comment or a gap within a value
            within = bool(found.match(old)) or (within and (goes_on or indented))
            goes_on = old.endswith("\\")
            if within and found.match(old) and line is not None:
                kept.append(line)
                line = None
            elif not within:
                kept.append(old)
        if line is not None:
            last = max([n for n, old in enumerate(kept) if old.strip()] or [-1])
            kept.insert(last + 1, line)
        part = kept
    return "".join(line + "\n" for line in lines[:begin] + part + lines[end:])


def merged(value, change):
    """A JSON object with members changed; null takes one out."""
    found = dict(value) if isinstance(value, dict) else {}
    for key, new in change.items():
        if new is None:
            found.pop(key, None)
        elif isinstance(new, dict):
            found[key] = merged(found.get(key), new)
        else:
            found[key] = new
    return found


def edited(text, edits):
    """What a file shall hold. Raises ValueError for a file that is not of the form that an edit needs."""
    for edit in edits:
        if "keys" in edit:
            text = with_keys(text, edit)
        elif "json" in edit:
            before = json.loads(text) if text.strip() else {}
            if not isinstance(before, dict):
                raise ValueError("it holds no JSON object")
            after = merged(before, edit["json"])
            indent = re.search(r"^( +|\t)\"", text, re.MULTILINE)
            text = text if after == before else json.dumps(after, indent=len(indent.group(1)) if indent else 2) + "\n"
        elif "drop" in edit:
            text = "".join(line for line in re.findall(r"[^\n]*\n|[^\n]+", text) if not re.search(edit["drop"], line))
        elif "replace" in edit:
            text = "".join(re.sub(edit["replace"], edit.get("by", ""), line) for line in re.findall(r"[^\n]*\n|[^\n]+", text))
        else:
            for line in edit["lines"]:
                if line not in lines_of(text):
                    text = text + ("" if text.endswith("\n") or not text else "\n") + line + "\n"
    return text


def is_ours(p, path):
    """Whether all of a file may be shown: it is ours alone, and nobody else is kept from reading it."""
    return p["mode"] != "0600" if p["path"] else "fleet-audit" in path.rpartition("/")[2]


def is_foreign(state, path):
    """Whether somebody else has changed a file since it was written."""
    return fleet_saved.digest(path) not in (state["wrote"][path], state["before"].get(path))


def restore(module, p):
    """Put the state before back."""
    old = fleet_saved.load(p["saved"])
    if old is None:
        fleet_saved.drop(p["saved"])
        module.exit_json(changed=False, msg="nothing was saved here")
    foreign = [path for path in sorted(old["wrote"]) if is_foreign(old, path)]
    if foreign:
        module.fail_json(
            msg="%s was changed by others since: nothing was put back; what was there before is in %s/state.json" % (foreign[0], p["saved"])
        )
    diff = [
        fleet_saved.shown(path, fleet_saved.read(path), was["content"], whole=path in old["whole"])
        for path, was in sorted(old["files"].items())
    ]
    if not module.check_mode:
        for path, was in sorted(old["files"].items()):
            fleet_saved.put(path, was["content"], was["mode"], was["uid"], was["gid"])
        fleet_saved.drop_folders(old["made"])
        code, out = fleet_saved.reload(p["reload"] if p["back"] is None else p["back"], p["restart"])
        if code:
            module.fail_json(msg="restored, but the service did not read it: " + out)
        fleet_saved.drop(p["saved"])
    module.exit_json(changed=True, diff=diff)


def differing(module, p):
    """({path: what it holds}, {path: what it shall hold}) of all files, and of those that are to be changed."""
    before, wanted = {}, {}
    for path in [p["path"]] if p["path"] else fleet_saved.files_of(p["paths"]):
        before[path] = fleet_saved.read(path)
        if before[path] is None and not (p["path"] or p["create"]):
            continue
        try:
            after = p["content"] if p["path"] else edited(before[path] or "", p["edits"])
        except (ValueError, KeyError, re.error) as error:
            module.fail_json(msg="%s: %s; nothing was changed" % (path, error))
        if after != before[path] and not (before[path] is None and after == ""):
            wanted[path] = after
    return before, wanted


def change(module, p, state, wanted):
    """Save, arm, put in place, validate, and make the service read it; on any failure what was there before this call is put back."""
    saved, pending, fresh = p["saved"], state.get("pending"), not state["files"]
    touched = sorted({*wanted, *(state["wrote"] if pending else ()), *fleet_saved.files_of(p["also"])})
    # Of a change that was cut, what was there before is what was saved.
    now = {path: state["files"][path] if pending and path in state["files"] else fleet_saved.snapshot(path) for path in touched}
    made = [folder for path in touched for folder in fleet_saved.missing_folders(path)]
    for path in touched:
        if path not in state["files"]:
            state["files"][path], state["before"][path] = now[path], fleet_saved.hashed(now[path]["content"])
    for path, after in wanted.items():
        state["wrote"][path] = fleet_saved.hashed(after)
    state["whole"] += [path for path in wanted if is_ours(p, path) and path not in state["whole"]]
    state["made"] += [folder for folder in made if folder not in state["made"]]
    state["pending"], state["back"] = True, p["reload"] if p["back"] is None else p["back"]
    fleet_saved.save(saved, state)
    fleet_saved.disarm(saved)

    def undo(why):
        """Put back what was there, and end."""
        for path, was in now.items():
            fleet_saved.put(path, was["content"], was["mode"], was["uid"], was["gid"])
        fleet_saved.drop_folders(made)
        if fresh:
            fleet_saved.drop(saved)
        else:
            del state["pending"]
            fleet_saved.save(saved, state)
            fleet_saved.confirm(saved)  # what an older change left is no matter of this watch
        module.fail_json(msg=why)

    if p["confirm_s"]:  # armed before anything is in force
        fleet_saved.arm(saved, p["confirm_s"])
    try:
        fleet_saved.make_folders(made)
        for path, after in sorted(wanted.items()):
            mode = int(p["mode"], 8) if p["path"] or now[path]["content"] is None else now[path]["mode"]
            fleet_saved.put(path, after, mode, now[path]["uid"], now[path]["gid"])
    except OSError as error:
        undo("%s, and put back" % error)
    code, out = fleet_saved.run(p["validate"]) if p["validate"] else (0, "")
    if code:
        undo("refused by %s, and put back: %s" % (p["validate"][0], out))
    code, out = fleet_saved.reload(p["reload"], p["restart"])
    if code:
        for path, was in now.items():
            fleet_saved.put(path, was["content"], was["mode"], was["uid"], was["gid"])
        fleet_saved.reload(state["back"], p["restart"])
        undo("the service did not read it, and it was put back: " + out)
    for path in touched:
        if path not in state["wrote"]:
            state["wrote"][path] = fleet_saved.digest(path)
    del state["pending"]
    if not fleet_saved.reverted(saved):
        fleet_saved.save(saved, state)


def main():
    """Do what the parameters say."""
    own = {
        "path": {"type": "path"},
        "content": {"type": "str"},
        "mode": {"type": "str", "default": "0644"},
        "create": {"type": "bool", "default": False},
        "edits": {"type": "list", "elements": "dict", "default": []},
        "back": {"type": "list", "elements": "str"},
        "confirm_s": {"type": "int", "default": 0},
        **{name: {"type": "list", "elements": "str", "default": []} for name in ("paths", "also", "validate", "reload", "restart")},
    }
    module = AnsibleModule(
        argument_spec=fleet_saved.options(own, ("present", "confirmed", "restored")),
        required_one_of=[("path", "paths")],
        required_together=[("path", "content")],
        supports_check_mode=True,
    )
    p = module.params
    if p["state"] == "confirmed":
        fleet_saved.confirm_or_fail(module, p["saved"])
    if p["state"] == "restored":
        restore(module, p)
    before, wanted = differing(module, p)
    state = fleet_saved.load(p["saved"]) or {"files": {}, "wrote": {}, "before": {}, "whole": [], "made": [], "back": []}
    if not wanted and not state.get("pending"):  # pending: it was cut between the files and the service
        module.exit_json(changed=False)
    foreign = [path for path in sorted(wanted) if path in state["wrote"] and is_foreign(state, path)]
    if foreign:
        module.fail_json(msg="%s was changed by others since this plan wrote it: nothing was changed; audit and plan anew" % foreign[0])
    diff = [fleet_saved.shown(path, before[path], wanted[path], whole=is_ours(p, path)) for path in sorted(wanted)]
    if not module.check_mode:
        change(module, p, state, wanted)
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
