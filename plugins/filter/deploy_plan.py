# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.keep import installable, keep, key

DOCUMENTATION = r"""
name: deploy_plan
short_description: What a deploy applies, step by step, without undoing what others have changed
version_added: 1.0.0
description:
  - Takes definitions of Kubernetes objects and the objects that are there, and returns definitions that can be applied
    again. Replicas that somebody scaled and variables that somebody switched stay, unless what is wanted has changed
    since the last apply; each workload carries what was applied in its annotation C(rhpds.litemaas/applied).
  - What an API server doesn't let anybody change (selectors, a StatefulSet's volumes) is taken from the object that is
    there, and so is the folder of a database's data. A Job that is there is left out.
  - Kinds that the API server doesn't have are left out, and named.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Steps, each with its list of definitions.
    type: dict
    required: true
  live:
    description: The objects that are there, each under C(Kind/name).
    type: dict
    required: true
  api_versions:
    description:
      - What the API server has, as in RV(rhpds.litemaas.litemaas_cluster_info#module:api_versions). With an empty list
        nothing is left out.
    type: list
    elements: str
    default: []
  jobs:
    description: Jobs that are there, each as C(Kind/name).
    type: list
    elements: str
    default: []
  hpas:
    description: What somebody's autoscaler scales, each as C(Kind/name), or the name of a Deployment.
    type: list
    elements: str
    default: []
  keep_changes:
    description: Whether what others have changed is kept. V(false) takes it back.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: What would be kept of a Deployment that somebody has scaled to five
  ansible.builtin.debug:
    msg: "{{ (steps | rhpds.litemaas.deploy_plan(live={'Deployment/litellm': there})).kept }}"
  vars:
    steps:
      litellm:
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
    steps:
      description: By step, C(definitions) to apply, and C(workloads) to wait for, each as C(Kind/name).
      type: dict
    names:
      description: Everything that is to be there, each as C(Kind/name).
      type: list
      elements: str
    kept:
      description: What was kept of others, one sentence each.
      type: list
      elements: str
    left_out:
      description: What the cluster doesn't know, each as C(Kind/name (apiVersion)).
      type: list
      elements: str
"""

#: Kinds that get ready some time after they were applied.
WORKLOADS = ("Deployment", "StatefulSet", "Job", "Route")


def deploy_plan(
    steps: Mapping[str, Iterable[Mapping[str, Any]]],
    live: Mapping[str, Mapping[str, Any]],
    api_versions: Sequence[str] = (),
    hpas: Sequence[str] = (),
    jobs: Sequence[str] = (),
    keep_changes: bool = True,
) -> dict[str, Any]:
    """See the documentation above."""
    plan: dict[str, Any] = {"steps": {}, "names": [], "kept": [], "left_out": []}
    there: dict[str, Mapping[str, Any]] = {**{job: {} for job in jobs}, **live}
    known = {}
    for step, definitions in steps.items():
        found = installable(definitions, api_versions)
        known[step] = found["definitions"]
        plan["left_out"] += found["left_out"]
    everything = [one for definitions in known.values() for one in definitions]
    plan["names"] = [key(one) for one in everything]
    scaled = [name if "/" in name else f"Deployment/{name}" for name in hpas] + [
        "{kind}/{name}".format(**one["spec"]["scaleTargetRef"])
        for one in everything
        if one["kind"] == "HorizontalPodAutoscaler"
    ]
    for step, definitions in known.items():
        result = keep(definitions, there, scaled, keep_changes)
        plan["kept"] += result["kept"]
        plan["steps"][step] = {
            "definitions": result["definitions"],
            "workloads": [key(one) for one in definitions if one["kind"] in WORKLOADS],
        }
    return plan


class FilterModule:
    """Plans a deploy."""

    def filters(self) -> dict[str, Any]:
        return {"deploy_plan": deploy_plan}
