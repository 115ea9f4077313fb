# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.keep import keep

DOCUMENTATION = r"""
name: keep_others
short_description: Definitions that undo nothing of what others have changed in the cluster
version_added: 1.0.0
description:
  - Takes definitions of Kubernetes objects and the objects that are there, and returns definitions that can be applied
    again. Replicas that somebody scaled and variables that somebody switched stay, unless what is wanted has changed
    since the last apply; each workload carries what was applied in its annotation C(rhpds.litemaas/applied).
  - What an API server doesn't let anybody change (selectors, a StatefulSet's volumes) is taken from the object that is
    there, and so is the folder of a database's data. A Job that is there is left out.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Definitions of Kubernetes objects.
    type: list
    elements: dict
    required: true
  live:
    description: The objects that are there, each under C(Kind/name).
    type: dict
    required: true
  scaled:
    description: What an autoscaler scales, each as C(Kind/name).
    type: list
    elements: str
    default: []
  keep_changes:
    description: Whether what others have changed is kept. V(false) takes it back.
    type: bool
    default: true
seealso:
  - plugin: rhpds.litemaas.installable
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What would be applied to a Deployment that somebody has scaled to five
  ansible.builtin.debug:
    msg: "{{ (wanted | rhpds.litemaas.keep_others(live={'Deployment/litellm': there})).kept }}"
  vars:
    wanted:
      - apiVersion: apps/v1
        kind: Deployment
        metadata: {name: litellm}
        spec:
          replicas: 3
          selector: {matchLabels: {app: litellm}}
          template: {metadata: {labels: {app: litellm}}, spec: {containers: []}}
    there:
      metadata:
        name: litellm
        annotations: {rhpds.litemaas/applied: '{"env": {}, "replicas": 3}'}
      spec:
        replicas: 5
        selector: {matchLabels: {app: litellm}}
        template: {metadata: {labels: {app: litellm}}, spec: {containers: []}}
# => ["litellm: 5 replicas, set by somebody else (wanted 3)"]
"""

RETURN = r"""
_value:
  description: What can be applied.
  type: dict
  contains:
    definitions:
      description: The definitions.
      type: list
      elements: dict
    kept:
      description: What was kept, one sentence each.
      type: list
      elements: str
"""


class FilterModule:
    """Keeps what others have changed."""

    def filters(self) -> dict[str, Any]:
        return {"keep_others": keep}
