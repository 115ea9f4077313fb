# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A deployment as declared: the options of an item, parsed and checked. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import capabilities as caps
from ansible_collections.rhpds.litemaas.plugins.module_utils import derive, ownership
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.model.hidden import (
    is_secret,
    secret_texts,
    text_of,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import Parsed, same

#: Options that are ``litellm_params`` of another or the same name.
PARAMS = {
    "litellm_model": "model",
    "api_base": "api_base",
    "api_key": "api_key",
    "api_version": "api_version",
    "custom_llm_provider": "custom_llm_provider",
    "vertex_project": "vertex_project",
    "vertex_location": "vertex_location",
    "vertex_credentials": "vertex_credentials",
    "rpm": "rpm",
    "tpm": "tpm",
    "max_parallel_requests": "max_parallel_requests",
    "request_timeout": "timeout",
    "max_retries": "max_retries",
    "input_cost_per_token": "input_cost_per_token",
    "output_cost_per_token": "output_cost_per_token",
}
#: Options that are ``model_info`` of another or the same name.
INFO = {
    "mode": "mode",
    "base_model": "base_model",
    "context_length": "max_tokens",
    "max_input_tokens": "max_input_tokens",
    "max_output_tokens": "max_output_tokens",
}
#: Prices that may be given per million tokens instead.
PER_MILLION = {
    "input_cost_per_million_tokens": "input_cost_per_token",
    "output_cost_per_million_tokens": "output_cost_per_token",
}
#: Prices that people put into model_info: taken to litellm_params, where they count.
_PRICES = frozenset(
    "input_cost_per_token output_cost_per_token input_cost_per_second output_cost_per_second input_cost_per_character"
    " input_cost_per_query input_cost_per_image input_cost_per_audio_token input_cost_per_token_batches"
    " output_cost_per_token_batches cache_creation_input_token_cost cache_read_input_token_cost".split()
)
REPLACEMENT_OF = ownership.REPLACEMENT_OF
#: Beside it: the names of what others had set on that deployment.
KEPT = "rhpds_kept"
#: Ours alone: an operator's model_info may not set them.
RESERVED_INFO = frozenset({"id", "db_model", "managed_by", "scope", ownership.RECORD, REPLACEMENT_OF, KEPT})
#: LiteMaaS's models.id is varchar(255), and a longer name could never be subscribed to.
LONGEST_NAME = 255
_WHOLE = ("rpm", "tpm", "max_parallel_requests", "max_retries", "max_tokens", "max_input_tokens", "max_output_tokens")


@dataclass
class Wanted:
    """A deployment as declared. ``error`` tells why it can't be acted on."""

    model_name: str
    deployment: str | None = None
    id: str | None = None
    state: str = "present"
    params: dict[str, Any] = field(default_factory=dict)
    #: Parameters that can't be read back.
    secrets: dict[str, Any] = field(default_factory=dict)
    #: Secrets declared as empty: to be taken away.
    dropped: frozenset[str] = frozenset()
    info: dict[str, Any] = field(default_factory=dict)
    test: bool = False
    adopt: bool = True
    error: str = ""
    #: It has just been written: secrets that can't be compared count as in place.
    written: bool = False

    @property
    def name(self) -> str:
        name = self.model_name or "(an item without model_name)"
        return f"{name} ({self.deployment})" if self.deployment else name

    @property
    def identity(self) -> str:
        return self.id or derive.model_id(self.model_name, self.deployment or "")

    @property
    def hidden(self) -> list[str]:
        """What an error message must not repeat."""
        return [text for name, value in self.secrets.items() for text in secret_texts(name, value)]


def wanted_from_options(options: Mapping[str, Any]) -> Wanted:
    """One item of ``models:``, with the top-level options already filled in; never raises, see ``error``."""
    item = Wanted(
        model_name=str(options.get("model_name") or ""),
        deployment=options.get("deployment"),
        id=options.get("id"),
        state=options.get("state") or "present",
        test=bool(options.get("test")),
        adopt=options.get("adopt") is not False,
    )
    problems: list[str] = []
    if not item.model_name.strip() or item.model_name != item.model_name.strip():
        problems.append("model_name is empty, or begins or ends with white space")
    if len(item.model_name) > LONGEST_NAME:
        problems.append(f"model_name has {len(item.model_name)} characters; LiteMaaS's catalogue holds {LONGEST_NAME}")
    if any(ord(character) > 255 for character in item.model_name):
        # It puts the name into a header of its answer, after having called the upstream (1.81.14 and 1.106.0).
        problems.append("model_name has characters outside Latin-1: LiteLLM fails every call of such a model")
    for option in ("model_name", "deployment", "id"):
        if any(ord(character) < 32 or ord(character) == 127 for character in options.get(option) or ""):
            problems.append(f"{option} has a line break or another control character")
    if item.state == "present":
        _fill(item, options, problems)
    item.error = "; ".join(problems)
    return item


def refuse_contradictions(items: Sequence[Wanted]) -> None:
    """Give every item that another one of the list contradicts an ``error``."""
    # Without a label and without an id, absent means all deployments of the name.
    gone = {item.model_name for item in items if item.state == "absent" and item.deployment is None and not item.id}
    kept = {item.model_name for item in items if item.state == "present"}
    for item in items:
        if item.model_name in gone & kept:
            item.error = item.error or "the list has this name both as present and, all deployments, as absent"


def _fill(item: Wanted, options: Mapping[str, Any], problems: list[str]) -> None:
    params: dict[str, Any] = {k: v for k, v in (options.get("litellm_params") or {}).items() if v is not None}
    info: dict[str, Any] = {k: v for k, v in (options.get("model_info") or {}).items() if v is not None}
    for where, place in ((params, "litellm_params"), (info, "model_info")):
        _numbers(where, place, problems)
    for name in sorted(_PRICES & info.keys()):
        _put(params, name, info.pop(name), f"model_info.{name}", f"litellm_params.{name}", problems)
    for option, name in PARAMS.items():
        _put(params, name, options.get(option), option, f"litellm_params.{name}", problems)
    for option, name in PER_MILLION.items():
        value = options.get(option)
        if value is None:
            continue
        if options.get(name) is not None:
            problems.append(f"{option} and {name} exclude each other")
        elif math.isfinite(value):
            # Decimal, for 0.09 per million is 9e-08 and not 8.999999999999999e-08.
            _put(params, name, float(Decimal(str(value)) / 1_000_000), option, f"litellm_params.{name}", problems)
        else:
            problems.append(f"{option} is {value}; a price is a number")
    for option, name in INFO.items():
        _put(info, name, options.get(option), option, f"model_info.{name}", problems)
    if options.get("capabilities") is not None:
        for name, value in caps.to_model_info(options["capabilities"]).items():
            info.setdefault(name, value)
    reserved = sorted(RESERVED_INFO & info.keys())
    if reserved:
        problems.append(f"model_info.{reserved[0]} is set by this module; leave it out")
    if "model_info" in params:
        problems.append("litellm_params.model_info is set by this module; use model_info")
    if not params.get("model"):
        problems.append("litellm_model is missing: the backend model, for example openai/my-model")
    _ranges({**info, **params}, problems)
    for name, value in params.items():
        if not is_secret(name, value):
            # Which parameters LiteLLM parses differs from version to version.
            item.params[name] = Parsed(value) if isinstance(value, str) else value
        elif value != "":
            # YAML turns the content of a JSON key file into a mapping; LiteLLM wants its text.
            item.secrets[name] = text_of(value) if name.endswith("credentials") else value
    item.dropped = frozenset(name for name, value in params.items() if value == "" and is_secret(name))
    item.info = info


def _put(where: dict[str, Any], name: str, value: Any, option: str, other: str, problems: list[str]) -> None:
    if value is None:
        return
    if name in where and not same(value, where[name]):
        problems.append(f"{option} and {other} disagree")
    where[name] = value


def _numbers(where: dict[str, Any], place: str, problems: list[str]) -> None:
    """Turn the numbers that came out of a template as text back into numbers, as LiteLLM does."""
    for name, value in where.items():
        if not isinstance(value, str) or not (name in _WHOLE or name in _PRICES):
            continue
        try:
            where[name] = int(value) if name in _WHOLE else float(value)
        except ValueError:
            problems.append(f"{place}.{name}: {value!r} is not a number")


def _ranges(values: Mapping[str, Any], problems: list[str]) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if name in _WHOLE and not 0 <= value <= 2147483647:
            problems.append(f"{name} is {value}; it must be between 0 and 2147483647")
        elif name == "timeout" and not 0 < value < math.inf:
            problems.append(f"request_timeout is {value}; it must be above 0 seconds")
        elif "cost" in name.split("_") and not 0 <= value <= 1000:
            problems.append(f"{name} is {value}; a price is in US dollars per token, zero or more")
