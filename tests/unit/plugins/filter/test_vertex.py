# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of Vertex AI's models, and what registered ones mean for the keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.rhpds.litemaas.plugins.filter.vertex_findings import vertex_findings
from ansible_collections.rhpds.litemaas.plugins.filter.vertex_models import vertex_models

ROOT = Path(__file__).resolve().parents[4]
TABLE = yaml.safe_load((ROOT / "roles/ocp4_workload_litemaas_vertex/vars/main/models.yml").read_text())[
    "ocp4_workload_litemaas_vertex__table"
]
AI, CLAUDE = "/etc/vertex-credentials/key.json", "/etc/vertex-claude-credentials/key.json"
ACCOUNTS = {
    "open": {"project": "rhdp-infra", "path": AI},
    "claude": {"project": "itpc-gcp-product-all-claude", "path": CLAUDE},
}
LOCATIONS = {"claude": "us-east5", "gemini": "us-central1", "garden": "us-central1"}
PROJECTS = {AI: "rhdp-infra", CLAUDE: "itpc-gcp-product-all-claude"}


def test_the_labs_table():
    """Backend, project, region and prices of the nine, as the lab's page on Vertex AI has them."""
    rows = """
        claude-sonnet-4-6 claude-sonnet-4-6                              claude us-east5    3.00 15.00
        claude-opus-4-6   claude-opus-4-6-v1                             claude us-east5    5.00 25.00
        claude-sonnet-4-5 claude-sonnet-4-5                              claude us-east5    3.00 15.00
        claude-3-5-haiku  claude-3-5-haiku                               claude us-east5    1.00  5.00
        gemini-2.5-pro    gemini-2.5-pro                                 claude us-central1 1.25 10.00
        gpt-oss-120b      openai/gpt-oss-120b-maas                       open   us-central1 0.09  0.36
        gpt-oss-20b       openai/gpt-oss-20b-maas                        open   us-central1 0.07  0.25
        minimax-m2        minimaxai/minimax-m2-maas                      open   us-central1 0.30  1.20
        qwen3-235b        qwen/qwen3-235b-a22b-instruct-2507-maas        open   us-central1 0.22  0.88
    """
    wanted = [tuple(line.split()) for line in rows.strip().splitlines()]
    got = [
        (
            one["model_name"],
            one["litellm_model"].removeprefix("vertex_ai/"),
            "open" if one["vertex_project"] == "rhdp-infra" else "claude",
            one["vertex_location"],
            f"{one['input_cost_per_million_tokens']:.2f}",
            f"{one['output_cost_per_million_tokens']:.2f}",
        )
        for one in vertex_models(TABLE, ACCOUNTS, LOCATIONS)
    ]
    assert got == wanted


def test_the_example_says_the_same_as_the_table():
    example = yaml.safe_load((ROOT / "docs/examples/vertex_models.yml").read_text())
    assert vertex_models(TABLE, ACCOUNTS, LOCATIONS) == example["ocp4_workload_litemaas_models_list"]
    assert example["ocp4_workload_litemaas_models_vertex_credentials_projects"] == PROJECTS


def test_the_catalogue_shows_the_whole_type_and_what_it_is_good_for():
    shown = {
        one["model_name"]: (one["category"], one["description"]) for one in vertex_models(TABLE, ACCOUNTS, LOCATIONS)
    }
    assert shown["minimax-m2"] == ("chat", "Chat, Agentic: Multi-step tool use, coding, office workflows")
    haiku = "Chat: High-throughput, classification, light Q&A — lowest Anthropic price"
    assert shown["claude-3-5-haiku"] == ("chat", haiku)


def test_regions_and_overrides():
    locations = {**LOCATIONS, "gpt-oss-20b": "global"}
    overrides = {"gpt-oss-120b": {"category": "reasoning", "rpm": 10}}
    names = ["gpt-oss-120b", "gpt-oss-20b"]
    big, small = vertex_models(TABLE, ACCOUNTS, locations, names, overrides)
    assert (big["vertex_location"], small["vertex_location"]) == ("us-central1", "global")
    assert (big["category"], big["rpm"], small["category"]) == ("reasoning", 10, "chat")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": ["gpt-5"]}, "names: no such model: gpt-5"),
        ({"overrides": {"gpt-5": {}}}, "overrides: no such model: gpt-5"),
        ({"accounts": {"claude": {}}}, "no account 'open'"),
        ({"locations": {"claude": "us-east5"}}, "gemini-2.5-pro: no location for it or its family 'gemini'"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    arguments = {"accounts": ACCOUNTS, "locations": LOCATIONS, **change}
    arguments["accounts"] = {**arguments["accounts"]}
    if "accounts" in change:
        arguments["accounts"]["claude"] = ACCOUNTS["claude"]
    with pytest.raises(AnsibleFilterError, match=words):
        vertex_models(TABLE, **arguments)


def registered(name, project, backend="vertex_ai/x"):
    return {"model_name": name, "id": name, "litellm_params": {"model": backend, "vertex_project": project}}


def test_who_uses_which_key():
    found = vertex_findings(
        [
            registered("open", "rhdp-infra"),
            registered("open", "rhdp-infra"),
            registered("claude", "itpc-gcp-product-all-claude"),
            registered("either", None),
            registered("elsewhere", "another-project"),
            registered("kserve", "rhdp-infra", "openai/granite"),
        ],
        PROJECTS,
        ["open"],
    )
    assert found["used_paths"] == {AI: ["open", "either"], CLAUDE: ["claude", "either"]}
    assert len(found["warnings"]) == 1
    assert found["warnings"][0].startswith("elsewhere (elsewhere): vertex_project is another-project")


def test_declared_models_of_another_project_than_that_of_their_key():
    extra = {"model_name": "fits", "litellm_model": "vertex_ai/x", "vertex_project": "rhdp-infra"}
    declared = [
        *vertex_models(TABLE, ACCOUNTS, LOCATIONS, ["minimax-m2"], {"minimax-m2": {"vertex_project": "elsewhere"}}),
        {**extra, "vertex_credentials": AI},
        {**extra, "model_name": "extra", "vertex_credentials": CLAUDE},
    ]
    found = vertex_findings([], PROJECTS, declared=declared)["mismatches"]
    assert [one.partition(": point it")[0] for one in found] == [
        f"minimax-m2: vertex_project is elsewhere, but the credentials at {AI} are of project rhdp-infra",
        f"extra: vertex_project is rhdp-infra, but the credentials at {CLAUDE} are of project {PROJECTS[CLAUDE]}",
    ]
    assert vertex_findings([], {AI: "", CLAUDE: ""}, declared=declared)["mismatches"] == []
