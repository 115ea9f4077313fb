#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_rollout_status
short_description: Wait until workloads are ready, or say why they are not
version_added: 1.0.0
description:
  - Waits until Deployments and StatefulSets are rolled out (every pod of the new revision, ready, none of an older one
    left), Jobs complete, PersistentVolumeClaims bound and Routes admitted.
  - Ends early, with an error, where waiting is of no use. That is an image that can't be pulled or a container that
    can't be made for longer than O(pull_failure_after), a container that crashed three times and waits for its next
    start, a failed Job, a rollout beyond its progress deadline, a paused one, and a workload that isn't there.
  - The error names the workload, the pod, what is the matter with it, its last events and what a crashed container said
    last. Values of the pod's Secrets are taken out.
  - Only pods of the current revision are judged. What failed long before the task began gets another chance.
  - A connection to the API server that drops, or an API server that restarts, is waited for.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster_info
options:
  namespace:
    description: Namespace of the workloads.
    type: str
    required: true
  workloads:
    description:
      - What to wait for, each as C(Kind/name). Kinds are C(Deployment), C(StatefulSet), C(Job),
        C(PersistentVolumeClaim) and C(Route).
      - A claim whose StorageClass binds it with its first pod counts as ready.
      - A Route is ready when a router has admitted it. One that all routers reject is an error, for example because an
        older Route has its name (C(HostAlreadyClaimed)).
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds to wait, for all of them together.
    type: float
    default: 600
  poll:
    description: Seconds between two looks. The first ones come sooner.
    type: float
    default: 2
  pull_failure_after:
    description:
      - Seconds for which an image may fail to be pulled, or a container to be made, before the wait is given up.
      - A container that crashed earlier than this before the task began gets another chance.
    type: float
    default: 60
  router_answers_after:
    description:
      - Seconds after which a router's rejection of a Route is believed. It may be of the Route as it was before.
      - A Route that no router says anything of counts as ready then, with a note, as there are routers that keep it to
        themselves.
    type: float
    default: 15
notes:
  - In check mode the module looks once, reports the state, and fails for nothing that it sees.
  - The account needs to get the workloads, and to list pods, replicasets.apps and events. To get pods/log and secrets
    is needed for a crashed container's last lines alone.
seealso:
  - module: rhpds.litemaas.litemaas_cluster_info
  - module: kubernetes.core.k8s
"""

EXAMPLES = r"""
- name: PostgreSQL is ready
  rhpds.litemaas.k8s_rollout_status:
    namespace: litemaas
    workloads:
      - StatefulSet/litellm-postgres

- name: The migration is done, in ten minutes at most
  rhpds.litemaas.k8s_rollout_status:
    namespace: litemaas
    workloads: [Job/litellm-migrate]
    timeout: 600

- name: Everything is ready, and a wrong image tag is told within ten seconds
  rhpds.litemaas.k8s_rollout_status:
    namespace: litemaas
    workloads:
      - Deployment/litellm
      - Deployment/litellm-backend
      - Deployment/litellm-frontend
    pull_failure_after: 10
"""

RETURN = r"""
msg:
  description: One line with every workload, or what is the matter with the one that isn't ready.
  returned: always
  type: str
  sample: "litellm 3/3 ready in 42 s, litellm-backend 3/3 ready in 57 s"
workloads:
  description: One entry a workload, in the order given.
  returned: when the API server answered
  type: list
  elements: dict
  contains:
    workload:
      description: Kind and name.
      type: str
      sample: Deployment/litellm
    name:
      description: The name.
      type: str
    done:
      description: Whether there was nothing left to wait for.
      type: bool
    ready:
      description: Number of ready pods, of a Job's completions, or 1 for a bound claim or an admitted Route.
      type: int
    wanted:
      description: How many there have to be.
      type: int
    updated:
      description: Number of pods of the current revision.
      type: int
    revision:
      description: Number of a Deployment's revision, name of a StatefulSet's.
      type: str
    seconds:
      description: Seconds after which it was seen ready.
      type: float
    msg:
      description: The same in words.
      type: str
      sample: litellm 3/3 ready in 42 s
    trouble:
      description: Pods that are not ready, with what is the matter with each.
      type: list
      elements: str
    note:
      description: What is to be known of a workload that counts as ready; empty for most.
      type: str
      sample: "Route/litellm: no router has said that it admits it: whether it is served is not known"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import rollout
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    SPEC,
    Cluster,
    ClusterError,
    leave,
)


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "workloads": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "float", "default": 600},
            "poll": {"type": "float", "default": 2},
            "pull_failure_after": {"type": "float", "default": 60},
            "router_answers_after": {"type": "float", "default": 15},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    try:
        client = Cluster.from_params(params).rest()
        states = rollout.wait_for(
            client,
            params["namespace"],
            params["workloads"],
            params["timeout"],
            poll=params["poll"],
            pull_failure_after=params["pull_failure_after"],
            router_answers_after=params["router_answers_after"],
            wait=not module.check_mode,
        )
    except (ClusterError, ValueError) as failure:
        shown = [state.shown() for state in getattr(failure, "states", ())]
        return {"failed": True, "changed": False, "msg": str(failure), "workloads": shown}
    return {
        "changed": False,
        "msg": ", ".join(state.sentence() for state in states) or "nothing to wait for",
        "workloads": [state.shown() for state in states],
    }


if __name__ == "__main__":
    main()
