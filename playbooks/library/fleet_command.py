#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a command that is needed unless another one says that it is not, and what takes it back."""

DOCUMENTATION = r"""
module: fleet_command
short_description: Run a command with a way back
options:
  unless: {description: A command that ends with 0 where nothing is to be done, type: list, elements: str, required: true}
  command: {description: What is run otherwise, type: list, elements: str, default: []}
  text: {description: What it reads, such as a secret, type: str}
  back: {description: What takes it back, type: list, elements: str, default: []}
  state: {description: What to do, type: str, choices: [present, restored], default: present}
  saved: {description: Folder in which is kept that it was run, type: path, required: true}
"""

from ansible.module_utils import fleet_saved
from ansible.module_utils.basic import AnsibleModule


def main():
    """Do what the parameters say."""
    own = {
        "unless": {"type": "list", "elements": "str", "required": True},
        "command": {"type": "list", "elements": "str", "default": []},
        "text": {"type": "str", "no_log": True},
        "back": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(argument_spec=fleet_saved.options(own), supports_check_mode=True)
    p = module.params
    kept = fleet_saved.load(p["saved"])
    if p["state"] == "restored":
        there = bool(kept) and fleet_saved.run(p["unless"])[0] == 0  # it may have been cut before the command, or taken back by others
        if there and not module.check_mode:
            code, out = fleet_saved.run(kept["back"])
            if code:
                module.fail_json(msg="%s: %s" % (" ".join(kept["back"][:2]), out[-500:]))
        if not module.check_mode:
            fleet_saved.drop(p["saved"])
        diff = {
            "before": "",
            "after": " ".join(kept["back"]) + "\n" if there else "",
            "before_header": "commands",
            "after_header": "commands",
        }
        module.exit_json(changed=there, diff=diff)
    if fleet_saved.run(p["unless"])[0] == 0:
        module.exit_json(changed=False)
    diff = {"before": "", "after": " ".join(p["command"]) + "\n", "before_header": "commands", "after_header": "commands"}
    if module.check_mode:
        module.exit_json(changed=True, diff=diff)
    fleet_saved.save(p["saved"], {"back": p["back"]})
    code, out = fleet_saved.run(p["command"], p["text"] or "")
    if code:
        fleet_saved.drop(p["saved"])
        out = out.replace(p["text"].strip(), "***") if p["text"] and p["text"].strip() else out
        module.fail_json(msg="%s: %s" % (" ".join(p["command"][:2]), out[-500:]))
    module.exit_json(changed=True, diff=diff)


if __name__ == "__main__":
    main()
