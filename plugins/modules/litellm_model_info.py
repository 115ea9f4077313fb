#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_model_info
short_description: List models of a LiteLLM proxy
version_added: 1.0.0
description:
  - Gives the deployments that a LiteLLM proxy holds, all of them or those that match every filter given.
  - LiteLLM leaves secrets out or masks them.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.attributes.info
options:
  model_name:
    description: Only deployments of this name.
    type: str
    aliases: [name]
  prefix:
    description: Only deployments whose name begins with this.
    type: str
  id:
    description: Only the deployment with this C(model_info.id).
    type: str
  scope:
    description: Only deployments of this collection in this scope.
    type: str
  managed:
    description: Only deployments that this collection manages, or only those that it doesn't.
    type: bool
  stored:
    description: Only deployments stored in the proxy's database, or only those of its configuration file.
    type: bool
seealso:
  - module: rhpds.litemaas.litellm_model
"""

EXAMPLES = r"""
- name: Everything that the proxy serves
  rhpds.litemaas.litellm_model_info:
  register: all_models

- name: Models made by hand, in the UI for example
  rhpds.litemaas.litellm_model_info:
    stored: true
    managed: false
  register: unmanaged
"""

RETURN = r"""
msg:
  description: One line with the number of deployments and names.
  returned: always
  type: str
  sample: "12 deployments of 11 models"
models:
  description: The deployments, sorted by name and id.
  returned: always
  type: list
  elements: dict
  contains:
    model_name:
      description: Name under which users call it.
      type: str
    id:
      description: LiteLLM's id of the deployment.
      type: str
    managed:
      description: Whether this collection manages it.
      type: bool
    scope:
      description: The scope that it belongs to.
      type: str
    deployment:
      description: Its label.
      type: str
    stored:
      description: Whether it is in the proxy's database.
      type: bool
    litellm_params:
      description: Its parameters, as LiteLLM gives them.
      type: dict
    model_info:
      description: Its properties, as LiteLLM gives them.
      type: dict
litellm_url:
  description: Address of the proxy that was used.
  returned: when it is known
  type: str
  sample: https://litellm.example.com
found:
  description: What was found in O(namespace), and where. No secret is in it.
  returned: with O(namespace), where something was looked up
  type: dict
  sample: {litellm_url: Route litemaas/litellm, litellm_master_key: Secret litemaas/litellm-secret}
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils import ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import model
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule


def main():
    module = LiteMaaSModule(
        argument_spec={
            **http.argument_spec(),
            "model_name": {"type": "str", "aliases": ["name"]},
            "prefix": {"type": "str"},
            "id": {"type": "str"},
            "scope": {"type": "str"},
            "managed": {"type": "bool"},
            "stored": {"type": "bool"},
        },
        supports_check_mode=True,
    )
    client = module.client()
    module.run(lambda: work(module.params, client))


def work(params, client):
    found = [entry(one) for one in model.read_deployments(client)]
    for name in ("model_name", "id", "scope", "managed", "stored"):
        if params[name] is not None:
            found = [one for one in found if one[name] == params[name]]
    found = [one for one in found if one["model_name"].startswith(params["prefix"] or "")]
    found.sort(key=lambda one: (one["model_name"], one["id"]))
    names = len({one["model_name"] for one in found})
    msg = f"{len(found)} deployment{'s' * (len(found) != 1)} of {names} model{'s' * (names != 1)}"
    return {"changed": False, "msg": msg, "models": found}


def entry(observed):
    info = observed["model_info"]
    managed = ownership.is_ours(info)
    return {
        "model_name": observed["model_name"],
        "id": info["id"],
        "managed": managed,
        "scope": info.get("scope") if managed else None,
        "deployment": ownership.record(info).get("deployment", "") if managed else None,
        "stored": bool(info.get("db_model")),
        "litellm_params": observed["litellm_params"],
        "model_info": info,
    }


if __name__ == "__main__":
    main()
