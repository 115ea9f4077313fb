#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_team
short_description: Manage teams in a LiteLLM proxy
version_added: 1.0.0
description:
  - Makes the teams of a LiteLLM proxy match what is declared, one or many in a call.
  - A team's budget, limits, models and block hold for all of its keys together, beside each key's own. With a team for
    each lab, one budget covers the whole lab.
  - After every write the teams are read again and compared. What the proxy does not show is reported as failed.
  - In a bulk call every item that can be done is done and reported; then the task fails if any item failed.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.attributes
options:
  <<: &item
    team_id:
      description:
        - The team's id, by which it is known, and which keys name in
          O(rhpds.litemaas.litellm_virtual_key#module:team_id).
      type: str
    team_alias:
      description: Name that people see. Need not be unique.
      type: str
      aliases: [alias]
    guid:
      description:
        - The lab that the team belongs to, written into its metadata.
        - Without O(team_id) it means every team of that lab that this collection manages, with O(state=absent).
        - With O(team_id) a team that carries another guid is refused.
      type: str
    models:
      description:
        - Models that keys of the team may call. They have to be on the proxy.
        - A team made without may call all of them.
      type: list
      elements: str
    max_budget:
      description: US dollars that the team's keys may spend together.
      type: float
    soft_budget:
      description: US dollars after which LiteLLM alerts.
      type: float
    budget_duration:
      description: Period after which the spend starts from zero, for example V(30d), V(1mo) or V(daily).
      type: str
    tpm_limit:
      description: Tokens per minute, of all keys together.
      type: int
    rpm_limit:
      description: Requests per minute, of all keys together.
      type: int
    metadata:
      description: Free-form metadata. What others put there stays.
      type: dict
    blocked:
      description: Whether calls with the team's keys are refused. Left out, it stays as it is.
      type: bool
  teams:
    description:
      - Teams to manage, one item each. The options beside this list are the defaults of every item.
      - Give this, or one of O(team_id) and O(guid) alone.
    type: list
    elements: dict
    suboptions:
      <<: *item
      state:
        description:
          - V(present) makes the team match what is declared. What was declared before and no longer is, is taken away.
          - V(absent) deletes it. What is gone already counts as done.
        type: str
        choices: [present, absent]
      adopt:
        description: Whether a team of that id that was made by other means is taken over.
        type: bool
      remove_keys:
        description:
          - With O(teams[].state=absent), whether keys of the team, however many and whoever made them, are deleted
            with it.
        type: bool
  state:
    description:
      - V(present) makes the team match what is declared. What was declared before and no longer is, is taken away.
      - V(absent) deletes it. What is gone already counts as done.
      - With O(team_id), a team that was made by other means is deleted too, as it is named; with O(guid) alone it is
        not.
    type: str
    choices: [present, absent]
    default: present
  adopt:
    description: Whether a team of that id that was made by other means is taken over.
    type: bool
    default: true
  remove_keys:
    description:
      - With O(state=absent), whether keys of the team, however many and whoever made them, are deleted with it.
      - Otherwise a team that has keys is an error, since LiteLLM would delete them unasked.
      - A key that carries another guid than the team is an error in any case.
      - Keys that name a team which is gone already are deleted too.
    type: bool
    default: false
  scope:
    description:
      - Name of the set that these teams belong to, written into their mark.
      - Without it a team keeps the scope that it has.
    type: str
  check_models:
    description: Whether the models of a team have to be on the proxy.
    type: bool
    default: true
notes:
  - A deleted team's keys may be honoured by other replicas of the proxy for a while, as they cache keys.
seealso:
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: A team for a workshop, whose keys may spend 50 dollars together
  rhpds.litemaas.litellm_team:
    team_id: lab-abc12
    team_alias: Workshop abc12
    guid: abc12
    models: [granite-3-2-8b-instruct]
    max_budget: 50
    rpm_limit: 600

- name: Two teams with the same limits
  rhpds.litemaas.litellm_team:
    max_budget: 100
    budget_duration: 30d
    teams:
      - team_id: research
      - team_id: support
        max_budget: 20

- name: The workshop is over, its team goes with all keys
  rhpds.litemaas.litellm_team:
    team_id: lab-abc12
    guid: abc12
    state: absent
    remove_keys: true
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts and the first failures by name.
  returned: always
  type: str
  sample: "2 teams: 1 created, 1 unchanged"
results:
  description: One entry a team, in the order of the list.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The team's id, or what else the item was known by.
      type: str
    action:
      description: What was done, or would be in check mode. One of V(create), V(update), V(delete), V(none), V(fail).
      type: str
      sample: create
    changed:
      description: Whether anything was written for it.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    changes:
      description: Fields that differ, with their values before and after.
      type: list
      elements: dict
    team_id:
      description: The team's id.
      type: str
    team_alias:
      description: Name that people see.
      type: str
    guid:
      description: The lab that the team belongs to.
      type: str
    spend:
      description: US dollars that its keys have spent, before this run.
      type: float
    removed_keys:
      description:
        - Aliases of the keys that were deleted with it, or would be in check mode; the beginning of its token for a key
          without one.
      returned: with O(state=absent)
      type: list
      elements: str
    msg:
      description: What happened, why, or what went wrong and how to go on.
      type: str
summary:
  description: Number of teams by what happened to them.
  returned: always
  type: dict
  sample: {created: 1, updated: 0, rotated: 0, deleted: 0, unchanged: 1, failed: 0}
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

from ansible_collections.rhpds.litemaas.plugins.module_utils import items
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import team
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import apply, report

ITEM: dict[str, dict[str, Any]] = {
    "team_id": {"type": "str"},
    "team_alias": {"type": "str", "aliases": ["alias"]},
    "guid": {"type": "str"},
    "models": {"type": "list", "elements": "str"},
    "max_budget": {"type": "float"},
    "soft_budget": {"type": "float"},
    "budget_duration": {"type": "str"},
    "tpm_limit": {"type": "int"},
    "rpm_limit": {"type": "int"},
    "metadata": {"type": "dict"},
    "blocked": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "adopt": {"type": "bool", "default": True},
    "remove_keys": {"type": "bool", "default": False, "no_log": False},
}


def main():
    module = LiteMaaSModule(
        argument_spec={
            **http.argument_spec(),
            **ITEM,
            "teams": {"type": "list", "elements": "dict", "options": items.suboptions(ITEM)},
            "scope": {"type": "str"},
            "check_models": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
        required_one_of=[("teams", "team_id", "guid")],
        mutually_exclusive=[("teams", "team_id")],
    )
    client = module.client()
    module.run(lambda: work(module, module.params, client))


def work(module, params, client):
    resource = team.TeamResource(client, scope=params["scope"], models_checked=params["check_models"])
    wanted = [team.wanted_from_options(item) for item in items.merged(params, "teams", "team_id", ITEM)]
    for given, item in zip(params["teams"] or [], wanted, strict=False):
        if given.get("team_id") is None and not given.get("guid"):
            # With a guid beside the list it would mean all teams of that lab.
            item.error = item.error or "names no team: give team_id or guid in the item itself"
    items.refuse_duplicates(wanted, lambda item: item.name, "this team")
    steps = apply.converge(resource, wanted, check_mode=module.check_mode)
    return report.result("team", steps, check_mode=module.check_mode, describe=resource.describe)


if __name__ == "__main__":
    main()
