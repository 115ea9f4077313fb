# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook vertex_ai: a real API server's Deployment, a real LiteLLM and LiteMaaS's database."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.tests.integration import harness
from ansible_collections.rhpds.litemaas.tests.integration.vertexlab import AI, CLAUDE, Lab, opened
from ansible_collections.rhpds.litemaas.tests.unit.plugins.module_utils.google import key_file

PLAYBOOK = "rhpds.litemaas.vertex_ai"
NAMES = (
    "claude-3-5-haiku claude-opus-4-6 claude-sonnet-4-5 claude-sonnet-4-6 gemini-2.5-pro gpt-oss-120b gpt-oss-20b"
    " minimax-m2 qwen3-235b"
).split()
VARIABLE = "ocp4_workload_litemaas_vertex_"


@pytest.fixture
def lab(
    runner: harness.Runner, prefix: str, tmp_path: Path, stack: harness.Stack, litellm: harness.LiteLLM
) -> Iterator[Lab]:
    def clean() -> None:
        for name in NAMES:
            litellm.remove(name)
            for dsn in (stack.litemaas_dsn, stack.litellm_dsn):
                harness.remove_catalogue_rows(dsn, name)

    clean()
    with opened(runner, prefix, tmp_path) as found:
        yield found
    clean()


@pytest.fixture
def variables(lab: Lab, prefix: str) -> dict[str, Any]:
    return {
        "namespace": lab.namespace,
        f"{VARIABLE}open_key_file": lab.file("open.json", key_file("rhdp-infra")),
        f"{VARIABLE}claude_key": key_file("itpc-gcp-product-all-claude"),
        f"{VARIABLE}probe": "skip",
        f"{VARIABLE}wait_timeout": 60,
        f"{VARIABLE}automation_key": f"{prefix}automation",
    }


def run(lab: Lab, variables: dict[str, Any], **how: Any) -> harness.PlaybookResult:
    return lab.runner.playbook(PLAYBOOK, variables, env=lab.environment, **how)


def test_everything_comes_stays_and_goes(
    lab: Lab, variables: dict[str, Any], litellm: harness.LiteLLM, db: Any, prefix: str
) -> None:
    foreseen = run(lab, variables, check=True)
    assert foreseen.rc == 0, foreseen.output
    assert foreseen.changed > 0
    assert lab.mounts() == {} and not [one for one in litellm.models() if one["model_name"] in NAMES]

    made = run(lab, variables, diff=True, verbosity=3)
    assert made.rc == 0, made.output
    lab.assert_hidden(made.output)
    assert lab.mounts() == {str(Path(AI).parent): "vertex-ai-sa-key", str(Path(CLAUDE).parent): "vertex-claude-sa-key"}
    shown = {one["model_name"]: one for one in litellm.models() if one["model_name"] in NAMES}
    assert sorted(shown) == NAMES
    opus = shown["claude-opus-4-6"]
    assert opus["litellm_params"]["model"] == "vertex_ai/claude-opus-4-6-v1"
    assert opus["litellm_params"]["vertex_project"] == "itpc-gcp-product-all-claude"
    assert opus["litellm_params"]["vertex_location"] == "us-east5"
    assert opus["litellm_params"]["input_cost_per_token"] == pytest.approx(5e-06, rel=1e-9)
    assert opus["model_info"]["scope"] == "vertex"
    with db.cursor() as cursor:
        cursor.execute("SELECT id, category, description FROM models WHERE id = ANY(%s) ORDER BY id", (NAMES,))
        rows = cursor.fetchall()
    assert [row[0] for row in rows] == NAMES
    assert ("minimax-m2", "chat", "Chat, Agentic: Multi-step tool use, coding, office workflows") in rows

    key = litellm.keys(f"{prefix}automation")[0]
    assert (key["tpm_limit"], key["rpm_limit"], key["expires"]) == (400000, 500, None)
    assert key["metadata"]["automation"] is True
    value = lab.secret("litemaas-automation-key")["key"]
    assert lab.secret("litemaas-automation-key")["key_alias"] == f"{prefix}automation"
    assert litellm.request("GET", "/v1/models", key=value)[0] == 200
    assert value not in made.output
    assert base64.b64encode(value.encode()).decode() not in made.output

    again = run(lab, variables)
    assert (again.rc, again.changed) == (0, 0), again.output
    assert litellm.keys(f"{prefix}automation")[0]["token"] == key["token"]

    gone = run(lab, {**variables, "ACTION": "destroy"})
    assert gone.rc == 0, gone.output
    assert lab.mounts() == {}
    assert not [one for one in litellm.models() if one["model_name"] in NAMES]
    for name in ("vertex-ai-sa-key", "vertex-claude-sa-key"):
        assert lab.rest.find(lab.path("secrets", name)) is None
    assert litellm.keys(f"{prefix}automation")
    twice = run(lab, {**variables, "ACTION": "destroy", f"{VARIABLE}remove_automation_key": True})
    assert twice.rc == 0, twice.output
    assert not litellm.keys(f"{prefix}automation")
    assert lab.rest.find(lab.path("secrets", "litemaas-automation-key")) is None


def test_a_key_that_others_made_gets_the_limits_and_keeps_its_value(
    lab: Lab, variables: dict[str, Any], litellm: harness.LiteLLM, prefix: str
) -> None:
    alias = f"{prefix}automation"
    made = litellm.post("/key/generate", key_alias=alias, max_budget=100)
    settings = {**variables, f"{VARIABLE}models": ["gpt-oss-20b"]}
    done = run(lab, settings)
    assert done.rc == 0, done.output
    key = litellm.keys(alias)[0]
    assert (key["tpm_limit"], key["rpm_limit"], key["max_budget"]) == (400000, 500, 100)
    assert litellm.request("GET", "/v1/models", key=made["key"])[0] == 200
    assert lab.rest.find(lab.path("secrets", "litemaas-automation-key")) is None
    # The other account's key wasn't asked for, as none of the models needs it.
    assert lab.mounts() == {str(Path(AI).parent): "vertex-ai-sa-key"}


def test_regions_are_those_that_are_asked_for(lab: Lab, variables: dict[str, Any], litellm: harness.LiteLLM) -> None:
    settings = {
        **variables,
        f"{VARIABLE}location": "global",
        f"{VARIABLE}locations": {"gpt-oss-20b": "us-south1"},
        f"{VARIABLE}models": ["gpt-oss-20b", "gpt-oss-120b", "gemini-2.5-pro"],
        f"{VARIABLE}fallback": "claude",
    }
    done = run(lab, settings)
    assert done.rc == 0, done.output
    shown = {
        one["model_name"]: one["litellm_params"]["vertex_location"]
        for one in litellm.models()
        if one["model_name"] in NAMES
    }
    assert shown == {"gpt-oss-20b": "us-south1", "gpt-oss-120b": "global", "gemini-2.5-pro": "global"}
    env = {"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": CLAUDE}
    assert lab.template()["spec"]["containers"][0]["env"] == [env]


def test_a_model_of_another_project_is_refused_and_one_of_others_is_named(
    lab: Lab, variables: dict[str, Any], litellm: harness.LiteLLM, prefix: str
) -> None:
    stranger = {"model": "vertex_ai/openai/gpt-oss-20b", "vertex_project": "elsewhere", "vertex_credentials": CLAUDE}
    litellm.post("/model/new", model_name=f"{prefix}stranger", litellm_params=stranger, model_info={})
    settings = {
        **variables,
        f"{VARIABLE}models": ["gpt-oss-20b"],
        f"{VARIABLE}overrides": {"gpt-oss-20b": {"vertex_project": "itpc-gcp-product-all-claude"}},
    }
    refused = run(lab, settings)
    assert refused.rc != 0
    assert "vertex_project is itpc-gcp-product-all-claude, but the credentials at" in refused.output
    assert "are of project rhdp-infra" in refused.output
    assert "Nothing was written" in refused.output and lab.mounts() == {}
    assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None
    assert not [one for one in litellm.models() if one["model_name"] in NAMES]

    warned = run(lab, {**settings, f"{VARIABLE}project_mismatch": "warn"})
    assert warned.rc == 0, warned.output
    assert "[WARNING]" in warned.output and "vertex_project is itpc-gcp-product-all-claude" in warned.output
    assert f"look at {prefix}stranger" in warned.output
    assert "no key of that project is mounted" in warned.output
    assert "doesn't end in -maas" in warned.output


def test_a_key_that_a_model_still_uses_stays(
    lab: Lab, variables: dict[str, Any], litellm: harness.LiteLLM, prefix: str
) -> None:
    settings = {**variables, f"{VARIABLE}models": ["gpt-oss-20b", "claude-3-5-haiku"]}
    assert run(lab, settings).rc == 0
    other = {"model": "vertex_ai/gemini-2.5-flash", "vertex_project": "itpc-gcp-product-all-claude"}
    litellm.post("/model/new", model_name=f"{prefix}flash", litellm_params=other, model_info={})
    # Somebody's own deployment under a name that goes.
    same = {"model": "vertex_ai/openai/gpt-oss-20b-maas", "vertex_project": "rhdp-infra"}
    litellm.post("/model/new", model_name="gpt-oss-20b", litellm_params=same, model_info={})
    before = sorted(one["model_name"] for one in litellm.models() if one["model_name"] in NAMES)
    assert before.count("gpt-oss-20b") == 2
    for check in (True, False):
        refused = run(lab, {**settings, "ACTION": "destroy"}, check=check)
        assert refused.rc != 0
        assert f"{CLAUDE} is still used by {prefix}flash" in refused.output
        assert f"{AI} is still used by gpt-oss-20b" in refused.output
        # It was known before anything was removed.
        assert sorted(one["model_name"] for one in litellm.models() if one["model_name"] in NAMES) == before
        assert len(lab.mounts()) == 2
    forced = run(lab, {**settings, "ACTION": "destroy", f"{VARIABLE}remove_force": True})
    assert forced.rc == 0, forced.output
    assert lab.mounts() == {}
    again = run(lab, {**settings, "ACTION": "destroy"})
    assert (again.rc, again.changed) == (0, 0), again.output


def test_a_secret_of_others_is_neither_overwritten_nor_removed(
    lab: Lab, variables: dict[str, Any], litellm: harness.LiteLLM, prefix: str
) -> None:
    lab.make_secret("litemaas-automation-key", key="somebody's")
    settings = {**variables, f"{VARIABLE}models": ["gpt-oss-20b"]}
    refused = run(lab, settings)
    assert refused.rc != 0
    said = " ".join(refused.output.split())
    assert "Nothing was written: Secret litemaas-automation-key" in said and "made by somebody else" in said
    assert lab.mounts() == {} and not litellm.keys(f"{prefix}automation")

    # One whose value the role can tell, and would write.
    made = lab.runner.module("litellm_virtual_key", {"key_alias": f"{prefix}automation"})
    assert not made.failed, made["msg"]
    done = run(lab, settings)
    assert done.rc == 0, done.output
    assert lab.secret("litemaas-automation-key") == {"key": "somebody's"}
    gone = run(lab, {**settings, "ACTION": "destroy", f"{VARIABLE}remove_automation_key": True})
    assert gone.rc == 0, gone.output
    assert "Secret litemaas-automation-key was made by somebody else: it stays as it is" in gone.output
    assert lab.secret("litemaas-automation-key") == {"key": "somebody's"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"open_key": "{}"}, "open_key_file and …_open_key are both set"),
        ({"claude_path": AI}, "each key needs its own"),
        ({"models": ["gpt-5"]}, "names: no such model: gpt-5"),
        ({"claude_key": {"type": "authorized_user"}}, "somebody's own login"),
        ({"claude_project": "another-one"}, "is of project 'itpc-gcp-product-all-claude', not of 'another-one'"),
    ],
)
def test_bad_settings_are_named_before_anything_is_written(
    lab: Lab, variables: dict[str, Any], litellm: harness.LiteLLM, change: dict[str, Any], words: str
) -> None:
    done = run(lab, {**variables, **{f"{VARIABLE}{name}": value for name, value in change.items()}})
    assert done.rc != 0
    assert words in " ".join(done.output.split()), done.output
    assert lab.mounts() == {}
    assert lab.rest.find(lab.path("secrets", "vertex-ai-sa-key")) is None
    assert not [one for one in litellm.models() if one["model_name"] in NAMES]
