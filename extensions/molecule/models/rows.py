# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of LiteMaaS's models whose id begins with "molecule-", as JSON; with --delete, none are left.

DSN in the environment says where. It is a look from outside: nothing of the collection is used.
"""

from __future__ import annotations

import json
import os
import sys

import psycopg2
import psycopg2.extras

connection = psycopg2.connect(os.environ["DSN"])
with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
    if "--delete" in sys.argv:
        cursor.execute("DELETE FROM models WHERE id LIKE 'molecule-%'")
    cursor.execute("SELECT * FROM models WHERE id LIKE 'molecule-%' ORDER BY id")
    print(json.dumps({row["id"]: dict(row) for row in cursor}, default=str))
connection.close()
