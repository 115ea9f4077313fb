#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_key_archive
short_description: Prune LiteLLM's archive of deleted virtual keys
version_added: 1.0.0
description:
  - LiteLLM keeps the whole row of every deleted key, for ever. This removes those that were deleted long enough ago, in
    LiteLLM's database, as its API has no way to.
  - What P(rhpds.litemaas.litellm_virtual_key#module) needs for O(rhpds.litemaas.litellm_virtual_key#module:never_reuse)
    stays, that is every row with the mark of this collection, whatever its age. Without it the next key of the same lab
    and alias could get a value that somebody has had before.
  - All of it is one transaction.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.namespace
  - rhpds.litemaas.attributes
attributes:
  action_group:
    support: none
    membership: []
  diff_mode:
    description: RV(report) names what goes.
    support: none
options:
  litellm_dsn:
    description:
      - Where LiteLLM's database is, as V(postgresql://user:password@host:5432/database) or in the C(key=value) form of
        PostgreSQL's client library. The user needs to delete from C("LiteLLM_DeletedVerificationToken") and to make
        temporary tables.
      - Falls back to the environment variable E(LITELLM_DSN), then to what O(namespace) has.
    type: str
  older_than:
    description: How long ago a key has to have been deleted, as V(36h), V(90d) or V(52w). A number alone is days.
    type: str
    default: 90d
  forget_guids:
    description:
      - Labs that never come back, by the C(guid) in their keys' metadata. Their rows go too when they are old enough.
      - A lab of the same guid that is provisioned after that may get values that the former one had.
    type: list
    elements: str
    default: []
  max_percent:
    description:
      - Share of the archive, in percent, that one run may remove. Up to five rows are always allowed. With more,
        nothing is removed and the run fails.
    type: int
    default: 20
  allow_mass_cleanup:
    description: Whether a run may go beyond O(max_percent), as the first one mostly has to.
    type: bool
    default: false
  report_limit:
    description: Names that RV(report) holds at most; its count is always whole.
    type: int
    default: 100
notes:
  - LiteLLM's pages of usage name keys that are gone by this archive. Spend itself is kept elsewhere and stays.
seealso:
  - module: rhpds.litemaas.litellm_key_cleanup
  - module: rhpds.litemaas.litellm_virtual_key
"""

EXAMPLES = r"""
- name: Forget what was deleted more than a year ago
  rhpds.litemaas.litellm_key_archive:
    namespace: litellm-rhpds
    older_than: 365d

- name: How much would that be
  rhpds.litemaas.litellm_key_archive:
    litellm_dsn: "{{ litellm_dsn }}"
    older_than: 365d
  check_mode: true
"""

RETURN = r"""
msg:
  description: One line that says what happened, with counts.
  returned: always
  type: str
  sample: "8 of 60 rows of the archive of deleted keys removed; 52 kept, 40 of them old, so that no value is used twice"
summary:
  description: Rows there were, were removed, stay, and stay although they are old enough as values depend on them.
  returned: when the archive could be read
  type: dict
  sample: {total: 60000, removed: 812, kept: 59188, needed: 41000}
report:
  description: Aliases of what goes, C({count, items}) with at most O(report_limit) items.
  returned: when the archive could be read
  type: dict
  sample: {going: {count: 1, items: [somebody]}}
found:
  description: Where the database was found in O(namespace). No secret is in it.
  returned: with O(namespace), where it was looked up
  type: dict
  sample: {litellm_dsn: "Secret litemaas/litemaas-db, through pod litemaas/litellm-postgres-0"}
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_archive, key_cleanup
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule


def main():
    spec = database.argument_spec()
    del spec["litemaas_dsn"]
    module = DatabaseModule(
        argument_spec={
            **discover.OPTIONS,
            **spec,
            "older_than": {"type": "str", "default": "90d"},
            "forget_guids": {"type": "list", "elements": "str", "default": []},
            "max_percent": {"type": "int", "default": 20},
            "allow_mass_cleanup": {"type": "bool", "default": False},
            "report_limit": {"type": "int", "default": key_archive.REPORT_LIMIT},
        },
        supports_check_mode=True,
        required_one_of=[("litellm_dsn", "namespace")],
    )
    module.run(lambda: work(module, module.params))


def work(module, params):
    names = key_archive.Options.__dataclass_fields__.keys() & params.keys()
    try:
        given = {name: params[name] for name in names}
        options = key_archive.Options(
            **{**given, "older_than": key_cleanup.duration("older_than", params["older_than"])}
        )
        with module.database("litellm_dsn") as connection:
            return key_archive.prune(connection, options, module.check_mode)
    except ValueError as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}


if __name__ == "__main__":
    main()
