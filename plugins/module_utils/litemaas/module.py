# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the doors to the databases have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import discover
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import BadOption
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database
from ansible_collections.rhpds.litemaas.plugins.module_utils.module import LiteMaaSModule


class DatabaseModule(LiteMaaSModule):
    """A module that connects to a database, by its DSN or by LiteMaaS's namespace in a cluster.

    Args:
        database_needed: False where it has something to do without one too; the library may be missing then.
    """

    def __init__(self, *args: Any, database_needed: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if database_needed and not database.HAS_PSYCOPG2:
            self.fail_json(msg=missing_required_lib("psycopg2"), exception=str(database.PSYCOPG2_IMPORT_ERROR))

    @contextmanager
    def database(self, option: str) -> Iterator[database.Connection]:
        """A connection to the database of ``litemaas_dsn`` or ``litellm_dsn``, closed at the end of the block.

        What is given wins; what is not is looked up in the cluster, where the options name a namespace.

        Raises:
            BadOption: there is nowhere to look.
            DatabaseError: no connection, or it was lost.
            ClusterError: it could not be found, or the way there was lost.
        """
        timeout, given = self.params["connect_timeout"], self.params.get(option)
        if given or self.place is None:
            if not given:
                raise BadOption(option, *discover.NOT_SET)
            with closing(database.connect(given, connect_timeout=timeout, option=option)) as connection:
                yield connection
            return
        with self.place.connect(option.removesuffix("_dsn"), timeout) as connection:
            yield connection

    def run(self, work: Callable[[], dict[str, Any]]) -> None:
        """The same, with a database's errors."""

        def guarded() -> dict[str, Any]:
            try:
                return work()
            except database.DatabaseError as failure:
                return {"failed": True, "changed": False, "msg": str(failure)}

        super().run(guarded)
