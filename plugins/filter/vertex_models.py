# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: vertex_models
short_description: Models of Vertex AI with their service account, region and texts filled in
version_added: 1.0.0
description:
  - Makes of a table of Vertex AI's models a list for the role C(ocp4_workload_litemaas_models).
  - Each entry of the table says its account and its family instead of project, credentials and region.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description:
      - The table. An entry has C(model_name), C(backend), C(account), C(family), C(type) and C(best_for), and may have
        any further key of the list that it becomes.
    type: list
    elements: dict
    required: true
  accounts:
    description: Service accounts by name, each with C(project) and C(path).
    type: dict
    required: true
  locations:
    description: Regions by family or by model name; the latter wins.
    type: dict
    required: true
  names:
    description: Which models of the table, all of them if it is empty.
    type: list
    elements: str
    default: []
  overrides:
    description: Keys of the list's items that are to be another, by model name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: The models of one account, in another region
  ansible.builtin.set_fact:
    models: >-
      {{ table | rhpds.litemaas.vertex_models(
           accounts={'open': {'project': 'rhdp-infra', 'path': '/etc/vertex-credentials/key.json'}},
           locations={'garden': 'us-central1', 'gpt-oss-20b': 'us-south1'}) }}
"""

RETURN = r"""
_value:
  description: Items of C(ocp4_workload_litemaas_models_list).
  type: list
  elements: dict
"""

#: Keys of the table that an item doesn't have.
_OURS = ("backend", "account", "family", "type", "best_for")


def vertex_models(
    table: Sequence[Mapping[str, Any]],
    accounts: Mapping[str, Mapping[str, Any]],
    locations: Mapping[str, str],
    names: Sequence[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """See above."""
    known = [str(entry["model_name"]) for entry in table]
    for what, some in (("names", names or ()), ("overrides", overrides or {})):
        unknown = sorted(set(map(str, some)) - set(known))
        if unknown:
            raise AnsibleFilterError(f"{what}: no such model: {', '.join(unknown)}. There are {', '.join(known)}")
    out = []
    for entry in table:
        name = str(entry["model_name"])
        if names and name not in names:
            continue
        account = accounts.get(entry["account"])
        if account is None:
            raise AnsibleFilterError(f"{name}: no account {entry['account']!r} among {', '.join(accounts)}")
        location = locations.get(name) or locations.get(entry["family"])
        if not location:
            raise AnsibleFilterError(f"{name}: no location for it or its family {entry['family']!r}")
        item = {
            "model_name": name,
            "litellm_model": entry["backend"],
            "vertex_project": account["project"],
            "vertex_location": location,
            "vertex_credentials": account["path"],
            # LiteMaaS has one category a model, the first word of its type: the description has all of it.
            "category": str(entry["type"]).partition(",")[0].strip().lower(),
            "description": f"{entry['type']}: {entry['best_for']}",
            **{key: value for key, value in entry.items() if key not in _OURS},
        }
        out.append({**item, **(overrides or {}).get(name, {})})
    return out


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Any]:
        """By name."""
        return {"vertex_models": vertex_models}
