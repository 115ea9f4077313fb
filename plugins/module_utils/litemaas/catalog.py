# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A LiteLLM deployment as a row of LiteMaaS's ``models``, as the backend's own sync would write it. Pure.

The mapping was observed on LiteMaaS 0.4.0. The backend is JavaScript, and a few of its habits show in its rows:
``a || b`` falls through on 0 and on "", and an array or an object is true even when it is empty. They are kept here,
because a row that differs from the backend's is rewritten at the backend's next start.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import capabilities, ownership

AVAILABLE = "available"
UNAVAILABLE = "unavailable"

#: Columns that LiteLLM decides: always brought in line.
DERIVED_COLUMNS = (
    "backend_model_name",
    "max_tokens",
    "input_cost_per_token",
    "output_cost_per_token",
    "api_base",
    "tpm",
    "rpm",
    "litellm_model_id",
    "supports_vision",
    "supports_function_calling",
    "supports_parallel_function_calling",
    "supports_tool_choice",
    "features",
    "version",
    "metadata",
)
#: Columns that an operator may set, and that stay as they are in a row where this run's list does not name them.
OPERATOR_COLUMNS = (
    "name",
    "provider",
    "category",
    "context_length",
    "supports_streaming",
    "description",
    "restricted_access",
)
#: Every column we write, besides updated_at. ``availability`` follows LiteLLM unless the list says otherwise.
COLUMNS = ("id", *OPERATOR_COLUMNS, "availability", *DERIVED_COLUMNS)

#: Keys of an operator's item, and the column each one sets.
OVERLAY = {
    "display_name": "name",
    "provider": "provider",
    "category": "category",
    "context_length": "context_length",
    "supports_streaming": "supports_streaming",
    "description": "description",
    "restricted_access": "restricted_access",
    "availability": "availability",
}

#: Longest value of each varchar column in LiteMaaS 0.4.0, in characters. The live schema's own limits win.
LENGTHS: Mapping[str, int] = {
    "id": 255,
    "name": 255,
    "provider": 100,
    "category": 100,
    "availability": 50,
    "version": 50,
    "api_base": 500,
    "litellm_model_id": 255,
    "backend_model_name": 255,
}
#: numeric(15,10): at most five digits before the point, and ten after it.
COST_STEP = Decimal("1e-10")
COST_BOUND = Decimal(10) ** 5
INT4 = range(-(2**31), 2**31)

_INTEGER = re.compile(r"\s*[+-]?\d+\s*\Z")
_TRUE_WORDS = frozenset({"t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"})
_FALSE_WORDS = frozenset({"f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"})


class CatalogError(ValueError):
    """A model that has no valid row; the message names the column and the value's trouble."""


@dataclass
class Selection:
    """What a whole ``/model/info`` answer comes down to.

    Attributes:
        models: model name -> the entry that makes its row: the last one read, as in the backend.
        deployments: model name -> ids of all its deployments, in the order read.
        outside: names that are in LiteLLM and have no row of ours: config.yaml models, which the backend skips, and
            temporary siblings of a running replacement. Never orphans.
        config_models: those of ``outside`` that come from config.yaml.
        ids_seen: ids of all deployments in the answer, whether they count or not.
        unreadable: what is wrong with entries that could not be understood; any makes the read a partial one.
    """

    models: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    deployments: dict[str, list[str]] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    config_models: set[str] = field(default_factory=set)
    ids_seen: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        """Ids of all deployments that count."""
        return {one for ids in self.deployments.values() for one in ids if one}

    @property
    def duplicates(self) -> dict[str, list[str]]:
        """Names with more than one deployment."""
        return {name: ids for name, ids in self.deployments.items() if len(ids) > 1}


def select(entries: Iterable[Any]) -> Selection:
    """Which entries of ``/model/info`` count, one per name.

    Args:
        entries: the ``data`` list: ``{"model_name", "litellm_params", "model_info"}`` each.
    """
    out = Selection()
    for position, entry in enumerate(entries):
        name = entry.get("model_name") if isinstance(entry, Mapping) else None
        info = entry.get("model_info") if isinstance(entry, Mapping) else None
        params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not name:
            out.unreadable.append(f"entry {position + 1} has no model_name")
            continue
        if not isinstance(info, Mapping) or not isinstance(params, Mapping):
            out.unreadable.append(f"{name} has no {'litellm_params' if isinstance(info, Mapping) else 'model_info'}")
            out.outside.add(name)
            continue
        out.ids_seen.add(str(info.get("id") or ""))
        if info.get(ownership.REPLACEMENT_OF):
            out.outside.add(name)
        elif info.get("db_model") is not True:
            out.outside.add(name)
            out.config_models.add(name)
        else:
            out.models[name] = entry
            out.deployments.setdefault(name, []).append(str(info.get("id") or ""))
    out.outside -= out.models.keys()
    out.config_models -= out.models.keys()
    return out


def overlay_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that an operator's item sets. A key that is absent or null sets nothing."""
    return {column: item[key] for key, column in OVERLAY.items() if item.get(key) is not None}


def row(
    entry: Mapping[str, Any], overlay: Mapping[str, Any] | None = None, lengths: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The row of one deployment, checked against the columns' types.

    Args:
        entry: one entry of ``/model/info``.
        overlay: column -> value from the operator (see :func:`overlay_of`).
        lengths: column -> longest value in characters; default :data:`LENGTHS`.

    Returns:
        A value for each of :data:`COLUMNS`: costs as Decimal (US dollars per token, ten digits after the point),
        features as list of str, metadata as a dict that still refers to the entry (:func:`json_text` makes its text).

    Raises:
        CatalogError: a value that its column cannot hold.
    """
    name = entry["model_name"]
    info: Mapping[str, Any] = entry.get("model_info") or {}
    params: Mapping[str, Any] = entry.get("litellm_params") or {}
    model = params.get("model")
    if model is not None and not isinstance(model, str):
        raise CatalogError(f"litellm_params.model is not a string: {_shown(model)}")
    flags = {flag: _bool(info.get(flag), flag) for flag in _FLAGS}
    metadata = {}
    if "model_info" in entry:
        metadata["litellm_model_info"] = entry["model_info"]
    if "litellm_params" in entry:
        metadata["litellm_params"] = entry["litellm_params"]
    out: dict[str, Any] = {
        "id": name,
        "name": name,
        "provider": provider_of(params),
        "category": "Language Model",
        "context_length": _int(info.get("max_tokens"), "context_length"),
        "supports_streaming": True,
        "description": None,
        "restricted_access": False,
        "availability": AVAILABLE,
        "backend_model_name": (model.split("/", 1)[1] if "/" in model else model) if model else None,
        "max_tokens": _int(info.get("max_tokens"), "max_tokens"),
        "input_cost_per_token": _cost(info, params, "input_cost_per_token"),
        "output_cost_per_token": _cost(info, params, "output_cost_per_token"),
        "api_base": params.get("api_base"),
        "tpm": _int(params.get("tpm"), "tpm"),
        "rpm": _int(params.get("rpm"), "rpm"),
        "litellm_model_id": info.get("id"),
        **flags,
        "features": capabilities.features(info),
        "version": "1.0",
        "metadata": metadata,
    }
    for column, value in (overlay or {}).items():
        out[column] = _operators(column, value)
    for column, longest in (LENGTHS if lengths is None else lengths).items():
        if column in out:
            out[column] = _text(out[column], column, longest)
    out["description"] = _text(out["description"], "description", None)
    return out


_FLAGS = (
    "supports_vision",
    "supports_function_calling",
    "supports_parallel_function_calling",
    "supports_tool_choice",
)


def provider_of(params: Mapping[str, Any]) -> str:
    """custom_llm_provider, else what stands before the first "/" of the model, else "unknown"."""
    chosen = params.get("custom_llm_provider")
    if truthy(chosen):
        return str(chosen)
    model = params.get("model")
    return model.split("/", 1)[0] if isinstance(model, str) and "/" in model else "unknown"


def truthy(value: Any) -> bool:
    """True as JavaScript sees it: 0, "", null, false and NaN are not; an empty list or object is."""
    if value is None or value is False or value == "":
        return False
    if isinstance(value, float) and math.isnan(value):
        return False
    return not (isinstance(value, (int, float)) and value == 0)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_text(value: Any) -> str:
    """JSON that PostgreSQL's jsonb takes.

    Raises:
        CatalogError: NaN, infinities, NUL characters and lone surrogates, which jsonb refuses.
    """
    try:
        text = _ENCODER.encode(value)
        if not text.isascii():
            text.encode("utf-8")
    except UnicodeEncodeError:
        raise CatalogError("metadata holds a text that is not valid Unicode (a lone surrogate)") from None
    except (TypeError, ValueError) as problem:
        raise CatalogError(f"metadata is not JSON: {problem}") from None
    # Escaped backslashes come in pairs: only an odd run before u0000 is the escape of a NUL.
    if "\\u0000" in text and re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise CatalogError("metadata holds a NUL character, which PostgreSQL cannot store")
    return text


def differing_paths(before: Any, after: Any, depth: int = 2) -> list[str]:
    """Which parts of two JSON values differ, as dotted paths. Values are left out: a parameter may be private."""
    if before == after:
        return []
    if depth == 0 or not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return [""]
    found = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before or key not in after:
            found.append(str(key))
            continue
        for rest in differing_paths(before[key], after[key], depth - 1):
            found.append(f"{key}.{rest}" if rest else str(key))
    return found


def _operators(column: str, value: Any) -> Any:
    if column == "context_length":
        number = _int(value, column)
        if number is not None and number < 1:
            raise CatalogError(f"context_length is {number}: give the number of tokens, 1 or more")
        return number
    if column in ("name", "provider"):
        if not str(value).strip():
            key = "display_name" if column == "name" else column
            raise CatalogError(f"{key} is empty: give a text, or leave it out to keep the present one")
        return value
    if column == "availability":
        if value not in (AVAILABLE, UNAVAILABLE):
            raise CatalogError(f"availability is {_shown(value)}: give {AVAILABLE} or {UNAVAILABLE}")
        return value
    if column in ("supports_streaming", "restricted_access"):
        return _bool(value, column)
    return value if value != "" else None


def _text(value: Any, column: str, longest: int | None) -> str | None:
    if value is None or isinstance(value, str):
        text = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        text = str(value)
    else:
        raise CatalogError(f"{column} is not a text: {_shown(value)}")
    if not text:
        return text
    if "\x00" in text:
        raise CatalogError(f"{column} holds a NUL character, which PostgreSQL cannot store")
    if longest is not None and len(text) > longest:
        raise CatalogError(f"{column} has {len(text)} characters, the column holds {longest}: {_shown(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise CatalogError(f"{column} is not valid Unicode (a lone surrogate)") from None
    return text


def _int(value: Any, column: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool):
        raise CatalogError(f"{column} is {value}, not a whole number")
    if (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _INTEGER.match(value)):
        value = int(value)
    if not isinstance(value, int):
        raise CatalogError(f"{column} is {_shown(value)}, not a whole number")
    if value not in INT4:
        raise CatalogError(f"{column} is {value}: the column holds at most {INT4[-1]}")
    return value


def _bool(value: Any, column: str) -> bool:
    if not truthy(value):
        return False
    if value is True or (value == 1 and isinstance(value, (int, float))):
        return True
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE_WORDS:
            return True
        if word in _FALSE_WORDS:
            return False
    raise CatalogError(f"{column} is {_shown(value)}, not true or false")


def _cost(info: Mapping[str, Any], params: Mapping[str, Any], column: str) -> Decimal | None:
    value = info.get(column)
    if not truthy(value):
        value = params.get(column)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
            raise InvalidOperation
        number = Decimal(str(value).strip())
        if not number.is_finite():
            raise InvalidOperation
    except InvalidOperation:
        raise CatalogError(f"{column} is {_shown(value)}, not a number of US dollars per token") from None
    if abs(number) >= COST_BOUND:
        raise CatalogError(f"{column} is {number}: the column holds less than {COST_BOUND} US dollars per token")
    number = number.quantize(COST_STEP, rounding=ROUND_HALF_UP)
    if abs(number) >= COST_BOUND:
        raise CatalogError(f"{column} is {number}: the column holds less than {COST_BOUND} US dollars per token")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
