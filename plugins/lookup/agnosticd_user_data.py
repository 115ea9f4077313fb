# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: agnosticd_user_data
short_description: Read back a lab's user data
version_added: 1.0.0
description:
  - Gives the values that M(rhpds.litemaas.agnosticd_user_info) or C(agnosticd.core.agnosticd_user_info) has written.
  - The file is C(<ACTION>-user-data.yaml), or where this action has written none, C(provision-user-data.yaml). It lies
    in C(output_dir), else in C(playbook_dir).
  - Where C(agnosticd.core.agnosticd_user_data) is installed, it does the reading, unless there is only the file of the
    provisioning.
  - Values may be secrets. A task that prints its arguments prints them; set C(no_log) there.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _terms:
    description:
      - Names of values, with the prefix that they were written with.
      - V(*) gives the whole mapping, empty where there is none.
    type: list
    elements: str
    required: true
  user:
    description: Give this participant's values, not those of the lab as a whole.
    type: str
  default:
    description: What to give for a value that isn't there. Without it that is null.
    type: raw
seealso:
  - module: rhpds.litemaas.agnosticd_user_info
"""

EXAMPLES = r"""
- name: Hand a participant's key to a workload
  ansible.builtin.set_fact:
    workload_api_key: "{{ lookup('rhpds.litemaas.agnosticd_user_data', 'litellm_virtual_key', user='user1') }}"
  no_log: true

- name: See which values there are
  ansible.builtin.debug:
    msg: "{{ lookup('rhpds.litemaas.agnosticd_user_data', '*') | list }}"
"""

RETURN = r"""
_raw:
  description: One value for each term; null, or O(default), where there is none.
  type: list
  elements: raw
"""

import contextlib
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

from ansible_collections.rhpds.litemaas.plugins.plugin_utils import user_data
from ansible_collections.rhpds.litemaas.plugins.plugin_utils.user_data import Files, UserDataError


class LookupModule(LookupBase):
    """See the documentation above."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        self.set_options(var_options=variables, direct=kwargs)
        user = str(self.get_option("user") or "")
        default = self.get_option("default")
        try:
            values = self._values([str(term) for term in terms], variables or {}, user)
        except UserDataError as problem:
            raise AnsibleLookupError(f"agnosticd_user_data: {problem}") from None
        return [default if value is None else value for value in values]

    def _values(self, terms: list[str], variables: dict[str, Any], user: str) -> list[Any]:
        own = Files.found(variables, self._templar.template)
        files = own.or_provisioned()
        core = self._core()
        if core is not None and files == own:
            # Where it stumbles over a name or over the file, our own reading says more, and shows nothing of the file.
            with contextlib.suppress(yaml.YAMLError, LookupError, TypeError, AttributeError):
                return list(core.run(terms, variables=variables, **({"user": user} if user else {})))
        data = files.read_entry(user)
        return [data if term == "*" else data.get(term) for term in terms]

    def _core(self) -> Any:
        """agnosticd.core's lookup, where it is installed and isn't this one under another name."""
        if not user_data.core_is_installed():
            return None
        context = lookup_loader.find_plugin_with_context(user_data.CORE_USER_DATA)
        if not context.resolved or Path(context.plugin_resolved_path).resolve() == Path(__file__).resolve():
            return None
        return lookup_loader.get(user_data.CORE_USER_DATA, loader=self._loader, templar=self._templar)
