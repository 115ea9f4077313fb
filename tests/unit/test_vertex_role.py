# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role for Vertex AI works out from its settings, with Ansible itself: every release that we support."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PREFIX = "ocp4_workload_litemaas_vertex_"
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: rhpds.litemaas.ocp4_workload_litemaas_vertex
        public: true
      vars:
        ACTION: none
    - ansible.builtin.copy:
        dest: "{{ playbook_dir }}/found.json"
        mode: "0600"
        content: >-
          {{ {'problems': ocp4_workload_litemaas_vertex__problems, 'projects': ocp4_workload_litemaas_vertex__projects,
              'names': ocp4_workload_litemaas_vertex__list | map(attribute='model_name') | list,
              'going': ocp4_workload_litemaas_vertex__going,
              'used': ocp4_workload_litemaas_vertex__others.used_paths} | to_json }}
"""


def entry(name: str, identity: str, **more: object) -> dict[str, object]:
    """A deployment as litellm_model_info shows it."""
    params = {"model": "vertex_ai/openai/gpt-oss-20b-maas", "vertex_project": "rhdp-infra"}
    return {"model_name": name, "id": identity, "litellm_params": params, "stored": True, **more}


def test_its_variables_on_this_ansible(tmp_path: Path) -> None:
    """The deployments that a removal leaves are those of others, whatever their name."""
    (tmp_path / "play.yml").write_text(PLAY)
    ours = entry("gpt-oss-20b", "1", managed=True, scope="vertex", deployment="")
    models = [ours, entry("gpt-oss-20b", "2", managed=False), entry("other", "3", managed=False)]
    variables = {
        "ansible_python_interpreter": sys.executable,
        f"{PREFIX}models": ["gpt-oss-20b"],
        f"{PREFIX}_found": {"models": models},
    }
    command = [sys.executable, "-m", "ansible", "playbook", "play.yml", "-e", json.dumps(variables)]
    env = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["problems"], found["names"]) == ([], ["gpt-oss-20b"])
    open_key, claude_key = "/etc/vertex-credentials/key.json", "/etc/vertex-claude-credentials/key.json"
    assert found["projects"] == {open_key: "rhdp-infra", claude_key: "itpc-gcp-product-all-claude"}
    assert [one["id"] for one in found["going"]] == ["1"]
    assert found["used"] == {open_key: ["gpt-oss-20b", "other"], claude_key: []}
