# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of the backend a new master key goes to, and what becomes of its test keys of models."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import rotation
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import model_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError

OLD, NEW = "sk-old-master-key-of-a-test", "sk-new-master-key-of-a-test"
SECRETS = {
    "litellm-secret": {"LITELLM_MASTER_KEY": NEW, "LITELLM_MASTER_KEY_PREVIOUS": OLD},
    "copy": {"KEY": OLD, "LITELLM_API_KEY": OLD},
    "written": {"KEY": NEW},
    "own": {"KEY": "sk-key-of-its-own", "LITELLM_API_KEY": "sk-key-of-its-own"},
}
ITS_OWN = {"name": "LITELLM_API_KEY", "value": "sk-key-of-its-own"}


class Secrets:
    """An API server with nothing but Secrets."""

    def find(self, path: str, _rights: str) -> dict[str, Any] | None:
        values = SECRETS.get(path.rpartition("/")[2])
        data = {key: base64.b64encode(value.encode()).decode() for key, value in (values or {}).items()}
        return None if values is None else {"metadata": {"resourceVersion": "1"}, "data": data}


def run_of(place: Any = None, *, resumed: bool = False) -> rotation.MasterKey:
    operator = SimpleNamespace(client=Secrets(), namespace="n")
    run = rotation.MasterKey(operator, place, lambda _key: None)  # type: ignore[arg-type, return-value]
    run.result.resumed = resumed
    return run


def of(secret: str, key: str = "KEY", name: str = "LITELLM_API_KEY") -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def judged(run: rotation.MasterKey, **container: Any) -> tuple[list[tuple[str, str, str]], bool]:
    """The variables that become the new key, and whether test keys were encrypted with it."""
    pod = {"containers": [{"name": "backend", **container}]}
    there = {"backend": {"metadata": {"name": "litellm-backend"}, "spec": {"template": {"spec": pod}}}}
    known = run._variables(there, OLD, NEW)
    return [(one.name, one.secret, one.key) for one in known if one.value == OLD], run._encrypts(there, known, OLD)


MASTER = ("LITELLM_MASTER_KEY", "litellm-secret", "LITELLM_MASTER_KEY")
COPY = ("LITELLM_API_KEY", "copy", "KEY")


@pytest.mark.parametrize(
    ("env", "found", "encrypts"),
    [
        ([of("litellm-secret", "LITELLM_MASTER_KEY")], [("LITELLM_API_KEY", *MASTER[1:])], True),
        ([of("litellm-secret", *MASTER[:1], name="LITELLM_MASTER_KEY"), ITS_OWN], [MASTER], True),
        ([of("copy")], [COPY], True),
        ([of("copy"), {"name": "LITELLM_MASTER_KEY", "value": ""}], [COPY], True),
        ([of("copy"), of("absent", name="LITELLM_MASTER_KEY")], [COPY], True),
        ([{"name": "LITELLM_MASTER_KEY", "value": OLD}, of("own")], [("LITELLM_MASTER_KEY", "", "")], True),
        # The first of both that isn't empty is what it encrypts with.
        ([of("copy"), {"name": "LITELLM_MASTER_KEY", "value": "sk-another"}], [COPY], False),
        ([of("copy"), of("own", name="LITELLM_MASTER_KEY")], [COPY], False),
        ([ITS_OWN], [], False),
        ([], [], False),
    ],
)
def test_the_backends_variables_are_told_apart(env: list[Any], found: list[Any], encrypts: bool) -> None:
    assert judged(run_of(), env=env) == (found, encrypts)


def test_of_several_secrets_the_last_one_that_has_the_variable_is_meant() -> None:
    from_all = [{"secretRef": {"name": name}} for name in ("own", "copy", "written", "absent")]
    assert judged(run_of(), envFrom=from_all) == ([("LITELLM_API_KEY", "copy", "LITELLM_API_KEY")], True)
    assert judged(run_of(), envFrom=from_all[:1]) == ([], False)


def test_what_an_interrupted_rotation_has_written_is_known_again() -> None:
    assert judged(run_of(), env=[of("written")]) == ([], False)
    assert judged(run_of(resumed=True), env=[of("written")]) == ([("LITELLM_API_KEY", "written", "KEY")], True)


def test_what_is_left_as_it_is_is_said_and_not_shown() -> None:
    run = run_of()
    judged(run, env=[of("own"), {"name": "LITELLM_MASTER_KEY", "value": OLD}])
    assert run.result.notes == ["the backend's LITELLM_API_KEY is not the master key: it was left as it is"]


def test_a_previous_key_that_no_rotation_has_left_never_becomes_the_salt_key() -> None:
    container = {"name": "litellm", "env": [of("litellm-secret", "LITELLM_SALT_KEY", "LITELLM_SALT_KEY")]}
    for env in (container["env"], []):
        with pytest.raises(ClusterError, match=r"no LITELLM_SALT_KEY, which a rotation writes first\. .* Nothing was"):
            run_of(resumed=True)._salt({**container, "env": env}, {}, OLD)
    assert run_of(resumed=True)._salt(container, {"LITELLM_SALT_KEY": "sk-salt"}, OLD) == ("", None)
    assert run_of()._salt(container, {}, OLD) == (OLD, None)


def test_without_a_backend_its_keys_are_meant_for_the_one_that_a_deploy_would_make() -> None:
    run = run_of()
    assert run._variables({}, OLD, NEW) == [] and run._encrypts({}, [], OLD)


class Place:
    """A namespace whose database fails."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def connect(self, _which: str, _timeout: int) -> Any:
        raise self.failure


AWAY = DatabaseError("Connect to litemaas_dsn", "nobody listens", "Check that PostgreSQL runs")
NO_LIBRARY = model_keys.LibraryMissing("Encrypt", "Failed to import cryptography")


def test_a_database_that_is_away_ends_it_before_anything_is_changed() -> None:
    with pytest.raises(ClusterError) as failure:
        run_of(Place(AWAY))._encrypt_anew(OLD, NEW, rehearse=True)
    assert "still has the old master key. Check that PostgreSQL runs. A rotation that can't wait" in str(failure.value)
    assert "verify=false. Put it right and run again" in str(failure.value)


def test_it_can_be_rotated_all_the_same_and_is_said() -> None:
    run = run_of(Place(AWAY))
    assert not run._encrypt_anew(OLD, NEW, rehearse=True, needed=False)
    (note,) = run.result.notes
    assert "are not encrypted anew (enter them again" in note and "nobody listens" in note
    # Not where it was there before: the next run may do it.
    with pytest.raises(ClusterError, match="nobody listens"):
        run._encrypt_anew(OLD, NEW)


@pytest.mark.parametrize("needed", [True, False])
def test_a_library_that_is_missing_ends_it_in_any_case(needed: bool) -> None:
    with pytest.raises(ClusterError) as failure:
        run_of(Place(NO_LIBRARY))._encrypt_anew(OLD, NEW, rehearse=True, needed=needed)
    assert "import cryptography. Secret litellm-secret still has" in str(failure.value)
    assert "verify=false" not in str(failure.value)


def test_what_was_done_is_said_in_the_line() -> None:
    done = rotation.Result(changed=True, restarted=["litellm"], model_keys=2, notes=["n"])
    assert rotation.described("master_key", done, True).endswith(
        "rolled out; 2 test keys of models would be encrypted anew; n"
    )
    done.model_keys = 1
    assert rotation.described("master_key", done, False) == (
        "master key rotated: litellm rolled out; 1 test key of models encrypted anew; n"
    )
