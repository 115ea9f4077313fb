# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running LiteLLM and a running backend were set up with: configuration file, Redis, workers, pools.

Read from the Deployments and from what they refer to, so that it holds of a deployment whose variables nobody has.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import secrets
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.operate import main_container

#: What LiteLLM and the backend take where nothing is said.
WORKERS, LITELLM_LIMIT, BACKEND_LIMIT = 1, 10, 20
RIGHTS = "get on configmaps and secrets"
FROM_ENVIRONMENT = "os.environ/"


@dataclass
class Settings:
    """Of LiteLLM.

    Attributes:
        text: its configuration file; "" where there is none.
        config: the same, parsed.
        variables: of its container: plain values, and those out of Secrets.
    """

    text: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    arguments: Sequence[str] = ()

    @property
    def workers(self) -> int:
        """Processes in each pod, each with connections of its own."""
        return _number(option(self.arguments, "--num_workers") or self.variables.get("NUM_WORKERS"), WORKERS)

    @property
    def pool_limit(self) -> int:
        """Connections to the database, for each worker."""
        given = _section(self.config, "general_settings").get("database_connection_pool_limit")
        url = dict(parse_qsl(urlsplit(self.variables.get("DATABASE_URL", "")).query))
        return _number(given or url.get("connection_limit"), LITELLM_LIMIT)

    @property
    def redis(self) -> dict[str, Any]:
        """Host, port, password and TLS of the Redis that limits are counted in; {} where it isn't switched on.

        REDIS_HOST alone switches nothing on: ``litellm_settings.cache`` with a ``type: redis`` does.
        """
        settings = _section(self.config, "litellm_settings")
        cache = _section(settings, "cache_params")
        if settings.get("cache") is not True or cache.get("type", "redis") != "redis":
            return {}
        host = self._value(cache.get("host")) or self.variables.get("REDIS_HOST", "")
        if not host:
            return {}
        return {
            "host": host,
            "port": _number(self._value(cache.get("port")) or self.variables.get("REDIS_PORT"), 6379),
            "password": self._value(cache.get("password")) or self.variables.get("REDIS_PASSWORD", ""),
            "tls": bool(cache.get("ssl")),
        }

    def _value(self, value: Any) -> str:
        """A setting, which may name a variable."""
        text = "" if value is None else str(value)
        if text.startswith(FROM_ENVIRONMENT):
            return self.variables.get(text.removeprefix(FROM_ENVIRONMENT), "")
        return text


def of_litellm(client: Rest, namespace: str, deployment: Mapping[str, Any]) -> Settings:
    """Raises ClusterError."""
    container = main_container(deployment, "litellm")
    arguments = [*(container.get("command") or ()), *(container.get("args") or ())]
    text = _file(client, namespace, deployment, container, option(arguments, "--config"))
    config: Any = {}
    if text:
        yaml = importlib.import_module("yaml")
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as failure:
            raise ClusterError(
                f"Read LiteLLM's configuration in {namespace}", f"it is no YAML ({failure})", "Put it right"
            ) from None
    found = Settings(text, config if isinstance(config, dict) else {}, {}, arguments)
    found.variables = variables(client, namespace, container)
    return found


def backend_limit(backend: Mapping[str, Any]) -> int:
    """Connections that each pod of the backend may hold."""
    entries = main_container(backend, "backend").get("env") or ()
    return _number(
        next((one.get("value") for one in entries if one["name"] == "DB_MAX_CONNECTIONS"), None), BACKEND_LIMIT
    )


def variables(client: Rest, namespace: str, container: Mapping[str, Any]) -> dict[str, str]:
    """A container's variables by value, as a pod that starts now would get them. Raises ClusterError."""
    known: dict[str, dict[str, str]] = {}

    def values(name: str) -> dict[str, str]:
        if name not in known:
            path = f"/api/v1/namespaces/{namespace}/secrets/{quote(name)}"
            known[name] = secrets.decoded(client.find(path, RIGHTS))
        return known[name]

    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        name = (source.get("secretRef") or {}).get("name")
        if name:
            found |= {source.get("prefix", "") + key: value for key, value in values(name).items()}
    for entry in container.get("env") or ():
        reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
        value = values(reference["name"]).get(reference["key"]) if reference else entry.get("value")
        if value is not None:
            found[entry["name"]] = value
    return found


def option(arguments: Sequence[str], name: str) -> str:
    """The value of an option on a command line; "" without it."""
    for place, one in enumerate(arguments):
        if one == name and place + 1 < len(arguments):
            return arguments[place + 1]
        if one.startswith(f"{name}="):
            return one.partition("=")[2]
    return ""


def _file(client: Rest, namespace: str, deployment: Mapping[str, Any], container: Mapping[str, Any], path: str) -> str:
    """What a file of a ConfigMap or Secret holds, by its path in the container; "" where there is none."""
    if not path:
        return ""
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"].get("volumes") or ()}
    for mount in container.get("volumeMounts") or ():
        inside = PurePosixPath(path)
        place = PurePosixPath(mount["mountPath"])
        if place != inside and place not in inside.parents:
            continue
        key = mount.get("subPath") or str(inside.relative_to(place))
        volume = volumes.get(mount["name"], {})
        source, kind = volume.get("configMap"), "configmaps"
        name = (source or {}).get("name")
        if source is None:
            source, kind = volume.get("secret"), "secrets"
            name = (source or {}).get("secretName")
        if not name:
            continue
        keys = {one["path"]: one["key"] for one in (source or {}).get("items") or ()}
        found = client.find(f"/api/v1/namespaces/{namespace}/{kind}/{quote(name)}", RIGHTS)
        data = secrets.decoded(found) if kind == "secrets" else (found or {}).get("data") or {}
        if keys.get(key, key) in data:
            return str(data[keys.get(key, key)])
    return ""


def _section(config: Any, name: str) -> dict[str, Any]:
    found = config.get(name) if isinstance(config, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _number(value: Any, otherwise: int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return otherwise
