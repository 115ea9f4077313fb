# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""InferenceServices as OpenShift AI writes them, and what becomes of them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import kserve
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError

RAW = {"serving.kserve.io/deploymentMode": "RawDeployment"}


def service_of_inference(name="granite", namespace="llm", *, args=(), url="", **metadata: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"conditions": [{"type": "Ready", "status": "True"}]}
    if url:
        status["address"] = {"url": url}
    model = {"modelFormat": {"name": "vLLM"}, "runtime": name, "args": list(args)}
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z", **metadata},
        "spec": {"predictor": {"model": model}},
        "status": status,
    }


def found(*services: dict[str, Any], **beside: Any) -> kserve.Found:
    return kserve.models(services, kserve.Surroundings(**beside))


def service(cluster_ip="None", *ports: tuple[str, int, Any], kind="ClusterIP") -> dict[tuple[str, str], Any]:
    listed = [{"name": name, "port": port, "targetPort": target} for name, port, target in ports]
    return {("llm", "granite-predictor"): {"spec": {"type": kind, "clusterIP": cluster_ip, "ports": listed}}}


def test_a_model_of_the_dashboard():
    one = service_of_inference(
        args=["--max-model-len", "131072", "--enable-auto-tool-choice", "--tool-call-parser=granite"],
        annotations={
            **RAW,
            "openshift.io/display-name": "Granite 3.2",
            "opendatahub.io/genai-use-case": "chat with tools",
            "opendatahub.io/model-type": "generative",
        },
        labels={"opendatahub.io/dashboard": "true", "opendatahub.io/genai-asset": "true"},
    )
    got = found(one, services=service("None", ("granite-predictor", 80, 8080)), runtimes={})
    assert got.models == [
        {
            "model_name": "granite",
            "litellm_model": "openai/granite",
            "custom_llm_provider": "openai",
            "api_base": "http://granite-predictor.llm.svc.cluster.local:8080/v1",
            "api_key": "sk-placeholder",
            "capabilities": ["chat", "function_calling", "tool_choice"],
            "context_length": 131072,
        }
    ]
    assert got.catalogue == [{**got.models[0], "display_name": "Granite 3.2", "description": "chat with tools"}]
    assert got.sources[0]["runtime"] == "granite"
    assert got.line == "1 model ready"


@pytest.mark.parametrize(
    ("services", "url", "annotations", "address"),
    [
        (service("10.0.0.1", ("http", 80, 8080)), "", RAW, "http://granite-predictor.llm.svc.cluster.local"),
        (service("None", ("http", 80, "http")), "", RAW, "http://granite-predictor.llm.svc.cluster.local:8080"),
        (service("10.0.0.1", ("http", 8888, 8080)), "", RAW, "http://granite-predictor.llm.svc.cluster.local:8888"),
        (
            service("None", ("http", 80, 8080), ("https", 8443, "https")),
            "",
            {**RAW, "security.opendatahub.io/enable-auth": "true"},
            "https://granite-predictor.llm.svc.cluster.local:8443",
        ),
        (
            {},
            "http://granite-predictor.llm.svc.cluster.local:8080",
            RAW,
            "http://granite-predictor.llm.svc.cluster.local:8080",
        ),
        # kserve/kserve#2829
        ({}, "http://granite.llm.svc.cluster.local/", RAW, "http://granite-predictor.llm.svc.cluster.local:8080"),
        (None, "http://granite.llm.svc.cluster.local/", RAW, "http://granite-predictor.llm.svc.cluster.local:8080"),
        (None, "https://granite.llm.svc.cluster.local", {}, "https://granite.llm.svc.cluster.local"),
        (
            service("", ("http", 80, 80), kind="ExternalName"),
            "https://granite.llm.svc.cluster.local",
            {},
            "https://granite.llm.svc.cluster.local",
        ),
        (None, "https://granite-llm.apps.example.com", {}, "http://granite-predictor.llm.svc.cluster.local"),
        (None, "", {}, "http://granite-predictor.llm.svc.cluster.local"),
    ],
)
def test_the_address_inside_the_cluster(services, url, annotations, address):
    assert kserve.address(service_of_inference(url=url, annotations=annotations), services) == address


def test_the_name_that_it_is_served_under():
    runtime = {
        "spec": {"containers": [{"args": ["--port=8080", "--served-model-name={{.Name}}", "--max-model-len=8k"]}]}
    }
    runtimes = {("llm", "granite"): runtime}
    got = found(service_of_inference(), runtimes=runtimes).models[0]
    assert (got["litellm_model"], got["context_length"]) == ("openai/granite", 8000)
    one = service_of_inference(args=["--served-model-name", "RedHatAI/granite", "--max-model-len", "32K"])
    got = found(one, runtimes=runtimes).models[0]
    assert (got["model_name"], got["litellm_model"], got["context_length"]) == (
        "granite",
        "openai/RedHatAI/granite",
        32768,
    )


@pytest.mark.parametrize(
    ("args", "capabilities"),
    [
        ([], ["chat"]),
        (["--task=embed"], ["embeddings"]),
        (["--convert", "embed"], ["embeddings"]),
        (["--limit-mm-per-prompt", '{"image": 4, "video": 0}'], ["chat", "vision"]),
        (['--limit-mm-per-prompt={"image": 0}'], ["chat"]),
        (["--limit-mm-per-prompt image=2"], ["chat", "vision"]),
        (["--tool-call-parser hermes"], ["chat", "function_calling", "tool_choice"]),
        (["vllm serve /mnt/models --task embed --dtype 'auto'"], ["embeddings"]),
        (["vllm serve --task embed --broken 'quote"], ["embeddings"]),
    ],
)
def test_capabilities_from_arguments(args, capabilities):
    assert found(service_of_inference(args=args)).models[0]["capabilities"] == capabilities


def test_marks_win():
    marks = {
        "model-name": "docling",
        "litellm-model": "hosted_vllm/docling",
        "api-base": "http://elsewhere.svc/v1",
        "capabilities": "document_conversion, vision",
        "context-length": "4096",
        "description": "Documents",
        "category": "documents",
    }
    one = service_of_inference(annotations={f"rhpds.litemaas/{name}": text for name, text in marks.items()})
    one["spec"]["predictor"] = {"containers": [{"name": "kserve-container", "image": "quay.io/docling/docling-serve"}]}
    got = found(one)
    assert got.catalogue == [
        {
            "model_name": "docling",
            "litellm_model": "hosted_vllm/docling",
            "api_base": "http://elsewhere.svc/v1",
            "api_key": "sk-placeholder",
            "capabilities": ["document_conversion", "vision"],
            "context_length": 4096,
            "description": "Documents",
            "category": "documents",
        }
    ]
    assert not got.warnings


def test_marks_that_say_nothing_are_named():
    one = service_of_inference(labels={"rhpds.litemaas/capabilities": "chat telepathy"})
    one["metadata"]["annotations"] = {"rhpds.litemaas/context-length": "long"}
    got = found(one)
    assert got.models[0]["capabilities"] == ["chat"]
    assert "context_length" not in got.models[0]
    assert "llm/granite" in got.warnings[0] and "telepathy" in got.warnings[0]
    assert "'long' is no number of tokens" in got.warnings[1]


def test_what_litellm_could_not_call_is_skipped_with_the_reason():
    predictive = service_of_inference("fraud", annotations={"opendatahub.io/model-type": "predictive"})
    onnx = service_of_inference("onnx")
    onnx["spec"]["predictor"]["model"]["modelFormat"]["name"] = "onnx"
    custom = service_of_inference("custom")
    custom["spec"]["predictor"] = {"containers": [{"name": "c"}]}
    skip = service_of_inference("skip", annotations={"rhpds.litemaas/skip": "true"})
    got = found(predictive, onnx, custom, skip)
    reasons = {one["name"]: one["reason"] for one in got.skipped}
    assert "predictive" in reasons["fraud"]
    assert "'onnx'" in reasons["onnx"] and "rhpds.litemaas/capabilities" in reasons["onnx"]
    assert "a container of its own" in reasons["custom"]
    assert "rhpds.litemaas/skip" in reasons["skip"]
    assert got.models == []


def test_hugging_face_has_a_path_of_its_own():
    one = service_of_inference()
    one["spec"]["predictor"]["model"]["modelFormat"]["name"] = "huggingface"
    assert found(one).models[0]["api_base"].endswith(".cluster.local/openai/v1")


def test_what_asks_for_a_token_comes_apart_without_a_key():
    for place, name in (
        ("annotations", "security.opendatahub.io/enable-auth"),
        ("labels", "security.openshift.io/enable-authentication"),
    ):
        got = found(service_of_inference(**{place: {name: "true"}}))
        assert got.models == [] and got.catalogue == []
        assert [("api_key" in one, one["model_name"]) for one in got.needs_token] == [(False, "granite")]
        assert got.line == "0 models ready, 1 needing a token"
    assert found(service_of_inference(annotations={"security.opendatahub.io/enable-auth": "false"})).models


def test_what_is_not_ready_comes_apart_with_the_reason():
    pending = service_of_inference("pending")
    pending["status"] = {}
    stopped = service_of_inference("stopped", annotations={"serving.kserve.io/stop": "true"})
    broken = service_of_inference("broken")
    broken["status"] = {
        "conditions": [
            {"type": "PredictorReady", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "no GPU"},
            {"type": "IngressReady", "status": "False", "severity": "Info", "message": "of no concern"},
            {"type": "Ready", "status": "False"},
        ],
        "modelStatus": {"lastFailureInfo": {"message": "out of memory"}},
    }
    quiet = service_of_inference("quiet")
    quiet["status"] = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    got = found(pending, stopped, broken, quiet)
    assert {one["name"]: one["reason"] for one in got.not_ready} == {
        "pending": "nothing is known of it yet: KServe has not looked at it",
        "stopped": "stopped",
        "broken": "PredictorReady: MinimumReplicasUnavailable no GPU; model: out of memory",
        "quiet": "Ready is Unknown",
    }
    assert got.models == []


def test_one_name_in_two_namespaces_is_one_model_with_two_deployments():
    old = service_of_inference(namespace="z", creationTimestamp="2025-01-01T00:00:00Z")
    new = service_of_inference(namespace="a", creationTimestamp="2026-01-01T00:00:00Z")
    got = found(old, new)
    assert [one.get("deployment") for one in got.models] == ["a/granite", None]
    assert [one.get("deployment") for one in got.catalogue] == ["a/granite", None]


def test_numbers_of_tokens():
    assert [kserve.tokens(text) for text in ("4096", "32k", "32K", "1.5M", "auto", "-1", "")] == [
        4096,
        32000,
        32768,
        1572864,
        0,
        0,
        0,
    ]


class Answers:
    """What an API server has, by path; a number is a refusal."""

    def __init__(self, **objects: Any) -> None:
        self.objects = objects

    def find(self, path: str, _rights: str = "", **_query: str) -> Any:
        what = self.objects.get(path.rpartition("/")[2])
        if isinstance(what, int):
            raise ClusterError("List", "forbidden", status=what)
        return what


def test_a_cluster_without_kserve():
    with pytest.raises(ClusterError, match=r"this cluster has no serving\.kserve\.io/v1beta1"):
        kserve.read(Answers(), ["llm"])


def test_what_may_not_be_read_is_done_without():
    answers = Answers(
        inferenceservices={"items": [service_of_inference(annotations=RAW)]}, services=403, servingruntimes=403
    )
    got = kserve.read(answers, ["llm"])
    assert got.models[0]["api_base"] == "http://granite-predictor.llm.svc.cluster.local:8080/v1"
    assert len(got.warnings) == 3 and "is a guess" in got.warnings[2]
    with pytest.raises(ClusterError):
        kserve.read(Answers(inferenceservices={"items": [service_of_inference()]}, services=500), ["llm"])


def test_a_guessed_address_is_told():
    """Ready, and nothing says where: neither a Service nor the status."""
    got = found(service_of_inference(annotations=RAW), services={}, runtimes={})
    assert [one["api_base"] for one in got.models] == ["http://granite-predictor.llm.svc.cluster.local:8080/v1"]
    assert len(got.warnings) == 1
    assert "llm/granite is ready" in got.warnings[0] and f"{got.models[0]['api_base']} is a guess" in got.warnings[0]
    unknown = service_of_inference(annotations=RAW)
    unknown["status"]["conditions"][0]["status"] = "False"
    told = service_of_inference(annotations=RAW, url="http://granite-predictor.llm.svc.cluster.local:8080")
    given = service_of_inference(annotations={**RAW, "rhpds.litemaas/api-base": "http://here/v1"})
    assert not any(found(one, services={}, runtimes={}).warnings for one in (unknown, told, given))
    assert not found(service_of_inference(), services=service("None", ("http", 80, 8080)), runtimes={}).warnings
