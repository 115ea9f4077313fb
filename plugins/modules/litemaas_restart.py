#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_restart
short_description: Roll the pods of LiteMaaS out anew, one part after the other
version_added: 1.0.0
description:
  - Sets the annotation C(kubectl.kubernetes.io/restartedAt) of each Deployment's pod template, as C(kubectl rollout
    restart) does, and waits until the part is ready before the next one begins. Pods that run go on until new ones are
    ready.
  - A deploy leaves the annotation alone, so that it doesn't roll out again.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.operate
  - rhpds.litemaas.attributes.cluster
attributes:
  idempotent:
    description: Every run restarts.
    support: none
options:
  namespace:
    description: Namespace that LiteMaaS runs in.
    type: str
    required: true
  components:
    description:
      - What to restart, in this order.
      - Left out, the backend, LiteLLM and the portal, those of them that are deployed.
    type: list
    elements: str
    choices: [backend, litellm, frontend]
    default: []
notes:
  - The account needs get and patch on Deployments, and what M(rhpds.litemaas.k8s_rollout_status) needs.
seealso:
  - module: rhpds.litemaas.k8s_rollout_status
"""

EXAMPLES = r"""
- name: All of it
  rhpds.litemaas.litemaas_restart:
    namespace: litellm-rhpds

- name: LiteLLM alone
  rhpds.litemaas.litemaas_restart:
    namespace: litellm-rhpds
    components: [litellm]
"""

RETURN = r"""
msg:
  description: One line that says what happened, or would.
  returned: always
  type: str
  sample: "restarted: litellm-backend 3/3 ready in 20 s, litellm 3/3 ready in 61 s"
results:
  description: One entry a workload that differed, C(name), C(workload), C(changed), and C(changes) by field.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import operate
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave

#: The backend first: what it holds back is taken up by a LiteLLM that was there all the time.
ORDER = ["backend", "litellm", "frontend"]


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            **operate.OPTIONS,
            "namespace": {"type": "str", "required": True},
            "components": {"type": "list", "elements": "str", "choices": ORDER, "default": []},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    operator = operate.operator_of(Cluster.from_params(params), params)
    parts = list(dict.fromkeys(params["components"])) or [one for one in ORDER if one in operator.components()]
    changes = operate.restart(operator, parts, module.check_mode)
    ready = ", ".join(operator.states[one.workload].sentence() for one in changes if one.workload in operator.states)
    return {
        "changed": True,
        "msg": f"would restart {', '.join(one.name for one in changes)}"
        if module.check_mode
        else f"restarted: {ready}",
        "results": [one.shown() for one in changes],
        "diff": operate.difference(changes),
    }


if __name__ == "__main__":
    main()
