# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""KServe's InferenceServices as models of LiteLLM. :func:`read` talks to the cluster, everything else is pure.

What shaped it:

- The predictor's Service is the address inside the cluster. OpenShift AI makes it headless, so that the container's
  port (8080, or 8443 of the proxy that checks tokens) is the one to call. ``status.address.url`` left that out for long
  (kserve/kserve#4998), and in raw mode named a Service that isn't there (kserve/kserve#2829).
- The model is called by the name that vLLM serves it under: ``--served-model-name``, in the InferenceService or in its
  ServingRuntime, where ``{{.Name}}`` is the InferenceService's name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.rhpds.litemaas.plugins.module_utils import capabilities as caps
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest, if_allowed

GROUP = "/apis/serving.kserve.io/v1beta1"
RUNTIMES = "/apis/serving.kserve.io/v1alpha1"
#: Annotations (or labels) by which whoever deploys a model says what can't be seen: PREFIX + model-name, litellm-model,
#: api-base, capabilities, context-length, description, category, skip.
PREFIX = "rhpds.litemaas/"
DISPLAY_NAME = "openshift.io/display-name"
DESCRIPTIONS = ("openshift.io/description", "opendatahub.io/description", "opendatahub.io/genai-use-case")
MODEL_TYPE = "opendatahub.io/model-type"
#: Either of them makes a proxy before the model ask for a token.
AUTH = ("security.opendatahub.io/enable-auth", "security.openshift.io/enable-authentication")
MODE = "serving.kserve.io/deploymentMode"
STOP = "serving.kserve.io/stop"
OF_SERVICE = "serving.kserve.io/inferenceservice"
#: Formats that are served with OpenAI's API, and the path that it is found under.
FORMATS = {"vllm": "/v1", "vllm-cpu": "/v1", "huggingface": "/openai/v1"}
PORT, TOKEN_PORT = 8080, 8443
#: vLLM's suffixes: decimal in small letters, binary in capitals.
_SIZES = {"k": 1000, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgKMG]?)")


class NotAModel(Exception):
    """Why an InferenceService is none that LiteLLM could call."""


@dataclass
class Found:
    """What the InferenceServices of some namespaces come to.

    Attributes:
        models: options of ``litellm_model``, an item each.
        catalogue: the same by position, with what LiteMaaS shows: items of the models role.
        needs_token: like ``catalogue``, of those that answer to a token only: ``api_key`` is to be added.
        not_ready, skipped: ``{name, namespace, model_name, reason}``.
    """

    models: list[dict[str, Any]] = field(default_factory=list)
    catalogue: list[dict[str, Any]] = field(default_factory=list)
    needs_token: list[dict[str, Any]] = field(default_factory=list)
    not_ready: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """One line for a tired person."""
        parts = [f"{len(self.models)} model{'s' * (len(self.models) != 1)} ready"]
        for word, some in (
            ("needing a token", self.needs_token),
            ("not ready", self.not_ready),
            ("skipped", self.skipped),
        ):
            if some:
                parts.append(f"{len(some)} {word}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Surroundings:
    """What stands beside an InferenceService; None where it may not be read.

    Attributes:
        services: by namespace and name.
        runtimes: by namespace and name.
    """

    services: Mapping[tuple[str, str], Mapping[str, Any]] | None = None
    runtimes: Mapping[tuple[str, str], Mapping[str, Any]] | None = None


def read(
    rest: Rest, namespaces: Sequence[str], label_selectors: Sequence[str] = (), names: Sequence[str] = ()
) -> Found:
    """The InferenceServices of some namespaces, or of all.

    Raises:
        ClusterError: no right to read them, no KServe there, no such namespace.
    """
    services: dict[tuple[str, str], Mapping[str, Any]] | None = {}
    runtimes: dict[tuple[str, str], Mapping[str, Any]] | None = {}
    warnings: list[str] = []
    found: list[Mapping[str, Any]] = []
    for namespace in namespaces or [""]:
        where = f"/namespaces/{namespace}" if namespace else ""
        query = {"labelSelector": ",".join(label_selectors)} if label_selectors else {}
        listed = _list(rest, f"{GROUP}{where}/inferenceservices", "list on inferenceservices.serving.kserve.io", query)
        if listed is None:
            raise ClusterError(
                f"List InferenceServices{f' in {namespace}' if namespace else ''}",
                "this cluster has no serving.kserve.io/v1beta1",
                "Install OpenShift AI or KServe, or look at the kubeconfig's context",
                404,
            )
        if not listed and namespace and rest.find(f"/api/v1/namespaces/{namespace}", "get on namespaces") is None:
            raise ClusterError(
                f"List InferenceServices in {namespace}", "there is no such namespace", "Check the name", 404
            )
        found += listed
        if listed:
            selected = {"labelSelector": OF_SERVICE}
            services = _gather(rest, f"/api/v1{where}/services", selected, services, warnings, "services")
            runtimes = _gather(rest, f"{RUNTIMES}{where}/servingruntimes", {}, runtimes, warnings, "servingruntimes")
    wanted = [one for one in found if not names or one["metadata"]["name"] in names]
    missing = sorted(set(names) - {one["metadata"]["name"] for one in wanted})
    if missing:
        warnings.append(f"no InferenceService of this name: {', '.join(missing)}")
    out = models(wanted, Surroundings(services, runtimes))
    out.warnings[:0] = dict.fromkeys(warnings)
    return out


def _list(rest: Rest, path: str, rights: str, query: Mapping[str, str]) -> list[dict[str, Any]] | None:
    found = rest.find(path, rights, **query)
    return None if found is None else list(found.get("items") or ())


def _gather(
    rest: Rest,
    path: str,
    query: Mapping[str, str],
    into: dict[tuple[str, str], Mapping[str, Any]] | None,
    warnings: list[str],
    what: str,
) -> dict[tuple[str, str], Mapping[str, Any]] | None:
    """More of them; None from the first time on that they may not be read, as a part would mislead."""
    listed, refusal = if_allowed(lambda: _list(rest, path, f"list on {what}", query))
    if refusal:
        warnings.append(f"the account may not list {what}: addresses and names are worked out without them")
        return None
    if into is not None:
        into |= {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in listed or ()}
    return into


def models(services: Iterable[Mapping[str, Any]], beside: Surroundings) -> Found:
    """What InferenceServices come to, sorted by namespace and name."""
    out = Found()
    ready: list[tuple[Mapping[str, Any], dict[str, Any], dict[str, Any], bool]] = []
    for one in sorted(services, key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"])):
        metadata = one["metadata"]
        who = {"name": metadata["name"], "namespace": metadata["namespace"]}
        try:
            item, shown = _item(one, beside, out.warnings)
        except NotAModel as reason:
            out.skipped.append(
                {**who, "model_name": mark(one, "model-name") or metadata["name"], "reason": str(reason)}
            )
            continue
        why = unready(one)
        if why:
            out.not_ready.append({**who, "model_name": item["model_name"], "reason": why})
            continue
        if not mark(one, "api-base") and known_address(one, beside.services) is None:
            out.warnings.append(
                f"InferenceService {who['namespace']}/{who['name']} is ready, but its status has no address inside the"
                f" cluster, and no Service {_predictor(one)} is known: {item['api_base']} is a guess. Try it, or set"
                f" {PREFIX}api-base"
            )
        ready.append((one, item, shown, needs_token(one)))
    _tell_apart(ready)
    for one, item, shown, token in ready:
        if token:
            out.needs_token.append({**item, **shown})
        else:
            out.models.append(item)
            out.catalogue.append({**item, **shown})
        out.sources.append(
            {
                "name": one["metadata"]["name"],
                "namespace": one["metadata"]["namespace"],
                "model_name": item["model_name"],
                "runtime": _model(one).get("runtime") or "",
                "format": (_model(one).get("modelFormat") or {}).get("name") or "",
                "needs_token": token,
            }
        )
    return out


def _tell_apart(ready: Sequence[tuple[Mapping[str, Any], dict[str, Any], dict[str, Any], bool]]) -> None:
    """Give each further InferenceService of a model name a label, so that LiteLLM balances the load between them.

    The oldest one has none: it doesn't change when another one comes.
    """
    first: set[str] = set()
    for one, item, _shown, _token in sorted(ready, key=lambda entry: _age(entry[0])):
        if item["model_name"] in first:
            item["deployment"] = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        first.add(item["model_name"])


def _age(one: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = one["metadata"]
    return str(metadata.get("creationTimestamp") or ""), metadata["namespace"], metadata["name"]


def _item(one: Mapping[str, Any], beside: Surroundings, warnings: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options for litellm_model, and those of the catalogue. Raises NotAModel."""
    name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
    where = f"InferenceService {namespace}/{name}"
    if _is_true(mark(one, "skip")):
        raise NotAModel(f"{PREFIX}skip says so")
    model = _model(one)
    style = str((model.get("modelFormat") or {}).get("name") or "").lower()
    given = mark(one, "capabilities")
    if given is None:
        kind = _annotation(one, MODEL_TYPE)
        if kind and kind.lower() != "generative":
            raise NotAModel(f"{MODEL_TYPE} is {kind}: only generative models have OpenAI's API")
        if style not in FORMATS:
            what = f"format {style!r}" if style else "a container of its own"
            raise NotAModel(f"{what} isn't known to have OpenAI's API: say what it can do with {PREFIX}capabilities")
    runtime = (beside.runtimes or {}).get((namespace, str(model.get("runtime") or "")))
    arguments = _arguments(runtime) | _arguments(one)
    served = _served_name(arguments, name)
    item: dict[str, Any] = {
        "model_name": mark(one, "model-name") or name,
        "litellm_model": mark(one, "litellm-model") or f"openai/{served}",
        "custom_llm_provider": "openai",
        "api_base": mark(one, "api-base") or f"{address(one, beside.services)}{FORMATS.get(style, '/v1')}",
    }
    if mark(one, "litellm-model"):
        del item["custom_llm_provider"]
    if not needs_token(one):
        item["api_key"] = "sk-placeholder"
    item["capabilities"] = _capabilities(given, arguments, where, warnings)
    length = mark(one, "context-length") or arguments.get("max-model-len")
    if length and tokens(length):
        item["context_length"] = tokens(length)
    elif mark(one, "context-length"):
        warnings.append(f"{where}: {PREFIX}context-length {length!r} is no number of tokens")
    description = mark(one, "description") or next(filter(None, (_annotation(one, key) for key in DESCRIPTIONS)), "")
    shown = {
        "display_name": _annotation(one, DISPLAY_NAME),
        "description": description,
        "category": mark(one, "category"),
    }
    return item, {key: value for key, value in shown.items() if value}


def address(one: Mapping[str, Any], services: Mapping[tuple[str, str], Mapping[str, Any]] | None) -> str:
    """The predictor's address inside the cluster, without a path.

    Args:
        services: by namespace and name; None where they are not known.
    """
    token = needs_token(one)
    scheme, host = "https" if token else "http", f"{_predictor(one)}.{one['metadata']['namespace']}.svc.cluster.local"
    guess = f"{scheme}://{host}:{TOKEN_PORT if token else PORT}" if is_raw(one) else f"{scheme}://{host}"
    return known_address(one, services) or guess


def _predictor(one: Mapping[str, Any]) -> str:
    return f"{one['metadata']['name']}-predictor"


def known_address(one: Mapping[str, Any], services: Mapping[tuple[str, str], Mapping[str, Any]] | None) -> str | None:
    """The same, where its Service or its status tells it; None where it could only be guessed."""
    name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
    host = f"{_predictor(one)}.{namespace}.svc.cluster.local"
    token = needs_token(one)
    scheme = "https" if token else "http"
    service = (services or {}).get((namespace, _predictor(one)))
    if service is not None and service.get("spec", {}).get("type") != "ExternalName":
        return f"{scheme}://{host}{_port(service['spec'], token)}"
    told = urlsplit(str(((one.get("status") or {}).get("address") or {}).get("url") or ""))
    # In raw mode it once named a Service that isn't there.
    wrong = is_raw(one) and str(told.hostname).startswith(f"{name}.")
    if told.scheme and _is_inside(told.hostname or "") and not wrong:
        return f"{told.scheme}://{told.netloc}"
    return None


def _port(spec: Mapping[str, Any], token: bool) -> str:
    """``:8080``, or nothing where it is the scheme's own."""
    ports: Sequence[Mapping[str, Any]] = spec.get("ports") or [{"port": 443 if token else 80}]
    secure = [one for one in ports if "https" in str(one.get("name", "")) or one.get("port") in (443, TOKEN_PORT)]
    plain = [one for one in ports if one not in secure]
    chosen = ((secure if token else plain) or list(ports))[0]
    number = chosen.get("port")
    if spec.get("clusterIP") == "None":
        # Nobody translates the port: the pod itself is called.
        target = chosen.get("targetPort")
        number = target if isinstance(target, int) else TOKEN_PORT if token else PORT
    return "" if number in (None, 443 if token else 80) else f":{number}"


def unready(one: Mapping[str, Any]) -> str:
    """Why it doesn't serve; "" where it does."""
    if _is_true(_annotation(one, STOP)):
        return "stopped"
    status = one.get("status") or {}
    conditions = {entry.get("type"): entry for entry in status.get("conditions") or ()}
    ready = conditions.get("Ready")
    if ready is None:
        return "nothing is known of it yet: KServe has not looked at it"
    if ready.get("status") == "True":
        return ""
    told = [
        f"{entry['type']}: {_words(entry)}"
        for entry in (ready, *(conditions[kind] for kind in sorted(set(conditions) - {"Ready"}, key=str)))
        if entry.get("status") != "True" and entry.get("severity") != "Info" and _words(entry)
    ]
    state = status.get("modelStatus") or {}
    failure = (state.get("lastFailureInfo") or {}).get("message")
    told += [f"model: {failure}"] if failure else []
    return "; ".join(told)[:500] or f"Ready is {ready.get('status')}"


def _words(condition: Mapping[str, Any]) -> str:
    return " ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))


def needs_token(one: Mapping[str, Any]) -> bool:
    """Whether a proxy before the model asks for a token."""
    return any(_is_true(_annotation(one, key)) for key in AUTH)


def is_raw(one: Mapping[str, Any]) -> bool:
    """Whether it is a Deployment of its own, not one of Knative."""
    mode = _annotation(one, MODE) or str((one.get("status") or {}).get("deploymentMode") or "")
    return mode in ("RawDeployment", "Standard")


def mark(one: Mapping[str, Any], name: str) -> str | None:
    """One of our own annotations or labels."""
    return _annotation(one, PREFIX + name)


def _annotation(one: Mapping[str, Any], name: str) -> str | None:
    metadata = one["metadata"]
    for place in ("annotations", "labels"):
        value = str((metadata.get(place) or {}).get(name) or "").strip()
        if value:
            return value
    return None


def _capabilities(given: str | None, arguments: Mapping[str, str], where: str, warnings: list[str]) -> list[str]:
    if given is not None:
        words = [word for word in re.split(r"[\s,]+", given) if word]
        unknown = [word for word in words if word not in caps.CHOICES]
        if unknown:
            warnings.append(
                f"{where}: {PREFIX}capabilities names {', '.join(unknown)}; known are {', '.join(caps.CHOICES)}"
            )
        return [word for word in words if word in caps.CHOICES] or ["chat"]
    if arguments.get("task") in ("embed", "embedding") or arguments.get("convert") == "embed":
        return ["embeddings"]
    found = ["chat"]
    if "enable-auto-tool-choice" in arguments or "tool-call-parser" in arguments:
        found += ["function_calling", "tool_choice"]
    if re.search(r"image\W+[1-9]", arguments.get("limit-mm-per-prompt", "")):
        found.append("vision")
    return found


def _served_name(arguments: Mapping[str, str], name: str) -> str:
    served = re.sub(r"\{\{\s*\.Name\s*\}\}", name, arguments.get("served-model-name", ""))
    return served.split()[0] if served.split() else name


def _model(one: Mapping[str, Any]) -> Mapping[str, Any]:
    found = ((one.get("spec") or {}).get("predictor") or {}).get("model")
    return found if isinstance(found, Mapping) else {}


def _arguments(one: Mapping[str, Any] | None) -> dict[str, str]:
    """Options of the server, without their dashes; "" for those without a value."""
    spec = (one or {}).get("spec") or {}
    predictor = spec.get("predictor") or {}
    out: dict[str, str] = {}
    containers = [*(spec.get("containers") or ()), *(predictor.get("containers") or ()), _model(one or {})]
    for container in containers:
        words = [part for key in ("command", "args") for word in container.get(key) or () for part in _split(str(word))]
        for number, word in enumerate(words):
            if not word.startswith("--"):
                continue
            name, equals, value = word[2:].partition("=")
            following = words[number + 1] if number + 1 < len(words) else "--"
            if not equals and (not following.startswith("-") or re.fullmatch(r"-\d+", following)):
                value = following
            out[name.replace("_", "-")] = value.strip("'\"")
    return out


def _split(word: str) -> list[str]:
    """An argument as it is, or in two where name and value are written as one; a shell's line in its words."""
    if re.search(r"\s--\w", word):
        try:
            return shlex.split(word)
        except ValueError:  # quotes that don't end
            return word.split()
    name, space, value = word.partition(" ")
    return [name, value.strip()] if word.startswith("--") and space and "=" not in name else [word]


def tokens(text: str) -> int:
    """A number of tokens as vLLM reads it, such as ``4096``, ``32k`` or ``1.5M``; 0 where it is none."""
    found = _SIZE.fullmatch(text.strip().replace("_", ""))
    return int(float(found[1]) * _SIZES.get(found[2], 1)) if found else 0


def _is_inside(host: str) -> bool:
    return host.endswith((".svc", ".svc.cluster.local"))


def _is_true(text: str | None) -> bool:
    return str(text or "").lower() in ("true", "yes", "1")
