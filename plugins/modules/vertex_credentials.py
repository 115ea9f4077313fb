#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vertex_credentials
short_description: Keys of Google service accounts in LiteLLM's pods
version_added: 1.0.0
description:
  - Puts the key of a Google Cloud service account into a Secret, mounts that read-only into LiteLLM's Deployment, waits
    for the rollout, and compares the file in every pod that is ready.
  - Checks each key first, and asks Google about it where the network allows. If one item can't be done, nothing is
    written at all.
  - A changed key is rolled out pod by pod, as LiteLLM keeps what it has read of a key until it stops. The Deployment's
    own strategy decides how many pods serve meanwhile; with the default one all of them do.
  - Nothing of a key is shown or written to a file, whatever the verbosity.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
attributes:
  action:
    description: Has an action plugin, which keeps O(content) off the disk of the host that the module runs on.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
options:
  <<: &item
    secret:
      description: Name of the Secret. It has to differ from item to item.
      type: str
      aliases: [name]
    path:
      description:
        - Path of the key in the pods, as models give it in C(vertex_credentials), for example
          V(/etc/vertex-credentials/key.json). Its last part has to be C(key.json), its name in the Secret.
        - What else is in the Secret appears beside it, and hides what the image has in that folder. So it has to be a
          folder of its own, not C(/etc), C(/usr), C(/app), C(/etc/litellm) or the like.
        - May be left out where the Secret is mounted already. A mount that was made there by other means, with C(oc set
          volume) for example, is taken over.
        - Another path than before moves the mount, and E(GOOGLE_APPLICATION_CREDENTIALS) with it where that was the old
          one. O(used_paths) is asked about the old path.
      type: str
    volume:
      description: Name of the volume. That of the Secret where it is left out, or the one that it has.
      type: str
    src:
      description: The key file that Google Cloud gave out, on the host that the module runs on.
      type: path
    content:
      description:
        - The key itself, as text or as the mapping that it is, instead of O(src).
        - With neither, the Secret has to be there, and the key in it is checked.
        - A key that says the same in another layout counts as the same.
      type: raw
    expected_project:
      description: The Google Cloud project that the key has to be of.
      type: str
    expected_email:
      description: The service account that the key has to be of.
      type: str
    fallback:
      description:
        - Whether E(GOOGLE_APPLICATION_CREDENTIALS) of the container shall be this key's path, for calls of models that
          name no key. One key can be that.
        - V(false) takes it away where it is. Left out, it stays as it is.
      type: bool
  credentials:
    description:
      - Keys to manage, one item each. The options beside this list are the defaults of every item.
      - Give either this or O(secret).
    type: list
    elements: dict
    suboptions:
      <<: *item
      state:
        description:
          - V(present) makes Secret and mount match what is declared. Other keys of the Secret stay.
          - V(absent) takes the mount away, waits for the rollout, and deletes the Secret if this module made it.
        type: str
        choices: [present, absent]
  state:
    description:
      - V(present) makes Secret and mount match what is declared. Other keys of the Secret stay.
      - V(absent) takes the mount away, waits for the rollout, and deletes the Secret if this module made it.
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description: LiteMaaS's namespace.
    type: str
    required: true
  deployment:
    description: The Deployment of the LiteLLM proxy.
    type: str
    default: litellm
  container:
    description: Its container.
    type: str
    default: litellm
  used_paths:
    description:
      - Which models still use a key, as a mapping of its path to their names. O(state=absent) is refused for these, and
        so is a mount at another O(path).
      - LiteLLM tells nobody the path that a model was registered with, so whoever calls this has to know.
    type: dict
    default: {}
  force:
    description: Let O(state=absent), or another O(path), take away a key that O(used_paths) names.
    type: bool
    default: false
  probe:
    description:
      - Whether to get a token with each key, and to ask whether its account may call models of its project, which takes
        C(roles/aiplatform.user).
      - V(auto) goes on where Google can't be reached, and says so in RV(results[].probe). V(require) fails then, and
        V(skip) doesn't try. A key that Google refuses fails with V(auto) and V(require).
    type: str
    choices: [auto, require, skip]
    default: auto
  iam_endpoint:
    description: Address of Google's Cloud Resource Manager API, where a private endpoint has another one.
    type: str
    default: https://cloudresourcemanager.googleapis.com
  wait:
    description: Whether to wait for the rollout.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait at most.
    type: int
    default: 600
  verify:
    description:
      - Whether to compare the sha256 of the file in every ready pod with that of the key. Needs O(wait), and the right
        to run a command in the pods.
    type: bool
    default: true
requirements:
  - cryptography (on the host that runs the module)
  - requests (on the host that runs the module; for O(probe))
notes:
  - All that it applies has the field manager C(rhpds.litemaas.vertex), so that a deployment of LiteMaaS leaves it as it
    is.
  - Giving O(src) keeps the key out of Ansible's variables too.
seealso:
  - module: rhpds.litemaas.litellm_model
"""

EXAMPLES = r"""
- name: The keys of both projects, in the pods of LiteLLM
  rhpds.litemaas.vertex_credentials:
    namespace: litemaas
    credentials:
      - secret: vertex-ai-sa-key
        path: /etc/vertex-credentials/key.json
        volume: vertex-sa-key
        src: ~/keys/litemaas-vertex-sa.json
        expected_project: rhdp-infra
      - secret: vertex-claude-sa-key
        path: /etc/vertex-claude-credentials/key.json
        volume: vertex-claude-sa-key
        src: ~/keys/rhdp-vertex-app-sa.json
        expected_project: itpc-gcp-product-all-claude
        fallback: true
  register: vertex_keys

- name: Models of which one points at the other project's key are refused
  rhpds.litemaas.litellm_model:
    vertex_credentials_projects: "{{ vertex_keys.projects }}"
    vertex_project: itpc-gcp-product-all-claude
    vertex_location: us-east5
    vertex_credentials: /etc/vertex-claude-credentials/key.json
    models:
      - model_name: claude-sonnet-4-6
        litellm_model: vertex_ai/claude-sonnet-4-6

- name: A Secret that somebody else keeps up to date is checked and mounted
  rhpds.litemaas.vertex_credentials:
    namespace: litemaas
    secret: vertex-ai-sa-key
    path: /etc/vertex-credentials/key.json

- name: A key goes, with its mount
  rhpds.litemaas.vertex_credentials:
    namespace: litemaas
    secret: vertex-ai-sa-key
    state: absent
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts and the first failures by name.
  returned: always
  type: str
  sample: "2 credentials: 1 created, 1 unchanged"
projects:
  description: Google Cloud project of each key that shall be there, by its path in the pods.
  returned: always
  type: dict
  sample: {/etc/vertex-credentials/key.json: rhdp-infra}
rollout:
  description:
    - How the rollout ended, as M(rhpds.litemaas.k8s_rollout_status) says it. Empty without O(wait) and in check mode.
  returned: always
  type: dict
results:
  description: One entry an item, in the order of the list.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Secret.
      type: str
    secret:
      description: Name of the Secret.
      type: str
    action:
      description: What was done, or would be in check mode.
      type: str
      sample: rotate
    changed:
      description: Whether anything was written for it.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    changes:
      description: What differs, before and after. Keys are shown as V(hidden).
      type: list
      elements: dict
    path:
      description: Path of the key in the pods.
      type: str
    volume:
      description: Name of the volume.
      type: str
    project:
      description: Google Cloud project of the key.
      type: str
    email:
      description: Service account of the key.
      type: str
    probe:
      description: Outcome and reason of the try with Google. Empty where there was none.
      type: dict
      sample: {outcome: skipped, reason: "oauth2.googleapis.com can't be reached from here (ConnectTimeout)"}
    verified_pods:
      description: Pods that have the file with this content.
      type: list
      elements: str
    msg:
      description: What happened, why, or what went wrong and how to go on.
      type: str
summary:
  description: Number of items by what happened to them.
  returned: always
  type: dict
  sample: {created: 1, updated: 0, rotated: 0, deleted: 0, unchanged: 1, failed: 0}
"""

import base64
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import items, vertex
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import client, vertex_credentials
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule

ITEM: dict[str, dict[str, Any]] = {
    "secret": {"type": "str", "aliases": ["name"], "no_log": False},
    "path": {"type": "str"},
    "volume": {"type": "str"},
    "src": {"type": "path"},
    # VertexModule hides what is secret in it; no_log would hide the project's name as well, everywhere.
    "content": {"type": "raw", "no_log": False},
    "expected_project": {"type": "str"},
    "expected_email": {"type": "str"},
    "fallback": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


class VertexModule(LiteMaaSModule):
    """Hides the keys among its options before anything is logged or returned."""

    #: It needs nothing of LiteMaaS's own places.
    place = None

    def hide_secrets(self) -> None:
        super().hide_secrets()
        listed = self.params.get("credentials")
        for place in (self.params, *(one for one in listed or () if isinstance(one, dict))):
            content = place.get("content")
            if content not in (None, "", {}):
                texts = vertex.secrets_of(content)
                self.no_log_values.update(texts)
                self.no_log_values.update(base64.b64encode(text.encode()).decode() for text in texts)


def main():
    module = VertexModule(
        argument_spec={
            **client.SPEC,
            **ITEM,
            "credentials": {"type": "list", "elements": "dict", "options": items.suboptions(ITEM), "no_log": False},
            "namespace": {"type": "str", "required": True},
            "deployment": {"type": "str", "default": "litellm"},
            "container": {"type": "str", "default": "litellm"},
            "used_paths": {"type": "dict", "default": {}},
            "force": {"type": "bool", "default": False},
            "probe": {"type": "str", "choices": ["auto", "require", "skip"], "default": "auto"},
            "iam_endpoint": {"type": "str", "default": vertex.IAM_ENDPOINT},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 600},
            "verify": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
        required_one_of=[("secret", "credentials")],
        mutually_exclusive=[("secret", "credentials")],
    )
    params = module.params
    wanted = [
        vertex_credentials.credential_from_options(item) for item in items.merged(params, "credentials", "secret", ITEM)
    ]
    # The result repeats the options.
    for place in (params, *(params["credentials"] or ())):
        if place["content"] is not None:
            place["content"] = "hidden"
    settings = {name: params[name] for name in vertex_credentials.Settings.__dataclass_fields__}
    try:
        resource = vertex_credentials.Credentials(
            client.Cluster.from_params(params), vertex_credentials.Settings(**settings), wanted
        )
        result = resource.converge(check_mode=module.check_mode)
    except client.ClusterError as failure:
        module.fail_json(msg=str(failure))
    for text in resource.warnings:
        module.warn(text)
    module.run(lambda: result)


if __name__ == "__main__":
    main()
