# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fragments are literal texts, so what stands in two of them is compared here."""

from __future__ import annotations

from typing import Any

import yaml

from ansible_collections.rhpds.litemaas.plugins.doc_fragments import cluster, namespace
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import SPEC


def options(fragment: Any) -> dict[str, Any]:
    return dict(yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"])


def test_a_cluster_is_described_alike_as_options_and_as_a_dictionary() -> None:
    nested = options(namespace)["cluster"]["suboptions"]
    assert yaml.safe_load(yaml.safe_dump(nested).replace("O(cluster.", "O(")) == options(cluster)
    assert nested.keys() == SPEC.keys()
