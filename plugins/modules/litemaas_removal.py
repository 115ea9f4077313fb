#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_removal
short_description: Remove a deployment of LiteMaaS, or what a deploy doesn't want any more
version_added: 1.0.0
description:
  - Removes the objects in a namespace that carry the label C(app.kubernetes.io/managed-by=rhpds.litemaas), and waits
    until they are gone.
  - With O(scope=everything) that is the whole deployment, with the OAuthClient outside of the namespace. The namespace
    goes too where P(rhpds.litemaas.ocp4_workload_litemaas#role) made it and nothing of somebody else's is in it. For
    that every kind that the API server has is looked at; where one can't be read, the namespace stays.
  - A volume of the database that has no label goes where it is made of the claim template of our StatefulSet. What is
    labelled as managed by somebody else never goes.
  - With O(scope=leftovers) it is what an earlier deploy applied and O(wanted) doesn't name, such as the Routes of an
    earlier prefix, or the OAuthClient of a login that is switched off, where the account may list OAuthClients. Secrets
    and volumes stay then, whatever is wanted, and so does a Job that is at work, unless it is a migration to an image
    that is not wanted any more. Where a HorizontalPodAutoscaler goes, what it scaled gets the replicas that the deploy
    wants.
  - With O(scope=failed_jobs) it is the Jobs of an earlier deploy that failed, as a Job can't be run again, and with
    O(wanted) also migrations that it doesn't name and that are still at work. All else that carries the label is in
    RV(kept).
  - What nobody marked stays, unless O(obsolete) names it.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
options:
  namespace:
    description: Namespace of the deployment.
    type: str
    required: true
  scope:
    description: What is removed, see above.
    type: str
    choices: [leftovers, failed_jobs, everything]
    required: true
  wanted:
    description:
      - With O(scope=leftovers), what stays, each as C(Kind/name).
      - With O(scope=failed_jobs), the migration that stays though it is at work. Empty, all of them stay.
    type: list
    elements: str
    default: []
  obsolete:
    description: With O(scope=leftovers), what goes though it has no mark, each as C(Kind/name).
    type: list
    elements: str
    default: []
  keep_volume:
    description:
      - With O(scope=everything), keeps the database's volume, the Secrets that it can't be used without, and the record
        of backups. The next deploy takes all of them up again.
    type: bool
    default: false
  timeout:
    description: Seconds to wait until everything is gone.
    type: float
    default: 300
notes:
  - Makes no backup and asks for none. P(rhpds.litemaas.ocp4_workload_litemaas#role) does.
seealso:
  - module: rhpds.litemaas.litemaas_cluster_info
  - module: rhpds.litemaas.litemaas_database_dump
"""

EXAMPLES = r"""
- name: What would go
  rhpds.litemaas.litemaas_removal:
    namespace: litemaas
    scope: everything
  check_mode: true

- name: Remove the deployment, and keep its database's volume
  rhpds.litemaas.litemaas_removal:
    namespace: litemaas
    scope: everything
    keep_volume: true

- name: Remove what an older release has left
  rhpds.litemaas.litemaas_removal:
    namespace: litemaas
    scope: leftovers
    wanted: [Deployment/litellm, Service/litellm]
    obsolete: [NetworkPolicy/allow-intra-namespace]
"""

RETURN = r"""
msg:
  description: What happened, in a line.
  returned: always
  type: str
  sample: "removed 31 objects; namespace litemaas removed"
removed:
  description: What was removed, each as C(Kind/name).
  returned: success
  type: list
  elements: str
kept:
  description: What is ours and was kept, with the volume.
  returned: success
  type: list
  elements: str
scaled:
  description: "What got the wanted replicas, as its autoscaler went, each as C(Kind/name: number)."
  returned: success
  type: list
  elements: str
namespace:
  description: V(removed), V(absent), or why it stays. Empty with O(scope=leftovers).
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.removal import Removal


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "scope": {"type": "str", "required": True, "choices": ["leftovers", "failed_jobs", "everything"]},
            "wanted": {"type": "list", "elements": "str", "default": []},
            "obsolete": {"type": "list", "elements": "str", "default": []},
            "keep_volume": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 300},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    removal = Removal(Cluster.from_params(params).rest(), params["namespace"], module.check_mode, params["timeout"])
    if params["scope"] == "leftovers":
        outcome = removal.leftovers(params["wanted"], params["obsolete"])
    elif params["scope"] == "failed_jobs":
        outcome = removal.failed_jobs(params["wanted"])
    else:
        outcome = removal.everything(params["keep_volume"])
    changed = bool(outcome.removed) or outcome.namespace == "removed"
    verb = "would remove" if module.check_mode else "removed"
    parts = [f"{verb} {len(outcome.removed)} objects" if outcome.removed else "nothing to remove"]
    if outcome.kept:
        parts.append(f"kept {', '.join(outcome.kept)}")
    if outcome.scaled:
        parts.append(f"{'would scale' if module.check_mode else 'scaled'} {', '.join(outcome.scaled)}")
    if outcome.namespace:
        parts.append(f"namespace {params['namespace']} {outcome.namespace}")
    return {
        "changed": changed,
        "msg": "; ".join(parts),
        "removed": outcome.removed,
        "kept": outcome.kept,
        "scaled": outcome.scaled,
        "namespace": outcome.namespace,
        "diff": {"before": "".join(f"{one}\n" for one in outcome.removed), "after": ""},
    }


if __name__ == "__main__":
    main()
