#!/usr/bin/python
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kserve_model_info
short_description: Models that KServe serves, as LiteLLM takes them
version_added: 1.0.0
description:
  - Reads the InferenceServices of a cluster, those of OpenShift AI too, and returns an item for
    M(rhpds.litemaas.litellm_model) for each that is ready and has OpenAI's API.
  - The address is the predictor's inside the cluster, the backend's name the one that it is served under.
  - What can be called only with a token, what isn't ready and what LiteLLM couldn't call is returned apart, with the
    reason.
author:
  - rhpds.litemaas contributors (@rhpds)
extends_documentation_fragment:
  - rhpds.litemaas.cluster
  - rhpds.litemaas.attributes.cluster_info
options:
  namespaces:
    description: Namespaces to look into. All of them if it is empty, which takes the right to list them.
    type: list
    elements: str
    default: []
  names:
    description: Only InferenceServices of these names.
    type: list
    elements: str
    default: []
  label_selectors:
    description: Only InferenceServices with these labels, for example V(opendatahub.io/genai-asset=true).
    type: list
    elements: str
    default: []
notes:
  - Capabilities and context length come from the server's arguments (C(--enable-auto-tool-choice), C(--task embed),
    C(--limit-mm-per-prompt), C(--max-model-len)) of the InferenceService and of its ServingRuntime.
  - Annotations or labels of an InferenceService say what can't be seen, or something else. These are
    C(rhpds.litemaas/capabilities) (words of O(rhpds.litemaas.litellm_model#module:capabilities), separated by commas),
    C(rhpds.litemaas/model-name), C(rhpds.litemaas/litellm-model), C(rhpds.litemaas/api-base),
    C(rhpds.litemaas/context-length), C(rhpds.litemaas/description), C(rhpds.litemaas/category), and
    C(rhpds.litemaas/skip) to leave it out.
  - Formats other than vLLM and Hugging Face, and containers of one's own such as Docling's, are taken only with
    C(rhpds.litemaas/capabilities).
  - Needs the right to list inferenceservices.serving.kserve.io. With that to list services and
    servingruntimes.serving.kserve.io it knows ports and names better.
seealso:
  - module: rhpds.litemaas.litellm_model
"""

EXAMPLES = r"""
- name: See what is served
  rhpds.litemaas.kserve_model_info:
    namespaces: [llm-hosting]
  register: served

- name: Register it in LiteLLM
  rhpds.litemaas.litellm_model:
    scope: kserve
    models: "{{ served.models }}"
  when: served.models | length > 0
"""

RETURN = r"""
msg:
  description: One line with the numbers.
  returned: always
  type: str
  sample: "4 models ready, 1 not ready"
models:
  description: Items for O(rhpds.litemaas.litellm_model#module:models), sorted by namespace and name.
  returned: always
  type: list
  elements: dict
  sample:
    - model_name: granite-3-2-8b-instruct
      litellm_model: openai/granite-3-2-8b-instruct
      custom_llm_provider: openai
      api_base: http://granite-3-2-8b-instruct-predictor.llm-hosting.svc.cluster.local:8080/v1
      api_key: sk-placeholder
      capabilities: [chat, function_calling, tool_choice]
      context_length: 131072
catalogue_models:
  description:
    - The same with what LiteMaaS shows, C(display_name), C(description) and C(category), where it is known. For
      C(ocp4_workload_litemaas_models_list).
  returned: always
  type: list
  elements: dict
needs_token:
  description: Like RV(catalogue_models), of those that ask for a token. C(api_key) has to be added.
  returned: always
  type: list
  elements: dict
not_ready:
  description: InferenceServices that don't serve, with C(name), C(namespace), C(model_name) and C(reason).
  returned: always
  type: list
  elements: dict
skipped:
  description: InferenceServices that LiteLLM couldn't call, with C(name), C(namespace), C(model_name) and C(reason).
  returned: always
  type: list
  elements: dict
inference_services:
  description:
    - Where the models came from, with C(name), C(namespace), C(model_name), C(runtime), C(format) and C(needs_token).
  returned: always
  type: list
  elements: dict
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import kserve
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC, Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule


def main():
    module = LiteMaaSModule(
        argument_spec={
            **SPEC,
            "namespaces": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "label_selectors": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        rest = Cluster.from_params(params).rest()
        found = kserve.read(rest, params["namespaces"], params["label_selectors"], params["names"])
    except ClusterError as failure:
        module.fail_json(msg=str(failure))
    for text in found.warnings:
        module.warn(text)
    module.exit_json(
        changed=False,
        msg=found.line,
        models=found.models,
        catalogue_models=found.catalogue,
        needs_token=found.needs_token,
        not_ready=found.not_ready,
        skipped=found.skipped,
        inference_services=found.sources,
    )


if __name__ == "__main__":
    main()
