#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_branding
short_description: Set the titles and logos of a LiteMaaS portal
version_added: 1.0.0
description:
  - Writes LiteMaaS's branding settings, which its portal shows on the login page and in its header, as an admin does on
    the portal's own page. They take effect with the next load of a page, without a restart.
  - An option that is left out stays as it is. An empty one takes LiteMaaS's own title or logo back.
  - Which settings there are depends on LiteMaaS's release. One that it has no place for is refused, and nothing is
    written. Release 0.4 has O(title), O(subtitle), O(login_logo), O(header_logo_light) and O(header_logo_dark).
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.namespace
  - rhpds.litemaas.litemaas_database
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.attributes
attributes:
  action_group:
    description: It talks to no proxy, so it is in no group.
    support: none
    membership: []
options:
  title:
    description: Title on the login page.
    type: str
  subtitle:
    description: Text below the title on the login page.
    type: str
  footer:
    description: Text at the foot of the login page.
    type: str
  login_logo:
    description:
      - Logo on the login page; PNG, JPEG, GIF, WebP or SVG, of 2 MiB at most.
      - A path on the host that runs the module, or the image itself as C(data:image/png;base64,…).
    type: str
  login_logo_dark:
    description: The same for the dark theme.
    type: str
  header_logo_light:
    description: Logo in the portal's header, as O(login_logo).
    type: str
  header_logo_dark:
    description: The same for the dark theme.
    type: str
seealso:
  - module: rhpds.litemaas.litemaas_db_sync
"""

EXAMPLES = r"""
- name: The portal says whose it is
  rhpds.litemaas.litemaas_branding:
    litemaas_dsn: "{{ litemaas_dsn }}"
    title: Red Hat Demo Platform
    subtitle: Models for workshops and demos
    login_logo: "{{ playbook_dir }}/files/logo.svg"
    header_logo_light: "{{ playbook_dir }}/files/logo.svg"

- name: LiteMaaS's own title again
  rhpds.litemaas.litemaas_branding:
    title: ""
"""

RETURN = r"""
msg:
  description: One line that says what happened.
  returned: always
  type: str
  sample: "LiteMaaS's branding: title, login_logo set"
changes:
  description:
    - Options that differ, with what was stored before and after. Of an image, its type, its size and its sha256.
  returned: success
  type: list
  elements: dict
  sample: [{field: title, before: null, after: Red Hat Demo Platform}]
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import branding, database
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule

OPTIONS = (*branding.TEXTS, *branding.IMAGES)


def main():
    module = DatabaseModule(
        argument_spec={
            **discover.OPTIONS,
            **database.argument_spec(),
            **{name: {"type": "str"} for name in OPTIONS},
        },
        supports_check_mode=True,
    )
    module.run(lambda: work(module))


def work(module):
    params = module.params
    wanted = {name: params[name] for name in OPTIONS if params[name] is not None}
    timeouts = {name: params[name] for name in ("lock_timeout", "statement_timeout")}
    try:
        with module.database("litemaas_dsn") as connection:
            outcome = branding.apply(connection, wanted, module.check_mode, timeouts)
    except branding.BrandingError as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    changes = [
        {"field": name, "before": outcome.before[name], "after": outcome.after[name]}
        for name in outcome.after
        if outcome.before[name] != outcome.after[name]
    ]
    names = ", ".join(name for name in outcome.after if outcome.before[name] != outcome.after[name])
    verb = "would be set" if module.check_mode else "set"
    result = {
        "changed": outcome.changed,
        "msg": f"LiteMaaS's branding: {f'{names} {verb}' if changes else 'as wanted'}",
        "changes": changes,
    }
    if module._diff:
        before, after = ({one["field"]: one[when] for one in changes} for when in ("before", "after"))
        result["diff"] = {"before": before, "after": after}
    return result


if __name__ == "__main__":
    main()
