# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attributes of the modules of this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """What a module supports."""

    DOCUMENTATION = r"""
attributes:
  action_group:
    description: Can be used in C(module_defaults) with this group.
    support: full
    membership:
      - rhpds.litemaas.litellm
  check_mode:
    description: Can run in C(check_mode) and says what it would do, without writing anything.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode. Secrets are never shown.
    support: full
  idempotent:
    description: Running it again with the same options changes nothing.
    support: full
  platform:
    description: Runs wherever Python 3.10 or later and the listed libraries do.
    platforms: posix
    support: full
"""

    INFO = r"""
attributes:
  action_group:
    description: Can be used in C(module_defaults) with this group.
    support: full
    membership:
      - rhpds.litemaas.litellm
  check_mode:
    description: Changes nothing, so it runs the same in C(check_mode).
    support: full
  diff_mode:
    description: Changes nothing, so there is no diff.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
  platform:
    description: Runs wherever Python 3.10 or later and the listed libraries do.
    platforms: posix
    support: full
"""

    CLUSTER = r"""
attributes:
  action_group:
    description: Can be used in C(module_defaults) with this group.
    support: full
    membership:
      - rhpds.litemaas.cluster
  check_mode:
    description: Can run in C(check_mode) and says what it would do, without writing anything.
    support: full
  diff_mode:
    description: Shows what changes when in diff mode. Secrets are never shown.
    support: full
  idempotent:
    description: Running it again with the same options changes nothing.
    support: full
  platform:
    description: Runs wherever Python 3.10 or later and the listed libraries do.
    platforms: posix
    support: full
"""

    CLUSTER_INFO = r"""
attributes:
  action_group:
    description: Can be used in C(module_defaults) with this group.
    support: full
    membership:
      - rhpds.litemaas.cluster
  check_mode:
    description: Changes nothing, so it runs the same in C(check_mode).
    support: full
  diff_mode:
    description: Changes nothing, so there is no diff.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
  platform:
    description: Runs wherever Python 3.10 or later and the listed libraries do.
    platforms: posix
    support: full
"""
