# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a model can do: the operator's words, LiteLLM's ``model_info`` flags, LiteMaaS's feature labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The operator's word -> the flag in ``model_info``.
FLAGS = {
    "embeddings": "supports_embeddings",
    "document_conversion": "supports_convert",
    "safety": "supports_safety",
    "vision": "supports_vision",
    "function_calling": "supports_function_calling",
    "parallel_function_calling": "supports_parallel_function_calling",
    "tool_choice": "supports_tool_choice",
    "tokenize": "supports_tokenize",
}
#: ``chat`` has no flag: LiteMaaS takes every model for a chat model that is not one of the first two above.
CHOICES = ("chat", *FLAGS)

#: LiteMaaS's labels that come after the first one, in the order in which the backend writes them.
_LABELS = ("function_calling", "parallel_function_calling", "tool_choice", "vision", "tokenize")


def to_model_info(capabilities: Sequence[str]) -> dict[str, Any]:
    """Flags for ``model_info``: every one written, true or false.

    A flag left out would be filled in by LiteLLM from its own table of known models, and LiteMaaS would show that.
    """
    wanted = set(capabilities)
    info: dict[str, Any] = {flag: word in wanted for word, flag in FLAGS.items()}
    if "embeddings" in wanted:
        info["mode"] = "embedding"
    elif wanted & {"chat", "safety"}:
        info["mode"] = "chat"
    return info


def features(model_info: Mapping[str, Any]) -> list[str]:
    """LiteMaaS's ``models.features`` as its backend derives it: one of embeddings, convert, chat; then the labels."""
    if model_info.get("supports_embeddings") or model_info.get("mode") == "embedding":
        first = "embeddings"
    elif model_info.get("supports_convert"):
        first = "convert"
    else:
        first = "chat"
    return [first, *(word for word in _LABELS if model_info.get(FLAGS[word]))]
