# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What LiteMaaS's portal shows of whose it is: the one row of its table ``branding_settings``.

The backend makes the table, and its columns differ between releases: they are read from the database. In 0.4 a text or
an image has a switch beside it, and an image is base64 text with its type in another column.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import Connection

TABLE = "branding_settings"
#: Option → the names that its column may have, the present one first. An image's ends in ``_data`` where it says so.
TEXTS = {
    "title": ("login_title", "title"),
    "subtitle": ("login_subtitle", "subtitle"),
    "footer": ("footer_text", "footer", "login_footer"),
}
IMAGES = {
    "login_logo": ("login_logo", "login_logo_light"),
    "login_logo_dark": ("login_logo_dark",),
    "header_logo_light": ("header_brand_light", "header_logo_light", "header_logo"),
    "header_logo_dark": ("header_brand_dark", "header_logo_dark"),
}
#: What LiteMaaS's own page takes.
LARGEST_IMAGE = 2 * 1024 * 1024
DATA_URI = re.compile(r"data:[\w.+/-]*;base64,(?P<data>[A-Za-z0-9+/=\s]*)", re.DOTALL)


class BrandingError(ValueError):
    """Something that can't be shown: which option, what is the matter, what to do. Nothing was written."""


@dataclass(frozen=True)
class Image:
    """A picture, and what it is."""

    data: bytes
    mime: str

    def __str__(self) -> str:
        return f"{self.mime}, {len(self.data)} bytes, sha256 {hashlib.sha256(self.data).hexdigest()[:16]}"


def read_image(option: str, value: str) -> Image:
    """The picture that a path or a ``data:`` URI stands for. Raises BrandingError."""
    if value.startswith("data:"):
        match = DATA_URI.fullmatch(value)
        try:
            data = base64.b64decode("".join(match["data"].split()), validate=True) if match else b""
        except binascii.Error:
            data = b""
        if not data:
            raise BrandingError(f"{option}: not a data URI in base64. Give data:image/png;base64,…, or a path")
    else:
        try:
            data = Path(value).expanduser().read_bytes()
        except (OSError, ValueError) as failure:
            raise BrandingError(f"{option}: {value} can't be read: {getattr(failure, 'strerror', failure)}") from None
    mime = mime_of(data)
    if not mime:
        raise BrandingError(f"{option}: neither PNG, JPEG, GIF, WebP nor SVG")
    if len(data) > LARGEST_IMAGE:
        raise BrandingError(f"{option}: {len(data)} bytes, and LiteMaaS takes no more than {LARGEST_IMAGE}. Shrink it")
    return Image(data, mime)


def mime_of(data: bytes) -> str:
    """What a picture is by its first bytes; empty for anything that LiteMaaS doesn't show."""
    for start, mime in ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif")):
        if data.startswith(start):
            return mime
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    text = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return "image/svg+xml" if text.startswith(b"<") and b"<svg" in text else ""


@dataclass
class Outcome:
    """What differs, by option, as it may be shown."""

    before: dict[str, str | None] = field(default_factory=dict)
    after: dict[str, str | None] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True)
class Column:
    """A column of the table: its type, and the longest text that it takes."""

    kind: str
    longest: int | None


def apply(connection: Connection, wanted: Mapping[str, str], check_mode: bool, timeouts: Mapping[str, Any]) -> Outcome:
    """Make the row say what is wanted.

    Args:
        wanted: option to text, or to an image's path or ``data:`` URI. An empty one takes LiteMaaS's own back.
        timeouts: see :meth:`Connection.transaction`.

    Raises:
        BrandingError, DatabaseError: nothing was written.
    """
    values: dict[str, str | Image | None] = {
        option: (read_image(option, value) if option in IMAGES else value) if value else None
        for option, value in wanted.items()
    }
    with connection.transaction("Set LiteMaaS's branding", keep=not check_mode, **timeouts) as cursor:
        cursor.execute(
            "SELECT column_name, data_type, character_maximum_length FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = %s",
            (TABLE,),
        )
        columns = {name: Column(kind, longest) for name, kind, longest in cursor.fetchall()}
        if not columns:
            raise BrandingError(
                f"There is no table {TABLE} in {connection.target}. LiteMaaS's backend makes it at its first start:"
                " check litemaas_dsn, or start the backend before"
            )
        row = Row(columns)
        updates = {option: row.columns_of(option, value) for option, value in values.items()}
        cursor.execute(f"INSERT INTO {TABLE} (id) VALUES (1) ON CONFLICT DO NOTHING")
        cursor.execute(f"SELECT {_names(columns)} FROM {TABLE} WHERE id = 1 FOR UPDATE")
        stored = dict(zip(columns, map(_plain, cursor.fetchone() or ()), strict=True))
        changes = {name: value for update in updates.values() for name, value in update.items()}
        row.add_group(changes, stored)
        changes = {name: value for name, value in changes.items() if stored[name] != value}
        outcome = Outcome()
        for option in values:
            outcome.before[option] = row.shown(option, stored)
            outcome.after[option] = row.shown(option, {**stored, **changes})
        if not changes:
            return Outcome()
        if not outcome.changed:  # only a switch was off
            outcome.before = {name: str(stored[name]) for name in changes}
            outcome.after = {name: str(value) for name, value in changes.items()}
        if not check_mode:
            row.write(cursor, changes)
    return outcome


class Row:
    """The table's columns, and which of them an option means."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def _column(self, option: str) -> tuple[str, str]:
        """The column of an option, and its name without what marks an image's data. Raises BrandingError."""
        for stem in (TEXTS.get(option) or ()) + (IMAGES.get(option) or ()):
            for name in (f"{stem}_data", stem) if option in IMAGES else (stem,):
                if name in self._columns:
                    return name, stem
        raise BrandingError(
            f"{option}: this release of LiteMaaS has no place for it: table {TABLE} has the columns"
            f" {', '.join(sorted(self._columns))}. Leave it out"
        )

    def columns_of(self, option: str, value: str | Image | None) -> dict[str, Any]:
        """What is to be stored for an option, by column. Raises BrandingError."""
        name, stem = self._column(option)
        column = self._columns[name]
        mime = next((one for one in (f"{stem}_mime_type", f"{stem}_mime") if one in self._columns), None)
        found: dict[str, Any] = {}
        if isinstance(value, Image):
            text = base64.b64encode(value.data).decode()
            if column.kind == "bytea":
                found[name] = value.data
            else:
                found[name] = text if mime else f"data:{value.mime};base64,{text}"
        else:
            found[name] = value
        if isinstance(found[name], str) and column.longest and len(found[name]) > column.longest:
            raise BrandingError(
                f"{option}: {len(found[name])} characters, and {name} takes {column.longest}. Shorten it"
            )
        if mime:
            found[mime] = value.mime if isinstance(value, Image) else None
        if f"{stem}_enabled" in self._columns:
            found[f"{stem}_enabled"] = value is not None
        return found

    def add_group(self, changes: dict[str, Any], stored: Mapping[str, Any]) -> None:
        """The switch that both logos of the header have together: on as long as there is one of them."""
        for switch in ("header_brand_enabled", "header_logo_enabled"):
            parts = [
                self._column(option)[0] for option in ("header_logo_light", "header_logo_dark") if self._has(option)
            ]
            if switch in self._columns and any(name in changes for name in parts):
                changes[switch] = any(changes.get(name, stored[name]) is not None for name in parts)

    def _has(self, option: str) -> bool:
        try:
            self._column(option)
        except BrandingError:
            return False
        return True

    def shown(self, option: str, row: Mapping[str, Any]) -> str | None:
        """What a row says of an option, without the bytes of an image."""
        name, stem = self._column(option)
        value = row[name]
        if value is None or option in TEXTS:
            return value if row.get(f"{stem}_enabled", True) else None
        data = value
        if isinstance(value, str):
            try:
                data = base64.b64decode(value.partition("base64,")[2] or value)
            except binascii.Error:
                return "not an image"
        return str(Image(data, mime_of(data) or "not an image"))

    def write(self, cursor: Any, changes: Mapping[str, Any]) -> None:
        """Store it, and see that it is stored. Raises BrandingError."""
        assignments = [f"{_names([name])} = %s" for name in changes]
        if "updated_at" in self._columns:
            assignments.append("updated_at = now()")
        cursor.execute(
            f"UPDATE {TABLE} SET {', '.join(assignments)} WHERE id = 1 RETURNING {_names(changes)}",
            tuple(changes.values()),
        )
        stored = dict(zip(changes, map(_plain, cursor.fetchone() or ()), strict=False))
        wrong = [name for name, value in changes.items() if stored.get(name) != value]
        if wrong:
            raise BrandingError(f"The database stored something else in {', '.join(wrong)}. Look for triggers there")


def _names(columns: Iterable[str]) -> str:
    return ", ".join('"{}"'.format(name.replace('"', '""')) for name in columns)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value
