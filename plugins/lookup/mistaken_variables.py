# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: mistaken_variables
short_description: Variables given on the command line that a playbook of this collection doesn't know
version_added: 1.0.0
description:
  - Ansible ignores a variable that nothing reads. This finds those that were meant for a playbook of this collection
    and would have no effect, as C(cleanup_gracee) or C(protected_aliases) with C(cleanup_keys).
  - Only what was given with C(-e) is looked at, by name. What the playbook knows is read in the playbook, and in the
    roles that it includes.
  - A name is a mistake where it has the prefix of the playbook's or of its role's variables and is none of them, where
    it is one of them without the prefix, or where it is nearly one of the playbook's and no other playbook's. All other
    names are somebody else's.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _terms:
    description: Name of the playbook, such as V(cleanup_keys).
    type: list
    elements: str
    required: true
  prefix:
    description: What the names of the playbook's own variables begin with, such as V(cleanup).
    type: str
"""

EXAMPLES = r"""
- name: Refuse what would have no effect
  ansible.builtin.fail:
    msg: "{{ mistakes | join('; ') }}"
  vars:
    mistakes: "{{ query('rhpds.litemaas.mistaken_variables', 'cleanup_keys', prefix='cleanup') }}"
  when: mistakes | length > 0
"""

RETURN = r"""
_raw:
  description: One sentence for each mistake, with the name that is nearest; no value. Empty where there is none.
  type: list
  elements: str
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

COLLECTION = Path(__file__).resolve().parents[2]
# How a playbook or a role reads a variable that may be left out.
_READ = re.compile(r"(?<![.\w'])([a-z]\w*) (?:\| default|is (?:not )?defined)|builtin\.vars', '(\w+)'")
_ROLE = re.compile(r"rhpds\.litemaas\.(ocp4_\w+)")
NEAR = 0.8


class LookupModule(LookupBase):
    """See the documentation above."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        given = load_extra_vars(self._loader)
        try:
            return [text for term in terms for text in mistakes(str(term), given, self.get_option("prefix"))]
        except OSError as failure:
            raise AnsibleLookupError(f"mistaken_variables: {failure}") from failure


def mistakes(playbook: str, given: Iterable[str], prefix: str | None = None) -> list[str]:
    """A sentence for each name in `given` that `playbook` would ignore, though it was meant for it.

    OSError: there is no such playbook."""
    text = (COLLECTION / "playbooks" / f"{playbook}.yml").read_text(encoding="utf-8")
    roles = sorted(set(_ROLE.findall(text)))
    known = _read_in(text).union(*map(_of_role, roles))
    prefixes = [f"{one}_" for one in (prefix, *roles) if one]
    given = {name for name in given if not name.startswith("_")}
    found = []
    for name in sorted(given - known):
        full = [one + name for one in prefixes if one + name in known]
        near = get_close_matches(name, sorted(known), n=1, cutoff=NEAR)
        if given.intersection(full):
            # Beside the right one, this one is somebody else's.
            continue
        if full:
            meant = f"did you mean {full[0]}?"
        elif not (near or name.startswith(tuple(prefixes))) or name in _of_others():
            continue
        else:
            meant = f"did you mean {near[0]}?" if near else f"{playbook}.yml begins with those that there are"
        found.append(f"{name} is no variable of {playbook}: {meant}")
    return found


def _read_in(text: str) -> set[str]:
    return {name for pair in _READ.findall(text) for name in pair if name}


def _of_role(role: str) -> set[str]:
    """What the role declares, and what its files read besides, as `cleanup_grace` and `details`."""
    files = sorted((COLLECTION / "roles" / role).rglob("*.yml"))
    specs = yaml.safe_load((COLLECTION / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    declared = {name for entry in specs["argument_specs"].values() for name in entry.get("options", {})}
    return declared.union(*(_read_in(file.read_text(encoding="utf-8")) for file in files))


def _of_others() -> set[str]:
    """Every word of every playbook and of the roles' defaults: a file of variables may serve several playbooks."""
    files = [*(COLLECTION / "playbooks").glob("*.yml"), *(COLLECTION / "roles").glob("*/defaults/main.yml")]
    return {word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}
