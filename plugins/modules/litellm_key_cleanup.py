#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_key_cleanup
short_description: Delete virtual keys that nobody needs any more, in LiteLLM and in LiteMaaS
version_added: 1.0.0
description:
  - Deletes keys by policy, such as those that have been expired for a day, and revokes their rows in LiteMaaS.
  - A row of LiteMaaS is revoked only when LiteLLM, read again, really has its key no more. No key is ever deleted
    because LiteMaaS doesn't know it.
  - Check mode is the dry run. It says how many keys would go, which and why, and which ones a protection keeps.
  - Keys are deleted through LiteLLM's API, in batches, so that its replicas hear of it and its archive of deleted keys
    has them. Each batch is read and judged again right before, so that a key that was extended meanwhile stays.
  - A run that is killed does no harm. The next one goes on where it ended, and revokes the rows that it left.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.litemaas_database
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.attributes
options:
  policies:
    description:
      - Which keys go. One that several policies mean goes for the first of them, in the order of this list.
      - V(gone_guids), those of the labs in O(gone_guids).
      - V(revoked_alive), those that LiteMaaS has revoked and that still work in LiteLLM, by their hash. A key that has
        the alias of a revoked one is another key. A key whose row is inactive, was never revoked, has no error and no
        model left was made so by the backend's own sync, when its model was gone. It stays unless it is in O(named), as
        the repair V(stuck_subscriptions) of M(rhpds.litemaas.litemaas_db_sync) gives it back with its model.
      - V(inactive_owner), those whose owner is inactive in LiteMaaS. LiteMaaS's own user of the system doesn't count.
      - V(expired), those that have been expired for longer than O(grace).
      - V(older_than), those that were created longer than O(older_than) ago, by LiteLLM's own record.
      - V(orphaned_rows) deletes no key. It revokes active rows of LiteMaaS whose key LiteLLM doesn't have, neither by
        hash nor by alias, as O(rhpds.litemaas.litemaas_db_sync#module:repair) does.
      - V(revoked_alive), V(inactive_owner) and V(orphaned_rows) need LiteMaaS's database, and are left out without.
    type: list
    elements: str
    choices: [gone_guids, revoked_alive, inactive_owner, expired, older_than, orphaned_rows]
    default: [expired]
  grace:
    description:
      - How long a key has to have been expired, as V(90m), V(36h), V(7d) or V(2w). A number alone is days. V(0) is no
        grace.
    type: str
    default: 1d
  older_than:
    description:
      - Age from which a key goes, as V(30d). A number alone is days. Needed with the policy V(older_than).
    type: str
  include_valid:
    description:
      - Whether the policy V(older_than) takes keys that are not expired, that is inside the duration that they were
        granted.
    type: bool
    default: false
  include_no_expiry:
    description:
      - Whether the policy V(older_than) takes keys that never expire.
      - The policies V(gone_guids), V(revoked_alive) and V(inactive_owner) take them in any case, as there somebody has
        said of the lab, of the key or of its owner that it has ended.
    type: bool
    default: false
  gone_guids:
    description: Labs that are no more, by the C(guid) in their keys' metadata.
    type: list
    elements: str
    default: []
  protected_aliases:
    description: Regular expressions. A key whose whole alias one of them matches stays.
    type: list
    elements: str
    default: []
  protected_marks:
    description:
      - Names in a key's metadata that make it stay, or V(name=value) for one value of it alone.
      - A key whose metadata have a true C(automation) is one of automation, and always stays.
    type: list
    elements: str
    default: []
  named:
    description:
      - Aliases, or sha256 of the value as LiteLLM lists it, of keys that no protection and no grace holds for. A policy
        still has to mean them.
    type: list
    elements: str
    default: []
  max_percent:
    description:
      - Share of all keys, in percent, that one run may delete, and of LiteMaaS's active rows that it may revoke as
        orphaned. Up to five are always allowed. With more, nothing is done and the run fails.
    type: int
    default: 20
  allow_mass_cleanup:
    description: Whether a run may go beyond O(max_percent).
    type: bool
    default: false
  report_limit:
    description: Names that each list in RV(report) holds at most; its counts are always whole.
    type: int
    default: 100
  concurrency:
    description: Batches of 100 keys under way at once.
    type: int
    default: 4
notes:
  - With O(namespace), or with O(litellm_dsn), keys are read in LiteLLM's table, 100,000 of them in seconds. Without, it
    takes a request for each hundred. Either way a list that is empty, partial or another proxy's is not acted on.
  - The archive of deleted keys grows with each key. M(rhpds.litemaas.litellm_key_archive) prunes it.
  - Without LiteMaaS's database its rows stay as they are, which RV(msg) says. A later run with the policy
    V(orphaned_rows) revokes them.
seealso:
  - module: rhpds.litemaas.litellm_key_archive
  - module: rhpds.litemaas.litemaas_db_sync
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: Delete what has been expired for a day
  rhpds.litemaas.litellm_key_cleanup:
    namespace: litellm-rhpds

- name: Which ones would that be
  rhpds.litemaas.litellm_key_cleanup:
    namespace: litellm-rhpds
  check_mode: true

- name: All that has ended, by addresses and without a cluster
  rhpds.litemaas.litellm_key_cleanup:
    litellm_url: https://litellm.example.com
    litellm_master_key: "{{ litellm_master_key }}"
    litemaas_dsn: "{{ litemaas_dsn }}"
    litellm_dsn: "{{ litellm_dsn }}"
    policies: [expired, revoked_alive, inactive_owner, orphaned_rows]
    protected_aliases: ['team-.*']
    protected_marks: [environment=production]

- name: Keys of two labs that are gone, and whatever is older than half a year
  rhpds.litemaas.litellm_key_cleanup:
    namespace: litellm-rhpds
    policies: [gone_guids, older_than]
    gone_guids: [abc12, def34]
    older_than: 180d
    allow_mass_cleanup: true
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts, and what was kept.
  returned: always
  type: str
  sample: "60000 of 100000 keys deleted (60000 expired); 812 rows of LiteMaaS revoked; kept: 3 marked as automation's"
summary:
  description:
    - How many keys there were, how many were deleted, rows revoked, keys kept by a protection, and keys that failed. In
      check mode what would be.
  returned: when the keys could be read
  type: dict
  sample: {total: 100000, deleted: 60000, revoked: 812, kept: 3, failed: 0}
report:
  description:
    - Names by reason, each C({count, items}) with at most O(report_limit) items. A key without an alias is named by the
      beginning of its token. No key's value is ever in it.
  returned: when the keys could be read
  type: dict
  contains:
    key_source:
      description: Where the keys were read. One of V(litellm_dsn), V(shared database) and V(api).
      type: str
    litemaas:
      description: Whether LiteMaaS's database took part.
      type: bool
    going:
      description: By policy, the keys that were to go when they were listed.
      type: dict
    orphaned_rows:
      description: Aliases of LiteMaaS's rows whose key LiteLLM doesn't have, with the policy V(orphaned_rows).
      type: dict
    kept:
      description:
        - Keys that a policy means and that stay all the same, by what keeps them. One of C(automation),
          C(protected_alias), C(protected_mark), C(no_expiry), C(still_valid), C(in_grace), C(age_unknown),
          C(never_revoked) and C(changed_meanwhile).
      type: dict
    deleted:
      description: By policy, the keys that are gone; empty in check mode.
      type: dict
    revoked:
      description: By policy, the keys whose rows were revoked; empty in check mode.
      type: dict
    failed:
      description: Keys that are still there, by what LiteLLM said.
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
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_cleanup
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule


def main():
    module = DatabaseModule(
        argument_spec={
            **http.argument_spec(),
            **database.argument_spec(),
            "policies": {
                "type": "list",
                "elements": "str",
                "choices": list(key_cleanup.POLICIES),
                "default": [key_cleanup.EXPIRED],
            },
            "grace": {"type": "str", "default": "1d"},
            "older_than": {"type": "str"},
            "include_valid": {"type": "bool", "default": False},
            "include_no_expiry": {"type": "bool", "default": False},
            "gone_guids": {"type": "list", "elements": "str", "default": []},
            "protected_aliases": {"type": "list", "elements": "str", "default": []},
            "protected_marks": {"type": "list", "elements": "str", "default": []},
            "named": {"type": "list", "elements": "str", "default": []},
            "max_percent": {"type": "int", "default": 20},
            "allow_mass_cleanup": {"type": "bool", "default": False},
            "report_limit": {"type": "int", "default": key_cleanup.REPORT_LIMIT},
            "concurrency": {"type": "int", "default": 4},
        },
        supports_check_mode=True,
        database_needed=False,
    )
    client = module.client()
    module.run(lambda: work(module, client))


def work(module, client):
    params = module.params
    names = key_cleanup.Options.__dataclass_fields__.keys() & params.keys()
    options = key_cleanup.Options(**{name: params[name] for name in names}, workers=max(1, params["concurrency"]))
    try:
        key_cleanup.policy_from_options(params, client.server_now())
        with ExitStack() as connections:
            ours = theirs = None
            if params["litemaas_dsn"] or module.place:
                ours = connections.enter_context(module.database("litemaas_dsn"))
            if params["litellm_dsn"] or (module.place and not module.place.shared):
                theirs = connections.enter_context(module.database("litellm_dsn"))
            left_out = sorted(set(key_cleanup.OF_LITEMAAS) & set(params["policies"])) if ours is None else []
            if left_out:
                module.warn(f"{', '.join(left_out)}: left out, as LiteMaaS's database (litemaas_dsn) is not given")
            cleanup = key_cleanup.Cleanup(
                client,
                lambda now: key_cleanup.policy_from_options(params, now),
                options,
                litemaas=ours,
                litellm=theirs,
                warn=module.warn,
            )
            return cleanup.run(module.check_mode)
    except ValueError as failure:
        return {
            "failed": True,
            "changed": False,
            "msg": f"{failure} (with the playbook an option has cleanup_ before its name)",
        }


if __name__ == "__main__":
    main()
