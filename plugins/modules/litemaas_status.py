#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litemaas_status
short_description: How a running LiteMaaS is
version_added: 1.0.0
description:
  - Looks at pods, routes, images, the proxy, LiteMaaS's backend, databases, Redis, models, keys, subscriptions, spend
    and backups, and says what is wrong, the worst first. It changes nothing.
  - Every part stands for itself. What can't be read, for want of a right or because a server is down, is said in its
    place, and the rest goes on; RV(status.complete) is then false. The module fails where nothing at all can be read.
  - The backend is asked for what only its database has, pod by pod, as its health check says that all is well while it
    serves made-up data.
  - Keys and spend are counted by PostgreSQL. Where LiteLLM's tables can't be reached, keys are read through its API.
  - With O(report) the same is written as one HTML page that needs nothing else, and as JSON beside it.
  - No key's value, no hash and no password is ever in any of it.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.litellm
  - rhpds.litemaas.namespace
  - rhpds.litemaas.litemaas_database
  - rhpds.litemaas.litemaas_database.timeouts
  - rhpds.litemaas.attributes.info
options:
  parts:
    description:
      - What is looked at; everything if left out. V(logs) needs O(log_lines).
      - V(keys) counts rows without a key and revoked keys that still work only together with V(drift).
    type: list
    elements: str
    choices:
      - pods
      - routes
      - images
      - litellm
      - backend
      - database
      - redis
      - drift
      - models
      - keys
      - subscriptions
      - spend
      - backups
      - logs
  log_lines:
    description:
      - Last lines of each container's log of LiteLLM, backend and frontend. Values of the Secrets that a pod gets are
        taken out of them.
    type: int
    default: 0
  expiring_within:
    description: Keys that expire within this time are counted as expiring, for example V(36h) or V(7d).
    type: str
    default: 7d
  spend_days:
    description: Days that the spend is summed up over, today included.
    type: int
    default: 30
  top:
    description: Entries of each list of models or guids by spend, and of guids by expiry; the rest is summed up.
    type: int
    default: 20
  redis_url:
    description:
      - Redis, as V(redis://:password@host:6379) or V(rediss://…). Without it, that of O(namespace).
      - Falls back to the environment variable E(REDIS_URL).
    type: str
  report:
    description:
      - Path of an HTML page to write, which ends in C(.html); the JSON beside it ends in C(.json).
      - Both are mode 0600, as they name guids and people, and are replaced at once or not at all. In check mode neither
        is written. A written report is no change.
    type: path
  report_keys:
    description: Keys that the report lists at most, those that need care first. All are counted.
    type: int
    default: 5000
  report_limit:
    description: Keys and models that RV(status) lists at most.
    type: int
    default: 100
notes:
  - V(drift) compares the stores as M(rhpds.litemaas.litemaas_db_sync) in check mode does, in a transaction that is
    rolled back; it keeps LiteMaaS's backend from writing to the catalogue for as long, mostly less than a second.
  - With O(namespace) the account needs, beside what is said there, list on C(deployments.apps), C(statefulsets.apps)
    and C(pods), and get on C(namespaces), C(pods/log), C(configmaps) and the Secrets C(backend-secret) and
    C(litellm-redis).
seealso:
  - module: rhpds.litemaas.litemaas_db_sync
  - module: rhpds.litemaas.litemaas_cluster_info
"""

EXAMPLES = r"""
- name: How is LiteMaaS
  rhpds.litemaas.litemaas_status:
    namespace: litellm-rhpds
  register: found

- name: Say it in a few lines
  ansible.builtin.debug:
    msg: "{{ found.status | rhpds.litemaas.status_text }}"

- name: A page of it, without a cluster around
  rhpds.litemaas.litemaas_status:
    litellm_url: https://litellm.example.com
    litellm_master_key: "{{ litellm_master_key }}"
    litemaas_dsn: "{{ litemaas_dsn }}"
    litellm_dsn: "{{ litellm_dsn }}"
    report: /srv/www/status.html

- name: Only whether the stores agree
  rhpds.litemaas.litemaas_status:
    namespace: litellm-rhpds
    parts: [drift, models, keys]
"""

RETURN = r"""
msg:
  description: One line with the state and the first reason.
  returned: always
  type: str
  sample: "LiteMaaS in litellm-rhpds is broken: pods: litellm: 0 of 3 ready"
status:
  description: Everything that was found. The JSON of O(report) has the same form, with longer lists.
  returned: when anything could be read
  type: dict
  contains:
    schema:
      description: Version of this form.
      type: int
      sample: 1
    generated_at:
      description: When it was read, in UTC.
      type: str
    namespace:
      description: The namespace, or null.
      type: str
    litellm_url:
      description: Address of the proxy.
      type: str
    state:
      description: V(healthy), V(attention) or V(broken), the worst of the reasons.
      type: str
    complete:
      description: Whether everything that was asked for could be read.
      type: bool
    reasons:
      description: What is wrong, with C(severity), C(part), C(text) and C(advice), the worst first.
      type: list
      elements: dict
    versions:
      description: Versions of what tells its own.
      type: dict
      sample: {LiteLLM: 1.81.14, PostgreSQL: '16.4'}
    parts:
      description:
        - Part by part what was found. C(read) of each is V(read), V(partly), V(unread) or V(not_asked), C(errors) what
          stood in the way, C(unknown) is there where that is what this run lacks, a right or an address.
      type: dict
litellm_url:
  description: Address of the proxy that was used.
  returned: when it is known
  type: str
report:
  description: The files that were written.
  returned: with O(report), outside check mode
  type: list
  elements: str
found:
  description: What was found in O(namespace), and where. No secret is in it.
  returned: with O(namespace), where something was looked up
  type: dict
"""

from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial

from ansible.module_utils.basic import env_fallback, missing_required_lib

from ansible_collections.rhpds.litemaas.plugins.module_utils import durations, redis
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import status as objects
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import client as http
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import BadOption, LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import read_deployments
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key import list_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import (
    database,
    status,
    status_files,
    status_page,
    verdict,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.module import DatabaseModule

#: Parts of LiteMaaS whose logs are shown.
LOGS = ("litellm", "litellm-backend", "litellm-frontend")


def main():
    spec = {
        **http.argument_spec(),
        **database.argument_spec(),
        "parts": {"type": "list", "elements": "str", "choices": list(status.PARTS)},
        "log_lines": {"type": "int", "default": 0},
        "expiring_within": {"type": "str", "default": "7d"},
        "spend_days": {"type": "int", "default": 30},
        "top": {"type": "int", "default": 20},
        "redis_url": {"type": "str", "no_log": True, "fallback": (env_fallback, ["REDIS_URL"])},
        "report": {"type": "path"},
        "report_keys": {"type": "int", "default": 5000, "no_log": False},
        "report_limit": {"type": "int", "default": 100},
    }
    module = DatabaseModule(argument_spec=spec, supports_check_mode=True)
    module.run(partial(work, module))


#: One of them is needed: there is nothing to look at without.
ADDRESSES = ("namespace", "litellm_url", "litemaas_dsn", "litellm_dsn", "redis_url")


def work(module):
    params = module.params
    if not any(params[name] for name in ADDRESSES):
        return {
            "failed": True,
            "changed": False,
            "msg": f"Nothing could be read: none of {', '.join(ADDRESSES)} is set."
            " Give namespace to have the others found in the cluster",
        }
    options = options_of(params)
    if params["report"]:
        status_files.check(params["report"])
    with ExitStack() as stack:
        parts = status.collect(sources_of(module, stack), options)
    if parts and all(part["read"] in (status.UNREAD, status.NOT_ASKED) for part in parts.values()):
        said = dict.fromkeys(one for part in parts.values() for one in part["errors"])
        return {
            "failed": True,
            "changed": False,
            "msg": f"Nothing could be read: {'; '.join(said) or 'nothing is known to look at'}",
        }
    found = verdict.document(
        parts,
        now=datetime.now(timezone.utc),
        namespace=params["namespace"],
        litellm_url=parts.get("litellm", {}).get("url") or params["litellm_url"] or "",
    )
    result = {"changed": False, "msg": verdict.message(found)}
    if params["report"] and not module.check_mode:
        result["report"] = status_files.write(params["report"], status_page.page(found), found)
    result["status"] = verdict.shortened(found, params["report_limit"])
    return result


def options_of(params):
    try:
        soon = durations.seconds(params["expiring_within"])
    except ValueError as failure:
        raise BadOption("expiring_within", f"is no duration: {failure}", "Give for example 7d") from None
    for option, least in (("spend_days", 1), ("top", 1), ("log_lines", 0), ("report_keys", 0), ("report_limit", 0)):
        if not least <= params[option] <= 100_000:
            raise BadOption(option, f"is {params[option]}", f"Give a number from {least} to 100000")
    wanted = params["parts"] or [one for one in status.PARTS if one != "logs" or params["log_lines"]]
    return status.Options(
        parts=wanted,
        expiring_within=soon,
        **{name: params[name] for name in ("spend_days", "top", "report_keys", "lock_timeout", "statement_timeout")},
    )


def sources_of(module, stack):
    """Where things are read: what is given wins, what isn't is looked up in the namespace, where there is one."""
    params = module.params
    found = status.Sources(others={}, connections={}, apart={})
    if module.place is None:
        found.apart.update(dict.fromkeys(status.OF_CLUSTER, "no namespace is given, so no cluster was asked"))
        found.apart["backend"] = "no namespace is given, and only its pods tell whether they serve made-up data"
    else:
        there = objects.Objects(module.cluster().rest(), params["namespace"])
        there.refuse_nowhere()
        found.others.update(
            pods=partial(objects.pods, there),
            routes=partial(objects.routes, there),
            images=partial(objects.images, there),
            backups=lambda _errors: objects.backups(there),
            backend=lambda errors: objects.backend(there, errors, module.cluster().api),
            logs=lambda errors: objects.logs(there, errors, max(params["log_lines"], 1), LOGS),
            redis=lambda _errors: objects.redis(there, module.cluster()),
        )
    if params["redis_url"]:
        found.others["redis"] = lambda _errors: redis_of(params)
    elif module.place is None:
        found.apart["redis"] = "neither redis_url nor namespace is given"
    client, failure = proxy_of(module)
    if client is not None:
        found.client = client
        found.read_deployments = lambda: read_deployments(client)
        found.list_keys = lambda: list_keys(client)
    else:
        found.read_deployments = found.list_keys = partial(refuse, failure)
        found.others["litellm"] = lambda _errors: refuse(failure)
    for option in ("litemaas_dsn", "litellm_dsn"):
        connect(module, stack, found.connections, option)
    return found


def proxy_of(module):
    """A client for the proxy, or why there is none: the databases are looked at all the same."""
    if not http.HAS_REQUESTS:
        module.fail_json(msg=missing_required_lib("requests"), exception=str(http.REQUESTS_IMPORT_ERROR))
    try:
        found = {name: module.setting(name) for name in ("litellm_url", "litellm_master_key")}
        return http.client_from_params({**module.params, **found}), None
    except (LiteLLMError, ClusterError) as failure:
        return None, failure


def connect(module, stack, connections, option):
    """LiteLLM's own database where it is given, or where the namespace has one; LiteMaaS's always, or why not."""
    which = option.removesuffix("_dsn")
    try:
        if option == "litellm_dsn" and not module.params[option] and (module.place is None or module.place.shared):
            return
        connections[which] = stack.enter_context(module.database(option))
    except status.Trouble as failure:
        connections[which] = failure


def redis_of(params):
    try:
        address = redis.Address.of(params["redis_url"])
    except ValueError as failure:
        raise redis.RedisError("Read redis_url", str(failure)) from None
    return objects.redis_at(address, params["validate_certs"], params["ca_path"])


def refuse(failure):
    raise failure


if __name__ == "__main__":
    main()
