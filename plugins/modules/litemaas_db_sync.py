#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_db_sync
short_description: Bring LiteMaaS's model catalogue in line with LiteLLM
version_added: 1.0.0
description:
  - Writes the rows of LiteMaaS's C(models) table as the LiteMaaS backend's own sync would write them, and adds what
    only an operator knows, such as display name, description and category.
  - Reports where the two stores differ, models and keys, in both directions, and repairs what is asked for.
  - Everything happens in one transaction under a lock, so a run that fails has written nothing, and two runs never mix.
    Only what differs is written.
  - A removal is never based on an empty or incomplete answer of LiteLLM, never takes more than a set share of the rows
    unless told, and never touches a model with active subscriptions unless told.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.litemaas_database
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.attributes
options:
  models:
    description:
      - What the operator wants LiteMaaS to show of models that LiteLLM already has, one item a model name.
      - Only what an item gives is set; everything else in the row stays as it is. See the notes for what the LiteMaaS
        backend sets back.
    type: list
    elements: dict
    default: []
    suboptions:
      model_name:
        description: The model's name in LiteLLM, which is its id in LiteMaaS.
        type: str
        required: true
        aliases: [name]
      display_name:
        description: Name that LiteMaaS shows.
        type: str
      description:
        description: Text that LiteMaaS shows. An empty one removes it.
        type: str
      category:
        description: For example V(chat), V(code), V(general) or V(embeddings).
        type: str
      provider:
        description: Provider that LiteMaaS shows, for example V(openshift-ai).
        type: str
      restricted_access:
        description: Whether subscriptions to this model need an admin's approval.
        type: bool
      availability:
        description:
          - Whether users may subscribe to the model. A model that LiteLLM has and that no item calls V(unavailable) is
            available.
        type: str
        choices: [available, unavailable]
      context_length:
        description: Tokens that LiteMaaS shows as the context length.
        type: int
      supports_streaming:
        description: Whether LiteMaaS shows the model as streaming.
        type: bool
  sync_all:
    description:
      - Whether every model of LiteLLM gets its row, or only those of O(models).
      - Models of LiteLLM's C(config.yaml) never get one, as with the backend's own sync.
    type: bool
    default: true
  cleanup_orphaned:
    description: Whether something is done about rows whose model LiteLLM doesn't have any more; O(removal) says what.
    type: bool
    default: false
  removed_models:
    description:
      - Names of models that an earlier task removes from LiteLLM. O(removal) says what becomes of their rows, whatever
        O(cleanup_orphaned) is, and O(max_removal_percent) doesn't count them.
      - A name that LiteLLM still has, in another deployment, keeps its row, made of that one.
    type: list
    elements: str
    default: []
  removal:
    description:
      - V(unavailable) hides the row from users and keeps it, with its subscriptions and keys as they are.
      - V(delete) deletes the row. A row that subscriptions refer to, active or not, stays unless
        O(delete_subscriptions=true).
    type: str
    choices: [unavailable, delete]
    default: unavailable
  allow_active_subscriptions:
    description:
      - Whether rows of models with active subscriptions may be removed too. Otherwise they are reported as blocked.
    type: bool
    default: false
  delete_subscriptions:
    description:
      - With O(removal=delete), whether a model's subscriptions and their history are deleted with it. Active ones need
        O(allow_active_subscriptions=true) as well.
      - Rows of keys are kept; only their link to the deleted subscription goes.
    type: bool
    default: false
  max_removal_percent:
    description:
      - Share of the rows, in percent, that one run may remove, and of the active keys that one run may revoke. Up to
        five are always allowed. With more, none is removed and the run fails.
    type: int
    default: 20
  allow_mass_removal:
    description: Whether a run may go beyond O(max_removal_percent).
    type: bool
    default: false
  repair:
    description:
      - What else to put right.
      - V(orphaned_keys) revokes LiteMaaS's active keys that LiteLLM doesn't have, neither by hash nor by alias. A key
        without an alias is only reported.
      - V(revoked_keys_alive) deletes keys in LiteLLM that are inactive in LiteMaaS. A key is only known by its hash.
        One that the backend's own sync made inactive, when its model was gone, stays for V(stuck_subscriptions).
      - V(stuck_subscriptions) undoes what the LiteMaaS backend's own sync did when a model was gone, once LiteLLM has
        the model again. Subscriptions that it made inactive become active, with the keys that were left without a
        model, and what these keys were for, as LiteLLM still has it. See the notes for how the backend's work is told
        from a person's.
      - V(unavailable_subscriptions) makes active subscriptions to unavailable models inactive, with a reason and a row
        of history. Keys stay as they are. V(stuck_subscriptions) brings them back with the model.
      - V(duplicates) deletes all but the first of the deployments of one name that are the same in everything. See the
        notes for what counts.
    type: list
    elements: str
    choices: [orphaned_keys, stuck_subscriptions, revoked_keys_alive, unavailable_subscriptions, duplicates]
    default: []
  duplicate_models:
    description:
      - With O(repair=duplicates), names of models whose deployments are known to be copies, though LiteLLM keeps
        secrets of theirs, such as an API key, that can't be compared.
    type: list
    elements: str
    default: []
  check_keys:
    description: Whether keys are compared for the report. Reading them through the API takes a request per 100 keys.
    type: bool
    default: true
  pending_models:
    description:
      - Names of models that an earlier task registers in LiteLLM. In check mode that task did not, so this one would
        not find them; it then takes them as registered.
      - Ignored outside check mode.
    type: list
    elements: str
    default: []
  pending_removals:
    description:
      - LiteLLM's ids of deployments that an earlier task removes. In check mode that task did not; this one then takes
        them as gone.
      - Ignored outside check mode.
    type: list
    elements: str
    default: []
  report_limit:
    description: Entries that each list in RV(report) holds at most; RV(report) always counts all of them.
    type: int
    default: 100
notes:
  - A subscription counts as made inactive by the backend's own sync where its history's last row says active, or there
    is no history and neither reason nor author, and the audit log's last word on it is none of a change. LiteMaaS
    leaves all three where a person does it. What isn't certain is in RV(report.unproven_subscriptions) and stays.
  - Deployments are the same where their parameters and C(model_info) are, without id, dates and authors. Two that have
    a parameter that LiteLLM doesn't show may share the load between two accounts, and only go where
    O(duplicate_models) names their model. One that M(rhpds.litemaas.litellm_model) declared never goes. Of others the
    oldest stays. Without LiteLLM's database nothing tells what isn't shown.
  - What is deleted in LiteLLM is deleted last and read back. Other replicas may honour a deleted key for a while.
  - The LiteMaaS backend's own sync, at its next start, sets C(name), C(category), C(provider), C(context_length),
    C(supports_streaming) and C(availability) back to what LiteLLM says. Running this module again restores what
    O(models) gives, and reports it as changed. The backend never touches C(description) and C(restricted_access).
    Context length and provider last when they are set in LiteLLM itself, see M(rhpds.litemaas.litellm_model).
seealso:
  - module: rhpds.litemaas.litellm_model
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: Every model of LiteLLM gets its row in LiteMaaS
  rhpds.litemaas.litemaas_db_sync:
    litellm_url: https://litellm.example.com
    litellm_master_key: "{{ litellm_master_key }}"
    litemaas_dsn: "{{ litemaas_dsn }}"

- name: The same, with what users see of two of them; rows of models that are gone become unavailable
  rhpds.litemaas.litemaas_db_sync:
    cleanup_orphaned: true
    models:
      - model_name: granite-3-2-8b-instruct
        display_name: Granite 3.2 8B
        description: IBM's instruction-tuned model for everyday work
        category: chat
      - model_name: nomic-embed-text-v1-5
        category: embeddings
        restricted_access: true

- name: Only look
  rhpds.litemaas.litemaas_db_sync:
  check_mode: true
  register: difference

- name: A model that was lost is back, and so are its subscriptions and their keys
  rhpds.litemaas.litemaas_db_sync:
    repair: [stuck_subscriptions]

- name: Revoke keys in LiteMaaS that LiteLLM doesn't have
  rhpds.litemaas.litemaas_db_sync:
    litellm_dsn: "{{ litellm_dsn }}"
    sync_all: false
    repair: [orphaned_keys]
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts and the first failures by name.
  returned: always
  type: str
  sample: "LiteMaaS catalogue: 2 created, 1 updated, 9 unchanged"
results:
  description:
    - One entry for each item of O(models), and for every other row that was written, held back or failed. Other rows
      that were in line already are only counted in RV(summary).
  returned: when LiteLLM and the database could be read
  type: list
  elements: dict
  contains:
    name:
      description: The model's name in LiteLLM; the alias for a key.
      type: str
    action:
      description:
        - What was done, or would be in check mode. One of V(create), V(update), V(none), V(unavailable), V(delete),
          V(blocked), V(revoke), V(restore), V(deactivate), V(delete_key), V(delete_deployment) and V(fail).
      type: str
      sample: update
    changed:
      description: Whether anything was written for it.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    changes:
      description:
        - Columns that differ, with their values before and after. Of C(metadata), only which parts differ.
      type: list
      elements: dict
      sample: [{field: context_length, before: 4096, after: 8192}]
    id:
      description: Id of the row, for a key or a subscription; LiteLLM's id for a deployment.
      type: str
    msg:
      description: What happened, why, or what went wrong and how to go on.
      type: str
summary:
  description: Number of rows by what happened to them.
  returned: when LiteLLM and the database could be read
  type: dict
  sample: {created: 2, updated: 1, unchanged: 9, made_unavailable: 0, deleted: 0, revoked: 0, blocked: 0, failed: 0}
in_line:
  description:
    - Whether nothing was found that is not as it should be. What can't be told for certain, several deployments of one
      name and values that an operator has set don't count.
  returned: when LiteLLM and the database could be read
  type: bool
divergences:
  description: Part of RV(report) to number of things in it that are not as they should be, for parts that have any.
  returned: when LiteLLM and the database could be read
  type: dict
  sample: {only_in_litellm: 1, stuck_subscriptions: 12}
advice:
  description:
    - How RV(divergences) are put right, with the variables of the playbook C(rhpds.litemaas.sync_databases), and what a
      person has to decide first. Empty where the stores are in line.
  returned: when LiteLLM and the database could be read
  type: list
  elements: str
  sample: ["sync_databases puts it right, with sync_repair=stuck_subscriptions"]
report:
  description:
    - What was found before anything was written. Lists are C({count, items}), with at most O(report_limit) items.
    - No key's value is ever in it.
  returned: when LiteLLM and the database could be read
  type: dict
  contains:
    only_in_litellm:
      description: Models of LiteLLM without a row.
      type: dict
    only_in_litemaas:
      description:
        - Rows whose model LiteLLM doesn't have, with C(name), C(availability) and their C(subscriptions).
        - Beside C(count), C(available) is the number of those that users are still shown.
      type: dict
    differing:
      description:
        - Rows that differ from LiteLLM and O(models), with the C(columns) that were, or would be, brought in line, and
          those C(kept) because an operator had set them.
        - Beside C(count), C(drifted) is the number of those with C(columns).
      type: dict
    duplicate_names:
      description: Names with several deployments in LiteLLM, with their C(ids). The row is made of the last one.
      type: dict
    identical_twins:
      description:
        - Deployments of one name that are the same in everything, with the one to C(keep) and the C(ids) of the others.
      type: dict
    possible_twins:
      description: The same where something that LiteLLM doesn't show may differ.
      type: dict
    config_models:
      description: Models of LiteLLM's C(config.yaml), which LiteMaaS doesn't show.
      type: dict
    blocked_by_subscriptions:
      description: Rows whose model is gone and that have active subscriptions.
      type: dict
    active_subscriptions:
      description: Model name to number of active subscriptions, complete.
      type: dict
    protected_models:
      description: Names of all models with active subscriptions, complete.
      type: list
      elements: str
    key_source:
      description: Where LiteLLM's keys were read. One of V(litellm_dsn), V(shared database), V(api) and V(none).
      type: str
    orphaned_keys:
      description: Active keys of LiteMaaS that LiteLLM doesn't have, with C(id), C(alias) and C(user_id).
      type: dict
    keys_without_alias:
      description: The same for keys without an alias, which are never revoked.
      type: dict
    alive_revoked_keys:
      description:
        - Keys inactive in LiteMaaS that still work in LiteLLM, with C(id), C(alias) and C(user_id).
        - One that V(revoked_keys_alive) doesn't delete has C(blocked) and, in a sentence, C(why). C(another_key) only
          has the row's alias; C(stuck) and C(waiting) were made inactive by the backend's own sync and come back with
          V(stuck_subscriptions); C(never_revoked) was revoked by nobody, and no subscription would bring it back.
        - Beside C(count), C(repairable) is the number of the others.
      type: dict
    stuck_subscriptions:
      description:
        - Subscriptions that the backend's own sync made inactive and whose model is there again, with C(id), C(model)
          and C(user_id). As the following parts, looked at when rows were in line with LiteLLM.
      type: dict
    stuck_keys:
      description: Keys that it made inactive with them, with C(id), C(alias) and C(user_id).
      type: dict
    waiting_subscriptions:
      description: Subscriptions that it made inactive and whose model isn't available.
      type: dict
    unproven_subscriptions:
      description: Subscriptions that somebody may have made inactive, with C(why) that isn't certain.
      type: dict
    active_on_unavailable:
      description: Active subscriptions to models that are unavailable.
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

from contextlib import ExitStack

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.removal import Remover
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import read_deployments
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import list_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database, sync
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule

ITEM = {
    "model_name": {"type": "str", "required": True, "aliases": ["name"]},
    "display_name": {"type": "str"},
    "description": {"type": "str"},
    "category": {"type": "str"},
    "provider": {"type": "str"},
    "restricted_access": {"type": "bool"},
    "availability": {"type": "str", "choices": ["available", "unavailable"]},
    "context_length": {"type": "int"},
    "supports_streaming": {"type": "bool"},
}


def main():
    spec = {
        **http.argument_spec(),
        **database.argument_spec(),
        "models": {"type": "list", "elements": "dict", "default": [], "options": ITEM},
        "sync_all": {"type": "bool", "default": True},
        "cleanup_orphaned": {"type": "bool", "default": False},
        "removed_models": {"type": "list", "elements": "str", "default": []},
        "removal": {"type": "str", "choices": ["unavailable", "delete"], "default": "unavailable"},
        "allow_active_subscriptions": {"type": "bool", "default": False},
        "delete_subscriptions": {"type": "bool", "default": False},
        "max_removal_percent": {"type": "int", "default": 20},
        "allow_mass_removal": {"type": "bool", "default": False},
        "repair": {"type": "list", "elements": "str", "choices": list(sync.REPAIRS), "default": []},
        "duplicate_models": {"type": "list", "elements": "str", "default": []},
        "check_keys": {"type": "bool", "default": True, "no_log": False},
        "pending_models": {"type": "list", "elements": "str", "default": []},
        "pending_removals": {"type": "list", "elements": "str", "default": []},
        "report_limit": {"type": "int", "default": sync.REPORT_LIMIT},
    }
    module = DatabaseModule(argument_spec=spec, supports_check_mode=True)
    client = module.client()
    module.run(lambda: work(module, client))


def work(module, client):
    params = module.params
    names = sync.Options.__dataclass_fields__.keys() & params.keys()
    pending, gone = (params[name] if module.check_mode else () for name in ("pending_models", "pending_removals"))
    options = sync.Options(**{name: params[name] for name in names}, pending=pending, gone=gone)
    compared = options.check_keys or options.repair or options.cleanup_orphaned or options.removed_models
    try:
        sync.checked_list(options)
        with ExitStack() as connections:
            ours = connections.enter_context(module.database("litemaas_dsn"))
            theirs = None
            if compared and (params["litellm_dsn"] or (module.place and not module.place.shared)):
                theirs = connections.enter_context(module.database("litellm_dsn"))
            run = sync.CatalogSync(
                ours, options, lambda: read_deployments(client), lambda: list_keys(client), theirs, Remover(client)
            )
            outcome = run.run(module.check_mode)
    except ValueError as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    for warning in outcome.warnings:
        module.warn(warning)
    return outcome.result(module.check_mode, diff=module._diff)


if __name__ == "__main__":
    main()
