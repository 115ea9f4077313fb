# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call makes of the user data that is there, and which texts are new."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from pathlib import Path

import pytest
import yaml

from ansible_collections.rhpds.litemaas.plugins.plugin_utils import user_data
from ansible_collections.rhpds.litemaas.plugins.plugin_utils.user_data import Files, Request, UserDataError

PRESENT = {"a": 1, "users": {"user1": {"k": "old", "mine": 1}, "guest": {"k": 2}}}


def test_a_call_leaves_alone_what_it_does_not_name() -> None:
    users = {"user1": {"k": "new"}, "user2": {"k": "first"}}
    merged = Request(data={"b": 2}, users=users).merged(PRESENT)
    assert merged == {
        "a": 1,
        "b": 2,
        "users": {"user1": {"k": "new", "mine": 1}, "user2": {"k": "first"}, "guest": {"k": 2}},
    }
    assert PRESENT["users"]["user1"]["k"] == "old"
    assert Request(data={"b": 2}, users=users).merged(merged) == merged


def test_data_is_a_shallow_update() -> None:
    assert Request(data={"n": {"b": 1}}).merged({"n": {"a": 1}}) == {"n": {"b": 1}}
    assert Request(user="u", data={"n": {"b": 1}}).merged({"users": {"u": {"n": {"a": 1}}}}) == {
        "users": {"u": {"n": {"b": 1}}}
    }


def test_a_prefix_goes_before_names_of_values_only() -> None:
    request = Request(data={"a": 1}, users={"user1": {"k": 1}}, data_prefix="p_")
    assert request.merged({}) == {"p_a": 1, "users": {"user1": {"p_k": 1}}}
    assert Request(data={"a": 1}, user="u", msg=("hi",), data_prefix="p_").merged({}) == {
        "users": {"u": {"p_a": 1, "msg": "hi"}}
    }


def test_a_participants_messages_are_joined_once() -> None:
    request = Request(user="u", msg=("two", "three\nlines"))
    merged = request.merged({"users": {"u": {"msg": "one"}}})
    assert merged == {"users": {"u": {"msg": "one\ntwo\nthree\nlines"}}}
    assert request.merged(merged) == merged
    # A part of a line isn't that line.
    assert Request(user="u", msg=("tw",)).merged(merged)["users"]["u"]["msg"].endswith("\ntw")


def test_the_longest_secret_is_covered_first() -> None:
    assert user_data.covered("key ab, abc", ("ab", "abc")) == "key (in the user info), (in the user info)"


class Vaulted:
    """As ansible-core 2.16 has them."""

    data = "secret"


def test_values_become_pythons_own() -> None:
    given = OrderedDict({"a": (1, True, 2.5, None), 3: {"x"}, "d": datetime.date(2026, 1, 2), "v": Vaulted()})
    got = user_data.plain(given, "data")
    assert got == {"a": [1, True, 2.5, None], "3": ["x"], "d": "2026-01-02", "v": "secret"} and got.__class__ is dict
    with pytest.raises(UserDataError, match=r"data\.a\.b: a value of type object "):
        user_data.plain({"a": {"b": object()}}, "data")


def test_only_new_texts_are_new(tmp_path: Path) -> None:
    files = Files(tmp_path, "provision")
    assert files.new_lines(files.info, ("a", "b", "a")) == ("a", "b")
    files.info.write_text('- "a"\n- ["a", "list"]\nno json\n- "ü"', encoding="utf-8")
    assert files.new_lines(files.info, ("a", "b", "ü")) == ("b",)
    files.append(files.info, ("b",))
    assert files.info.read_text(encoding="utf-8") == '- "a"\n- ["a", "list"]\nno json\n- "ü"\n- "b"\n'


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "provision-user-data.yaml", tmp_path / "elsewhere" / "data.yaml"
    link.symlink_to(target)
    Files(tmp_path, "provision").write_data({"a": 1})
    assert link.is_symlink() and yaml.safe_load(target.read_text()) == {"a": 1}


def test_an_action_is_no_path() -> None:
    assert Files.found({"ACTION": "", "playbook_dir": "/x"}, str) == Files(Path("/x"), "provision")
    with pytest.raises(UserDataError, match="ACTION"):
        Files.found({"ACTION": "../../etc/x"}, str)
