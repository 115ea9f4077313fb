# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests. They need the stack (``make stack-up``) and fail without it: nothing is skipped.

A test makes everything under its ``prefix``, runs modules with ``run_module`` and playbooks with ``run_playbook``, and
asserts against the servers with ``litellm``, ``db`` and ``litellm_db``, never with the code under test.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import cluster, harness, kube, labs


@pytest.fixture(scope="session")
def stack() -> harness.Stack:
    """The running stack: addresses, secrets, version."""
    try:
        return harness.Stack.running()
    except harness.NoStackError as error:
        pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="session")
def litellm(stack: harness.Stack) -> harness.LiteLLM:
    """The proxy as its admin sees it."""
    return harness.LiteLLM(stack.url, stack.master_key, stack.litellm_dsn)


@pytest.fixture
def db(stack: harness.Stack) -> Iterator[Any]:
    """A connection to LiteMaaS's database."""
    connection = harness.connect(stack.litemaas_dsn)
    yield connection
    connection.close()


@pytest.fixture
def litellm_db(stack: harness.Stack) -> Iterator[Any]:
    """A connection to LiteLLM's database."""
    connection = harness.connect(stack.litellm_dsn)
    yield connection
    connection.close()


@pytest.fixture
def prefix(stack: harness.Stack, litellm: harness.LiteLLM) -> Iterator[str]:
    """A start for every name a test makes; keys, deployments and catalogue rows under it are removed afterwards."""
    name = f"t{secrets.token_hex(4)}-"
    yield name
    litellm.remove(name)
    for dsn in (stack.litemaas_dsn, stack.litellm_dsn):
        harness.remove_catalogue_rows(dsn, name)


@pytest.fixture
def runner(stack: harness.Stack, tmp_path: Path) -> harness.Runner:
    """Runs modules and playbooks in a folder of the test's own."""
    return harness.Runner(stack, tmp_path)


@pytest.fixture
def run_module(runner: harness.Runner) -> Callable[..., harness.ModuleResult]:
    """``run_module(name, args, check=False, diff=False, env=None)``; connection options come from the environment."""
    return runner.module


@pytest.fixture
def run_playbook(runner: harness.Runner) -> Callable[..., harness.PlaybookResult]:
    """``run_playbook(text_path_or_name, extra_vars, check=False, diff=False, verbosity=0, env=None)``."""
    return runner.playbook


@pytest.fixture(scope="session")
def lab_model(litellm: harness.LiteLLM, stack: harness.Stack) -> Iterator[str]:
    """A model for all labs.

    A replica that was just loading models from the database drops one that is made meanwhile, and has it again 30
    seconds later: so it is made once, and used when it has been there for a while.
    """
    name = f"t{secrets.token_hex(4)}-chat"
    params = {"model": "openai/demo-chat", "api_base": f"{stack.upstream_url}/v1", "api_key": "sk-placeholder"}
    litellm.post("/model/new", model_name=name, litellm_params=params, model_info={})
    seen, deadline = 0, time.monotonic() + 60
    while seen < 4 and time.monotonic() < deadline:
        time.sleep(0.5)
        seen = seen + 1 if name in {model["id"] for model in litellm.get("/v1/models")["data"]} else 0
    yield name
    litellm.remove(name)


@pytest.fixture
def lab(runner: harness.Runner, litellm: harness.LiteLLM, prefix: str, lab_model: str) -> Iterator[labs.Lab]:
    """A lab whose guid nobody else has."""
    found = labs.Lab(runner, litellm, prefix.strip("-"), [lab_model])
    yield found
    litellm.remove(f"virtkey-{found.guid}")


@pytest.fixture
def place(stack: harness.Stack) -> Iterator[kube.Namespace]:
    """A namespace where nothing is yet, gone afterwards."""
    with kube.Kube(stack).namespace() as found:
        yield found


@pytest.fixture
def namespace(stack: harness.Stack, prefix: str) -> Iterator[cluster.Namespace]:
    """A namespace of the stack's cluster, empty."""
    with cluster.Namespace(stack, f"{prefix}litemaas") as made:
        yield made
