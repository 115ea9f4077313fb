# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: split_models
short_description: Split a list of models into what LiteLLM and what LiteMaaS get
version_added: 1.0.0
description:
  - Takes the items of P(rhpds.litemaas.ocp4_workload_litemaas_models#role) apart into items for
    M(rhpds.litemaas.litellm_model) and for M(rhpds.litemaas.litemaas_db_sync).
  - What is wrong with the list is returned, not raised, so that nothing of it, and no secret in it, is printed.
author:
  - rhpds.litemaas contributors (@rhpds)
options:
  _input:
    description: Items with the options of both modules.
    type: list
    elements: dict
    required: true
  default_provider:
    description:
      - Provider that LiteMaaS shows for items that give none, where the backend is OpenAI-compatible and has an
        C(api_base). Other models are shown with the provider that LiteLLM names.
      - Empty for none.
    type: str
    default: ""
  default_category:
    description: Category that LiteMaaS shows for items that give none. Empty for none.
    type: str
    default: ""
  failed:
    description:
      - Names, as in RV(rhpds.litemaas.litellm_model#module:results[].name), of items that LiteLLM didn't take. A model
        that has no other item is left out of RV(_value.catalogue).
    type: list
    elements: str
    default: []
seealso:
  - plugin: rhpds.litemaas.removable_models
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what LiteMaaS would get
  ansible.builtin.debug:
    msg: "{{ (models | rhpds.litemaas.split_models(default_category='general')).catalogue }}"
  vars:
    models:
      - model_name: granite-3-2-8b-instruct
        litellm_model: openai/granite-3-2-8b-instruct
        api_base: http://granite-predictor.llm-hosting.svc.cluster.local/v1
        display_name: Granite 3.2 8B
        rpm: 30
# => [{"category": "general", "display_name": "Granite 3.2 8B", "model_name": "granite-3-2-8b-instruct"}]
"""

RETURN = r"""
_value:
  description: The parts of the list.
  type: dict
  contains:
    litellm:
      description: Items for O(rhpds.litemaas.litellm_model#module:models), in the order of the list.
      type: list
      elements: dict
    catalogue:
      description: Items for O(rhpds.litemaas.litemaas_db_sync#module:models), one a model name that shall be there.
      type: list
      elements: dict
    present:
      description: Names of models that shall be there.
      type: list
      elements: str
    absent:
      description: Names of models of which something shall go, and nothing shall be there.
      type: list
      elements: str
    problems:
      description: What is wrong with the list, by item. Nothing should be done then.
      type: list
      elements: str
"""

#: Options of litellm_model's items that an item may have.
LITELLM_KEYS = frozenset(
    {
        "model_name",
        "deployment",
        "id",
        "state",
        "litellm_model",
        "api_base",
        "api_key",
        "api_version",
        "custom_llm_provider",
        "vertex_project",
        "vertex_location",
        "vertex_credentials",
        "rpm",
        "tpm",
        "max_parallel_requests",
        "request_timeout",
        "max_retries",
        "litellm_params",
        "model_info",
        "mode",
        "capabilities",
        "base_model",
        "context_length",
        "max_input_tokens",
        "max_output_tokens",
        "input_cost_per_token",
        "output_cost_per_token",
        "input_cost_per_million_tokens",
        "output_cost_per_million_tokens",
        "adopt",
        "test",
    }
)
#: Options of litemaas_db_sync's items, besides the name. context_length goes to both.
CATALOGUE_KEYS = (
    "display_name",
    "description",
    "category",
    "provider",
    "restricted_access",
    "availability",
    "context_length",
    "supports_streaming",
)
KEYS = LITELLM_KEYS | set(CATALOGUE_KEYS)
#: What says which deployment is meant, for an item that shall go.
IDENTITY_KEYS = ("model_name", "deployment", "id", "state")
#: LiteLLM's names for servers that speak OpenAI's protocol.
OPENAI_COMPATIBLE = frozenset(
    {"openai", "openai_like", "custom_openai", "text-completion-openai", "hosted_vllm", "vllm", "llamafile"}
)


def split_models(
    items: Any, default_provider: str = "", default_category: str = "", failed: Iterable[str] = ()
) -> dict[str, list[Any]]:
    """See the documentation above."""
    problems: list[str] = []
    usable = []
    for number, item in enumerate(_list(items, problems), start=1):
        trouble = _trouble(item)
        if trouble:
            name = item.get("model_name") if isinstance(item, Mapping) else None
            problems.append(f"item {number}{f' ({name})' if name else ''}: {trouble}")
        else:
            usable.append((number, {key: value for key, value in item.items() if value is not None}))
    there = [(number, item) for number, item in usable if not is_absent(item)]
    gone = [(number, item) for number, item in usable if is_absent(item)]
    present = list(dict.fromkeys(item["model_name"] for _number, item in there))
    problems += _contradictions(there, gone)
    not_taken = set(failed)
    catalogue = []
    for name in present:
        deployments = [(number, item) for number, item in there if item["model_name"] == name]
        row = _row(name, deployments, default_provider, default_category, problems)
        if not all(shown_name(item) in not_taken for _number, item in deployments):
            catalogue.append(row)
    return {
        "litellm": [_for_litellm(item) for _number, item in usable],
        "catalogue": catalogue,
        "present": present,
        "absent": [name for name in dict.fromkeys(item["model_name"] for _n, item in gone) if name not in present],
        "problems": problems,
    }


def is_absent(item: Mapping[str, Any]) -> bool:
    """Whether the item says that the model shall go."""
    return item.get("state") == "absent"


def shown_name(item: Mapping[str, Any]) -> str:
    """The item's name in litellm_model's results."""
    return f"{item['model_name']} ({item['deployment']})" if item.get("deployment") else str(item["model_name"])


def _list(items: Any, problems: list[str]) -> list[Any]:
    if isinstance(items, (list, tuple)):
        return list(items)
    problems.append("the list of models is not a list")
    return []


def _trouble(item: Any) -> str:
    """What is wrong with one item; never shows a value, as it may be a secret."""
    if not isinstance(item, Mapping):
        return "not a mapping of options"
    if not isinstance(item.get("model_name"), str) or not item["model_name"].strip():
        return "model_name is missing"
    unknown = [str(key) for key in item if key not in KEYS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(KEYS), n=1)
        hint = f"; did you mean {near[0]}?" if near else "; put LiteLLM's own parameters into litellm_params"
        return f"{', '.join(unknown)} is no option of a model{hint}"
    if item.get("state") not in (None, "present", "absent"):
        return "state must be present or absent"
    return ""


def _contradictions(there: list[tuple[int, Any]], gone: list[tuple[int, Any]]) -> list[str]:
    """Items that shall go together with items of the same deployment that shall be there."""
    found = []
    for number, item in gone:
        for other, stays in there:
            if item["model_name"] != stays["model_name"] or item.get("id") is not None:
                continue
            if item.get("deployment") is None or item["deployment"] == stays.get("deployment", ""):
                found.append(
                    f"item {number} ({shown_name(item)}): shall be absent, though item {other} says that"
                    f" {shown_name(stays)} shall be present; name the one that goes by its deployment label or id"
                )
    return found


def _for_litellm(item: Mapping[str, Any]) -> dict[str, Any]:
    keys = IDENTITY_KEYS if is_absent(item) else LITELLM_KEYS
    return {key: item[key] for key in item if key in keys}


def _row(
    name: str,
    deployments: list[tuple[int, Any]],
    default_provider: str,
    default_category: str,
    problems: list[str],
) -> dict[str, Any]:
    """The one catalogue item of a model name, of what all its deployments give."""
    row: dict[str, Any] = {"model_name": name}
    for key in CATALOGUE_KEYS:
        given = [(number, item[key]) for number, item in deployments if key in item]
        if not given:
            continue
        row[key] = given[0][1]
        for number, value in given[1:]:
            if value != row[key]:
                problems.append(
                    f"item {number} ({name}): {key} differs from that of item {given[0][0]}; the deployments of a name"
                    " share one entry in LiteMaaS, so give it once"
                )
    if default_category:
        row.setdefault("category", default_category)
    if default_provider and all(_is_openai_compatible(item) for _number, item in deployments):
        row.setdefault("provider", default_provider)
    return row


def _is_openai_compatible(item: Mapping[str, Any]) -> bool:
    params = item.get("litellm_params")
    params = params if isinstance(params, Mapping) else {}
    if not (item.get("api_base") or params.get("api_base")):
        return False
    provider = item.get("custom_llm_provider") or params.get("custom_llm_provider")
    if not provider:
        provider, slash, _model = str(item.get("litellm_model") or params.get("model") or "").partition("/")
        if not slash:
            return False
    return provider in OPENAI_COMPATIBLE


class FilterModule:
    """Splits a list of models."""

    def filters(self) -> dict[str, Any]:
        return {"split_models": split_models}
