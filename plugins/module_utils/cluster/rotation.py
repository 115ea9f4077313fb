# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New values for what a running deployment authenticates with: LiteLLM's master key, the databases' password.

What is new is in a Secret before anything else knows it, beside the old one, and stays beside it until all that uses it
has been rolled out. So a run that was interrupted, wherever that was, is gone on with by the next one, and nothing is
ever known to a process alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets as randomness
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import (
    discover,
    facts,
    operate,
    rollout,
    running,
    secrets,
)
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import ClusterError, Rest
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.client import LiteLLMClient
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.errors import LiteLLMError
from ansible_collections.rhpds.litemaas.plugins.module_utils.litellm.key_check import Checker, Participant
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas import database, dump, model_keys
from ansible_collections.rhpds.litemaas.plugins.module_utils.litemaas.database import DatabaseError

#: Beside the new value, while it isn't everywhere yet.
PREVIOUS = f"{secrets.MASTER}_PREVIOUS"
NEXT = "password_next"
#: The databases.
WHICH = ("litemaas", "litellm")
#: What a deploy rolls pods out for.
CHECKSUM = "rhpds.litemaas/checksum"
#: Models that are called before and after.
SAMPLES = 3
#: Shorter ones LiteLLM refuses, or anybody guesses.
SHORTEST = 16
RIGHTS = "get and patch on secrets"
AGNOSTICV = (
    "Left to you: litellm_master_key in AgnosticV's secrets include, and whatever else calls LiteLLM with the old key"
)
#: How a server says that it doesn't take a password.
REFUSED = re.compile(r"password|authentication", re.IGNORECASE)
#: In the database's pod, whose own socket lets its superuser in: ``$1`` bytes of SQL are standard input. That user is
#: the deployment's with the official image, and postgres with those of sclorg.
AS_SUPERUSER = """\
sql() {
    psql --no-psqlrc --quiet --no-align --tuples-only --no-password -v ON_ERROR_STOP=1 -v VERBOSITY=terse \\
        -d postgres "$@"
}
for user in "${POSTGRES_USER-}" postgres; do
    [ -n "$user" ] || continue
    if [ "$(sql -U "$user" -c 'SELECT rolsuper FROM pg_roles WHERE rolname = current_user')" = t ]; then
        head -c "$1" | sql -U "$user" -f - >/dev/null
        exit
    fi
done
echo "no superuser is let in there" >&2
exit 1
"""
#: Alias of the virtual key that is tried before and after; it ends by itself.
PROBE, PROBE_LIFE = "rhpds-litemaas-rotation", "1h"


@dataclass
class Result:
    """What was done, or would be.

    Attributes:
        secret: keys of Secrets that were written, by Secret.
        model_keys: how many of LiteMaaS's test keys of models were encrypted anew.
        unreadable: models whose test key neither the old nor the new secret opens.
        restarted: workloads that were rolled out.
        resumed: whether an interrupted run was gone on with.
        verified: what was seen to work, in words.
        notes: what is left to somebody.
    """

    changed: bool = False
    secret: dict[str, list[str]] = field(default_factory=dict)
    model_keys: int = 0
    unreadable: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    resumed: bool = False
    verified: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Vault:
    """Secrets of the namespace, and every value that must not be shown."""

    def __init__(self, client: Rest, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.values: set[str] = set()
        self.written: dict[str, list[str]] = {}
        self._versions: dict[str, str] = {}

    def read(self, name: str) -> dict[str, str]:
        """For writing it later. Raises ClusterError, where there is none."""
        found = self.client.find(secrets.path(self.namespace, name), RIGHTS)
        if found is None:
            raise ClusterError(
                f"Read Secret {name} in {self.namespace}", "there is none", "Check that namespace is LiteMaaS's"
            )
        self._versions[name] = found["metadata"]["resourceVersion"]
        return self._opened(found)

    def look(self, name: str) -> dict[str, str]:
        """The same for nothing but to know it; {} where there is none. Raises ClusterError."""
        return self._opened(self.client.find(secrets.path(self.namespace, name), RIGHTS))

    def _opened(self, found: Mapping[str, Any] | None) -> dict[str, str]:
        values = secrets.decoded(found)
        self.hide(value for key, value in values.items() if key not in secrets.PUBLIC)
        return values

    def hide(self, values: Iterable[str]) -> None:
        """Remember what must not be shown."""
        self.values.update(value for value in values if len(value) >= 8)

    def write(self, name: str, values: Mapping[str, str | None], *, dry_run: bool = False) -> dict[str, str]:
        """Keys to set, or to take away (None), if nobody wrote since; what the Secret has then. Raises ClusterError."""
        self.hide(value for value in values.values() if value)
        data = {key: value and base64.b64encode(value.encode()).decode() for key, value in values.items()}
        body = {"metadata": {"resourceVersion": self._versions[name]}, "data": data}
        query = {"fieldManager": operate.MANAGER, **({"dryRun": "All"} if dry_run else {})}
        try:
            answer = self.client.request(
                "PATCH",
                secrets.path(self.namespace, name),
                body,
                query=query,
                content_type="application/merge-patch+json",
                rights=RIGHTS,
            )
        except ClusterError as failure:
            if failure.status == 409:
                raise ClusterError(
                    f"Write Secret {name} in {self.namespace}", "somebody else wrote it meanwhile", "Run again", 409
                ) from None
            raise
        there = secrets.decoded(answer)
        wrong = [key for key, value in values.items() if there.get(key) != value]
        if wrong:
            raise ClusterError(
                f"Write Secret {name} in {self.namespace}",
                f"the API server took it, and {', '.join(wrong)} is not what was sent",
                "Look for an operator that keeps this Secret (ExternalSecret, SealedSecret), and rotate there",
            )
        if not dry_run:
            self._versions[name] = answer["metadata"]["resourceVersion"]
            self.written.setdefault(name, []).extend(key for key in values if key not in self.written.get(name, ()))
        return there


# What is worked out from objects; pure.


@dataclass(frozen=True)
class Variable:
    """A variable that the backend has.

    Attributes:
        secret, key: where it comes from; "" where the Deployment itself has it.
        value: as it was before the rotation.
    """

    name: str
    secret: str
    key: str
    value: str = field(repr=False)


def source(container: Mapping[str, Any], name: str) -> tuple[str, str, str]:
    """Where a container's variable comes from: Secret, key, plain value; empty where it doesn't."""
    return next(iter(sources(container, name)), ("", "", ""))


def sources(container: Mapping[str, Any], name: str) -> list[tuple[str, str, str]]:
    """The same of every Secret that may have it, in the container's order. The last one that does have it wins."""
    for entry in container.get("env") or ():
        if entry["name"] == name:
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef") or {}
            return [(str(reference.get("name", "")), str(reference.get("key", "")), str(entry.get("value") or ""))]
    found = []
    for one in container.get("envFrom") or ():
        secret = (one.get("secretRef") or {}).get("name")
        if secret and name.startswith(one.get("prefix", "")):
            found.append((str(secret), name.removeprefix(one.get("prefix", "")), ""))
    return found


def users(workloads: Iterable[Mapping[str, Any]], secret: str, keys: Iterable[str]) -> list[Mapping[str, Any]]:
    """Workloads whose pods are started with one of these keys of a Secret."""
    wanted = set(keys)
    found = []
    for one in workloads:
        pod = one["spec"]["template"]["spec"]
        for container in [*(pod.get("initContainers") or ()), *pod["containers"]]:
            names = {
                (entry.get("valueFrom") or {}).get("secretKeyRef", {}).get("key")
                for entry in container.get("env") or ()
                if ((entry.get("valueFrom") or {}).get("secretKeyRef") or {}).get("name") == secret
            }
            everything = any(
                (each.get("secretRef") or {}).get("name") == secret for each in container.get("envFrom") or ()
            )
            if names & wanted or everything:
                found.append(one)
                break
    return found


def checksum(live: Mapping[str, Any], before: secrets.Values, after: secrets.Values, config: str) -> dict[str, str]:
    """The annotation that a deploy would roll the pods out for, brought along; {} where nobody knows how it is made.

    Args:
        before, after: the values of all Secrets.
        config: LiteLLM's configuration file.
    """
    there = ((live["spec"]["template"].get("metadata") or {}).get("annotations") or {}).get(CHECKSUM)
    old, new = secrets.checksums(before), secrets.checksums(after)
    text = config.strip("\n")
    ends = [("", "")]
    ends += [(one, one) for lead in range(3) for tail in range(3) if (one := "\n" * lead + text + "\n" * tail)]
    ends += [(old[part], new[part]) for part in old]
    for part in old:
        for tail_before, tail_after in ends:
            if there == _digest(old[part] + tail_before):
                return {CHECKSUM: _digest(new[part] + tail_after)}
    return {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Rotation:
    """What both rotations have in common."""

    def __init__(self, operator: operate.Operator, place: discover.Namespace, connect_timeout: int = 10) -> None:
        self.operator, self.place, self.connect_timeout = operator, place, connect_timeout
        self.client, self.namespace = operator.client, operator.namespace
        self.vault = Vault(self.client, self.namespace)
        self.result = Result()
        self._before: secrets.Values = {}

    def _values(self) -> secrets.Values:
        found = {}
        for name in secrets.NAMES:
            found[name] = secrets.decoded(self.client.find(secrets.path(self.namespace, name), RIGHTS))
            self.vault.hide(value for key, value in found[name].items() if key not in secrets.PUBLIC)
        return found

    def _workloads(self) -> list[dict[str, Any]]:
        """Every Deployment and StatefulSet of the namespace. Raises ClusterError."""
        found = []
        for kind in ("StatefulSet", "Deployment"):
            listed = self.client.get(rollout.PATHS[kind].format(self.namespace), f"list on {kind.lower()}s.apps")
            found += [{"kind": kind, **one} for one in listed["items"]]
        return found

    def _restart(self, live: Mapping[str, Any], before: secrets.Values, *more: operate.Change | None) -> operate.Change:
        """Roll out what starts with other values now."""
        config = running.of_litellm(self.client, self.namespace, live).text if _name(live) == discover.SERVICE else ""
        carried = checksum(live, before, self._values(), config)
        marks = {operate.RESTARTED: f"{self.client.now:%Y-%m-%dT%H:%M:%SZ}", **carried}
        change = operate.merged(operate.set_annotations(live, marks, "restarted"), *more)
        # A restart within one second of another is none: its time is the same. What it was for is told by the checksum.
        return change or operate.Change(operate.workload_of(live), {}, {}, {})

    def _roll_out(self, changes: Sequence[operate.Change]) -> None:
        """Raises ClusterError, with what is to be done."""
        try:
            self.operator.carry_out(changes, roll_back=False)
        except ClusterError as failure:
            raise self._interrupted(failure.attempt, failure.words, failure.advice) from None
        self.result.restarted += [one.name for one in changes]

    def _interrupted(self, attempt: str, words: str, advice: str) -> ClusterError:
        """The error of a rotation that stops here, with the state that it leaves and the way on."""
        state, way_on = self._left()
        error = operate.OperationFailed(
            attempt, f"{words.rstrip('.')}. {state}", f"{advice}. {way_on}" if advice else way_on
        )
        error.changes = tuple(self.vault.written)
        return error

    def _left(self) -> tuple[str, str]:
        """The state as it is now, and the way on."""
        raise NotImplementedError

    def _finish(self) -> Result:
        self.result.secret = self.vault.written
        return self.result


class MasterKey(Rotation):
    """LiteLLM's master key; its salt key stays what the stored models are encrypted with."""

    def __init__(
        self,
        operator: operate.Operator,
        place: discover.Namespace,
        proxy: Callable[[str], LiteLLMClient],
        *,
        verify: bool = True,
        connect_timeout: int = 10,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            proxy: a client of LiteLLM with a key.
        """
        super().__init__(operator, place, connect_timeout)
        self.proxy, self.verify, self.sleep, self.clock = proxy, verify, sleep, clock
        self._probe = ""
        self._answered: list[str] = []

    def run(self, given: str = "", check: bool = False) -> Result:
        """Raises ClusterError, with the state that is left and the way on."""
        there = self.operator.components()
        operate.missing(["litellm"], there, self.namespace)
        values = self.vault.read(secrets.LITELLM)
        self.vault.hide([given])
        old, new = self._old_and_new(values, given)
        if old == new:
            return self._finish()
        self.result.changed = True
        container = operate.main_container(there["litellm"], "litellm")
        self._require(container, secrets.MASTER)
        salt, wiring = self._salt(container, values, old)
        known = self._variables(there, old, new)
        # Before anything is changed: whether it could be done, and what of it there is.
        needed = self.verify and "backend" in there
        encrypts = self._encrypts(there, known, old) and self._encrypt_anew(old, new, rehearse=True, needed=needed)
        if not self.result.resumed and self.verify:
            self._look_before(old, check)
        if check:
            self.vault.write(secrets.LITELLM, {secrets.MASTER: new}, dry_run=True)
            self.result.restarted = [discover.SERVICE, *map(_name, self._after_litellm(there, known, old))]
            self._remind()
            return self._finish()
        before = self._values()
        before[secrets.LITELLM] = {**before[secrets.LITELLM], secrets.MASTER: old}
        try:
            if salt:
                # First of all: with another master key and without it, LiteLLM forgets every model.
                self.vault.write(secrets.LITELLM, {secrets.SALT: salt})
            if wiring is not None:
                self._roll_out([wiring])
            if not self.result.resumed:
                self.vault.write(secrets.LITELLM, {secrets.MASTER: new, PREVIOUS: old})
            live = self.operator.find(f"Deployment/{discover.SERVICE}") or there["litellm"]
            self._roll_out([self._restart(live, before)])
            if self.verify:
                self._look_after(old, new)
            self._bring_along(there, known, old, new, before)
            if encrypts:
                self._encrypt_anew(old, new)
            self.vault.write(secrets.LITELLM, {PREVIOUS: None})
        finally:
            self._forget_probe(new, old)
        self._remind()
        return self._finish()

    # ---- steps ----

    def _old_and_new(self, values: Mapping[str, str], given: str) -> tuple[str, str]:
        old = values.get(secrets.MASTER, "")
        if not old:
            raise ClusterError(
                f"Rotate the master key in {self.namespace}",
                f"Secret {secrets.LITELLM} has no {secrets.MASTER}",
                "Check that namespace is LiteMaaS's. Nothing was changed",
            )
        if values.get(PREVIOUS):
            if given and given != old:
                raise ClusterError(
                    f"Rotate the master key in {self.namespace}",
                    "an earlier rotation has not come to its end, and its new key isn't the one that is given",
                    "Run once without master_key, which ends it; then again with this one. Nothing was changed",
                )
            self.result.resumed = True
            return values[PREVIOUS], old
        if given and (len(given) < SHORTEST or not given.startswith("sk-") or not given.isprintable() or " " in given):
            raise ClusterError(
                f"Rotate the master key in {self.namespace}",
                f"master_key is no key of LiteLLM's: sk-… with at least {SHORTEST} characters and no white space",
                "Give another one, or none to have it made. Nothing was changed",
            )
        new = given or f"sk-{randomness.token_urlsafe(32)}"
        self.vault.hide([new])
        return old, new

    def _require(self, container: Mapping[str, Any], name: str) -> None:
        secret, key, _plain = source(container, name)
        if (secret, key) != (secrets.LITELLM, name):
            raise ClusterError(
                f"Rotate the master key in {self.namespace}",
                f"LiteLLM gets {name} from {f'Secret {secret}' if secret else 'its Deployment itself'}, not from Secret"
                f" {secrets.LITELLM}",
                "Deploy once with this collection (rhpds.litemaas.deploy_litemaas_ha), which takes that over. Nothing"
                " was changed",
            )

    def _salt(
        self, container: Mapping[str, Any], values: Mapping[str, str], old: str
    ) -> tuple[str, operate.Change | None]:
        """The salt key that is to be written, and how LiteLLM gets it; "" and None where all of it is there."""
        secret, key, plain = source(container, secrets.SALT)
        if plain or (secret and (secret, key) != (secrets.LITELLM, secrets.SALT)):
            return "", None  # its own, from elsewhere: it stays
        if self.result.resumed and not values.get(secrets.SALT):
            # What we write, we write after that: somebody else's previous key isn't what models are encrypted with.
            raise ClusterError(
                f"Rotate the master key in {self.namespace}",
                f"Secret {secrets.LITELLM} has {PREVIOUS}, as of an interrupted rotation, and no {secrets.SALT}, which"
                " a rotation writes first",
                f"Set {secrets.SALT} there to what LiteLLM's models are encrypted with, or take {PREVIOUS} out. Nothing"
                " was changed",
            )
        wired = bool(secret)
        # Not wired, what stands in the Secret is none that anything was encrypted with.
        salt = "" if wired and values.get(secrets.SALT) else old
        if not wired and values.get(secrets.SALT) not in (None, old):
            raise ClusterError(
                f"Rotate the master key in {self.namespace}",
                f"Secret {secrets.LITELLM} has a {secrets.SALT}, and LiteLLM runs without one: what its models are"
                " encrypted with is the master key, and this one would lose them",
                f"Take {secrets.SALT} out of the Secret, or set it to the current master key. Nothing was changed",
            )
        if wired:
            return salt, None
        entry = {
            "name": secrets.SALT,
            "valueFrom": {"secretKeyRef": {"name": secrets.LITELLM, "key": secrets.SALT}},
        }
        live = {"kind": "Deployment", "metadata": {"name": discover.SERVICE}}
        pod = {"spec": {"template": {"spec": {"containers": [dict(container)]}}}}
        return ("" if values.get(secrets.SALT) else salt), operate.set_variables(
            {**live, **pod}, container["name"], [entry]
        )

    def _variables(self, there: Mapping[str, Mapping[str, Any]], old: str, new: str) -> list[Variable]:
        """What the backend may know the master key by, and has: first what it encrypts with. Raises ClusterError."""
        found = []
        container = operate.main_container(there["backend"], "backend") if "backend" in there else {}
        for name in model_keys.SECRETS:
            for secret, key, plain in reversed(sources(container, name)):
                value = plain or (self.vault.look(secret).get(key, "") if secret else "")
                # An interrupted rotation may have written it.
                if (secret, key) == (secrets.LITELLM, secrets.MASTER) or (self.result.resumed and value == new):
                    value = old
                if value:
                    found.append(Variable(name, secret, key, value))
                    break
        self.result.notes += [
            f"the backend's {one.name} is not the master key: it was left as it is" for one in found if one.value != old
        ]
        return found

    def _after_litellm(
        self, there: Mapping[str, Mapping[str, Any]], known: Sequence[Variable], old: str
    ) -> list[Mapping[str, Any]]:
        """What starts with the master key, but for LiteLLM itself."""
        found = users(self._workloads(), secrets.LITELLM, [secrets.MASTER])
        if any(one.value == old for one in known):
            found.append(there["backend"])
        return list({_name(one): one for one in found if _name(one) != discover.SERVICE}.values())

    def _bring_along(
        self,
        there: Mapping[str, Mapping[str, Any]],
        known: Sequence[Variable],
        old: str,
        new: str,
        before: secrets.Values,
    ) -> None:
        for one in known:
            if one.value == old and one.secret and (one.secret, one.key) != (secrets.LITELLM, secrets.MASTER):
                self.vault.read(one.secret)
                self.vault.write(one.secret, {one.key: new})
        changes = []
        for live in self._after_litellm(there, known, old):
            container = operate.main_container(live, "backend")
            reference = {"secretKeyRef": {"name": secrets.LITELLM, "key": secrets.MASTER}}
            wanted = [
                {"name": name, "value": None, "valueFrom": reference}
                for name in model_keys.SECRETS
                if source(container, name)[2] == old
            ]
            changes.append(self._restart(live, before, operate.set_variables(live, container["name"], wanted)))
        self._roll_out(changes)

    def _encrypts(self, there: Mapping[str, Mapping[str, Any]], known: Sequence[Variable], old: str) -> bool:
        """Whether the backend encrypts its test keys of models with the master key, or would, once it is deployed."""
        return known[0].value == old if known else "backend" not in there

    def _encrypt_anew(self, old: str, new: str, rehearse: bool = False, needed: bool = True) -> bool:
        """LiteMaaS's test keys of models, with the new master key; whether it could be done. Raises ClusterError.

        Once the backend is rolled out, as only then nobody stores another one with the old master key. Until it is done
        the old one stays in the Secret, so that a run which ended before goes on with it.

        Without the database there is no rotation, as afterwards nobody could read these keys any more: the one moment
        to say so is before. But a master key that was seen can't wait: without verify it is done all the same. So it is
        without a backend, which may have no database either.

        Args:
            rehearse: rolls it back.
            needed: False for a note in place of the error where the database can't be used.
        """
        try:
            with self.place.connect("litemaas", self.connect_timeout) as connection:
                done = model_keys.encrypt_anew(connection, old, new, keep=not rehearse)
        except (ClusterError, DatabaseError) as failure:
            advice = failure.advice
            if rehearse and not isinstance(failure, model_keys.LibraryMissing):
                if not needed:
                    self.result.notes.append(
                        "LiteMaaS's test keys of models, if it has any, are not encrypted anew (enter them again in its"
                        f" model dialog): {str(failure).rstrip('.')}"
                    )
                    return False
                advice = f"{advice}. A rotation that can't wait is done without these keys with verify=false"
            raise self._interrupted(failure.attempt, failure.words, advice.removeprefix(". ")) from None
        self.result.model_keys, self.result.unreadable = len(done.changed), done.unreadable
        return True

    def _remind(self) -> None:
        names = self.result.unreadable
        if names:
            self.result.notes.append(
                f"LiteMaaS's test keys of {model_keys.named(names)} are encrypted with neither master key, and were"
                " left as they are: enter them again in its model dialog"
            )
        self.result.notes.append(AGNOSTICV)

    # ---- the proof ----

    def _look_before(self, old: str, check: bool) -> None:
        """The proxy takes the Secret's key and has every model that is stored. Raises ClusterError."""
        proxy = self.proxy(old)
        attempt = f"Look at LiteLLM at {proxy.url} before its master key is rotated"
        try:
            lost = self._lost(proxy)
            if not check and not lost:
                made = proxy.post(
                    "/key/generate",
                    {"key_alias": f"{PROBE}-{randomness.token_hex(4)}", "duration": PROBE_LIFE, "max_budget": 1.0},
                )
                self._probe = str(made["key"])
                self.vault.hide([self._probe])
                self._answered = self._call(proxy, self._probe, None)
        except LiteLLMError as failure:
            self._forget_probe(old)
            raise ClusterError(attempt, str(failure), "Put that right first. Nothing was changed") from None
        if lost:
            raise ClusterError(
                attempt,
                f"it doesn't list {len(lost)} of the models that are stored ({', '.join(lost[:5])})",
                "They can't be decrypted now already: put that right first. Nothing was changed",
            )

    def _lost(self, proxy: LiteLLMClient) -> list[str]:
        """Names of stored models that the proxy doesn't list. Raises LiteLLMError, ClusterError."""
        answer = proxy.get("/model/info")
        listed = {str((one.get("model_info") or {}).get("id")) for one in answer.get("data") or ()}
        try:
            with (
                self.place.connect("litellm", self.connect_timeout) as connection,
                connection.transaction("Read LiteLLM's models", read_only=True) as cursor,
            ):
                cursor.execute('SELECT model_id, model_name FROM "LiteLLM_ProxyModelTable" ORDER BY 2, 1')
                stored = cursor.fetchall()
        except DatabaseError as failure:
            raise ClusterError(failure.attempt, failure.words, failure.advice) from None
        return [name for number, name in stored if number not in listed]

    def _call(self, proxy: LiteLLMClient, key: str, models: list[str] | None) -> list[str]:
        """Models that answer, of those given or of the first few."""
        if models is None:
            data = proxy.get("/model/info").get("data") or ()
            models = sorted({str(one["model_name"]) for one in data if "*" not in one["model_name"]})[:SAMPLES]
        if not models:
            return []
        entry = Checker(proxy).check(Participant("probe", value=key, models=models))
        return [one["model"] for one in entry["checks"] if one["ok"] and one["called"]]

    def _look_after(self, old: str, new: str) -> None:
        """Until the proxy has taken the new key, refuses the old one, and has its models. Raises ClusterError."""
        proxy = self.proxy(new)
        ends = self.clock() + self.operator.timeout
        while True:
            trouble = self._trouble(proxy, old, new)
            if not trouble:
                return
            if self.clock() > ends:
                raise self._interrupted(f"Look at LiteLLM at {proxy.url} with its new master key", trouble, "")
            self.sleep(min(1.0, self.operator.poll))

    def _trouble(self, proxy: LiteLLMClient, old: str, new: str) -> str:
        """What isn't as it should be; "" where all is, and noted."""
        try:
            lost = self._lost(proxy)
        except LiteLLMError as failure:
            return str(failure)
        if lost:
            return f"it doesn't list {len(lost)} of the models that are stored ({', '.join(lost[:5])})"
        try:
            proxy.sibling(key=old).get("/v1/models")
        except LiteLLMError as failure:
            if failure.status not in (400, 401, 403):
                return str(failure)
        else:
            return "the old master key is still taken"
        said = ["every stored model is listed", "the old key is refused"]
        if self._probe:
            try:
                proxy.sibling(key=self._probe).get("/key/info")
            except LiteLLMError as failure:
                return f"a virtual key from before is refused: {failure}"
            said.append("a virtual key from before works")
        wanted = self._answered if self._probe else None
        answering = self._call(proxy, new, wanted)
        silent = [one for one in wanted or () if one not in answering]
        if silent:
            return f"{', '.join(silent)} answered before, and doesn't now"
        if answering:
            said.append(f"{', '.join(answering)} answers")
        else:
            self.result.notes.append("no model answered a call, before or after: their upstreams were not reached")
        self.result.verified = said
        return ""

    def _forget_probe(self, *keys: str) -> None:
        """Delete the probe with the first master key that does it; it would end by itself."""
        if self._probe:
            for key in keys:
                with suppress(LiteLLMError):
                    self.proxy(key).post("/key/delete", {"keys": [self._probe]})
                    return

    def _left(self) -> tuple[str, str]:
        way_on = "Put it right and run again"
        if self.result.resumed or PREVIOUS in self.vault.written.get(secrets.LITELLM, ()):
            state = (
                f"Secret {secrets.LITELLM} has the new master key, the old one as {PREVIOUS}, and the salt key that the"
                " models are encrypted with"
            )
            return state, f"{way_on}: it goes on with the same new key"
        return f"Secret {secrets.LITELLM} still has the old master key", way_on


class DatabasePassword(Rotation):
    """The password of the role that LiteLLM and the backend use, in the database and in its Secret."""

    def run(self, given: str = "", check: bool = False) -> Result:
        """Raises ClusterError, with the state that is left and the way on."""
        values = self.vault.read(secrets.DATABASE)
        self.vault.hide([given])
        attempt = f"Rotate the database's password in {self.namespace}"
        pending = values.get(NEXT, "")
        known = values.get("password") or secrets.Address.of(values.get(secrets.URL, "")).password
        if pending and given and given != pending:
            raise ClusterError(
                attempt,
                "an earlier rotation has not come to its end, and its new password isn't the one that is given",
                "Run once without new_value (LITEMAAS_NEW_DATABASE_PASSWORD), which ends it; then again with this one."
                " Nothing was changed",
            )
        if not pending and given and given == known and not rewritten(values, given) and not self._differing():
            return self._finish()
        if given and (len(given) < SHORTEST or not given.isprintable()):
            raise ClusterError(
                attempt,
                f"new_value (LITEMAAS_NEW_DATABASE_PASSWORD) has less than {SHORTEST} characters, or unprintable ones",
                "Give a longer one, or none, to have it made. Nothing was changed",
            )
        self.result.changed, self.result.resumed = True, bool(pending)
        new = pending or given or randomness.token_urlsafe(24)
        self.vault.hide([new])
        started = [secrets.URL, secrets.LITELLM_URL, "username", "password"]
        affected = sorted(users(self._workloads(), secrets.DATABASE, started), key=_turn)
        before = self._values()
        if check:
            # It has to work now, or a real run would be of no use.
            self._look(pending)
            self.vault.write(secrets.DATABASE, {NEXT: new}, dry_run=True)
            self.result.restarted = [_name(one) for one in affected]
            return self._finish()
        if not pending:
            self._look("")
            # Known to the Secret before the database has it: a run that ends here, or anywhere, is gone on with.
            self.vault.write(secrets.DATABASE, {NEXT: new})
        for which in WHICH:
            self._alter(which, new)
        changed = rewritten(values, new)
        if changed:
            self.vault.write(secrets.DATABASE, changed)
        self._roll_out([self._restart(one, before) for one in affected])
        # With what everybody reads now.
        fresh = discover.Namespace(self.place.cluster, self.namespace)
        for which in WHICH:
            self.result.verified.append(
                self._prove(fresh, which) or f"{which}'s database answers, and its pods are ready"
            )
        self.vault.read(secrets.DATABASE)
        self.vault.write(secrets.DATABASE, {NEXT: None})
        return self._finish()

    def _differing(self) -> list[str]:
        """Databases that don't take what the Secret has. Raises ClusterError for one that can't be asked."""
        found = []
        for which in WHICH:
            try:
                if self._seen(self.place, which) is None:
                    found.append(which)
            except (DatabaseError, ClusterError) as failure:
                if not _refused(failure):
                    raise self._interrupted(failure.attempt, failure.words, failure.advice) from None
                found.append(which)
        return found

    def _look(self, pending: str) -> None:
        """Whether the password can be changed in both databases, before anything is. Raises ClusterError."""
        for which in WHICH:
            try:
                with self._connected(which, pending):
                    pass
            except (DatabaseError, ClusterError) as failure:
                self._through_pod(which, failure, "SELECT 1;")

    def _alter(self, which: str, new: str) -> None:
        """The role's password is the new one afterwards, whatever it was. Raises ClusterError."""
        attempt = "Set the role's new password"
        try:
            with self._connected(which, new) as connection, connection.transaction(attempt) as cursor:
                cursor.execute("SELECT current_user")
                role = cursor.fetchone()[0]
                extensions = database.psycopg2.extensions
                # What the server is told, and may log, is not the password.
                verifier = extensions.encrypt_password(new, role, connection.raw)
                cursor.execute(f"ALTER ROLE {extensions.quote_ident(role, connection.raw)} PASSWORD %s", (verifier,))
        except (DatabaseError, ClusterError) as failure:
            # Neither a name nor a verifier has a quote that isn't doubled.
            role = str(self.place.server(which)[0].get("user", "")).replace('"', '""')
            self._through_pod(which, failure, f"ALTER ROLE \"{role}\" PASSWORD '{facts.scram(new)}';" if role else "")

    def _through_pod(self, which: str, failure: DatabaseError | ClusterError, statement: str) -> None:
        """A statement as the superuser whom the database's pod lets in, where the Secret's password isn't taken.

        Raises ClusterError: the failure, where there is no such pod, or it was another one.
        """
        parts, pod = self.place.server(which) if _refused(failure) else ({}, None)
        role = str(parts.get("user", ""))
        if not pod or not statement:
            advice = failure.advice
            if _refused(failure):
                advice = (
                    f"Role {role or 'of the DSN'} has another password there than Secret {secrets.DATABASE}, and the"
                    " database is not in this cluster, where it could be set: have its administrator set the Secret's"
                    f" (ALTER ROLE … PASSWORD …), or put the right one into the Secret's password, {secrets.URL} and"
                    f" {secrets.LITELLM_URL}"
                )
            raise self._interrupted(failure.attempt, failure.words, advice) from None
        source, given = dump.PodSource(self.place.cluster, self.namespace, pod), statement.encode()
        attempt = f"Set the password of role {role} in {source.name}, as the Secret's is refused ({failure.words})"
        try:
            source.run(attempt, ["sh", "-c", AS_SUPERUSER, "sh", str(len(given))], lambda _data: None, [given])
        except (dump.DumpError, ClusterError) as trouble:
            words = trouble.words if isinstance(trouble, ClusterError) else str(trouble).removeprefix(f"{attempt}: ")
            advice = (
                f"Put the right password into Secret {secrets.DATABASE} (password, {secrets.URL},"
                f" {secrets.LITELLM_URL}), or set the Secret's as the superuser there"
            )
            if isinstance(trouble, ClusterError):
                advice = f"{trouble.advice or 'The account needs ' + dump.RIGHTS}; or: {advice}"
            raise self._interrupted(attempt, words, advice) from None
        note = f"{which}'s database refused the password in Secret {secrets.DATABASE}: the way in was {source.name}"
        if note not in self.result.notes:
            self.result.notes.append(note)

    @contextmanager
    def _connected(self, which: str, new: str = "") -> Iterator[Any]:
        """With the Secret's password, or with the new one where that isn't the role's any more.

        Raises DatabaseError, ClusterError.
        """
        option = f"{which}_dsn"
        with self.place.database(which) as dsn:
            parts = database.parts_of(dsn, option)
            logins = [dsn, *([database.make_dsn(**{**parts, "password": new})] if new else [])]
            while True:
                login = logins.pop(0)
                try:
                    connection = database.connect(login, connect_timeout=self.connect_timeout, option=option)
                    break
                except DatabaseError:
                    if not logins:
                        raise
            with closing(connection):
                yield connection

    def _prove(self, place: discover.Namespace, which: str) -> str:
        """That the database takes what the Secret has now; "" where nobody can tell. Raises ClusterError."""
        try:
            seen = self._seen(place, which)
        except (DatabaseError, ClusterError) as failure:
            raise self._interrupted(failure.attempt, failure.words, failure.advice) from None
        if seen is None:
            raise self._interrupted(
                f"Check {which}'s database", "its role has another password than its Secret", "Look who else sets it"
            )
        return seen

    def _seen(self, place: discover.Namespace, which: str) -> str | None:
        """What shows that the database takes what the Secret has; "" where nobody can tell, None where it doesn't.

        In its own pod, where a tunnel ends, PostgreSQL's images let everybody in: what it has stored is compared there.

        Raises DatabaseError, ClusterError.
        """
        option = f"{which}_dsn"
        with place.database(which) as dsn:
            parts = database.parts_of(dsn, option)
            user, password = str(parts.get("user", "")), str(parts.get("password", ""))
            with closing(database.connect(dsn, connect_timeout=self.connect_timeout, option=option)) as connection:
                wrong = database.make_dsn(**{**parts, "password": f"not {password}"})
                try:
                    database.connect(wrong, connect_timeout=self.connect_timeout, option=option).close()
                except DatabaseError:
                    return f"{which}'s database lets the new password in, and no other"
                with connection.transaction("Read the role's stored password", read_only=True) as cursor:
                    cursor.execute("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')")
                    if not cursor.fetchone()[0]:
                        return ""
                    cursor.execute("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = %s", (user,))
                    stored = cursor.fetchone()
        if stored and stored[0] and facts.verifies(str(stored[0]), user, password) is not False:
            return f"{which}'s database has the new password"
        return None

    def _left(self) -> tuple[str, str]:
        begun = secrets.DATABASE in self.vault.written or self.result.resumed
        state = f"Secret {secrets.DATABASE} has the new password as {NEXT}" if begun else "Nothing was changed"
        return state, "Put it right and run again: it goes on from there"


def _refused(failure: Exception) -> bool:
    """Whether it is the password that a server didn't take."""
    return isinstance(failure, DatabaseError) and bool(REFUSED.search(failure.words))


def described(what: str, done: Result, check: bool) -> str:
    """What was done, in a line."""
    name = what.replace("_", " ")
    if not done.changed:
        return f"{name}: it is the one that is given already"
    rolled = ", ".join(done.restarted) or "nothing"
    keys = f"{done.model_keys} test key{'' if done.model_keys == 1 else 's'} of models" if done.model_keys else ""
    if check:
        keys = keys and f"{keys} would be encrypted anew"
        said = [f"{name} would be rotated, {rolled} rolled out", keys, *done.notes]
    else:
        keys = keys and f"{keys} encrypted anew"
        resumed = " (an interrupted run was ended)" if done.resumed else ""
        said = [f"{name} rotated{resumed}: {rolled} rolled out", ", ".join(done.verified), keys, *done.notes]
    return "; ".join(one for one in said if one)


def rewritten(values: Mapping[str, str], new: str) -> dict[str, str | None]:
    """What of Secret litemaas-db is to be written for another password: the password, and the URLs with it. Pure."""
    wanted: dict[str, str | None] = {}
    if values.get("password") != new and ("password" in values or not values.get(secrets.URL)):
        wanted["password"] = new
    for key in (secrets.URL, secrets.LITELLM_URL):
        address = secrets.Address.of(values.get(key, ""))
        if address.host and address.password != new:
            wanted[key] = replace(address, password=new).url()
    return wanted


def _name(live: Mapping[str, Any]) -> str:
    return str(live["metadata"]["name"])


def _turn(live: Mapping[str, Any]) -> tuple[int, str]:
    """The database first, then LiteLLM, then who asks LiteLLM."""
    order = [secrets.POSTGRES, discover.SERVICE, operate.DEPLOYMENTS["backend"]]
    name = _name(live)
    return (order.index(name) if name in order else len(order)), name
