#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_user
short_description: Set the role and the limits of LiteMaaS's users, or list the admins
version_added: 1.0.0
description:
  - Makes people admins of LiteMaaS, or users again, and sets budgets and rate limits, for one, several or all of them.
  - Limits are written in both stores. LiteMaaS shows them and gives them to users that it makes in LiteLLM, and LiteLLM
    enforces them. Without O(litellm_url), O(litellm_master_key) and O(namespace) only LiteMaaS's side is written.
  - Only people who have logged in once can be changed, as LiteMaaS has nobody else. Each change leaves a row in
    LiteMaaS's audit log.
  - A run that would leave nobody who is an admin is refused. LiteMaaS's own user is never changed.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.litemaas_database
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.attributes
options:
  user:
    description: E-mail address or user name. Upper and lower case count in a user name alone.
    type: str
    aliases: [email, username]
  users:
    description:
      - Several of them. What an item doesn't give is taken from the options beside this one.
    type: list
    elements: dict
    suboptions:
      user:
        description: As O(user).
        type: str
        aliases: [email, username]
        required: true
      role:
        description: As O(role).
        type: str
        choices: [admin, admin-readonly, user]
      max_budget:
        description: As O(max_budget).
        type: str
      budget_duration:
        description: As O(budget_duration).
        type: str
      tpm_limit:
        description: As O(tpm_limit).
        type: str
      rpm_limit:
        description: As O(rpm_limit).
        type: str
  all:
    description:
      - Everybody who is active. For limits alone.
      - A row that nobody has ever logged in with is left out, and said so, as it is refused by its name.
    type: bool
    default: false
  list_admins:
    description:
      - Only say who is an admin, and who may look at everything. Nothing is written. Not with anything that would
        change somebody.
    type: bool
    default: false
  role:
    description:
      - What they are. V(admin) and V(admin-readonly) are users as well; V(user) is nothing more. Other roles stay.
      - It reaches them with their next token, at their next login or within 24 hours.
      - At a login roles only grow. Whoever is in the group C(litemaas-admins) or in the deployment's list of admins is
        an admin again then.
    type: str
    choices: [admin, admin-readonly, user]
  max_budget:
    description:
      - US dollars for each O(budget_duration). V(unlimited), which V(2147483647) means too, is the most that LiteMaaS's
        column holds, 99999999.99.
    type: str
  budget_duration:
    description:
      - Time after which a budget is full again, a number and one of s, m, h, d, w, mo, such as V(30d) or V(1mo), or
        V(daily), V(weekly), V(monthly). An empty one takes it away in LiteMaaS; in LiteLLM it can only be replaced.
    type: str
  tpm_limit:
    description: Tokens a minute. V(unlimited) is V(2147483647).
    type: str
  rpm_limit:
    description: Requests a minute. V(unlimited) is V(2147483647).
    type: str
notes:
  - A key's own limits stay as they are. The lower one counts.
  - A user that LiteLLM doesn't have yet gets the limits of LiteMaaS's row when the backend makes it, with the first
    key.
seealso:
  - module: rhpds.litemaas.litemaas_db_sync
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: Somebody becomes an admin
  rhpds.litemaas.litemaas_user:
    namespace: litellm-rhpds
    user: ada@example.com
    role: admin

- name: Two who may look, one who may not any more
  rhpds.litemaas.litemaas_user:
    litemaas_dsn: "{{ litemaas_dsn }}"
    users:
      - user: grace@example.com
      - user: alan@example.com
      - user: edsger@example.com
        role: user
    role: admin-readonly

- name: Everybody gets 50 dollars a month, and as many requests as they like
  rhpds.litemaas.litemaas_user:
    namespace: litellm-rhpds
    all: true
    max_budget: 50
    budget_duration: 30d
    rpm_limit: unlimited

- name: Who are the admins
  rhpds.litemaas.litemaas_user:
    namespace: litellm-rhpds
    list_admins: true
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts and the first failures by name.
  returned: always
  type: str
  sample: "LiteMaaS users: 3 changed, 1 as wanted"
results:
  description: One entry for each user that was named; with O(all), for everybody.
  returned: when users were to be changed, and both stores could be read
  type: list
  elements: dict
  contains:
    name:
      description: As it was named; otherwise the e-mail address.
      type: str
    id:
      description: The user's id, in both stores.
      type: str
    action:
      description: One of V(update), V(none) and V(fail).
      type: str
    changed:
      description: Whether anything was, or in check mode would be, written.
      type: bool
    failed:
      description: Whether it failed.
      type: bool
    changes:
      description: What differs, with its values before and after.
      type: list
      elements: dict
      sample: [{field: roles, before: [user], after: [admin, user]}]
    msg:
      description: What happened, when it takes effect, or what went wrong and how to go on.
      type: str
admins:
  description: Those whose role is V(admin) or V(admin-readonly), by user name.
  returned: with O(list_admins)
  type: list
  elements: dict
  contains:
    name:
      description: The e-mail address, otherwise the user name.
      type: str
    username:
      description: The user name.
      type: str
    role:
      description: V(admin) or V(admin-readonly).
      type: str
    active:
      description: Whether one can log in with it.
      type: bool
    logged_in:
      description: Whether somebody ever has.
      type: bool
summary:
  description: Number of users by what became of them.
  returned: when users were to be changed, and both stores could be read
  type: dict
  sample: {updated: 1, unchanged: 0, failed: 0}
litellm_url:
  description: Address of the proxy that was used.
  returned: when it is known
  type: str
  sample: https://litellm.example.com
found:
  description: What was found in O(namespace), and where. No secret is in it.
  returned: with O(namespace), where something was looked up
  type: dict
  sample: {litemaas_dsn: "Secret litemaas/litemaas-db, through pod litellm-postgres-0"}
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils import items
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database, people
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule

ITEM = {
    "user": {"type": "str", "aliases": ["email", "username"]},
    "role": {"type": "str", "choices": list(people.ROLES)},
    **{name: {"type": "str"} for name in people.LIMITS},
}


def main():
    listed = {**ITEM, "user": {"type": "str", "aliases": ["email", "username"], "required": True}}
    module = DatabaseModule(
        argument_spec={
            **http.argument_spec(),
            **database.argument_spec(),
            **ITEM,
            "users": {"type": "list", "elements": "dict", "options": listed},
            "all": {"type": "bool", "default": False},
            "list_admins": {"type": "bool", "default": False},
        },
        mutually_exclusive=[["user", "users"], ["users", "all"], ["user", "all"]],
        supports_check_mode=True,
    )
    module.run(lambda: work(module))


def work(module):
    params = module.params
    timeouts = {name: params[name] for name in ("lock_timeout", "statement_timeout")}
    if params["list_admins"]:
        given = [name for name in (*ITEM, "users", "all") if params[name]]
        if given:
            text = f"list_admins only reads, and {', '.join(given)} would change somebody: give one of them"
            return {"failed": True, "changed": False, "msg": f"{text}. Nothing was written"}
        with module.database("litemaas_dsn") as connection:
            found = people.admins(connection)
        return {"changed": False, "msg": people.admins_message(found), "admins": found}
    try:
        wanted = people.wishes(items.merged(params, "users", "user", ITEM), params["all"])
    except people.PeopleError as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    has_limits = any(wish.limits for wish in wanted)
    reachable = params["namespace"] or (params["litellm_url"] and params["litellm_master_key"])
    client = module.client() if has_limits and reachable else None
    with module.database("litemaas_dsn") as connection:
        steps = people.People(connection, client, wanted, module.check_mode, timeouts).run()
    results = [step.shown() for step in steps]
    result = {
        "changed": any(one["changed"] for one in results),
        "failed": any(one["failed"] for one in results),
        "msg": people.message(steps, module.check_mode),
        "results": results,
        "summary": {
            word: sum(one["action"] == action for one in results)
            for word, action in (("updated", "update"), ("unchanged", "none"), ("failed", "fail"))
        },
    }
    if has_limits and client is None:
        module.warn("Only LiteMaaS's side was looked at: without litellm_url and litellm_master_key, LiteLLM's stays.")
    if module._diff:
        result["diff"] = {
            side: "".join(
                f"{one['name']}: {change['field']}: {change[side]}\n" for one in results for change in one["changes"]
            )
            for side in ("before", "after")
        }
    return result


if __name__ == "__main__":
    main()
