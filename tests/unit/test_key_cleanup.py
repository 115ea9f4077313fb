# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys go, for which reason, and what keeps them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm import key_cleanup as cleanup

ROOT = Path(__file__).resolve().parents[2]
ROLE = "ocp4_workload_litemaas_key_cleanup"
NOW = datetime(2026, 11, 21, 2, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)
ALL = frozenset(cleanup.POLICIES)
OPTIONS: dict[str, Any] = {
    "policies": ["expired"],
    "grace": "1d",
    "older_than": None,
    "include_valid": False,
    "include_no_expiry": False,
    "gone_guids": [],
    "protected_aliases": [],
    "protected_marks": [],
    "named": [],
}


def key(**known: Any) -> cleanup.Key:
    """A key that nothing speaks against: valid for nine days, a day old."""
    marks = [known.pop("guid", None), known.pop("automation", None), *known.pop("marks", [])]
    given = {"token": "a" * 64, "alias": "somebody", "expires": NOW + 9 * DAY, "blocked": False}
    return cleanup.Key(**{**given, "created": NOW - DAY, "user_id": None, "marks": marks, **known})


def policy(*policies: str, **more: Any) -> cleanup.Policy:
    return cleanup.Policy(policies=frozenset(policies or ("expired",)), now=NOW, **more)


@pytest.mark.parametrize(
    ("expires", "verdict"),
    [
        (NOW - 9 * DAY, ("expired", "")),
        (NOW - DAY, ("expired", "")),
        (NOW - DAY + timedelta(seconds=1), ("expired", "in_grace")),
        (NOW, ("expired", "in_grace")),
        (NOW + timedelta(seconds=1), ("", "")),
        (None, ("", "")),
    ],
)
def test_expired_for_longer_than_its_grace(expires: datetime | None, verdict: tuple[str, str]) -> None:
    assert policy().judge(key(expires=expires), cleanup.Facts()) == verdict


@pytest.mark.parametrize(
    ("known", "more", "verdict"),
    [
        ({"created": NOW - 100 * DAY, "expires": NOW - DAY}, {}, ("older_than", "")),
        ({"created": NOW - 100 * DAY}, {}, ("older_than", "still_valid")),
        ({"created": NOW - 100 * DAY}, {"include_valid": True}, ("older_than", "")),
        ({"created": NOW - 100 * DAY, "expires": None}, {"include_valid": True}, ("older_than", "no_expiry")),
        ({"created": NOW - 100 * DAY, "expires": None}, {"include_no_expiry": True}, ("older_than", "")),
        ({"created": NOW - 99 * DAY, "expires": NOW - DAY}, {}, ("", "")),
        ({"created": None, "expires": NOW - DAY}, {}, ("older_than", "age_unknown")),
    ],
)
def test_by_age_only_what_is_past_its_own_duration(
    known: dict[str, Any], more: dict[str, Any], verdict: tuple[str, str]
) -> None:
    found = policy("older_than", older_than=100 * DAY, **more)
    assert found.judge(key(**known), cleanup.Facts()) == verdict


def test_what_somebody_has_said_comes_before_the_age() -> None:
    facts = cleanup.Facts(frozenset({"r" * 64}), frozenset({"owner", "i" * 64}))
    every = policy(*ALL, older_than=100 * DAY, gone_guids=frozenset({"gone"}))
    for known, reason in (
        ({"guid": "gone", "expires": None, "token": "r" * 64}, "gone_guids"),
        ({"expires": None, "token": "r" * 64, "user_id": "owner"}, "revoked_alive"),
        ({"expires": None, "user_id": "owner"}, "inactive_owner"),
        ({"expires": NOW - 9 * DAY, "token": "i" * 64}, "inactive_owner"),
        ({"expires": NOW - 9 * DAY, "created": NOW - 200 * DAY}, "expired"),
        # In its grace as an expired one, but old.
        ({"expires": NOW, "created": NOW - 200 * DAY}, "older_than"),
        ({"guid": "here"}, ""),
    ):
        assert every.judge(key(**known), facts) == (reason, "")


@pytest.mark.parametrize(
    ("known", "protection"),
    [
        ({"automation": "true"}, "automation"),
        ({"automation": "yes"}, "automation"),
        ({"automation": "false"}, ""),
        ({"alias": "team-a"}, "protected_alias"),
        ({"alias": "my-team-a"}, ""),
        ({"alias": "leader"}, ""),
        ({"alias": None}, ""),
        ({"marks": ["production", None]}, "protected_mark"),
        ({"marks": ["test", None]}, ""),
        ({"marks": [None, ""]}, "protected_mark"),
    ],
)
def test_what_protects_a_key_and_that_naming_it_lifts_it(known: dict[str, Any], protection: str) -> None:
    found = policy(
        protected_aliases=[re.compile("team-.*"), re.compile("lead")],
        protected_marks={"environment": "production", "keep": None},
    )
    expired = key(**{"marks": [None, None], **known, "expires": NOW - 9 * DAY})
    assert found.judge(expired, cleanup.Facts()) == ("expired", protection)
    for name in filter(None, (expired.alias, expired.token)):
        assert replace(found, named=frozenset({name})).judge(expired, cleanup.Facts()) == ("expired", "")


moments = st.one_of(st.none(), st.integers(-400, 400).map(lambda days: NOW + days * DAY))
keys = st.builds(
    key,
    expires=moments,
    created=moments,
    user_id=st.sampled_from([None, "owner", "other"]),
    guid=st.sampled_from([None, "gone", "here"]),
    automation=st.sampled_from([None, "true", "false"]),
    alias=st.sampled_from([None, "team-a", "somebody"]),
    token=st.sampled_from(["r" * 64, "a" * 64]),
)
policies = st.builds(
    cleanup.Policy,
    policies=st.frozensets(st.sampled_from(cleanup.POLICIES)),
    now=st.just(NOW),
    grace=st.integers(0, 40).map(lambda days: days * DAY),
    older_than=st.integers(1, 300).map(lambda days: days * DAY),
    include_valid=st.booleans(),
    include_no_expiry=st.booleans(),
    gone_guids=st.just(frozenset({"gone"})),
    protected_aliases=st.just([re.compile("team-.*")]),
)
FACTS = cleanup.Facts(frozenset({"r" * 64}), frozenset({"owner"}))


@given(policies, keys)
def test_nothing_goes_without_a_reason_of_its_own(found: cleanup.Policy, one: cleanup.Key) -> None:
    reason, kept = found.judge(one, FACTS)
    assert not reason or reason in found.policies
    assert not kept or (reason and kept in cleanup.KEPT)
    if not reason or kept:
        return
    assert one.marks[1] != "true" and one.alias != "team-a"
    holds = {
        "expired": one.expires is not None and one.expires + found.grace <= NOW,
        "older_than": one.created is not None
        and one.created <= NOW - (found.older_than or DAY)
        and (found.include_no_expiry if one.expires is None else one.expires <= NOW or found.include_valid),
        "gone_guids": one.marks[0] == "gone",
        "inactive_owner": one.user_id == "owner",
        "revoked_alive": one.token == "r" * 64,
    }
    assert holds[reason]


def test_what_nobody_revoked_stays_unless_it_is_named() -> None:
    found = policy("revoked_alive", "expired")
    facts = cleanup.Facts(unrevoked=frozenset({"c" * 64}))
    one = key(token="c" * 64)
    assert found.judge(one, facts) == ("revoked_alive", "never_revoked")
    assert replace(found, named=frozenset({"c" * 64})).judge(one, facts) == ("revoked_alive", "")
    assert found.judge(key(token="c" * 64, expires=NOW - 9 * DAY), facts) == ("expired", "")


@given(policies, keys)
def test_a_longer_grace_and_more_protection_never_take_more(found: cleanup.Policy, one: cleanup.Key) -> None:
    careful = replace(
        found,
        grace=found.grace + DAY,
        include_valid=False,
        include_no_expiry=False,
        policies=found.policies - {"gone_guids"},
    )
    if careful.judge(one, FACTS)[0] and not careful.judge(one, FACTS)[1]:
        reason, kept = found.judge(one, FACTS)
        assert reason and not kept


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policies": []}, "policies is empty"),
        ({"older_than": "30d"}, "policies doesn't have older_than"),
        ({"policies": ["older_than"]}, "older_than is not set"),
        ({"policies": ["gone_guids"]}, "gone_guids is not set"),
        ({"gone_guids": ["a"]}, "policies doesn't have gone_guids"),
        ({"policies": ["gone_guids"], "gone_guids": ["a", " "]}, "empty"),
        ({"grace": "soon"}, "grace: 'soon' is not a duration"),
        ({"protected_aliases": ["["]}, "is not a regular expression"),
        ({"protected_marks": ["=x"]}, "names nothing"),
    ],
)
def test_options_that_cannot_be_acted_on(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        cleanup.policy_from_options({**OPTIONS, **options}, NOW)


def test_options_in_the_words_of_people() -> None:
    given = {"policies": ["older_than"], "older_than": "30", "grace": "0", "protected_marks": ["keep", "a=b=c"]}
    found = cleanup.policy_from_options({**OPTIONS, **given}, NOW)
    assert (found.older_than, found.grace) == (30 * DAY, timedelta())
    assert found.protected_marks == {"keep": None, "a": "b=c"}
    assert found.marks == ["guid", "automation", "keep", "a"]


def test_a_list_is_bounded_and_its_count_is_not() -> None:
    tally = cleanup.Tally(2)
    for number in range(5):
        tally.add("expired", f"k{number}")
    assert tally.shown() == {"expired": {"count": 5, "items": ["k0", "k1"]}}


def loaded(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_role_hands_each_option_over_under_its_own_name() -> None:
    """A nightly run reads back what the role has written: the same names on the way out and in."""
    policy = loaded(f"roles/{ROLE}/vars/main.yml")[f"{ROLE}__policy"]
    assert set(policy) == {*OPTIONS, "max_percent", "allow_mass_cleanup"}
    defaults = loaded(f"roles/{ROLE}/defaults/main.yml")
    (task,) = (one for one in loaded(f"roles/{ROLE}/tasks/cleanup.yml")[0]["block"] if "register" in one)
    given = task["rhpds.litemaas.litellm_key_cleanup"]
    for name, value in policy.items():
        assert re.fullmatch(rf"{{{{ {ROLE}_{name}( \| \w+)? }}}}", value)
        assert re.fullmatch(rf"{{{{ cleanup_{name} \| default\(.*\) }}}}", defaults[f"{ROLE}_{name}"])
        assert re.fullmatch(rf"{{{{ {ROLE}__policy\.{name}( \| default\(omit, true\))? }}}}", given[name])


def test_the_playbook_of_the_archive_hands_each_option_over() -> None:
    (play,) = loaded("playbooks/prune_key_archive.yml")
    given = play["tasks"][-1]["block"][0]["rhpds.litemaas.litellm_key_archive"]
    for name in ("older_than", "forget_guids", "max_percent", "allow_mass_cleanup"):
        assert given[name] == f"{{{{ archive_{name} | default(omit) }}}}"
