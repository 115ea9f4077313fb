#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_model
short_description: Manage models in a LiteLLM proxy
version_added: 1.0.0
description:
  - Makes the model deployments stored in a LiteLLM proxy match what is declared, one or many in a call.
  - A model's id is derived from O(model_name) and O(deployment), so running it again, running it twice at once or
    running it after a kill never makes a second deployment.
  - After every write the proxy is read again and compared. What it does not show is reported as failed, by field.
  - In a bulk call every item that can be done is done and reported; then the task fails if any item failed.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.attributes
options:
  <<: &item
    model_name:
      description: Name under which users call the model, and its id in LiteMaaS's catalogue.
      type: str
      aliases: [name]
    deployment:
      description:
        - Label that tells several deployments of one O(model_name) apart; LiteLLM balances the load between them.
        - The first one needs none. With O(state=absent), leaving it out means all deployments of the name.
      type: str
    id:
      description:
        - LiteLLM's C(model_info.id) of the deployment that is meant, where name and label don't say.
        - Without it, a deployment of this collection gets a UUIDv5 of its name and label, and an adopted one keeps
          the id that it has.
      type: str
    litellm_model:
      description:
        - Backend model as LiteLLM writes it, for example V(openai/granite-3-2-8b-instruct) or
          V(vertex_ai/claude-sonnet-4-6). Required when the model shall be there.
      type: str
      aliases: [model]
    api_base:
      description: Address of the inference endpoint. Use the cluster-internal one for KServe models.
      type: str
    api_key:
      description:
        - Key of the inference endpoint. V(sk-placeholder) where it needs none.
        - LiteLLM never gives it back; see O(key_secret) and O(update_secrets) for how changes are noticed.
        - Once given, it has to be given on every run, or as an empty string to take it away. The same holds for other
          secrets.
      type: str
    api_version:
      description: API version of the inference endpoint, for providers that have one.
      type: str
    custom_llm_provider:
      description:
        - LiteLLM provider that handles the calls, where it isn't the part of O(litellm_model) before the first slash.
      type: str
    vertex_project:
      description: Google Cloud project that is billed.
      type: str
    vertex_location:
      description: Vertex AI region, for example V(us-east5).
      type: str
    vertex_credentials:
      description:
        - Path of the service-account key inside the proxy's pods, for example
          V(/etc/vertex-credentials/key.json), or the key itself as JSON.
      type: raw
    rpm:
      description: Requests per minute that LiteLLM routes to this deployment.
      type: int
    tpm:
      description: Tokens per minute that LiteLLM routes to this deployment.
      type: int
    max_parallel_requests:
      description: Requests that may be under way to this deployment at once.
      type: int
    request_timeout:
      description: Seconds that LiteLLM waits for this deployment's answer.
      type: float
    max_retries:
      description: How often LiteLLM repeats a failed call to this deployment.
      type: int
    litellm_params:
      description:
        - Any further C(litellm_params). A text that LiteLLM reads as a number or a boolean is the same as that.
        - A parameter that has an option of its own may be given in one of the two places.
      type: dict
    model_info:
      description:
        - Any further C(model_info). Everybody who may call the model can see it.
        - Prices are moved to C(litellm_params), as LiteLLM bills by those alone.
      type: dict
    mode:
      description: What kind of calls the model serves, as LiteLLM names them.
      type: str
      choices:
        - chat
        - completion
        - embedding
        - rerank
        - responses
        - ocr
        - moderation
        - image_generation
        - audio_transcription
        - audio_speech
    capabilities:
      description:
        - What the model can do. LiteMaaS derives its labels from it.
        - The list is complete; what isn't in it is written as not supported, so that LiteLLM's own table of known
          models doesn't fill it in.
      type: list
      elements: str
      choices:
        - chat
        - embeddings
        - document_conversion
        - safety
        - vision
        - function_calling
        - parallel_function_calling
        - tool_choice
        - tokenize
    base_model:
      description: Model of LiteLLM's price table that this one is, where its name doesn't say.
      type: str
    context_length:
      description: Context window in tokens. LiteMaaS shows it.
      type: int
    max_input_tokens:
      description: Longest input in tokens.
      type: int
    max_output_tokens:
      description: Longest output in tokens.
      type: int
    input_cost_per_token:
      description: Price of an input token in US dollars.
      type: float
    output_cost_per_token:
      description: Price of an output token in US dollars.
      type: float
    input_cost_per_million_tokens:
      description: Price of a million input tokens in US dollars, instead of O(input_cost_per_token).
      type: float
    output_cost_per_million_tokens:
      description: Price of a million output tokens in US dollars, instead of O(output_cost_per_token).
      type: float
  models:
    description:
      - Models to manage, one item each. The options beside this list are the defaults of every item.
      - A price that an item gives, per token or per million, takes the place of a default given in the other way.
      - Give either this or O(model_name).
    type: list
    elements: dict
    suboptions:
      <<: *item
      state:
        description: Whether the model shall be there.
        type: str
        choices: [present, absent]
      adopt:
        description:
          - Whether a deployment of this name that nobody manages, made in the UI for example, is taken over. It keeps
            its id, and what isn't declared about it stays as it is.
          - Otherwise another deployment is added beside it, as it is for an item with a label and without
            O(models[].id).
        type: bool
      test:
        description:
          - Have the proxy call the upstream once with these parameters before a new or changed model is written.
          - The proxy fills in what isn't given from a deployment of the same backend model where it has one.
        type: bool
  state:
    description: Whether the model shall be there.
    type: str
    choices: [present, absent]
    default: present
  adopt:
    description:
      - Whether a deployment of this name that nobody manages, made in the UI for example, is taken over. It keeps
        its id, and what isn't declared about it stays as it is.
      - Otherwise another deployment is added beside it, as it is for an item with a label and without O(id).
    type: bool
    default: true
  test:
    description:
      - Have the proxy call the upstream once with these parameters before a new or changed model is written.
      - The proxy fills in what isn't given from a deployment of the same backend model where it has one.
    type: bool
    default: false
  scope:
    description:
      - Name of the set that these models belong to. It is written into their mark, and O(prune) touches this set only.
      - A model of another scope is refused. Without it, a model keeps the scope that it has.
    type: str
  prune:
    description:
      - Remove models of O(scope) that aren't in the list. Needs O(scope) and O(models).
      - Nothing is removed while an item of the list can't be understood.
    type: bool
    default: false
  max_prune_percent:
    description: Share of the scope's models that O(prune) may remove; five are always allowed.
    type: int
    default: 20
  allow_mass_prune:
    description: Let O(prune) remove more than O(max_prune_percent).
    type: bool
    default: false
  protected:
    description:
      - Model names whose removal is refused, by O(state=absent) and by O(prune), those with active subscriptions for
        example. M(rhpds.litemaas.litemaas_db_sync) reports them.
    type: list
    elements: str
    default: []
  key_secret:
    description:
      - Secret under which fingerprints of O(models[].api_key) and the like are kept, since LiteLLM never gives them
        back. With it, a changed secret is noticed and an unchanged one isn't written.
      - Falls back to the environment variable E(LITELLM_KEY_SECRET), then to what O(namespace) has.
    type: str
  update_secrets:
    description:
      - What to do with secrets where there is no O(key_secret), as no change can be noticed.
      - V(on_create) writes them with a new model, and when something else about it changes; V(always) writes them, and
        reports a change, on every run.
    type: str
    choices: [on_create, always]
    default: on_create
  wait:
    description:
      - Wait until the proxy, and every address of O(replica_urls), shows what was written. Other replicas load models
        every 30 seconds.
      - Without it, what O(litellm_url) doesn't show at once is reported as failed, and replicas aren't looked at.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait at most.
    type: int
    default: 90
  replica_urls:
    description:
      - Addresses of single replicas that have to list the models before the task ends.
      - Give them where O(litellm_url) spreads requests over several replicas. A deployment that is changed then goes
        only after all of them have the temporary one.
    type: list
    elements: str
    default: []
  vertex_credentials_projects:
    description:
      - Google Cloud project of each service account's key, by its path in the proxy's pods, as
        M(rhpds.litemaas.vertex_credentials) returns it in RV(rhpds.litemaas.vertex_credentials#module:projects).
      - With it, a model whose O(vertex_project) is another project than that of its O(vertex_credentials) is reported,
        with both. LiteLLM would tell nobody before the first call fails. A key given as JSON is checked without it.
      - With O(namespace), paths that aren't given here are looked up in the Secrets that Deployment C(litellm) mounts.
        That takes get on deployments.apps and on these Secrets. What may not be read isn't checked, and
        RV(found) says so.
    type: dict
    default: {}
  project_mismatch:
    description:
      - What to do about such a model. V(error) refuses it before anything of it is written; V(warn) is for accounts
        that were let into another project.
      - A path of Vertex AI's Model Garden that isn't written C(vertex_ai/<publisher>/<id>-maas) is a warning with both.
    type: str
    choices: [error, warn]
    default: error
  verify_as:
    description: A virtual key. The task ends when that key sees the models of the list, and fails when it doesn't.
    type: str
notes:
  - On LiteLLM 1.81 an update through the API empties the router of all stored models while it reloads. A deployment of
    this collection is therefore changed through a temporary second deployment, so that no call fails. An adopted model
    whose secrets aren't declared, and a model of a team, can only be changed through the API.
  - Parameters and properties that others set in the UI, and that aren't declared, stay as they are. A secret that was
    added there to a model of this collection can't be seen and is lost with the next change.
seealso:
  - module: rhpds.litemaas.litellm_model_info
  - module: rhpds.litemaas.litemaas_db_sync
  - module: rhpds.litemaas.vertex_credentials
"""

EXAMPLES = r"""
- name: A model served by KServe
  rhpds.litemaas.litellm_model:
    model_name: granite-3-2-8b-instruct
    litellm_model: openai/granite-3-2-8b-instruct
    api_base: http://granite-3-2-8b-instruct-predictor.llm-hosting.svc.cluster.local/v1
    api_key: sk-placeholder
    capabilities: [chat, function_calling, tool_choice]
    context_length: 131072
    rpm: 30
    tpm: 500000

- name: Vertex AI models, with the credentials that all of them share
  rhpds.litemaas.litellm_model:
    scope: vertex
    vertex_project: itpc-gcp-product-all-claude
    vertex_location: us-east5
    vertex_credentials: /etc/vertex-claude-credentials/key.json
    models:
      - model_name: claude-sonnet-4-6
        litellm_model: vertex_ai/claude-sonnet-4-6
        input_cost_per_million_tokens: 3.00
        output_cost_per_million_tokens: 15.00
      - model_name: gemini-2.5-pro
        litellm_model: vertex_ai/gemini-2.5-pro
        vertex_location: us-central1
        input_cost_per_million_tokens: 1.25
        output_cost_per_million_tokens: 10.00

- name: A second deployment of the same name, to balance the load
  rhpds.litemaas.litellm_model:
    model_name: granite-3-2-8b-instruct
    deployment: gpu-b
    litellm_model: openai/granite-3-2-8b-instruct
    api_base: http://granite-b-predictor.llm-hosting.svc.cluster.local/v1
    api_key: sk-placeholder

- name: Everything that this list doesn't name goes, within its scope
  rhpds.litemaas.litellm_model:
    scope: workshop-models
    prune: true
    models:
      - model_name: nomic-embed-text-v1-5
        litellm_model: openai/nomic-embed-text-v1-5
        api_base: http://nomic-predictor.llm-hosting.svc.cluster.local/v1
        api_key: sk-placeholder
        capabilities: [embeddings]

- name: A model goes, with all its deployments
  rhpds.litemaas.litellm_model:
    model_name: granite-3-2-8b-instruct
    state: absent
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts and the first failures by name.
  returned: always
  type: str
  sample: "3 models: 1 created, 2 unchanged"
results:
  description: One entry an item, in the order of the list, pruned models last.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Model name, with the label in brackets where it has one.
      type: str
    action:
      description: What was done, or would be in check mode.
      type: str
      sample: create
    changed:
      description: Whether anything was written for it.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    changes:
      description: Fields that differ, with their values before and after. Secrets are shown as V(hidden).
      type: list
      elements: dict
    id:
      description: LiteLLM's id of the deployment.
      type: str
    msg:
      description: What happened, why, or what went wrong and how to go on.
      type: str
summary:
  description: Number of items by what happened to them.
  returned: always
  type: dict
  sample: {created: 1, updated: 0, rotated: 0, deleted: 0, unchanged: 2, failed: 0}
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

from typing import Any

from ansible.module_utils.basic import env_fallback

from ansible_collections.rhpds.litemaas.plugins.module_utils import capabilities, items
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import model
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import apply, report
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import Prune

MODES = "chat completion embedding rerank responses ocr moderation image_generation audio_transcription audio_speech"

ITEM: dict[str, dict[str, Any]] = {
    "model_name": {"type": "str", "aliases": ["name"]},
    "deployment": {"type": "str"},
    "id": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "litellm_model": {"type": "str", "aliases": ["model"]},
    "api_base": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "api_version": {"type": "str"},
    "custom_llm_provider": {"type": "str"},
    "vertex_project": {"type": "str"},
    "vertex_location": {"type": "str"},
    # LiteMaaSModule hides what is secret in it; no_log would hide the project's name as well, everywhere.
    "vertex_credentials": {"type": "raw", "no_log": False},
    "rpm": {"type": "int"},
    "tpm": {"type": "int"},
    "max_parallel_requests": {"type": "int"},
    "request_timeout": {"type": "float"},
    "max_retries": {"type": "int"},
    "litellm_params": {"type": "dict"},
    "model_info": {"type": "dict"},
    "mode": {"type": "str", "choices": MODES.split()},
    "capabilities": {"type": "list", "elements": "str", "choices": list(capabilities.CHOICES)},
    "base_model": {"type": "str"},
    "context_length": {"type": "int"},
    "max_input_tokens": {"type": "int", "no_log": False},
    "max_output_tokens": {"type": "int", "no_log": False},
    "input_cost_per_token": {"type": "float", "no_log": False},
    "output_cost_per_token": {"type": "float", "no_log": False},
    "input_cost_per_million_tokens": {"type": "float", "no_log": False},
    "output_cost_per_million_tokens": {"type": "float", "no_log": False},
    "adopt": {"type": "bool", "default": True},
    "test": {"type": "bool", "default": False},
}


def main():
    spec = {
        **http.argument_spec(),
        **ITEM,
        "models": {"type": "list", "elements": "dict", "options": items.suboptions(ITEM)},
        "scope": {"type": "str"},
        "prune": {"type": "bool", "default": False},
        "max_prune_percent": {"type": "int", "default": 20},
        "allow_mass_prune": {"type": "bool", "default": False},
        "protected": {"type": "list", "elements": "str", "default": []},
        "key_secret": {"type": "str", "no_log": True, "fallback": (env_fallback, ["LITELLM_KEY_SECRET"])},
        "update_secrets": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
        "wait": {"type": "bool", "default": True},
        "wait_timeout": {"type": "int", "default": 90},
        "replica_urls": {"type": "list", "elements": "str", "default": []},
        "vertex_credentials_projects": {"type": "dict", "default": {}, "no_log": False},
        "project_mismatch": {"type": "str", "choices": ["error", "warn"], "default": "error"},
        "verify_as": {"type": "str", "no_log": True},
    }
    module = LiteMaaSModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_one_of=[("model_name", "models")],
        mutually_exclusive=[("model_name", "models")],
        required_if=[("prune", True, ("scope", "models"))],
    )
    key_secret = module.key_secret()
    client = module.client()
    module.run(lambda: work(module, module.params, client, key_secret))


def work(module, params, client, key_secret):
    resource = model.ModelResource(
        client,
        scope=params["scope"],
        key_secret=key_secret,
        update_secrets=params["update_secrets"],
        protected=params["protected"],
        replicas=[client.sibling(url) for url in params["replica_urls"]],
        patience=params["wait_timeout"],
    )
    wanted = [model.wanted_from_options(item) for item in items.merged(params, "models", "model_name", ITEM)]
    items.refuse_duplicates(wanted, lambda item: item.identity, "this model")
    model.refuse_contradictions(wanted)
    check_vertex(module, params, wanted)
    # An item that isn't understood may be one of those that would be missed in the list.
    prune = params["prune"] and not any(item.error for item in wanted)
    steps = apply.converge(
        resource,
        wanted,
        prune=Prune(params["scope"], params["max_prune_percent"], params["allow_mass_prune"]) if prune else None,
        check_mode=module.check_mode,
        patience=params["wait_timeout"] if params["wait"] else 0,
        wait=resource.wait_for_replicas if params["wait"] else None,
    )
    if not module.check_mode and params["verify_as"]:
        resource.verify_as(client.sibling(key=params["verify_as"]), steps, wanted)
    return report.result("model", steps, check_mode=module.check_mode, describe=resource.describe)


def check_vertex(module, params, wanted):
    projects = params["vertex_credentials_projects"]
    if module.place is not None and any(unknown_credentials(item, projects) for item in wanted):
        projects = {**module.place.vertex_projects(), **projects}
    for item in wanted:
        mismatch, path = model.vertex_problems(item, projects)
        if mismatch and params["project_mismatch"] == "error":
            item.error = mismatch
        for text in (path, "" if item.error else mismatch):
            if text:
                module.warn(f"{item.name}: {text}")


def unknown_credentials(item, projects):
    """Whether an item's credentials are a path whose project isn't given."""
    path = item.secrets.get("vertex_credentials") or item.secrets.get("vertex_ai_credentials")
    return item.state == "present" and isinstance(path, str) and path.startswith("/") and path not in projects


if __name__ == "__main__":
    main()
