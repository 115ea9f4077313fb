# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures that every other integration test relies on do what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness

PLAYBOOK = """
- name: Something to run
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Show where the proxy is
      ansible.builtin.debug:
        msg: "{{ lookup('env', 'LITELLM_URL') }} {{ word }}"
    - name: Change something
      ansible.builtin.command: "true"
      check_mode: false
      changed_when: true
"""


def test_databases_hold_their_tables(db: Any, litellm_db: Any) -> None:
    for connection, table in ((db, "models"), (litellm_db, '"LiteLLM_VerificationToken"')):
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", (table,))
            assert cursor.fetchone()[0] is not None


def test_proxy_lists_what_was_made_and_prefix_removes_it(
    request: pytest.FixtureRequest, stack: harness.Stack, litellm: harness.LiteLLM
) -> None:
    prefix = request.getfixturevalue("prefix")
    model = f"{prefix}model"
    params = {"model": "openai/mini", "api_base": f"{stack.upstream_url}/v1", "api_key": "unused"}
    litellm.post("/model/new", model_name=model, litellm_params=params)
    for number in range(101):  # one more than a page holds
        litellm.post("/key/generate", key_alias=f"{prefix}{number}", models=[model])
    assert [entry["model_name"] for entry in litellm.models(prefix)] == [model]
    assert len(litellm.keys(prefix)) == 101
    litellm.remove(prefix)
    assert (litellm.models(prefix), litellm.keys(prefix)) == ([], [])


def test_playbook_reports_recap_and_output(
    run_playbook: Callable[..., harness.PlaybookResult], stack: harness.Stack
) -> None:
    done = run_playbook(PLAYBOOK, {"word": 'it\'s "quoted"'}, verbosity=1)
    assert done.rc == 0, done.output
    assert stack.url in done.stdout
    assert done.changed == 1
    assert done.stats["localhost"]["ok"] == 2


def test_playbook_that_fails_says_so(run_playbook: Callable[..., harness.PlaybookResult]) -> None:
    done = run_playbook(PLAYBOOK)  # without the word
    assert done.rc == 2
    assert done.stats["localhost"]["failed"] == 1


def test_module_reads_the_environment(run_module: Callable[..., harness.ModuleResult], prefix: str) -> None:
    result = run_module("litellm_model_info", {"model_name": f"{prefix}none"})
    assert not result.failed, result
    assert not result.changed


def test_module_that_fails_says_so(run_module: Callable[..., harness.ModuleResult]) -> None:
    assert run_module("litellm_model_info", {"no_such_option": 1}).failed


def test_no_stack_is_an_error_that_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("STACK_DIR", str(tmp_path))
    with pytest.raises(harness.NoStackError, match="make stack-up"):
        harness.Stack.running()
