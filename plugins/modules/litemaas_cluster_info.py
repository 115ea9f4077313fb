#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_cluster_info
short_description: What a cluster and a namespace are like, and what stands in the way of a deployment
version_added: 1.0.0
description:
  - Reads in one go what a deployment of LiteMaaS has to know of a cluster, that is platform, provider, domain,
    StorageClass and served API versions, and of a namespace, that is what of LiteMaaS is there, whose it is, which
    Secrets and volumes it has and which backups are recorded.
  - Finds out what would make a deployment fail, before anything is applied. RV(problems) has a sentence for each. The
    module doesn't fail for them.
  - Fails where the account may not read what has to be known, and names every right that it lacks. What can't be read
    is never taken for missing.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster_info
options:
  namespace:
    description: Namespace of the deployment. It doesn't have to exist.
    type: str
    required: true
  storage_class:
    description:
      - StorageClass for the database's volume.
      - Without it, the one that clusters of this provider come with; else the one that is annotated as default.
    type: str
    default: ''
  cluster_domain:
    description:
      - Domain of the cluster's names, for example V(apps.cluster-abc12.example.com).
      - Without it, OpenShift's own. Plain Kubernetes has none.
    type: str
    default: ''
  platform:
    description: Kind of cluster. Without it, V(openshift) where the cluster has Routes.
    type: str
    choices: ['', openshift, kubernetes]
    default: ''
  provider:
    description:
      - Provider of the cluster in lower case, for example V(aws), by which the StorageClass is chosen.
      - Without it, what OpenShift says.
    type: str
    default: ''
  needs:
    description: Rights to check for, instead of those that a deployment needs. An empty list checks none.
    type: list
    elements: dict
    suboptions: &need
      verb:
        description: For example V(create).
        type: str
        required: true
      group:
        description: API group, for example V(apps). Empty for the core group.
        type: str
        default: ''
      resource:
        description: Plural name, for example V(deployments), or V(pods/exec).
        type: str
        required: true
      namespace:
        description: Namespace, O(namespace) if left out. Empty for what belongs to the whole cluster.
        type: str
  more_needs:
    description: Rights to check for beside them, for example those for an OAuthClient.
    type: list
    elements: dict
    default: []
    suboptions: *need
  given_secrets:
    description:
      - Names of values that M(rhpds.litemaas.litemaas_secrets) will be given, whose loss is therefore no problem.
    type: list
    elements: str
    choices: [password, master_key, salt_key]
    default: []
  external_database:
    description: Whether the database is outside the namespace, so that neither volume nor StorageClass matter.
    type: bool
    default: false
  allow_foreign:
    description: Whether a namespace that has workloads of somebody else's, and none of LiteMaaS, may be deployed into.
    type: bool
    default: false
  host_prefixes:
    description:
      - First labels of the names under which the deployment is to be reached, for example V(litellm). On OpenShift a
        Route of another namespace with such a name is a problem, where the account may list Routes of the cluster.
    type: list
    elements: str
    default: []
  oauth_client:
    description: Name of the OAuthClient that is wanted, where it is. One that is somebody else's is a problem.
    type: str
    default: ''
  check_database:
    description:
      - Whether the password in Secret C(litemaas-db) is compared with the database's, through the API server's
        port-forward, when a pod of the database is ready.
      - Needs psycopg2 on the host that runs the module, and the right to create pods/portforward. Where it can't be
        done, RV(notes) says why.
    type: bool
    default: true
notes:
  - The account needs to get namespaces and Secrets, and to list deployments, statefulsets, daemonsets, services,
    configmaps, persistentvolumeclaims, horizontalpodautoscalers and routes or ingresses in the namespace. OpenShift's
    configuration and the list of StorageClasses are needed where they aren't given.
seealso:
  - module: rhpds.litemaas.litemaas_secrets
  - module: rhpds.litemaas.k8s_rollout_status
"""

EXAMPLES = r"""
- name: What is there
  rhpds.litemaas.litemaas_cluster_info:
    namespace: litemaas
  register: cluster

- name: Stop before anything is applied
  ansible.builtin.assert:
    that: cluster.problems | length == 0
    fail_msg: "{{ cluster.problems | join('; ') }}"

- name: Whether the account may also register an OAuthClient
  rhpds.litemaas.litemaas_cluster_info:
    namespace: litemaas
    cluster_domain: apps.cluster-abc12.example.com
    more_needs:
      - {verb: create, group: oauth.openshift.io, resource: oauthclients, namespace: ''}
"""

RETURN = r"""
msg:
  description: One line that says what is there, or what could not be read.
  returned: always
  type: str
  sample: openshift on aws, no LiteMaaS in litemaas, nothing in the way of a deployment
problems:
  description: What makes a deployment impossible, a sentence each, with the way on.
  returned: when the API server answered
  type: list
  elements: str
notes:
  description: What could not be found out, and why, without standing in the way.
  returned: when the API server answered
  type: list
  elements: str
missing_rights:
  description: Rights that the account lacks.
  returned: when the API server answered
  type: list
  elements: str
  sample: [create on deployments.apps in litemaas]
platform:
  description: V(openshift) or V(kubernetes).
  returned: when the API server answered
  type: str
provider:
  description: The provider of an OpenShift cluster, in lower case, for example V(aws). Empty where it isn't known.
  returned: when the API server answered
  type: str
domain:
  description: Domain of the cluster's names. Empty where it isn't known.
  returned: success
  type: str
cluster_domain:
  description: OpenShift's own domain, whatever O(cluster_domain) says. Empty where it isn't known.
  returned: success
  type: str
api_versions:
  description: Kinds that the API server has, as C(group/version/Kind), or C(v1/Kind) of the core group.
  returned: when the API server answered
  type: list
  elements: str
  sample: [v1/Pod, apps/v1/Deployment]
storage_class:
  description: The StorageClass to use.
  returned: when the API server answered
  type: dict
  contains:
    name:
      description: Its name. Empty where there is none.
      type: str
    how:
      description: How it was found. One of V(given), V(by provider) and V(default).
      type: str
storage_classes:
  description: Names of the cluster's StorageClasses.
  returned: when the API server answered
  type: list
  elements: str
namespace:
  description: The namespace.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    exists:
      description: Whether it exists.
      type: bool
    ours:
      description: Whether this collection made it, or something in it.
      type: bool
    made:
      description: Whether this collection made the namespace itself.
      type: bool
    foreign:
      description: Whether it has workloads that aren't LiteMaaS's.
      type: bool
    others:
      description: Those workloads, as C(Kind/name).
      type: list
      elements: str
    phase:
      description: V(Active) or V(Terminating).
      type: str
    system:
      description: Whether it is one of the cluster's own.
      type: bool
deployment:
  description: The deployment of LiteMaaS that is there.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether there is any part of one.
      type: bool
    ours:
      description: Whether this collection made all of it.
      type: bool
    adoptable:
      description: Whether something else made it, such as an older collection.
      type: bool
    version:
      description: Tag of the backend's image.
      type: str
    images:
      description: Part to image. Parts are litellm, backend, frontend, postgres, redis and mcp.
      type: dict
    replicas:
      description: Part to number of replicas.
      type: dict
    hpas:
      description: Names of the Deployments whose replicas an autoscaler sets.
      type: list
      elements: str
    layout:
      description: V(shared) where both stores are in one database, V(split) where not. Empty where it isn't known.
      type: str
    databases:
      description: Store to name of its database. Stores are litemaas and litellm.
      type: dict
    salt_key:
      description: Whether it has a LITELLM_SALT_KEY.
      type: bool
    hosts:
      description: Names under which api, admin and frontend are reached, by the Service behind each Route or Ingress.
      type: dict
live:
  description:
    - C(Kind/name) to the object, without its status, of Deployments, StatefulSets, Services, Routes, Ingresses and
      volume claims of the deployment.
  returned: success
  type: dict
secrets:
  description: Name of each Secret of the deployment that is there, to the names of its usable keys. Never values.
  returned: success
  type: dict
  sample: {litellm-secret: [LITELLM_MASTER_KEY, LITELLM_SALT_KEY, UI_PASSWORD, UI_USERNAME]}
volumes:
  description: Names of the database's volume claims.
  returned: success
  type: list
  elements: str
backups:
  description: Backups recorded in ConfigMap C(litemaas-backups), newest first.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import facts, rights
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave

NEED = {
    "verb": {"type": "str", "required": True},
    "group": {"type": "str", "default": ""},
    "resource": {"type": "str", "required": True},
    "namespace": {"type": "str"},
}


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str", "required": True},
            "storage_class": {"type": "str", "default": ""},
            "cluster_domain": {"type": "str", "default": ""},
            "platform": {"type": "str", "choices": ["", "openshift", "kubernetes"], "default": ""},
            "provider": {"type": "str", "default": ""},
            "needs": {"type": "list", "elements": "dict", "options": NEED},
            "more_needs": {"type": "list", "elements": "dict", "default": [], "options": NEED},
            "given_secrets": {
                "type": "list",
                "elements": "str",
                "choices": ["password", "master_key", "salt_key"],
                "default": [],
                "no_log": False,
            },
            "external_database": {"type": "bool", "default": False},
            "allow_foreign": {"type": "bool", "default": False},
            "host_prefixes": {"type": "list", "elements": "str", "default": []},
            "oauth_client": {"type": "str", "default": ""},
            "check_database": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    leave(module, lambda: work(module.params))


def work(params):
    question = facts.Question(
        params["namespace"],
        storage_class=params["storage_class"],
        cluster_domain=params["cluster_domain"],
        platform=params["platform"],
        provider=params["provider"],
        needs=None if params["needs"] is None else [need(one, params) for one in params["needs"]],
        more_needs=[need(one, params) for one in params["more_needs"]],
        given_secrets=params["given_secrets"],
        external=params["external_database"],
        allow_foreign=params["allow_foreign"],
        check_database=params["check_database"],
        host_prefixes=params["host_prefixes"],
        oauth_client=params["oauth_client"],
    )
    return {"changed": False, **facts.Reader(Cluster.from_params(params), question).read()}


def need(item, params):
    place = params["namespace"] if item["namespace"] is None else item["namespace"]
    return rights.Need(item["verb"], item["group"], item["resource"], place)


if __name__ == "__main__":
    main()
