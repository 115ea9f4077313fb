# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual key in a LiteLLM proxy: identity, value, fields, endpoints and quirks.

Facts about LiteLLM that shape these files (seen on 1.81.14 and 1.106.0):

- A key's value can be chosen. It is stored as its sha256, the ``token``, which is the primary key: a second create with
  the same value makes no twin, answers 200, echoes what was sent and changes nothing. So everything is read back.
- Uniqueness of an alias is check-then-insert: random values give twins under concurrency, chosen values don't.
- ``/key/list`` gives 100 rows a page at most. ``sort_by=token`` is the one order without ties; what is created during
  the listing can show a row twice, what is deleted can hide one: see ``reading.list_keys``.
- ``/v2/key/info`` takes many tokens and gives the rows that exist: the cheap way to read back. Newer versions leave the
  token itself out of the rows: see ``reading.KeyReader.by_token``. It is also the one that shows a key's budget row
  everywhere.
- Deleted keys are archived with their metadata, so that a value need never be used twice.
- ``metadata`` is replaced by an update, never merged; per-model limits and licensed fields live in it.
- An update with null clears a limit, but not ``budget_duration`` in older versions.

A rotation renames the old key, makes the new one, and then finishes the old one off. What a killed run leaves behind is
told by its alias: ``x@rotating`` alone is still the key of x, as nothing has replaced it; beside a new x it is to be
finished; ``x@rotated-3`` is done with, and lives only until its time of grace is over.

Arrows one way: ``rows`` and ``wanted`` know what there is and what is asked for, ``planning`` compares them without
any I/O, ``reading`` and ``references`` ask the proxy, ``acting`` has them all.
"""

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.acting import (
    VirtualKeyResource,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.reading import (
    PAGE,
    KeyReader,
    list_keys,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.rows import generation_of
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.resources.virtual_key.wanted import (
    COLUMNS,
    IN_METADATA,
    wanted_from_options,
)

__all__ = [
    "COLUMNS",
    "IN_METADATA",
    "PAGE",
    "KeyReader",
    "VirtualKeyResource",
    "generation_of",
    "list_keys",
    "wanted_from_options",
]
