# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks auto_sync and credentials against the stack's cluster: a real API server, and its rollouts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import keep
from ansible_collections.rhpds.litemaas.tests.integration import harness, kube

SWITCH = "rhpds.litemaas.auto_sync"
CREDENTIALS = "rhpds.litemaas.credentials"
VERTEX = "rhpds.litemaas.vertex_ai"


@pytest.fixture
def env(stack: harness.Stack) -> dict[str, str]:
    return {"K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"]}


def test_auto_sync_is_shown_and_switched_and_a_deploy_keeps_it(
    place: kube.Namespace, run_playbook: Any, env: dict[str, str]
) -> None:
    variables = {"namespace": place.name}
    nothing = run_playbook(SWITCH, variables, env=env)
    assert nothing.rc == 2
    assert "There is no Deployment litellm-backend" in nothing.output
    declared = kube.workload(
        "litellm-backend", container="backend", env=[{"name": "LITELLM_AUTO_SYNC", "value": "false"}]
    )
    declared |= {"apiVersion": "apps/v1", "kind": "Deployment"}
    declared["metadata"]["name"] = "litellm-backend"
    applied = keep.keep([declared], {})["definitions"][0]
    place.apply("Deployment", "litellm-backend", applied)

    def live() -> tuple[str, int]:
        found = place.get("Deployment", "litellm-backend")
        (variable,) = found["spec"]["template"]["spec"]["containers"][0]["env"]
        return variable["value"], found["metadata"]["generation"]

    before = live()
    checked = run_playbook(SWITCH, {**variables, "auto_sync": "on"}, env=env, check=True)
    assert (checked.rc, checked.changed, live()) == (0, 1, before), checked.output
    assert f"Auto-sync in {place.name} is off, and would be switched on. Mind" in checked.output
    done = run_playbook(SWITCH, {**variables, "auto_sync": "on"}, env=env)
    assert (done.rc, done.changed, live()[0]) == (0, 1, "true"), done.output
    assert f"Auto-sync in {place.name} is on, and was off before (litellm-backend 1/1 ready" in done.output
    assert "Mind what comes with it" in done.output
    assert place.get("Deployment", "litellm-backend")["status"]["readyReplicas"] == 1
    before = live()
    assert (run_playbook(SWITCH, {**variables, "auto_sync": True}, env=env).changed, live()) == (0, before)
    # The next deploy: what it declares still says false.
    again = keep.keep([declared], {"Deployment/litellm-backend": place.get("Deployment", "litellm-backend")})
    place.apply("Deployment", "litellm-backend", again["definitions"][0])
    assert live() == before


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[tuple[str, str]]]:
    """What happens to the files of a folder, as Linux tells it: their modes, and what is moved to their names."""
    kinds = {0x4: "mode", 0x80: "moved to"}
    system = ctypes.CDLL(None, use_errno=True)
    inotify = system.inotify_init1(os.O_NONBLOCK)
    assert inotify >= 0 and system.inotify_add_watch(inotify, bytes(folder), sum(kinds)) >= 0
    events: list[tuple[str, str]] = []
    try:
        yield events
        told = os.read(inotify, 1 << 16)
        while told:
            _watch, kind, _cookie, length = struct.unpack_from("iIII", told)
            events.append((kinds.get(kind, ""), told[16 : 16 + length].rstrip(b"\0").decode()))
            told = told[16 + length :]
    finally:
        os.close(inotify)


def test_credentials_go_where_they_are_asked_for(
    place: kube.Namespace, run_playbook: Any, env: dict[str, str], tmp_path: Path, stack: harness.Stack
) -> None:
    values = {
        "LITELLM_MASTER_KEY": "sk-master-of-this-test",
        "ADMIN_API_KEY": "ltm_admin_of'this test",
        "JWT_SECRET": "jwt-of-this-test",
        "UI_PASSWORD": "ui-of-this-test",
    }
    place.secret("litellm-secret", **{name: values[name] for name in ("LITELLM_MASTER_KEY", "UI_PASSWORD")})
    place.secret("backend-secret", **{name: values[name] for name in ("ADMIN_API_KEY", "JWT_SECRET")})
    variables: dict[str, Any] = {"namespace": place.name}

    def leaks(done: harness.PlaybookResult) -> set[str]:
        plain = {name for name, value in values.items() if value in done.output}
        encoded = {
            name for name, value in place.get("Secret", "litellm-secret")["data"].items() if value in done.output
        }
        return plain | encoded

    shown = run_playbook(CREDENTIALS, variables, env=env, verbosity=3)
    assert (shown.rc, shown.changed, leaks(shown)) == (0, 0, set()), shown.output
    assert "LITELLM_MASTER_KEY in Secret litellm-secret, ADMIN_API_KEY in Secret backend-secret" in shown.output
    path = tmp_path / "litemaas.env"
    # From where the command is typed, not from where the playbook lies.
    variables |= {"credentials_file": path.name}
    env |= {"PWD": str(tmp_path)}
    foreseen = run_playbook(CREDENTIALS, variables, env=env, check=True)
    assert (foreseen.rc, foreseen.changed) == (0, 1), foreseen.output
    assert f"Would be written to {path}" in foreseen.output and not path.exists()
    with watched(tmp_path) as events:
        done = run_playbook(CREDENTIALS, variables, env=env, verbosity=3, diff=True)
    assert (done.rc, done.changed, leaks(done)) == (0, 1, set()), done.output
    # What has its name with something in it was 0600 before: nothing is changed afterwards.
    seen = [kind for kind, name in events if name == path.name]
    assert seen[-1] == "moved to" and "mode" in seen, events
    assert f"In {path}" in done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == (
        "LITELLM_MASTER_KEY=sk-master-of-this-test\n"
        "LITEMAAS_ADMIN_KEY='ltm_admin_of'\"'\"'this test'\n"
        "JWT_SECRET=jwt-of-this-test\n"
    )
    assert run_playbook(CREDENTIALS, variables, env=env).changed == 0
    told = run_playbook(CREDENTIALS, {"namespace": place.name, "show": True, "credentials": "ui, jwt_secret"}, env=env)
    assert leaks(told) == {"JWT_SECRET", "UI_PASSWORD"}
    assert "not there: UI_USERNAME in Secret litellm-secret" in told.output
    nowhere = run_playbook(CREDENTIALS, {**variables, "credentials_file": "/nowhere/at/all"}, env=env, verbosity=3)
    assert (nowhere.rc, leaks(nowhere)) == (2, set())
    assert "/nowhere/at/all can't be written" in nowhere.output


@pytest.fixture
def limited(
    place: kube.Namespace, env: dict[str, str], stack: harness.Stack, tmp_path: Path
) -> Callable[..., dict[str, str]]:
    """The environment of an account with these rights."""

    def made(*rules: dict[str, Any]) -> dict[str, str]:
        config = Path(stack.variables["KUBECONFIG"]).read_text(encoding="utf-8")
        path = tmp_path / "kubeconfig"
        path.write_text(re.sub(r"token: .*", f"token: {place.account(*rules)}", config), encoding="utf-8")
        return {**env, "K8S_AUTH_KUBECONFIG": str(path)}

    return made


@pytest.mark.parametrize(
    ("playbook", "variables", "lacking"),
    [
        (CREDENTIALS, {}, [f"get on secrets {name}" for name in ("litellm-secret", "backend-secret", "litemaas-db")]),
        (SWITCH, {"auto_sync": "on"}, ["patch on deployments.apps litellm-backend", "list on pods"]),
        (VERTEX, {}, ["create on secrets litemaas-automation-key"]),
    ],
)
def test_rights_that_lack_are_named(
    place: kube.Namespace,
    run_playbook: Any,
    limited: Callable[..., dict[str, str]],
    playbook: str,
    variables: dict[str, Any],
    lacking: list[str],
) -> None:
    some = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"], "resourceNames": ["litellm-backend"]}
    done = run_playbook(playbook, {"namespace": place.name, **variables}, env=limited(some), verbosity=3)
    assert (done.rc, done.changed) == (2, 0)
    assert not [one for one in lacking if f"{one} in {place.name}" not in done.output], done.output
    assert "get on deployments.apps" not in done.output
    assert "Traceback" not in done.output and "HTTP response" not in done.output, done.output


def test_access_is_what_the_server_says(
    place: kube.Namespace,
    runner: harness.Runner,
    run_playbook: Any,
    env: dict[str, str],
    limited: Callable[..., dict[str, str]],
) -> None:
    """Rights to one object, a namespace that isn't there, and one that the account may not see."""
    account = limited({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["ours"]})

    def check(env: dict[str, str], namespace: str, *names: str) -> harness.ModuleResult:
        needs = [{"verbs": ["get"], "resource": "secrets", "names": list(names)}]
        return runner.module("k8s_access_check", {"namespace": namespace, "needs": needs}, env=env)

    allowed = check(account, place.name, "ours")
    assert not allowed.failed and not allowed.changed
    lacking = check(account, place.name, "ours", "theirs")
    assert lacking.failed and lacking["missing_rights"] == [f"get on secrets theirs in {place.name}"]
    assert check(account, place.name)["missing_rights"] == [f"get on secrets in {place.name}"]
    assert "Nor may it see whether there is a namespace nowhere" in check(account, "nowhere", "ours")["msg"]
    assert "There is no namespace nowhere: check namespace" in check(env, "nowhere", "ours")["msg"]
    unreachable = check({"K8S_AUTH_HOST": "https://127.0.0.1:9", "K8S_AUTH_API_KEY": "sk-of-nobody"}, place.name)
    assert unreachable.failed and "Check the API server's address" in unreachable["msg"]
    nowhere = run_playbook(CREDENTIALS, {"namespace": "nowhere"}, env=env)
    assert nowhere.rc == 2
    assert "There is no namespace nowhere" in nowhere.output
