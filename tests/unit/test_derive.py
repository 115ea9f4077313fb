# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is derived rather than stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils import derive

SECRET = "0123456789abcdef0123456789abcdef"
texts = st.text(max_size=20)
fields = st.tuples(texts, texts, st.integers(1, 50))


def test_value_is_what_the_decision_says_for_ever():
    # Worked out here by hand: a change of it would leave every key that was ever issued without its value.
    parts = [b"v1", b"abc12", b"virtkey-abc12-user1", b"2"]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    digest = hmac.new(SECRET.encode(), message, hashlib.sha256).digest()
    value = "sk-" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert derive.key_value(SECRET, "abc12", "virtkey-abc12-user1", 2) == value
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", value)
    assert derive.token_of(value) == hashlib.sha256(value.encode()).hexdigest()


@given(fields, fields)
def test_two_keys_share_a_value_only_if_they_are_the_same(one, other):
    # "a", "bc" and "ab", "c" among them.
    assert (derive.key_value(SECRET, *one) == derive.key_value(SECRET, *other)) == (one == other)


@given(texts, texts, st.integers(0, 20))
def test_moving_text_from_one_field_to_the_next_changes_the_value(identity, alias, cut):
    joined = identity + alias
    cut = min(cut, len(joined))
    moved = (joined[:cut], joined[cut:])
    same = derive.key_value(SECRET, *moved, 1) == derive.key_value(SECRET, identity, alias, 1)
    assert same == (moved == (identity, alias))


@given(fields, st.text(min_size=32, max_size=40), st.text(min_size=32, max_size=40))
def test_another_secret_gives_other_values_and_fingerprints(key, one, other):
    assert (derive.key_value(one, *key) == derive.key_value(other, *key)) == (one == other)
    assert (derive.fingerprint(one, "n", "v") == derive.fingerprint(other, "n", "v")) == (one == other)


@given(texts, texts)
def test_model_id_is_a_uuid_of_both_names(name, deployment):
    found = derive.model_id(name, deployment)
    assert str(uuid.UUID(found)) == found == derive.model_id(name, deployment)
    assert found != derive.sibling_id(found)
    if deployment:
        assert found != derive.model_id(name + deployment[0], deployment[1:])


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("", "shorter than 32"),
        ("x" * 31, "shorter than 32"),
        ("sk-master-key-of-more-than-32-bytes-of-text", "independent of the master key"),
        ("prefix sk-master-key-of-more-than-32-bytes-of-text", "independent of the master key"),
        ("master-key-of-more-than-32-bytes-of-text", "independent of the master key"),
    ],
)
def test_guessable_secret_is_refused(secret, words):
    assert words in derive.check_key_secret(secret, "sk-master-key-of-more-than-32-bytes-of-text")


def test_bytes_count_not_characters():
    assert derive.check_key_secret("ü" * 16, "sk-master") is None
    assert derive.check_key_secret(SECRET, "sk-master") is None


@given(st.text(max_size=70))
def test_only_a_sha256_in_hex_is_a_token(text):
    assert derive.is_token(text) == bool(re.fullmatch("[0-9a-f]{64}", text))
    assert derive.is_token(derive.token_of("sk-" + text))
