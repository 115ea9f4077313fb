# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""InferenceServices of a real API server, registered in a real LiteLLM. No KServe runs: their status is ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, Rest
from ansible_collections.rhpds.litemaas.tests.integration import harness, kube
from ansible_collections.rhpds.litemaas.tests.integration.vertexlab import examples

KSERVE = "/apis/serving.kserve.io/v1beta1/namespaces"
READY = [{"type": "Ready", "status": "True"}]


@pytest.fixture
def rest(stack: harness.Stack) -> Rest:
    return Cluster(kubeconfig=stack.variables["KUBECONFIG"]).rest()


@pytest.fixture
def namespace(stack: harness.Stack, prefix: str) -> Iterator[str]:
    with kube.Kube(stack).namespace(f"{prefix}llm") as place:
        yield place.name


@pytest.fixture
def serve(rest: Rest, namespace: str) -> Callable[..., None]:
    def make(name: str, *, conditions: Any = None, args: Any = (), port: int = 8080, **metadata: Any) -> None:
        predictor = {"model": {"modelFormat": {"name": "vLLM"}, "runtime": name, "args": list(args)}}
        body = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, **metadata},
            "spec": {"predictor": predictor},
        }
        rest.request("POST", f"{KSERVE}/{namespace}/inferenceservices", body)
        status = {"status": {"conditions": READY if conditions is None else conditions}}
        path = f"{KSERVE}/{namespace}/inferenceservices/{name}/status"
        rest.request("PATCH", path, status, content_type="application/merge-patch+json")
        ports = [{"name": "http", "port": 80, "targetPort": port, "protocol": "TCP"}]
        labels = {"serving.kserve.io/inferenceservice": name}
        service = {
            "metadata": {"name": f"{name}-predictor", "labels": labels},
            "spec": {"clusterIP": "None", "ports": ports, "selector": {"app": name}},
        }
        rest.request("POST", f"/api/v1/namespaces/{namespace}/services", service)

    return make


@pytest.fixture
def read(
    run_module: Callable[..., harness.ModuleResult], stack: harness.Stack, namespace: str
) -> Callable[..., harness.ModuleResult]:
    def run(**args: Any) -> harness.ModuleResult:
        env = {"K8S_AUTH_KUBECONFIG": stack.variables["KUBECONFIG"]}
        return run_module("kserve_model_info", {"namespaces": [namespace], **args}, env=env)

    return run


def test_what_is_served_can_be_registered_as_it_is(
    serve: Callable[..., None],
    read: Callable[..., harness.ModuleResult],
    run_module: Callable[..., harness.ModuleResult],
    litellm: harness.LiteLLM,
    namespace: str,
    prefix: str,
) -> None:
    annotations = {"serving.kserve.io/deploymentMode": "RawDeployment", "openshift.io/display-name": "Granite"}
    serve(f"{prefix}granite", args=["--max-model-len=4096", "--enable-auto-tool-choice"], annotations=annotations)
    serve(f"{prefix}embed", args=["--task=embed"], labels={"opendatahub.io/genai-asset": "true"}, port=8000)
    serve(f"{prefix}down", conditions=[{"type": "Ready", "status": "False", "reason": "NoGPU"}])
    serve(f"{prefix}secret", annotations={"security.opendatahub.io/enable-auth": "true"})

    got = read()
    assert not got.changed
    assert got["msg"] == "2 models ready, 1 needing a token, 1 not ready"
    assert got["not_ready"] == [
        {"name": f"{prefix}down", "namespace": namespace, "model_name": f"{prefix}down", "reason": "Ready: NoGPU"}
    ]
    assert [one["model_name"] for one in got["needs_token"]] == [f"{prefix}secret"]
    assert "api_key" not in got["needs_token"][0]
    assert got["catalogue_models"][1]["display_name"] == "Granite"
    inside = "svc.cluster.local"
    assert [one["api_base"] for one in got["models"]] == [
        f"http://{prefix}embed-predictor.{namespace}.{inside}:8000/v1",
        f"http://{prefix}granite-predictor.{namespace}.{inside}:8080/v1",
    ]

    made = run_module("litellm_model", {"models": got["models"], "scope": f"{prefix}kserve"})
    assert made["summary"]["created"] == 2, made["msg"]
    shown = {one["model_name"]: one for one in litellm.models(prefix)}
    granite = shown[f"{prefix}granite"]
    assert granite["litellm_params"]["api_base"] == got["models"][1]["api_base"]
    assert granite["litellm_params"]["model"] == f"openai/{prefix}granite"
    assert granite["model_info"]["max_tokens"] == 4096
    assert granite["model_info"]["supports_function_calling"] is True
    assert shown[f"{prefix}embed"]["model_info"]["mode"] == "embedding"
    assert not run_module("litellm_model", {"models": read()["models"], "scope": f"{prefix}kserve"}).changed


def test_only_what_is_asked_for(serve: Callable[..., None], read: Callable[..., harness.ModuleResult]) -> None:
    serve("one", labels={"opendatahub.io/genai-asset": "true"})
    serve("two")
    assert [one["model_name"] for one in read(names=["two"])["models"]] == ["two"]
    chosen = read(label_selectors=["opendatahub.io/genai-asset=true"])
    assert [one["model_name"] for one in chosen["models"]] == ["one"]
    assert {"one", "two"} <= {one["name"] for one in read(namespaces=[])["inference_services"]}
    missing = read(names=["three"])
    assert missing["models"] == []
    assert "no InferenceService of this name: three" in str(missing["warnings"])


def test_a_namespace_that_is_not_there(read: Callable[..., harness.ModuleResult]) -> None:
    result = read(namespaces=["nobody-has-it"])
    assert result.failed
    assert "List InferenceServices in nobody-has-it: there is no such namespace" in result["msg"]
    assert read()["models"] == []


def test_without_rights_it_says_which(
    run_module: Callable[..., harness.ModuleResult], stack: harness.Stack, rest: Rest, namespace: str
) -> None:
    kubeconfig = stack.variables["KUBECONFIG"]
    host = Cluster(kubeconfig=kubeconfig).client().configuration.host
    account = {"metadata": {"name": "nobody"}}
    rest.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/nobody/token"
    token = rest.request("POST", path, review)["status"]["token"]
    args = {"namespaces": [namespace], "host": host, "api_key": token, "validate_certs": False}
    result = run_module("kserve_model_info", args, env={"KUBECONFIG": "/dev/null"})
    assert result.failed
    assert "HTTP 403" in result["msg"]
    assert "The account needs list on inferenceservices.serving.kserve.io there" in result["msg"]
    assert token not in str(result)


def test_the_examples_run(serve: Callable[..., None], runner: harness.Runner, namespace: str, prefix: str) -> None:
    serve(f"{prefix}granite")
    replaced = {"llm-hosting": namespace, "scope: kserve": f"scope: {prefix}kserve"}
    env = {"K8S_AUTH_KUBECONFIG": runner.stack.variables["KUBECONFIG"]}
    done = runner.playbook(examples("kserve_model_info", **replaced), env=env)
    assert (done.rc, done.changed) == (0, 1), done.output
