#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_backend_sync
short_description: Have the LiteMaaS backend take up LiteLLM's models by itself
version_added: 1.0.0
description:
  - Triggers the backend's own sync through its API, and believes nothing but the answer's body and the database.
  - M(rhpds.litemaas.litemaas_db_sync) writes the same rows without the backend, reports, and holds more back. This is
    for whoever wants the backend's own doing, for example to see whether it can.
  - Refuses beforehand where LiteLLM lists no model, as the backend would then make the whole catalogue unavailable, and
    where the backend has no database and shows made-up data.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.litemaas_database
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.attributes
options:
  litemaas_url:
    description:
      - Address of the backend, without C(/api).
      - Looked up in O(namespace) if left out, in the Route or Ingress that leads to Service C(litellm-backend).
      - Falls back to the environment variable E(LITEMAAS_URL).
    type: str
  litemaas_admin_key:
    description:
      - One of the backend's admin keys, which begin with C(ltm_admin_).
      - Looked up in O(namespace) if left out, in C(ADMIN_API_KEY) of Secret C(backend-secret).
      - Falls back to the environment variable E(LITEMAAS_ADMIN_KEY).
    type: str
  force_update:
    description: Whether rows that look the same to the backend are written too.
    type: bool
    default: false
  mark_unavailable:
    description:
      - Whether rows become unavailable whose model LiteLLM doesn't have. The backend then makes their subscriptions
        inactive, and keys that are left without a model.
      - Needs LiteMaaS's database, to tell beforehand what that would take.
    type: bool
    default: false
  allow_active_subscriptions:
    description: Whether that may take models with active subscriptions.
    type: bool
    default: false
  max_removal_percent:
    description: Share of the available rows, in percent, that may become unavailable. Up to five always may.
    type: int
    default: 20
  allow_mass_removal:
    description: Whether a run may go beyond O(max_removal_percent).
    type: bool
    default: false
notes:
  - Whether anything changed is read from LiteMaaS's database, with O(litemaas_dsn) or O(namespace). Without it, new and
    unavailable models count, as the backend counts updates that change nothing.
  - In check mode the backend isn't asked to sync; everything that would stand in the way is looked at. Whether it would
    change anything is not known to anybody but the backend, so that a run in check mode never reports a change.
seealso:
  - module: rhpds.litemaas.litemaas_db_sync
"""

EXAMPLES = r"""
- name: The backend takes up new models
  rhpds.litemaas.litemaas_backend_sync:
    namespace: litellm-rhpds

- name: The same without the cluster, and models that are gone become unavailable
  rhpds.litemaas.litemaas_backend_sync:
    litemaas_url: https://litellm-admin.example.com
    litemaas_admin_key: "{{ litemaas_admin_key }}"
    litellm_url: https://litellm.example.com
    litellm_master_key: "{{ litellm_master_key }}"
    litemaas_dsn: "{{ litemaas_dsn }}"
    mark_unavailable: true
"""

RETURN = r"""
msg:
  description: One line that says what happened.
  returned: always
  type: str
  sample: "The LiteMaaS backend has synced: 12 models read, 1 new"
counts:
  description: What the backend has counted. C(updatedModels) counts models that did not change, too.
  returned: when the backend has synced
  type: dict
  sample: {totalModels: 12, newModels: 1, updatedModels: 11, unavailableModels: 0}
models:
  description: Rows that have changed, where LiteMaaS's database was read.
  returned: when the backend has synced
  type: list
  elements: str
litemaas_url:
  description: Address of the backend.
  returned: when it is known
  type: str
  sample: https://litellm-admin.example.com
litellm_url:
  description: Address of the proxy.
  returned: when it is known
  type: str
  sample: https://litellm.example.com
found:
  description: What was found in O(namespace), and where. No secret is in it.
  returned: with O(namespace), where something was looked up
  type: dict
  sample: {litemaas_url: Route litemaas/litellm-admin, litemaas_admin_key: Secret litemaas/backend-secret}
"""

from contextlib import ExitStack

from ansible.module_utils.basic import env_fallback

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import BadOption, LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import read_deployments
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import backend, database
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule


def main():
    module = DatabaseModule(
        argument_spec={
            **http.argument_spec(),
            **database.argument_spec(),
            "litemaas_url": {"type": "str", "fallback": (env_fallback, ["LITEMAAS_URL"])},
            "litemaas_admin_key": {
                "type": "str",
                "no_log": True,
                "fallback": (env_fallback, ["LITEMAAS_ADMIN_KEY"]),
            },
            "force_update": {"type": "bool", "default": False},
            "mark_unavailable": {"type": "bool", "default": False},
            "allow_active_subscriptions": {"type": "bool", "default": False},
            "max_removal_percent": {"type": "int", "default": 20},
            "allow_mass_removal": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    client = module.client()
    module.run(lambda: work(module, client))


def given(module, option, look):
    """An option, or what the namespace has."""
    value = (module.params[option] or "").strip()
    if not value and module.place is None:
        raise BadOption(option, "is not set", "Give it, or namespace to have it found in the cluster")
    return value or look(module.place)


def key_of(place):
    value = place.secret_value("backend-secret", "ADMIN_API_KEY", "litemaas_admin_key")
    place.sources["litemaas_admin_key"] = f"Secret {place.name}/backend-secret"
    # the backend takes several, with commas between
    return value.split(",")[0].strip()


def reached(module):
    url = given(module, "litemaas_url", lambda place: place.backend_url()).rstrip("/").removesuffix("/api")
    key = given(module, "litemaas_admin_key", key_of)
    module.no_log_values.add(key)
    if not key.startswith(backend.KEY_PREFIX):
        raise BadOption(
            "litemaas_admin_key",
            f"doesn't begin with {backend.KEY_PREFIX}, so that the backend takes it for no admin key",
            "Check where it comes from",
        )
    # Of the proxy's client, what belongs to any server.
    settings = {**module.params, "litellm_url": url, "litellm_master_key": key}
    return http.client_from_params(settings)


def work(module, client):
    params = module.params
    options = backend.Options(**{name: params[name] for name in backend.Options.__dataclass_fields__})
    timeouts = {name: params[name] for name in ("lock_timeout", "statement_timeout")}
    remote = reached(module)
    result = {"changed": False, "litemaas_url": remote.url}
    try:
        with ExitStack() as open_ones:
            connection = before = after = None
            if params["litemaas_dsn"] or params["namespace"]:
                connection = open_ones.enter_context(module.database("litemaas_dsn"))
                before = backend.read_catalogue(connection, timeouts)
            refused = backend.refusal(options, read_deployments(client), before)
            if refused:
                return {**result, "failed": True, "msg": f"Nothing was synced: {refused}"}
            try:
                backend.refuse_mock(remote)
                if module.check_mode:
                    return {**result, "msg": "Nothing stands in the way of the LiteMaaS backend's sync"}
                counts = backend.trigger(remote, options)
            except LiteLLMError as failure:
                raise backend.speak(failure) from None
            if connection is not None:
                after = backend.read_catalogue(connection, timeouts)
    except backend.BackendError as failure:
        return {**result, "failed": True, "msg": str(failure)}
    models = []
    result["changed"] = bool(counts.get("newModels") or counts.get("unavailableModels"))
    if before is not None and after is not None:
        rows = before.rows.keys() | after.rows.keys()
        models = sorted(name for name in rows if before.rows.get(name) != after.rows.get(name))
        result["changed"] = bool(models) or (before.subscriptions, before.keys) != (after.subscriptions, after.keys)
    warning = backend.lost(before, after)
    if warning:
        module.warn(f"The backend's sync: {warning}")
    said = ", ".join(f"{counts[name]} {words}" for name, words in backend.COUNTS.items() if counts.get(name))
    text = f"The LiteMaaS backend has synced: {said or 'nothing to count'}"
    if after is not None:
        text += f"; {len(models)} rows changed" if models else "; no row changed"
    return {**result, "msg": text, "counts": counts, "models": models}


if __name__ == "__main__":
    main()
