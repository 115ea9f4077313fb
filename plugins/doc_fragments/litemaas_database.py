# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of every module that talks to LiteMaaS's database (code: module_utils/litemaas/database.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """Connection to LiteMaaS's PostgreSQL database."""

    DOCUMENTATION = r"""
options:
  litemaas_dsn:
    description:
      - Where LiteMaaS's database is, as V(postgresql://user:password@host:5432/database), with C(?sslmode=) and other
        parameters of PostgreSQL's client library where they are needed, or in its C(key=value) form.
      - Prisma's own parameters of a URL, such as C(connection_limit) and C(pool_timeout), are left out. Its
        C(schema) becomes the search_path.
      - Special characters of the password are percent-encoded in a URL; V(@) is V(%40), V(/) is V(%2F), V(#) is V(%23).
      - The user needs to read and write LiteMaaS's tables and to make temporary tables.
      - Falls back to the environment variable E(LITEMAAS_DSN), then to what O(namespace) has.
    type: str
  litellm_dsn:
    description:
      - Where LiteLLM's own database is, when it has one; only read.
      - Without it, LiteLLM's tables are looked for in LiteMaaS's database, which older deployments share with it. Where
        they are not there either, keys are read through LiteLLM's API.
      - Falls back to the environment variable E(LITELLM_DSN), then to what O(namespace) has.
    type: str
"""

    TIMEOUTS = r"""
options:
  connect_timeout:
    description: Seconds to wait for a connection to a database.
    type: int
    default: 10
  lock_timeout:
    description: Seconds to wait for another run, the LiteMaaS backend's own sync, or a row that another session holds.
    type: int
    default: 30
  statement_timeout:
    description: Seconds that one statement may take.
    type: int
    default: 300
requirements:
  - psycopg2 2.8 or later (on the host that runs the module; C(psycopg2-binary) will do)
"""
