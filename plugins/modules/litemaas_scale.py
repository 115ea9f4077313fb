#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_scale
short_description: Give LiteLLM, LiteMaaS's backend or its portal another number of pods
version_added: 1.0.0
description:
  - Sets the replicas of the named Deployments, one after the other, and waits for each. Nothing else of them is
    touched. Where one doesn't get ready, all of them get back the number that they had.
  - Before anything is written it looks whether LiteLLM's replicas have a Redis in common (switched on in LiteLLM's own
    configuration, and a ready pod behind its Service that answers), whether PostgreSQL gives all the connections that
    the pods may open, and whether an autoscaler would set its own number. PostgreSQL is asked only where LiteLLM or
    the backend grows, so that fewer pods can be had of a database that is full or down.
  - What LiteLLM and the backend are set up with is read from what is deployed.
  - A deploy keeps the number, unless its own variable has changed since the last one.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.operate
  - rhpds.litemaas.attributes.cluster
options:
  namespace:
    description: Namespace that LiteMaaS runs in.
    type: str
    required: true
  litellm:
    description: Number of LiteLLM's pods. Left out, it stays.
    type: int
  backend:
    description: Number of the backend's pods. Left out, it stays.
    type: int
  frontend:
    description: Number of the portal's pods. Left out, it stays.
    type: int
  allow:
    description:
      - What is refused without a word.
      - V(no_redis) lets several replicas of LiteLLM count limits alone, each one in full.
      - V(connections) lets the sum of database connections be more than PostgreSQL gives.
      - V(zero) lets a part be stopped altogether.
    type: list
    elements: str
    choices: [no_redis, connections, zero]
    default: []
  reserved_connections:
    description: Connections that are kept for backups and people.
    type: int
    default: 20
  max_connections:
    description: What PostgreSQL gives. Left out, it is asked where LiteLLM or the backend grows.
    type: int
  connect_timeout:
    description: Seconds to wait for a connection to PostgreSQL.
    type: int
    default: 10
requirements:
  - psycopg2 2.8 or later (on the host that runs the module, where PostgreSQL is asked; C(psycopg2-binary) will do)
notes:
  - The account needs get and patch on Deployments, get on ConfigMaps and Secrets, list on HorizontalPodAutoscalers,
    get on Services, list on pods, and get and create on C(pods/portforward) where LiteLLM gets several pods (for its
    Redis), or where it or the backend grows without O(max_connections) (for PostgreSQL).
seealso:
  - module: rhpds.litemaas.k8s_rollout_status
  - plugin: rhpds.litemaas.connection_sum
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Five of LiteLLM, three of the rest
  rhpds.litemaas.litemaas_scale:
    namespace: litellm-rhpds
    litellm: 5
    backend: 3
    frontend: 3

- name: One of LiteLLM while Redis is mended
  rhpds.litemaas.litemaas_scale:
    namespace: litellm-rhpds
    litellm: 1
"""

RETURN = r"""
msg:
  description: One line that says what happened, or would.
  returned: always
  type: str
  sample: "litellm: replicas 3 -> 5 (litellm 5/5 ready in 40 s); LiteLLM (5 + 1 while it is rolled out) x …"
results:
  description: One entry a workload that differed, C(name), C(workload), C(changed), and C(changes) by field.
  returned: success
  type: list
  elements: dict
connections:
  description: The sum of database connections, in words.
  returned: always, empty where nothing that uses the database grows and O(max_connections) is left out
  type: str
notes:
  description: What has to be known beside it.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, operate, scale
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            **operate.OPTIONS,
            "namespace": {"type": "str", "required": True},
            "litellm": {"type": "int"},
            "backend": {"type": "int"},
            "frontend": {"type": "int"},
            "allow": {"type": "list", "elements": "str", "choices": list(scale.WORDS), "default": []},
            "reserved_connections": {"type": "int", "default": scale.RESERVED},
            "max_connections": {"type": "int"},
            "connect_timeout": {"type": "int", "default": 10},
        },
        required_one_of=[tuple(operate.DEPLOYMENTS)],
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    operator = operate.operator_of(Cluster.from_params(params), params)
    wanted = {part: params[part] for part in operate.DEPLOYMENTS if params[part] is not None}
    if min(wanted.values()) < 0:
        return {"failed": True, "changed": False, "msg": "A number of pods is less than 0. Nothing was changed"}
    done = scale.scale(
        operator,
        discover.Namespace(Cluster.from_params(params), params["namespace"]),
        wanted,
        allow=params["allow"],
        reserved=params["reserved_connections"],
        maximum=params["max_connections"] or 0,
        connect_timeout=params["connect_timeout"],
        check=module.check_mode,
    )
    said = [scale.described(done.changes, operator.states, module.check_mode), done.connections, *done.notes]
    return {
        "changed": bool(done.changes),
        "msg": "; ".join(one for one in said if one),
        "results": [one.shown() for one in done.changes],
        "connections": done.connections,
        "notes": done.notes,
        "diff": operate.difference(done.changes),
    }


if __name__ == "__main__":
    main()
