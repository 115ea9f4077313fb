# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A namespace of a real API server with a Deployment ``litellm``, for tests of what Vertex AI needs there."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, Rest
from ansible_collections.rhpds.litemaas.tests.integration import harness, kube

AI, CLAUDE = "/etc/vertex-credentials/key.json", "/etc/vertex-claude-credentials/key.json"
APPLY = "application/apply-patch+yaml"


@dataclass
class Lab:
    """A namespace with a Deployment ``litellm``."""

    runner: harness.Runner
    rest: Rest
    namespace: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"K8S_AUTH_KUBECONFIG": self.runner.stack.variables["KUBECONFIG"]}

    def path(self, kind: str, name: str) -> str:
        group = "/apis/apps/v1" if kind == "deployments" else "/api/v1"
        return f"{group}/namespaces/{self.namespace}/{kind}/{name}".rstrip("/")

    def run(self, *, check: bool = False, diff: bool = False, **args: Any) -> harness.ModuleResult:
        args = {"namespace": self.namespace, "probe": "skip", "wait_timeout": 60, **args}
        return self.runner.module("vertex_credentials", args, check=check, diff=diff, env=self.environment)

    def template(self) -> dict[str, Any]:
        return self.rest.get(self.path("deployments", "litellm"))["spec"]["template"]

    def mounts(self) -> dict[str, str]:
        """Secret by folder, as the container has them."""
        spec = self.template()["spec"]
        secrets = {one["name"]: one["secret"]["secretName"] for one in spec.get("volumes") or ()}
        found = spec["containers"][0].get("volumeMounts") or ()
        assert all(one["readOnly"] for one in found)
        return {one["mountPath"]: secrets[one["name"]] for one in found}

    def revision(self) -> str:
        found = self.rest.get(self.path("deployments", "litellm"))
        return found["metadata"]["annotations"]["deployment.kubernetes.io/revision"]

    def secret(self, name: str) -> dict[str, str]:
        found = self.rest.find(self.path("secrets", name))
        assert found is not None
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    def make_secret(self, name: str, **data: str) -> None:
        body = {"metadata": {"name": name}, "stringData": data}
        self.rest.request("POST", self.path("secrets", ""), body)

    def patch(self, body: dict[str, Any], manager: str = "kubectl-edit") -> None:
        kind = "application/strategic-merge-patch+json"
        query = {"fieldManager": manager}
        self.rest.request("PATCH", self.path("deployments", "litellm"), body, content_type=kind, query=query)

    def apply(self, image: str) -> None:
        """The Deployment, as whoever deploys LiteMaaS applies it."""
        spec = {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "litellm"}},
            "template": {
                "metadata": {"labels": {"app": "litellm"}},
                "spec": {"containers": [{"name": "litellm", "image": f"quay.io/example/litellm:{image}"}]},
            },
        }
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "litellm"}, "spec": spec}
        query = {"fieldManager": "rhpds.litemaas", "force": "true"}
        self.rest.request("PATCH", self.path("deployments", "litellm"), body, query=query, content_type=APPLY)

    def assert_hidden(self, text: str) -> None:
        """No line of any key that the cluster has is in a text."""
        for item in self.rest.get(self.path("secrets", ""))["items"]:
            data = base64.b64decode((item.get("data") or {}).get("key.json") or "").decode()
            if data:
                key = json.loads(data)
                for line in [key["private_key_id"], *key["private_key"].splitlines()[1:-1]]:
                    assert line not in text
                assert item["data"]["key.json"] not in text

    def file(self, name: str, content: Any) -> str:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)


def examples(module: str, **replaced: str) -> str:
    """A play of the examples in a module's documentation, with other words in the place of some."""
    source = (harness.CHECKOUT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
    text = next(
        str(ast.literal_eval(node.value))
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "EXAMPLES"
    )
    for word, other in replaced.items():
        assert word in text, word
        text = text.replace(word, other)
    tasks = textwrap.indent(text.strip(), "    ")
    return f"- name: Examples\n  hosts: localhost\n  gather_facts: false\n  tasks:\n{tasks}\n"


@contextlib.contextmanager
def opened(runner: harness.Runner, prefix: str, folder: Path) -> Iterator[Lab]:
    """A lab, and its namespace deleted afterwards."""
    rest = Cluster(kubeconfig=runner.stack.variables["KUBECONFIG"]).rest()
    with kube.Kube(runner.stack).namespace(f"{prefix}vertex") as place:
        found = Lab(runner, rest, place.name, folder)
        found.apply("first")
        yield found
