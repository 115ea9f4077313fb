#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: litellm_cache_flush
short_description: Empty the Redis that LiteLLM counts limits in
version_added: 1.0.0
description:
  - Sends C(FLUSHALL) to LiteLLM's Redis and says how many keys there were before and are afterwards. What goes are
    counts of requests and tokens of the running minute, cooldowns of models and cached rows of keys. LiteLLM makes
    them anew. Budgets and spend are in the database and stay.
  - With O(namespace) it is the one that LiteLLM's configuration names, reached in its pod through the API server.
    The password comes from where LiteLLM has it, and is never part of a command line.
  - One that isn't in the namespace is left alone without O(allow_external), as others may keep their keys there.
  - An empty Redis is left as it is, and counts as unchanged. One that LiteLLM uses fills up again within seconds.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster
attributes:
  diff_mode:
    description: Keys of a cache are no state that a difference would say anything of.
    support: none
options:
  namespace:
    description: Namespace that LiteMaaS runs in. Needed without O(redis_url).
    type: str
  redis_url:
    description:
      - A Redis that is reached from here, as V(redis://:password@host:6379), or V(rediss://) with TLS. It needs
        O(allow_external).
      - Falls back to the environment variable E(REDIS_URL) where O(namespace) isn't given.
    type: str
  allow_external:
    description: Whether a Redis outside of the namespace may be emptied, with everything that others keep in it.
    type: bool
    default: false
  redis_validate_certs:
    description: Whether to verify the certificate of a Redis with TLS.
    type: bool
    default: true
  redis_ca_path:
    description: CA bundle to verify it with.
    type: path
notes:
  - The account needs get on Deployments, ConfigMaps, Secrets and Services, list on pods, and get and create on
    C(pods/portforward).
seealso:
  - module: rhpds.litemaas.litemaas_restart
"""

EXAMPLES = r"""
- name: Forget the counts of this minute
  rhpds.litemaas.litellm_cache_flush:
    namespace: litellm-rhpds

- name: One that is LiteLLM's alone, outside of the cluster
  rhpds.litemaas.litellm_cache_flush:
    redis_url: "{{ redis_url }}"
    allow_external: true
"""

RETURN = r"""
msg:
  description: One line that says what happened, or would.
  returned: always
  type: str
  sample: "Redis in pod litellm-rhpds/litellm-redis-7d9-x: 4211 keys flushed, 3 afterwards"
before:
  description: Number of keys before.
  returned: success
  type: int
after:
  description: Number of keys afterwards; in check mode as before.
  returned: success
  type: int
"""

import os
from contextlib import ExitStack

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.rhpds.litemaas.plugins.module_utils import redis
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import cache, discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, leave


def main():
    module = AnsibleModule(
        argument_spec={
            **SPEC,
            "namespace": {"type": "str"},
            "redis_url": {"type": "str", "no_log": True},
            "allow_external": {"type": "bool", "default": False},
            "redis_validate_certs": {"type": "bool", "default": True},
            "redis_ca_path": {"type": "path"},
        },
        mutually_exclusive=[("namespace", "redis_url")],
        supports_check_mode=True,
    )
    leave(module, lambda: work(module, module.params))


def work(module, params):
    try:
        with ExitStack() as tunnel:
            address, words = found(module, params, tunnel)
            module.no_log_values.update(one for one in (address.password,) if one)
            with redis.connect(address, params["redis_validate_certs"], params["redis_ca_path"]) as connection:
                before = connection.keys()
                after = before
                if before and not module.check_mode:
                    before, after = redis.flush(connection)
    except (redis.RedisError, ValueError) as failure:
        return {"failed": True, "changed": False, "msg": str(failure)}
    done = f"{before} keys would be flushed" if module.check_mode else f"{before} keys flushed, {after} afterwards"
    msg = f"{words}: {done if before else 'it is empty already'}"
    return {"changed": bool(before), "msg": msg, "before": before, "after": after}


def found(module, params, tunnel):
    """Where Redis is, and what it is in words; the way there is closed with ``tunnel``."""
    if params["namespace"]:
        cluster = Cluster.from_params(params)
        place = discover.Namespace(cluster, params["namespace"])
        return tunnel.enter_context(cache.of_litellm(cluster.rest(), place, outside=params["allow_external"]))
    url = params["redis_url"] or os.environ.get("REDIS_URL", "")
    if not url:
        raise ValueError("Neither namespace nor redis_url is set: give one of them. Nothing was flushed")
    module.no_log_values.add(url)
    try:
        address = redis.Address.of(url)
    except ValueError as failure:
        raise ValueError(f"redis_url {failure}. Nothing was flushed") from None
    if not params["allow_external"]:
        raise ValueError(
            f"{address} may be others' too, and all that is in it would go: set allow_external if it is LiteLLM's"
            " alone. Nothing was flushed"
        )
    return address, str(address)


if __name__ == "__main__":
    main()
