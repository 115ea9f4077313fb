# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deployments that a proxy lists."""

from __future__ import annotations

from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError

Observed = dict[str, Any]

_NO_MODELS = ("LLM Model List not loaded", "LLM Router is not loaded")


def read_deployments(client: LiteLLMClient) -> list[Observed]:
    """All deployments that the proxy's router holds, as ``/model/info`` gives them, once each.

    A proxy without a single model answers 500 "not loaded": that is an empty list. Whoever deletes because of an
    empty list has to refuse on its own.

    Raises:
        LiteLLMError: no usable answer.
    """
    try:
        answer = client.get("/model/info")
    except LiteLLMError as failure:
        if failure.status == 500 and any(words in failure.words for words in _NO_MODELS):
            return []
        raise
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise LiteLLMError("GET /model/info", words="the answer has no list of models", advice="Check litellm_url")
    found: dict[str, Observed] = {}
    for entry in data:
        info = entry.get("model_info") if isinstance(entry, dict) else None
        if not isinstance(info, dict) or not info.get("id") or not entry.get("model_name"):
            raise LiteLLMError(
                "GET /model/info", words="an entry without model_name or model_info.id", advice="Not acting on it"
            )
        # The same deployment appears again under access groups and team names.
        found.setdefault(info["id"], entry)
    return list(found.values())
