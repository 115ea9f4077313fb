#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_access_check
short_description: Fail where a namespace isn't there, or rights in it are missing
version_added: 1.0.0
description:
  - Asks the API server whether a namespace exists and whether the account has rights there, before anything is read or
    written with them.
  - Fails with one sentence that names every right that lacks, the namespace that isn't there, or what stands in the way
    to the API server.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster_info
options:
  namespace:
    description: Namespace that has to be there.
    type: str
    required: true
  needs:
    description: Rights that the account has to have there.
    type: list
    elements: dict
    default: []
    suboptions:
      verbs:
        description: For example V(get) and V(patch).
        type: list
        elements: str
        required: true
      group:
        description: API group, for example V(apps). Empty for the core group.
        type: str
        default: ''
      resource:
        description: Plural name, for example V(deployments), or V(pods/exec).
        type: str
        required: true
      names:
        description: Names of the objects, where the right to all of them isn't needed.
        type: list
        elements: str
        default: []
notes:
  - Every account may ask for its own rights. One that may not get the namespace isn't told whether it is there; that is
    no failure where no right lacks.
seealso:
  - module: rhpds.litemaas.litemaas_cluster_info
"""

EXAMPLES = r"""
- name: Whether the backend can be changed, and its Secret read
  rhpds.litemaas.k8s_access_check:
    namespace: litemaas
    needs:
      - {verbs: [get, patch], group: apps, resource: deployments, names: [litellm-backend]}
      - {verbs: [get], resource: secrets, names: [backend-secret]}
"""

RETURN = r"""
msg:
  description: One line that says what lacks, or that nothing does.
  returned: always
  type: str
  sample: "The account lacks rights: patch on deployments.apps litellm-backend in litemaas"
missing_rights:
  description: Rights that the account lacks.
  returned: when the API server answered
  type: list
  elements: str
  sample: [patch on deployments.apps litellm-backend in litemaas]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import rights
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave

NEED = {
    "verbs": {"type": "list", "elements": "str", "required": True},
    "group": {"type": "str", "default": ""},
    "resource": {"type": "str", "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
}


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "needs": {"type": "list", "elements": "dict", "options": NEED, "default": []},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module.params))


def work(params):
    place = params["namespace"]
    needs = [
        rights.Need(verb, one["group"], one["resource"], place, name)
        for one in params["needs"]
        for name in one["names"] or [""]
        for verb in one["verbs"]
    ]
    return {"changed": False, **rights.look(Cluster.from_params(params).rest(), needs, place)}


if __name__ == "__main__":
    main()
