# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules that change running workloads and wait for them (code: module_utils/cluster/operate.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """How long a rollout is waited for."""

    DOCUMENTATION = r"""
options:
  rollout_timeout:
    description: Seconds to wait for each step until it is through, for example a workload until it is ready.
    type: float
    default: 600
  poll:
    description: Seconds between two looks. The first ones come sooner.
    type: float
    default: 2
  pull_failure_after:
    description: Seconds for which an image may fail to be pulled, or a container to be made, before it is given up.
    type: float
    default: 60
"""
