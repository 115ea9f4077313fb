# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.durations import seconds

DOCUMENTATION = r"""
name: deploy_problems
short_description: Settings of a deploy that no cluster would take, in words
version_added: 1.0.0
description:
  - Looks at settings of the role P(rhpds.litemaas.ocp4_workload_litemaas#role) before anything is applied, and names
    each that can't work with its value. What isn't given is not looked at, nor is what a part that is not deployed
    would get.
  - Quantities of CPU, memory and storage are read as Kubernetes does, names as DNS does, and the age of spend logs as
    LiteLLM does. Two ways in may have neither one name nor one address.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Values of the role's variables, each under its name without C(ocp4_workload_litemaas_).
    type: dict
    required: true
  ways:
    description:
      - The Routes or Ingresses to be, each with C(part) (V(api), V(admin) or V(frontend)), C(name), C(host) and
        C(path).
    type: list
    elements: dict
    default: []
  layout:
    description: V(split) where LiteLLM's tables are to have a database of their own, else V(shared).
    type: str
    default: ""
  databases:
    description: The databases' names, C(litemaas) and C(litellm).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Is that a size
  ansible.builtin.debug:
    msg: "{{ {'ha_postgres_pvc_size': '10 GB', 'wait_timeout': 900} | rhpds.litemaas.deploy_problems }}"
# => ["ocp4_workload_litemaas_ha_postgres_pvc_size is '10 GB': no quantity as Kubernetes reads it; write 512Mi or 10Gi"]
"""

RETURN = r"""
_value:
  description: A sentence for each problem; none where there is nothing in the way.
  type: list
  elements: str
"""

PREFIX = "ocp4_workload_litemaas_"
#: The part of a deployment → the variable that says whether it is deployed by us.
SWITCHES = {
    "backend": "deploy_backend",
    "frontend": "deploy_frontend",
    "mcp": "deploy_mcp",
    "postgres": "ha_enable_postgres",
    "redis": "ha_enable_redis",
    "hpa": "hpa_enabled",
}
_QUANTITY = re.compile(r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?[0-9]{1,3}))")
_FACTORS = {
    "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("num", -3)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
#: Less memory or storage than this is a unit that was forgotten, or an m that was meant as M.
_LEAST_BYTES = 2**20
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*")
_TAG = re.compile(r"\w[\w.-]{0,127}(?:@\S+)?", re.ASCII)
_RETENTION = re.compile(r"([0-9]{1,9})(mo|[smhdw])")


def quantity(value: Any) -> Decimal | None:
    """The number that a Kubernetes quantity stands for; None where it is none, or is negative."""
    match = _QUANTITY.fullmatch(str(value))
    if not match:
        return None
    number, unit, exponent = match.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _FACTORS[unit])


# What is wrong with a value; "" where nothing is.


def _cpu(value: Any) -> str:
    number = quantity(value)
    if number is None:
        return "no quantity as Kubernetes reads it; write 500m or 2"
    return "" if number >= Decimal("0.001") else "less than a thousandth of a CPU; write 500m or 2"


def _bytes(value: Any) -> str:
    number = quantity(value)
    if number is None:
        return "no quantity as Kubernetes reads it; write 512Mi or 10Gi"
    return "" if number >= _LEAST_BYTES else "less than 1Mi; write 512Mi or 10Gi"


def _label(value: Any) -> str:
    if _LABEL.fullmatch(str(value)):
        return ""
    return "no DNS label: 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"


def _domain(value: Any) -> str:
    if not str(value) or (_DOMAIN.fullmatch(str(value)) and len(str(value)) <= 253):
        return ""
    return "no DNS name: labels of a-z, 0-9 and - with dots between, and nothing else"


def _host(value: Any) -> str:
    text = str(value)
    return "no host: without scheme, port, path or blanks" if re.search(r"[\s/@]|^[^:]*:[^:]*$", text) else ""


def _number(least: int, most: int | None = None) -> Callable[[Any], str]:
    words = f"from {least} to {most}" if most is not None else f"at least {least}"

    def check(value: Any) -> str:
        text = str(value).strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            return f"no whole number, {words}"
        return "" if int(text) >= least and (most is None or int(text) <= most) else f"it has to be {words}"

    return check


def _replicas(value: Any) -> str:
    wrong = _number(1)(value)
    return wrong and (
        f"{wrong}. To stop a part, deploy it and run rhpds.litemaas.scale with scale_allow=zero, which a deploy keeps"
    )


def _image(value: Any) -> str:
    if not str(value):
        return "an image is needed"
    return _image_if_given(value)


def _image_if_given(value: Any) -> str:
    return "no image: it has whitespace or quotes in it" if re.search(r"[\s'\"]", str(value)) else ""


def _tag(value: Any) -> str:
    return "" if _TAG.fullmatch(str(value)) else "no tag of an image: up to 128 letters, digits, _ . and -"


def _database(value: Any) -> str:
    text = str(value)
    if text and text.isprintable() and not re.search(r"\s", text) and len(text.encode()) <= 63:
        return ""
    return "no name for PostgreSQL: 1 to 63 bytes, without blanks"


def _retention(value: Any) -> str:
    text = str(value)
    if not text:
        return ""
    match = _RETENTION.fullmatch(text)
    if not match or int(match[1]) == 0:
        return "no age that LiteLLM reads, so it would delete nothing; write a number and s, m, h, d or w, such as 90d"
    if match[2] == "mo":
        # 1.81 takes it for one month in December, and fails where the sum is beyond it.
        return "" if match[1] == "1" else "LiteLLM counts months wrongly at the end of a year; write days, such as 90d"
    return _age(text)


def _age(value: Any) -> str:
    try:
        seconds(str(value))
    except ValueError as wrong:
        return str(wrong)
    return ""


def _one_of(*choices: str) -> Callable[[Any], str]:
    return lambda value: "" if str(value) in choices else f"it has to be one of {', '.join(choices)}"


_AMOUNTS = {"cpu": _cpu, "memory": _bytes}
_RESOURCES = ("litellm", "backend", "frontend", "postgres", "redis")
#: Variable → the part that it is of ("" where it is looked at in any case), and what its value has to be.
RULES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "namespace": ("", _label),
    "cluster_domain": ("", _domain),
    "api_route_prefix": ("", _label),
    "admin_route_prefix": ("backend", _label),
    "frontend_route_prefix": ("frontend", _label),
    "api_route_name": ("", _label),
    "admin_route_name": ("backend", _label),
    "frontend_route_name": ("frontend", _label),
    "ingress_class": ("", _domain),
    "ingress_tls_secret": ("", _domain),
    "litellm_image": ("", _image),
    "litellm_tag": ("", _tag),
    "backend_image": ("backend", _image),
    "backend_tag": ("backend", _tag),
    "frontend_image": ("frontend", _image),
    "frontend_tag": ("frontend", _tag),
    "ha_postgres_image": ("postgres", _image_if_given),
    "ha_redis_image": ("redis", _image),
    "mcp_image": ("mcp", _image_if_given),
    "ha_litellm_replicas": ("", _replicas),
    "ha_backend_replicas": ("backend", _replicas),
    "ha_frontend_replicas": ("frontend", _replicas),
    "hpa_litellm_max_replicas": ("hpa", _number(1)),
    "hpa_cpu_percent": ("hpa", _number(1)),
    "ha_postgres_db": ("", _database),
    "ha_litellm_postgres_db": ("", _database),
    "ha_postgres_user": ("", _database),
    "ha_postgres_max_connections": ("", _number(1, 262143)),
    "ha_postgres_pvc_size": ("postgres", _bytes),
    "postgres_storage_size": ("postgres", _bytes),
    "postgres_storage_class": ("postgres", _domain),
    "postgres_storage_access_mode": ("postgres", _one_of("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany")),
    "postgres_host": ("", _host),
    "postgres_port": ("", _number(1, 65535)),
    "redis_host": ("", _host),
    "redis_port": ("", _number(1, 65535)),
    "litellm_workers": ("", _number(1)),
    "litellm_connection_limit": ("", _number(1)),
    "backend_connection_limit": ("backend", _number(1)),
    "postgres_reserved_connections": ("", _number(0)),
    "litellm_request_timeout": ("", _number(1)),
    "litellm_num_retries": ("", _number(0)),
    "litellm_spend_logs_retention": ("", _retention),
    "route_timeout": ("", _number(1)),
    "kubernetes_run_as_user": ("", _number(1)),
    "kubernetes_fs_group": ("", _number(0)),
    "wait_timeout": ("", _number(1)),
    "pull_failure_after": ("", _number(1)),
    "router_answers_after": ("", _number(1)),
    "backup_max_age": ("", _age),
    **{
        f"ha_{part}_{what}_{end}": ("" if part == "litellm" else part, check)
        for part in _RESOURCES
        for what, check in _AMOUNTS.items()
        for end in ("request", "limit")
    },
}
#: The first is not to be more than the second.
ORDERED = [
    ("ha_litellm_replicas", "hpa_litellm_max_replicas"),
    *((f"ha_{part}_{what}_request", f"ha_{part}_{what}_limit") for part in _RESOURCES for what in _AMOUNTS),
]


def deploy_problems(
    settings: Mapping[str, Any],
    ways: Sequence[Mapping[str, Any]] = (),
    layout: str = "",
    databases: Mapping[str, str] | None = None,
) -> list[str]:
    """See the documentation above."""
    found = dict(_wrong(settings))
    sentences = [f"{PREFIX}{name} is {_shown(settings[name])}: {why}" for name, why in found.items()]
    for low, high in ORDERED:
        if low in found or high in found or not (_looked_at(settings, low) and _looked_at(settings, high)):
            continue
        smaller, larger = quantity(settings[low]), quantity(settings[high])
        if smaller is not None and larger is not None and smaller > larger:
            sentences.append(
                f"{PREFIX}{low} is {_shown(settings[low])}, more than {PREFIX}{high}, which is {_shown(settings[high])}"
            )
    sentences += _collisions(ways)
    names = databases or {}
    if layout == "split" and names.get("litellm") and names.get("litellm") == names.get("litemaas"):
        sentences.append(
            f"{PREFIX}ha_litellm_postgres_db and {PREFIX}ha_postgres_db are both {_shown(names['litellm'])}, and"
            " LiteLLM's tables are to have a database of their own: give it another name, or set"
            f" {PREFIX}database_layout to shared"
        )
    return sentences


def _looked_at(settings: Mapping[str, Any], name: str) -> bool:
    switch = SWITCHES.get(RULES[name][0], "")
    return name in settings and str(settings.get(switch, True)).lower() not in ("false", "no", "off", "0", "n", "f")


def _wrong(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, (_part, check) in RULES.items():
        # What is null was meant as nothing.
        why = check("" if settings[name] is None else settings[name]) if _looked_at(settings, name) else ""
        if why:
            yield name, why


def _collisions(ways: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of two ways in of one name the second takes the place of the first; of one address only one is served."""
    for one, other in combinations(ways, 2):
        parts = [one["part"], other["part"]]
        if one["name"] == other["name"]:
            names = " and ".join(f"{PREFIX}{part}_route_name" for part in parts)
            yield f"{names} are both {_shown(one['name'])}: one would take the other's place, so give each its own"
        if (one["host"], one["path"] or "/") == (other["host"], other["path"] or "/"):
            names = " and ".join(f"{PREFIX}{part}_route_prefix" for part in parts)
            yield f"{names} lead both to {one['host']}{one['path']}: give each a prefix of its own"


def _shown(value: Any) -> str:
    return repr(value if isinstance(value, int | None) else str(value))


class FilterModule:
    """Says what a deploy can't be made of."""

    def filters(self) -> dict[str, Any]:
        return {"deploy_problems": deploy_problems}
