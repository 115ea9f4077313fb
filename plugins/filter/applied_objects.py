# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: applied_objects
short_description: What results of kubernetes.core.k8s say was made and changed
version_added: 1.0.0
description:
  - Goes through results of M(kubernetes.core.k8s) and names the objects that it made, those that it changed, and how
    many it left as they were. Results of tasks that were skipped count for nothing.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: What tasks with M(kubernetes.core.k8s) registered.
    type: list
    elements: dict
    required: true
  before:
    description: What was there before, each as C(Kind/name).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Say what was made
  ansible.builtin.debug:
    msg: "{{ ([applied] | rhpds.litemaas.applied_objects(before=['Service/litellm'])).created }}"
  vars:
    applied:
      changed: true
      result:
        results:
          - {changed: false, result: {kind: Service, metadata: {name: litellm}}}
          - {changed: true, result: {kind: Deployment, metadata: {name: litellm}}}
# => ["Deployment/litellm"]
"""

RETURN = r"""
_value:
  description: What became of the objects.
  type: dict
  contains:
    created:
      description: What was not there before, each as C(Kind/name).
      type: list
      elements: str
    changed:
      description: What was changed, each as C(Kind/name).
      type: list
      elements: str
    unchanged:
      description: How many were as they are to be.
      type: int
"""


def applied_objects(results: Iterable[Mapping[str, Any]], before: Iterable[str] = ()) -> dict[str, Any]:
    """See the documentation above."""
    there = set(before)
    created, changed, unchanged = [], [], 0
    for result in results:
        body = result.get("result")
        if not isinstance(body, Mapping):
            continue
        # One definition alone is not in a list.
        for one in body.get("results", [result]):
            what = one.get("result") or {}
            if not what.get("kind"):
                continue
            name = f"{what['kind']}/{what['metadata']['name']}"
            if not one.get("changed"):
                unchanged += 1
            elif name in there:
                changed.append(name)
            else:
                created.append(name)
    return {"created": created, "changed": changed, "unchanged": unchanged}


class FilterModule:
    """Reads results."""

    def filters(self) -> dict[str, Any]:
        return {"applied_objects": applied_objects}
