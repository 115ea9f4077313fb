# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models of Vertex AI beside the service accounts that they are called with."""

from __future__ import annotations

import json

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources import model
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model import vertex

AI, CLAUDE = "/etc/vertex-credentials/key.json", "/etc/vertex-claude-credentials/key.json"
PROJECTS = {AI: "rhdp-infra", CLAUDE: "itpc-gcp-product-all-claude"}


def wanted(**options):
    return model.wanted_from_options({"model_name": "m", "litellm_model": "vertex_ai/claude-sonnet-4-6", **options})


def test_a_model_that_points_at_the_other_projects_key():
    mismatch, path = model.vertex_problems(
        wanted(vertex_project="itpc-gcp-product-all-claude", vertex_credentials=AI), PROJECTS
    )
    assert "vertex_project is itpc-gcp-product-all-claude" in mismatch
    assert f"the credentials at {AI} are of project rhdp-infra" in mismatch
    assert path == ""


@pytest.mark.parametrize(
    "options",
    [
        {"vertex_project": "rhdp-infra", "vertex_credentials": AI},
        {"vertex_project": "another", "vertex_credentials": "/etc/unknown/key.json"},
        {"vertex_project": "another"},
        {"vertex_credentials": AI},
        {"vertex_project": "another", "vertex_credentials": AI, "state": "absent"},
        {"vertex_project": "another", "vertex_credentials": {"broken": 1}},
    ],
)
def test_what_fits_or_is_not_known(options):
    assert model.vertex_problems(wanted(**options), PROJECTS) == ("", "")


def test_other_ways_to_say_it():
    params = {"vertex_project": "rhdp-infra", "vertex_credentials": CLAUDE}
    assert model.vertex_problems(wanted(litellm_params=params), PROJECTS)[0]
    key = {"type": "service_account", "project_id": "rhdp-infra"}
    for content in (key, json.dumps(key)):
        assert (
            "the key that it is given"
            in model.vertex_problems(wanted(vertex_project="other", vertex_credentials=content), {})[0]
        )
        assert not model.vertex_problems(wanted(vertex_project="rhdp-infra", vertex_credentials=content), {})[0]


@pytest.mark.parametrize(
    "backend",
    [
        "vertex_ai/openai/gpt-oss-120b-maas",
        "vertex_ai/claude-sonnet-4-6",
        "vertex_ai/gemini-2.5-pro",
        "vertex_ai/mistralai/mistral-medium-3@001",
        "vertex_ai/openai/5464397967697903616",
        "vertex_ai/1234567890",
        "vertex_ai/gemini/1234567890",
        "openai/gpt-oss-120b",
    ],
)
def test_paths_that_are_right(backend):
    assert vertex.path_problem(backend) == ""


def test_paths_that_are_not():
    assert "names no publisher" in vertex.path_problem("vertex_ai/gpt-oss-120b-maas")
    assert "doesn't end in -maas" in vertex.path_problem("vertex_ai/openai/gpt-oss-120b")
    assert "vertex_ai/<publisher>/<id>-maas" in vertex.path_problem("vertex_ai/qwen/qwen3-235b-a22b-instruct-2507")


def test_the_models_that_litellm_knows_are_right():
    """Vertex AI's models of LiteLLM 1.81's table of prices that have a publisher in their path."""
    for backend in (
        "vertex_ai/deepseek-ai/deepseek-v3.2-maas",
        "vertex_ai/meta/llama-4-scout-17b-16e-instruct-maas",
        "vertex_ai/mistralai/codestral-2@001",
        "vertex_ai/minimaxai/minimax-m2-maas",
        "vertex_ai/moonshotai/kimi-k2-thinking-maas",
        "vertex_ai/zai-org/glm-5-maas",
    ):
        assert vertex.path_problem(backend) == ""


def test_models_that_nobody_declares():
    def registered(name, backend, project=None):
        params = {"model": backend, **({"vertex_project": project} if project else {})}
        return {"model_name": name, "id": f"id-{name}", "litellm_params": params}

    found = model.vertex_strangers(
        [
            registered("ours", "vertex_ai/claude-sonnet-4-6", "elsewhere"),
            registered("fits", "vertex_ai/claude-sonnet-4-6", "rhdp-infra"),
            registered("lost", "vertex_ai/claude-sonnet-4-6", "elsewhere"),
            registered("garden", "vertex_ai/openai/gpt-oss-20b"),
            registered("kserve", "openai/granite", "elsewhere"),
        ],
        PROJECTS,
        ["ours"],
    )
    assert len(found) == 2
    assert found[0].startswith("lost (id-lost): vertex_project is elsewhere, and no key of that project is mounted")
    assert "rhdp-infra" in found[0] and "itpc-gcp-product-all-claude" in found[0]
    assert found[1].startswith("garden (id-garden): vertex_ai/openai/gpt-oss-20b doesn't end in -maas")
    assert not model.vertex_strangers([registered("lost", "vertex_ai/x", "elsewhere")], {}, [])
