# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: installable
short_description: Which definitions of Kubernetes objects a cluster can take
version_added: 1.0.0
description:
  - Splits definitions into those whose kind the API server has, and those that it doesn't know, such as an autoscaler of
    C(autoscaling/v2) on an older cluster.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Definitions of Kubernetes objects.
    type: list
    elements: dict
    required: true
  api_versions:
    description: What the API server has, each as C(group/version/Kind), or C(v1/Kind) for the core group.
    type: list
    elements: str
    required: true
seealso:
  - plugin: rhpds.litemaas.keep_others
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What is left out on a cluster without autoscaling/v2
  ansible.builtin.debug:
    msg: "{{ (wanted | rhpds.litemaas.installable(api_versions=['v1/Service', 'autoscaling/v1/HorizontalPodAutoscaler'])).left_out }}"
  vars:
    wanted:
      - {apiVersion: v1, kind: Service, metadata: {name: litellm}}
      - {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: litellm}}
# => ["HorizontalPodAutoscaler/litellm (autoscaling/v2)"]
"""

RETURN = r"""
_value:
  description: Both parts.
  type: dict
  contains:
    definitions:
      description: What the cluster can take, in the order given.
      type: list
      elements: dict
    left_out:
      description: What it can't, each as C(Kind/name (apiVersion)).
      type: list
      elements: str
"""


def installable(definitions: Iterable[Mapping[str, Any]], api_versions: Iterable[str]) -> dict[str, list[Any]]:
    """See the documentation above."""
    served = set(api_versions)
    known, left_out = [], []
    for definition in definitions:
        if f"{definition['apiVersion']}/{definition['kind']}" in served:
            known.append(definition)
        else:
            left_out.append(
                f"{definition['kind']}/{definition['metadata']['name']} ({definition['apiVersion']})"
            )
    return {"definitions": known, "left_out": left_out}


class FilterModule:
    """Tells what a cluster can take."""

    def filters(self) -> dict[str, Any]:
        return {"installable": installable}
