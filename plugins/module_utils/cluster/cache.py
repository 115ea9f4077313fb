# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Redis that LiteLLM counts limits in, and how it is reached from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import redis
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover, operate, running, tunnel
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest


@contextmanager
def of_litellm(
    client: Rest, place: discover.Namespace, *, outside: bool = False
) -> Iterator[tuple[redis.Address, str]]:
    """Address of LiteLLM's Redis, good until the end of the block, and what it is in words.

    Args:
        outside: whether one that isn't in the namespace will do: others may use it too.

    Raises:
        ClusterError: LiteLLM has none, or it can't be reached, or it is outside.
    """
    attempt = f"Find LiteLLM's Redis in namespace {place.name}"
    deployment = operate.Operator(client, place.name).components().get("litellm")
    found = running.of_litellm(client, place.name, deployment).redis if deployment else {}
    if not found:
        raise ClusterError(
            attempt,
            "LiteLLM's configuration switches none on (litellm_settings.cache with cache_params.type redis)",
            "There is nothing to flush: each replica keeps its own, and loses it when it is restarted",
        )
    address = redis.Address(found["host"], found["port"], "", found["password"], found["tls"])
    home = discover.service_of(found["host"], place.name)
    port = (
        place.pod_port(found["host"], found["port"], "redis_url", "Redis") if home and home[1] == place.name else None
    )
    if port is None:
        if not outside:
            raise ClusterError(
                attempt,
                f"it is {found['host']}:{found['port']}, outside of the namespace, and may have others' keys too",
                "Set allow_external if it is LiteLLM's alone. Nothing was flushed",
            )
        yield address, f"{address}, outside of the namespace"
        return
    with port.opened() as folder:
        try:
            yield near(address, port, folder), f"Redis in {port.name}"
        except redis.RedisError as failure:
            raise ClusterError(str(failure), port.trouble, port.advice) if port.trouble else failure from None


def near(address: redis.Address, port: tunnel.PodPort, folder: str) -> redis.Address:
    """The near end of a tunnel to a Redis."""
    return replace(address, port=port.port, path=redis.socket_of(folder, port.port))


def trouble_with(found: Mapping[str, Any], port: tunnel.PodPort) -> str:
    """Why a Redis behind a pod's port takes no commands, with the way on; "" where it does.

    A pod may be ready though nothing listens there: not every Redis is deployed with a probe.

    Args:
        found: see :attr:`~.running.Settings.redis`.
    """
    address = redis.Address(found["host"], found["port"], "", found["password"], found["tls"])
    with port.opened() as folder:
        try:
            # LiteLLM, not we, has to trust a certificate; and the name of the Service isn't that of the tunnel.
            with redis.connect(near(address, port, folder), validate_certs=False):
                return ""
        except redis.RedisError as failure:
            said = [str(failure), port.trouble, port.advice]
            return ". ".join(one.rstrip(" .") for one in said if one)
