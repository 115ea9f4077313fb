#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_adopt
short_description: Take over objects that something else has made, for server-side apply
version_added: 1.0.0
description:
  - A Kubernetes API server remembers which program set which field of an object. With server-side apply, a field that
    another program has set stays, even when it is no more declared. So an object that an older collection has made
    would keep, for example, a C(command) that is not wanted any more.
  - This module makes the fields of an object's maker ours, as if C(rhpds.litemaas) had applied them. Nothing else of
    the object changes, and nothing is rolled out. With the next apply by that field manager, what isn't declared goes
    away.
  - What other programs have set, for example C(oc set env), C(oc set volume) or an autoscaler, stays theirs. So do, of
    what the maker has set, the number of replicas and mounted Secrets that aren't this deployment's.
  - Objects that C(rhpds.litemaas) has applied already are left alone.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
options:
  namespace:
    description: Namespace of the objects.
    type: str
    required: true
  objects:
    description:
      - What to take over, each as C(Kind/name). What isn't there is passed over.
      - Without it, the Deployments, StatefulSets and Services that a deployment of LiteMaaS consists of.
    type: list
    elements: str
  managers:
    description: Names of the field managers whose fields become ours.
    type: list
    elements: str
    default:
      - OpenAPI-Generator
      - kubectl-client-side-apply
      - kubectl-create
      - python-requests
      - Swagger-Codegen
notes:
  - The account needs to get and patch the objects.
seealso:
  - module: rhpds.litemaas.litemaas_cluster_info
  - module: kubernetes.core.k8s
"""

EXAMPLES = r"""
- name: A deployment that an older collection has made becomes ours
  rhpds.litemaas.litemaas_adopt:
    namespace: litemaas

- name: A Route that somebody has made with kubectl edit becomes ours too
  rhpds.litemaas.litemaas_adopt:
    namespace: litemaas
    objects: [Route/litellm]
    managers: [OpenAPI-Generator, kubectl-edit]
"""

RETURN = r"""
msg:
  description: One line that says what was taken over.
  returned: always
  type: str
  sample: 1 adopted (Deployment/litellm) in litemaas
results:
  description: One entry an object.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Kind and name.
      type: str
      sample: Deployment/litellm
    action:
      description: What was done, or would be in check mode. One of V(adopt) and V(none).
      type: str
    changed:
      description: Whether anything was written.
      type: bool
    exists:
      description: Whether the object is there.
      type: bool
    others:
      description: Other field managers, whose fields stay theirs.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import adopt
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "objects": {"type": "list", "elements": "str"},
            "managers": {"type": "list", "elements": "str", "default": list(adopt.MAKERS)},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    objects = adopt.DEFAULT if params["objects"] is None else params["objects"]
    try:
        client = Cluster.from_params(params).rest()
        result = adopt.adopt(client, params["namespace"], objects, params["managers"], module.check_mode)
    except ValueError as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    if module._diff:
        taken = "".join(f"{one['name']}\n" for one in result["results"] if one["changed"])
        result["diff"] = {"before": "", "after": taken}
    return result


if __name__ == "__main__":
    main()
