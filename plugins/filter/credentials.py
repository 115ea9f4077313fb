# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: credentials
short_description: Credentials of a deployment out of its Secrets
version_added: 1.0.0
description:
  - Picks LiteMaaS's credentials out of the Secrets of its namespace.
  - The result holds secrets. Use it in tasks with C(no_log), apart from its C(names), C(missing) and C(sources).
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Secrets, as M(kubernetes.core.k8s_info) returns them.
    type: list
    elements: dict
    required: true
  wanted:
    description: Which ones. Each of V(master_key), V(admin_key), V(jwt_secret), V(ui) and V(database).
    type: list
    elements: str
    default: [master_key, admin_key, jwt_secret]
seealso:
  - module: rhpds.litemaas.litemaas_secrets
"""

EXAMPLES = r"""
- name: Keep them in a file
  ansible.builtin.copy:
    dest: /root/litemaas.env
    content: "{{ (secrets.resources | rhpds.litemaas.credentials).text }}"
    mode: "0600"
  no_log: true
  diff: false
"""

RETURN = r"""
_value:
  description:
    - C(text), lines for a shell; C(values), name to value; C(sources), name to Secret and key, without a value;
      C(missing), sources that there are none of.
  type: dict
"""

#: Group -> name of the variable -> Secret and key.
CREDENTIALS: dict[str, dict[str, tuple[str, str]]] = {
    "master_key": {"LITELLM_MASTER_KEY": ("litellm-secret", "LITELLM_MASTER_KEY")},
    "admin_key": {"LITEMAAS_ADMIN_KEY": ("backend-secret", "ADMIN_API_KEY")},
    "jwt_secret": {"JWT_SECRET": ("backend-secret", "JWT_SECRET")},
    "ui": {
        "UI_USERNAME": ("litellm-secret", "UI_USERNAME"),
        "UI_PASSWORD": ("litellm-secret", "UI_PASSWORD"),
    },
    "database": {
        "POSTGRES_USER": ("litemaas-db", "username"),
        "POSTGRES_PASSWORD": ("litemaas-db", "password"),
        "DATABASE_URL": ("litemaas-db", "DATABASE_URL"),
        "LITELLM_DATABASE_URL": ("litemaas-db", "LITELLM_DATABASE_URL"),
    },
}
DEFAULT = ("master_key", "admin_key", "jwt_secret")


def credentials(secrets: Iterable[Mapping[str, Any]], wanted: Sequence[str] = DEFAULT) -> dict[str, Any]:
    """See the documentation above."""
    unknown = [name for name in wanted if name not in CREDENTIALS]
    if unknown:
        raise ValueError(f"credentials: no {', '.join(unknown)}; there are {', '.join(CREDENTIALS)}")
    data = {secret["metadata"]["name"]: secret.get("data") or {} for secret in secrets}
    values: dict[str, str] = {}
    sources: dict[str, str] = {}
    missing: list[str] = []
    for group in dict.fromkeys(wanted):
        for name, (secret, key) in CREDENTIALS[group].items():
            encoded = data.get(secret, {}).get(key)
            source = f"{key} in Secret {secret}"
            if encoded:
                values[name] = base64.b64decode(encoded).decode("utf-8", "replace").rstrip("\n")
                sources[name] = source
            else:
                missing.append(source)
    text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return {"text": text, "values": values, "sources": sources, "missing": missing}


class FilterModule:
    """Picks credentials."""

    def filters(self) -> dict[str, Any]:
        return {"credentials": credentials}
