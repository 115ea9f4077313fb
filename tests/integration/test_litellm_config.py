# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteLLM's configuration file as the role renders it, on real proxies with a real PostgreSQL and a real Redis.

A key's minute starts with its first call, in both versions of LiteLLM, so nothing here depends on the clock's minute.
"""

from __future__ import annotations

import itertools
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import yaml

from ansible_collections.rhpds.litemaas.tests.integration import harness, proxies

MODEL = "chat"
WINDOW = 60
#: Longer than any request may take, shorter than a request that hangs.
PATIENCE = 10


@pytest.fixture(scope="module")
def redis_url(stack: harness.Stack) -> urllib.parse.SplitResult:
    """The stack's Redis."""
    return urllib.parse.urlsplit(stack.variables["REDIS_URL"])


@pytest.fixture(scope="module")
def gate(redis_url: urllib.parse.SplitResult) -> Iterator[proxies.Gate]:
    """The way to it, which can be closed."""
    with proxies.Gate(str(redis_url.hostname), redis_url.port or 6379) as gate:
        yield gate


@pytest.fixture(scope="module")
def sharing(
    stack: harness.Stack,
    gate: proxies.Gate,
    redis_url: urllib.parse.SplitResult,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[proxies.Deployment]:
    """Two proxies with one Redis."""
    variables = {
        "litellm_config_redis_host": "127.0.0.1",
        "litellm_config_redis_port": gate.port,
        "litellm_config_redis_auth": bool(redis_url.password),
        "litellm_config_spend_logs_retention": "7d",
        "litellm_config_spend_logs_interval": "5s",
        "litellm_config_batch_write_seconds": 1,
        "litellm_config_pool_limit": 3,
    }
    password = {"REDIS_PASSWORD": urllib.parse.unquote(redis_url.password)} if redis_url.password else {}
    folder = tmp_path_factory.mktemp("sharing")
    with proxies.deployed(stack, folder, variables, environment=password) as deployment:
        add_model(deployment, stack)
        yield deployment


@pytest.fixture
def counted(sharing: proxies.Deployment, gate: proxies.Gate) -> Iterator[proxies.Deployment]:
    """The two proxies, with a Redis that answers before and after."""
    gate.restore()
    yield sharing
    gate.restore()


def add_model(deployment: proxies.Deployment, stack: harness.Stack, name: str = MODEL) -> float:
    """Register a model through the first proxy; seconds until the last one answers for it."""
    params = {"model": "openai/demo-chat", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-placeholder"}
    deployment.admin().post("/model/new", model_name=name, litellm_params=params, model_info={})
    started = time.monotonic()
    last = deployment.admin(len(deployment.replicas) - 1)
    while True:
        status, body = last.chat(name, deployment.master_key)
        if status == 200:
            return time.monotonic() - started
        assert time.monotonic() < started + 90, f"the other replica doesn't have the model: {status} {body}"
        time.sleep(0.5)


def call(url: str, key: str, text: str = "Hello") -> int:
    """The status of one chat call; raises where nobody answers in time."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE).status_code


def limited_key(deployment: proxies.Deployment, rpm: int) -> str:
    key = deployment.admin().post("/key/generate", rpm_limit=rpm, models=[MODEL])["key"]
    return str(key)


def passed(deployment: proxies.Deployment, rpm: int, calls: int, others: int = 0) -> int:
    """How many of so many calls with one key each replica let through, all within the key's minute.

    Args:
        others: keys that are used between the key's own calls.
    """
    urls = [replica.url for replica in deployment.replicas]
    for _attempt in range(3):
        key = limited_key(deployment, rpm)
        with ThreadPoolExecutor(8) as pool:
            strangers = list(pool.map(lambda _: limited_key(deployment, 100), range(others)))
            started = time.monotonic()
            statuses = [call(url, key) for url in urls]
            assert list(pool.map(call, itertools.cycle(urls), strangers)) == [200] * others
            statuses += [call(url, key) for _turn in range(calls - 1) for url in urls]
            if time.monotonic() - started < WINDOW - 1:
                assert set(statuses) <= {200, 429}, statuses
                return statuses.count(200)
    raise AssertionError("this machine is too slow for these calls in a minute")


def upstream_calls(stack: harness.Stack) -> int:
    return int(requests.get(f"{stack.upstream_url}/calls", timeout=PATIENCE).json()["by_model"].get("demo-chat", 0))


def test_replicas_share_one_limit(counted: proxies.Deployment) -> None:
    assert passed(counted, 5, 7) == 5


def test_the_count_survives_two_hundred_other_keys(counted: proxies.Deployment) -> None:
    """Without Redis, a replica that sees this many limited keys forgets the counts of the first."""
    assert passed(counted, 5, 7, others=200) == 5


def test_without_redis_each_replica_counts_alone(stack: harness.Stack, tmp_path: Any) -> None:
    """So that the tests above can fail: what Redis off means, and what the role's documentation says of it."""
    with proxies.deployed(stack, tmp_path, {}) as deployment:
        add_model(deployment, stack)
        assert passed(deployment, 5, 7) == 10
        assert passed(deployment, 5, 9, others=200) > 10


def test_a_model_of_one_replica_answers_on_the_other(stack: harness.Stack, counted: proxies.Deployment) -> None:
    """LiteLLM reads the table every 30 seconds; add_model waits no longer than three times that."""
    add_model(counted, stack, "added-later")
    counted.admin(1).post(
        "/chat/completions", model="added-later", messages=[{"role": "user", "content": "Hello"}], max_tokens=5
    )


def test_answers_are_never_cached(stack: harness.Stack, counted: proxies.Deployment) -> None:
    key = limited_key(counted, 100)
    before = upstream_calls(stack)
    urls = [replica.url for replica in counted.replicas]
    statuses = [call(url, key, "The same question") for url in (urls[0], urls[0], urls[1], urls[1])]
    assert statuses == [200] * 4
    assert upstream_calls(stack) - before == 4


@pytest.mark.parametrize("cut", ["refuse", "swallow"])
def test_calls_go_on_without_redis(counted: proxies.Deployment, gate: proxies.Gate, cut: str) -> None:
    """And limits still hold, by each replica's own count."""
    key = limited_key(counted, 1000)
    assert call(counted.replicas[0].url, key) == 200
    getattr(gate, cut)()
    urls = [replica.url for replica in counted.replicas]
    assert [call(url, key) for url in urls * 4] == [200] * 8
    # A key that no replica has seen, made meanwhile.
    assert [call(url, limited_key(counted, 1000)) for url in urls] == [200] * 2
    assert passed(counted, 3, 6) == 6
    assert all(requests.get(f"{url}/health/readiness", timeout=PATIENCE).status_code == 200 for url in urls)


def test_limits_are_shared_again_when_redis_is_back(counted: proxies.Deployment, gate: proxies.Gate) -> None:
    gate.refuse()
    key = limited_key(counted, 1000)
    assert call(counted.replicas[0].url, key) == 200
    gate.restore()
    deadline = time.monotonic() + 120  # newer versions leave a Redis that failed alone for a minute
    while passed(counted, 5, 7) != 5:
        assert time.monotonic() < deadline, "the replicas still count alone"


def test_old_spend_logs_are_deleted(counted: proxies.Deployment) -> None:
    """The clean-up runs at the interval that was given, plus up to a minute that LiteLLM adds."""
    insert = (
        'INSERT INTO "LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, "startTime", "endTime")'
        " VALUES (%s, 'acompletion', 'k', 0, now() - %s * interval '1 day', now() - %s * interval '1 day')"
    )
    connection = harness.connect(counted.dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name, age in (("old", 8), ("young", 6)):
            cursor.execute(insert, (name, age, age))
        deadline = time.monotonic() + 180
        while True:
            cursor.execute("SELECT request_id FROM \"LiteLLM_SpendLogs\" WHERE request_id IN ('old', 'young')")
            left = {row[0] for row in cursor.fetchall()}
            if left == {"young"}:
                break
            assert time.monotonic() < deadline, f"rows of spend logs that are left: {left}"
            time.sleep(1)
    connection.close()


def test_the_password_is_nowhere(redis_url: urllib.parse.SplitResult, counted: proxies.Deployment) -> None:
    password = redis_url.password
    assert password, "the stack's Redis has no password"
    assert password not in counted.replicas[0].config
    assert password not in counted.log()


def test_redis_without_password_and_with_tls() -> None:
    settings = yaml.safe_load(
        proxies.render(
            {
                "litellm_config_redis_host": "redis.example.com",
                "litellm_config_redis_auth": False,
                "litellm_config_redis_ssl": True,
                "litellm_config_extra": {"general_settings": {"alerting": ["slack"]}},
            }
        )
    )
    cache = settings["litellm_settings"]["cache_params"]
    assert "password" not in cache
    assert cache["ssl"] is True
    assert settings["router_settings"]["cache_kwargs"]["ssl"] is True
    assert settings["general_settings"]["alerting"] == ["slack"]
    assert settings["general_settings"]["store_model_in_db"] is True


def test_the_pool_limit_reaches_the_database(counted: proxies.Deployment) -> None:
    """Each replica keeps to its limit, however many calls come at once."""
    keys = [limited_key(counted, 100) for _number in range(4)]
    connection = harness.connect(counted.dsn)
    connection.autocommit = True
    limit = yaml.safe_load(counted.replicas[0].config)["general_settings"]["database_connection_pool_limit"]
    with ThreadPoolExecutor(40) as pool, connection.cursor() as cursor:
        calls = [pool.submit(call, counted.replicas[0].url, keys[number % 4]) for number in range(80)]
        seen = 0
        while not all(one.done() for one in calls):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            seen = max(seen, cursor.fetchone()[0])
    connection.close()
    assert 0 < seen <= limit * len(counted.replicas)


@pytest.mark.parametrize(("name", "read"), [("LITELLM_LICENSE", True), ("LITELLM_LICENSE_KEY", False)])
def test_the_licence_comes_from_this_variable(stack: harness.Stack, name: str, read: bool) -> None:
    code = "from litellm.proxy.auth.litellm_license import LicenseCheck; print(LicenseCheck().license_str)"
    python = proxies.installed(stack.variables["LITELLM_VERSION"]).python
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", name: "a-licence", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=env, timeout=120)
    assert (done.stdout.split()[-1] == "a-licence") == read
