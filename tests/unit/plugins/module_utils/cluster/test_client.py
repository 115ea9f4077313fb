# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which cluster is meant, by options and by the environment."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import (
    API_KEY,
    HOST,
    KUBECONFIG,
    Cluster,
    ClusterError,
    leave,
)

FILE = {KUBECONFIG: "~/config"}
SERVER = {HOST: "https://env", API_KEY: "env-key"}


@pytest.mark.parametrize(
    ("given", "environment", "kubeconfig", "host"),
    [
        ({}, {}, None, None),
        ({}, FILE, "/home/me/config", None),
        ({}, SERVER, None, "https://env"),
        ({}, {**FILE, **SERVER}, "/home/me/config", "https://env"),
        ({"host": "https://own", "api_key": "k"}, FILE, None, "https://own"),
        ({"host": "https://own", "api_key": "k"}, {**FILE, **SERVER}, None, "https://own"),
        ({"host": "https://own"}, SERVER, None, "https://own"),
        ({"api_key": "k"}, {**FILE, **SERVER}, None, "https://env"),
        ({"api_key": "k"}, FILE, "/home/me/config", None),
        ({"kubeconfig": "/own"}, {**FILE, **SERVER}, "/own", "https://env"),
        ({"kubeconfig": "/own", "host": "https://own"}, FILE, "/own", "https://own"),
    ],
)
def test_what_is_given_wins_over_the_environment(
    given: dict[str, str],
    environment: dict[str, str],
    kubeconfig: str | None,
    host: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (KUBECONFIG, HOST, API_KEY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # As Ansible fills it in.
    options: dict[str, Any] = {"kubeconfig": None, "host": None, "api_key": environment.get(API_KEY), **given}
    found = Cluster.from_params(options)
    assert (found.kubeconfig, found.host) == (kubeconfig, host)


@pytest.mark.parametrize("left", [(), ("litellm",)])
def test_a_failure_says_whether_anything_stays_changed(left: tuple[str, ...]) -> None:
    said: dict[str, Any] = {}

    def work() -> dict[str, Any]:
        failure = ClusterError("Roll out", "not ready")
        failure.changes = left
        raise failure

    class Left(Exception):
        """The module's end."""

    class Module:
        def fail_json(self, **result: Any) -> None:
            said.update(result)
            raise Left

    with pytest.raises(Left):
        leave(Module(), work)
    assert said == {"msg": "Roll out: not ready", "changed": bool(left)}
