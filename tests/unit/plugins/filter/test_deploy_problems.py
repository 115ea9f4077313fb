# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings of a deploy are refused, and that the refusal names them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.filter.deploy_problems import (
    PREFIX,
    RULES,
    SWITCHES,
    deploy_problems,
    quantity,
)

LONG = "a." * 126 + "b"
ROLE = Path(__file__).resolve().parents[4] / "roles" / "ocp4_workload_litemaas"


@pytest.mark.parametrize(
    ("name", "wrong", "right", "words"),
    [
        ("ha_postgres_pvc_size", ["10GB", "10 Gi", "", "-1Gi", "ten", "10", "512m"], ["10Gi", "1e10", "1.5Ti"], ""),
        ("postgres_storage_size", ["10gb"], ["500M"], "write 512Mi or 10Gi"),
        ("ha_litellm_cpu_request", ["500mm", "0", "1 CPU", "0.1m"], ["500m", 2, 0.5, "2"], "500m"),
        ("ha_redis_memory_limit", ["1GB", "0", "512m"], ["1Gi", "1073741824"], "512Mi"),
        ("namespace", ["Lite_MaaS", "", "-a", "a-", "a.b", "a" * 64, "a\n"], ["litemaas", "a", "9", "a" * 63], "DNS"),
        ("api_route_prefix", ["Lite LLM", "a.b", ""], ["litellm-prod"], "DNS label"),
        ("admin_route_name", ["a_b"], ["a-b"], "DNS label"),
        ("cluster_domain", ["https://apps.example.com", "a..b", LONG + "c"], ["", LONG, None], "DNS name"),
        ("ha_litellm_replicas", [0, "0", -1, "three"], [1, "3"], "rhpds.litemaas.scale with scale_allow=zero"),
        ("ha_backend_replicas", [0], [1], "at least 1"),
        ("ha_frontend_replicas", [0], [1], "at least 1"),
        ("litellm_spend_logs_retention", ["90", "d", "90 d", "0d", "3mo", "90days"], ["", "90d", "1mo", "12w"], "90d"),
        ("litellm_spend_logs_retention", ["36501d"], ["36500d"], "100 years"),
        ("wait_timeout", [0, -5, "soon"], [1, 900], "at least 1"),
        ("route_timeout", [0], ["600"], "at least 1"),
        ("postgres_port", [0, 65536], [1, 65535, "5432"], "from 1 to 65535"),
        ("redis_port", [70000], [6379], "65535"),
        ("postgres_host", ["db:5432", "postgres://db", "d b"], ["db.example.com", "10.0.0.1", "::1", ""], "no host"),
        ("litellm_image", ["quay.io/a b", ""], ["quay.io/a/b", "registry:5000/a@sha256:00"], "image"),
        ("ha_postgres_image", ["postgres: 16"], ["", "docker.io/library/postgres:16"], "whitespace"),
        ("litellm_tag", ["", "v1 ", ":v1", "a/b"], ["main-v1.81.0", 16, 0.4, "v1@sha256:00"], "tag"),
        ("ha_postgres_db", ["", "my db", "x" * 64, "ö" * 32], ["litemaas_db", "Größe", "ö" * 31 + "x"], "PostgreSQL"),
        ("postgres_storage_access_mode", ["RWO"], ["ReadWriteOnce"], "ReadWriteMany"),
        ("backup_max_age", ["24"], ["24h"], "36h"),
    ],
)
def test_values(name: str, wrong: list[Any], right: list[Any], words: str) -> None:
    for value in wrong:
        (sentence,) = deploy_problems({name: value})
        shown = repr(value if isinstance(value, int) else str(value))
        assert sentence.startswith(f"{PREFIX}{name} is {shown}: ") and words in sentence
    for value in right:
        assert deploy_problems({name: value}) == []


@given(st.decimals("0.001", 10**6, places=3), st.sampled_from(["", "m", "k", "Ki", "M", "Mi", "G", "Gi", "E", "Ei"]))
def test_quantities(number: Decimal, unit: str) -> None:
    factor = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "E": 10**18}
    factor |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ei": 2**60}
    assert quantity(f"{number}{unit}") == number * factor[unit]
    assert quantity(f"{number}{unit}B") is None and quantity(f"-{number}{unit}") is None


@given(st.dictionaries(st.sampled_from(sorted({*RULES, *SWITCHES.values()})), st.text() | st.integers() | st.none()))
def test_whatever_is_given_there_is_an_answer(settings: dict[str, Any]) -> None:
    for sentence in deploy_problems(settings):
        assert sentence.startswith(PREFIX)


def test_a_request_is_not_more_than_its_limit() -> None:
    sizes = {"ha_backend_memory_request": "1025Mi", "ha_backend_memory_limit": "1Gi", "ha_backend_cpu_request": "1000m"}
    (sentence,) = deploy_problems({**sizes, "ha_backend_cpu_limit": 1})
    assert "ha_backend_memory_request is '1025Mi', more than" in sentence and "memory_limit, which is '1Gi'" in sentence
    # What is wrong by itself is said, and not compared.
    (sentence,) = deploy_problems({"ha_litellm_replicas": "1.5", "hpa_litellm_max_replicas": 1, "hpa_enabled": True})
    assert "no whole number" in sentence
    scaled = {"ha_litellm_replicas": 7, "hpa_litellm_max_replicas": 6}
    assert deploy_problems({**scaled, "hpa_enabled": False}) == []
    assert "more than" in deploy_problems({**scaled, "hpa_enabled": True})[0]


def test_a_part_that_is_not_deployed_needs_nothing() -> None:
    settings = {"ha_backend_replicas": 0, "ha_redis_memory_limit": "none", "admin_route_prefix": "A"}
    assert len(deploy_problems(settings)) == 3
    assert deploy_problems({**settings, "deploy_backend": False, "ha_enable_redis": "no"}) == []


def way(part: str, name: str, host: str, path: str = "") -> dict[str, str]:
    return {"part": part, "name": name, "host": host, "path": path}


def test_ways_in_that_collide() -> None:
    same = [way("api", "a", "a.x"), way("admin", "a", "a.x", "/api"), way("frontend", "a", "a.x")]
    found = deploy_problems({}, ways=same)
    assert len([one for one in found if "_route_name are both 'a'" in one]) == 3
    assert f"{PREFIX}api_route_prefix and {PREFIX}frontend_route_prefix lead both to a.x: give" in found[2]
    rooted = [way("api", "b", "a.x", "/"), way("frontend", "c", "a.x")]
    assert ["lead both to a.x" in one for one in deploy_problems({}, ways=rooted)] == [True]
    # The portal's name may lead to the backend below /api.
    assert deploy_problems({}, ways=[way("admin", "b", "p.x", "/api"), way("frontend", "c", "p.x")]) == []


def test_two_databases_of_one_name() -> None:
    names = {"litemaas": "litemaas_db", "litellm": "litemaas_db"}
    (sentence,) = deploy_problems({}, layout="split", databases=names)
    assert "ha_litellm_postgres_db" in sentence and f"{PREFIX}database_layout to shared" in sentence
    assert deploy_problems({}, layout="shared", databases=names) == []
    assert deploy_problems({}, layout="split", databases={**names, "litellm": "litellm_db"}) == []


def test_the_role_hands_over_what_is_looked_at() -> None:
    checked = yaml.safe_load((ROLE / "vars/main.yml").read_text())[f"{PREFIX}_checked"]
    assert sorted(checked) == sorted({*RULES, *SWITCHES.values()})
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert {PREFIX + name for name in checked} <= set(defaults)
    plain = {name: defaults[PREFIX + name] for name in checked if "{{" not in str(defaults[PREFIX + name])}
    assert deploy_problems(plain) == []
