# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a model of Vertex AI fits the service account that it is called with, and its path the Model Garden's. Pure.

LiteLLM stores both as they come: what doesn't fit shows when somebody calls the model, as HTTP 403 or 404 of Google's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.wanted import Wanted

PREFIX = "vertex_ai/"
#: Ends the id of every open model of the Model Garden that Google serves.
MANAGED = "-maas"
#: Publishers whose models have ids without it, and what is no publisher but a way of LiteLLM's to call an endpoint.
_WITHOUT = frozenset("mistralai google anthropic gemini gemma bge search_api agent_engine imagegeneration".split())


def path_problem(backend: str) -> str:
    """What is the matter with a backend's path; "" where nothing is, or it isn't Vertex AI's.

    Args:
        backend: ``litellm_params.model``, for example ``vertex_ai/openai/gpt-oss-120b-maas``.
    """
    if not backend.startswith(PREFIX):
        return ""
    rest = backend.removeprefix(PREFIX)
    publisher, slash, model = rest.rpartition("/")
    form = f"models of the Model Garden are written {PREFIX}<publisher>/<id>{MANAGED}"
    if not slash and model.endswith(MANAGED):
        return f"{backend} names no publisher: {form}"
    if not slash or publisher in _WITHOUT or publisher.startswith(("projects", "publishers")) or model.isdigit():
        return ""  # an endpoint of one's own is a number
    return "" if model.endswith(MANAGED) else f"{backend} doesn't end in {MANAGED}: {form}"


def project_problem(item: Wanted, projects: Mapping[str, Any]) -> str:
    """Whether a model is billed to another project than that of its credentials; "" where it isn't, or nobody knows.

    Args:
        projects: Google Cloud project of each key, by its path in the proxy's pods.
    """
    project = item.params.get("vertex_project") or item.params.get("vertex_ai_project")
    credentials = item.secrets.get("vertex_credentials") or item.secrets.get("vertex_ai_credentials")
    if not isinstance(project, str) or not isinstance(credentials, str):
        return ""
    if credentials.lstrip().startswith("{"):
        theirs, where = _project_of(credentials), "the key that it is given"
    else:
        theirs, where = str(projects.get(credentials) or ""), credentials
    if not theirs or theirs == project:
        return ""
    return (
        f"vertex_project is {project}, but the credentials at {where} are of project {theirs}: point it at the key of"
        f" {project}, or set project_mismatch to warn if that account has been let into {project}"
    )


def problems(item: Wanted, projects: Mapping[str, Any]) -> tuple[str, str]:
    """What :func:`project_problem` and :func:`path_problem` say of an item that is to be there."""
    if item.state != "present" or item.error:
        return "", ""
    return project_problem(item, projects), path_problem(str(item.params.get("model") or ""))


def strangers(models: Sequence[Mapping[str, Any]], projects: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """What is the matter with models that are registered already and that nobody declares here.

    Args:
        models: as ``litellm_model_info`` returns them. It can't tell their credentials' path, which LiteLLM hides.
        projects: see :func:`project_problem`.
        names: of the models that are declared.
    """
    known = sorted({str(project) for project in projects.values()})
    out = []
    for model in models:
        params = model.get("litellm_params") or {}
        backend = str(params.get("model") or "")
        if model.get("model_name") in names or not backend.startswith(PREFIX):
            continue
        who = f"{model.get('model_name')} ({model.get('id')})"
        project = params.get("vertex_project")
        if project and known and project not in known:
            mounted = ", ".join(known)
            out.append(f"{who}: vertex_project is {project}, and no key of that project is mounted ({mounted})")
        if path_problem(backend):
            out.append(f"{who}: {path_problem(backend)}")
    return out


def _project_of(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    return str(found.get("project_id") or "") if isinstance(found, dict) else ""
