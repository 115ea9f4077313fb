# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: agnosticd_user_info
short_description: A stand-in for AgnosticD's own, for tests
description: See the action plugin.
options:
  msg: {description: Message., type: raw}
  body: {description: Text., type: str}
  data: {description: Values., type: dict}
  data_prefix: {description: Put before names., type: str}
  user: {description: Participant., type: str}
author: the rhpds.litemaas contributors (@rhpds)
"""
EXAMPLES = ""
RETURN = ""
