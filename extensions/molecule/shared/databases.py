# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases of a scenario on the stack's PostgreSQL, each with one table: dropped, and made anew with --make.

    databases.py [--make] NAME...

A pod of the stack's cluster has no PostgreSQL of its own: the node forwards to the stack's. DSN says who owns them.
"""

from __future__ import annotations

import os
import sys

import psycopg2
from psycopg2 import sql

names = [name for name in sys.argv[1:] if name != "--make"]
connection = psycopg2.connect(os.environ["DSN"])
connection.autocommit = True
with connection.cursor() as cursor:
    for name in map(sql.Identifier, names):
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        if "--make" in sys.argv:
            cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
connection.close()
for name in names if "--make" in sys.argv else ():
    connection = psycopg2.connect(os.environ["DSN"], dbname=name)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE molecule (word text); INSERT INTO molecule VALUES ('kept')")
    connection.close()
