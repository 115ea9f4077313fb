# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A status page and its JSON on disk: for their owner only, each replaced at once or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import BadOption

SUFFIX = ".html"


def check(path: str) -> None:
    """Raises BadOption where no report could be written, before anything is read."""
    page = Path(path)
    if page.suffix != SUFFIX:
        raise BadOption("report", f"is {path}, which doesn't end in {SUFFIX}", "The JSON beside it ends in .json")
    if not page.parent.is_dir():
        raise BadOption("report", f"is {path}, and there is no folder {page.parent}", "Make it first")
    for one in (page, page.with_suffix(".json")):
        if one.is_dir():
            raise BadOption("report", f"is {path}, and {one} is a folder", "Give the path of a file")
    if not os.access(page.parent, os.W_OK):
        raise BadOption("report", f"is {path}, and {page.parent} can't be written to", "Give another folder")


def write(path: str, page: str, status: Mapping[str, Any]) -> list[str]:
    """The paths of both files. Raises BadOption; what was there before is then still there."""
    files = {
        Path(path): page,
        Path(path).with_suffix(".json"): json.dumps(status, indent=1, ensure_ascii=False, sort_keys=False) + "\n",
    }
    ready: dict[Path, str] = {}
    try:
        for target, text in files.items():
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
            ready[target] = name
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for target, name in ready.items():
            Path(name).replace(target)
    except OSError as failure:
        for name in ready.values():
            with suppress(OSError):
                Path(name).unlink()
        way_on = "Free some space or give another folder; a report that was there before is unchanged"
        raise BadOption("report", f"can't be written: {failure}", way_on) from None
    return [str(target) for target in files]
