# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of Google service accounts for LiteLLM's pods: Secret, mount, rollout, and the proof that each pod has the file.

All is read and checked first. One item that can't be done keeps the whole call from writing anything: the items share
one Deployment, and with it one rollout.

LiteLLM reads a key's file at the first call and keeps what it made of it, by path, until it stops (seen on 1.81.14). A
new key therefore needs new pods: a checksum in the pod template makes Kubernetes start them, one after the other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import random
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.rhpds.litemaas.plugins.module_utils import vertex
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster import mounts, rollout
from ansible_collections.rhpds.litemaas.plugins.module_utils.cluster.client import Cluster, ClusterError
from ansible_collections.rhpds.litemaas.plugins.module_utils.items import refuse_duplicates
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile import report
from ansible_collections.rhpds.litemaas.plugins.module_utils.reconcile.plan import (
    CREATE,
    DELETE,
    FAIL,
    HIDDEN,
    NONE,
    ROTATE,
    UPDATE,
    Change,
    Step,
)

#: The file's name in the Secret, and so in the pods.
FILE = "key.json"
#: Folders of the image, the cluster or LiteLLM's configuration. What is below them is free, but for the kernel's.
_SYSTEM = re.compile(
    r"""
    / | /(?:app|bin|boot|dev|etc|home|lib[^/]*|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)
    | /(?:proc|sys)/.*
    | /dev/(?:mqueue|pts|shm)
    | /etc/(?:litellm|ca-certificates|pki|pki/tls|ssl|ssl/certs)
    | /usr/(?:bin|lib[^/]*|local|sbin|share|local/(?:bin|lib[^/]*|sbin|share))
    | /var/(?:cache|lib|log|run|tmp)
    | (?:/var)?/run/secrets(?:/kubernetes\.io(?:/.*)?)?
    """,
    re.VERBOSE,
)
LABELS = {"app.kubernetes.io/managed-by": "rhpds.litemaas", "app.kubernetes.io/part-of": "litemaas"}
#: On Secrets that were made here, and that may be deleted here.
MADE = "rhpds.litemaas/made-by"
MADE_BY = "vertex_credentials"
#: How often the Deployment is written before giving up, where others write it meanwhile, and seconds between at most.
#: A rollout writes its status a few times a second.
TRIES = 12
PAUSE = 0.3


@dataclass
class Credential:
    """One item, parsed. ``error`` tells why it can't be acted on."""

    secret: str
    path: str = ""
    volume: str = ""
    state: str = "present"
    content: Any = None
    expected_project: str | None = None
    expected_email: str | None = None
    fallback: bool | None = None
    error: str = ""
    account: vertex.ServiceAccount | None = None
    #: What the Secret has now; None where there is none.
    found: dict[str, Any] | None = None
    #: The file's bytes as they are to be; empty where that isn't known.
    data: bytes = b""
    probe: vertex.Probe | None = None
    pods: list[str] = field(default_factory=list)
    #: Folders that it is moved from.
    left: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.secret or "(an item without secret)"

    @property
    def folder(self) -> str:
        """Where the Secret is mounted."""
        return str(PurePosixPath(self.path).parent)

    @property
    def is_ours(self) -> bool:
        """Whether the Secret was made here."""
        annotations = (self.found or {}).get("metadata", {}).get("annotations") or {}
        return annotations.get(MADE) == MADE_BY

    @property
    def stored(self) -> bytes:
        """The file's bytes as the Secret has them."""
        with suppress(ValueError, TypeError):
            return base64.b64decode(((self.found or {}).get("data") or {}).get(FILE) or "", validate=True)
        return b""

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def is_system(folder: str) -> bool:
    """Whether an image has files of its own in a folder, so that nothing may be mounted over it."""
    return bool(_SYSTEM.fullmatch("/" + posixpath.normpath(folder).lstrip("/")))


@dataclass(frozen=True)
class Settings:
    """What a call says beside its items; see the module's options."""

    namespace: str
    deployment: str = "litellm"
    container: str = "litellm"
    used_paths: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False
    probe: str = "auto"
    iam_endpoint: str = vertex.IAM_ENDPOINT
    wait: bool = True
    verify: bool = True
    wait_timeout: float = 600


def credential_from_options(options: Mapping[str, Any]) -> Credential:
    """One item of ``credentials``, with the top-level options already filled in; never raises, see ``error``."""
    item = Credential(
        secret=str(options.get("secret") or ""),
        path=str(options.get("path") or ""),
        volume=str(options.get("volume") or ""),
        state=options.get("state") or "present",
        expected_project=options.get("expected_project") or None,
        expected_email=options.get("expected_email") or None,
        fallback=options.get("fallback"),
    )
    problems = []
    if not item.secret:
        problems.append("secret is missing: the name of the Secret")
    if item.path and (PurePosixPath(item.path).name != FILE or not item.path.startswith("/") or ".." in item.path):
        problems.append(
            f"path {item.path!r} has to be an absolute one that ends in /{FILE}, the file's name in the Secret"
        )
    elif item.path and item.state == "present" and is_system(item.folder):
        # One that was mounted there once can be taken away.
        problems.append(
            f"path {item.path!r} would mount the Secret over {item.folder}, and hide what the image has there; name a"
            f" folder of its own, for example /etc/vertex-credentials/{FILE}"
        )
    if item.state == "present":
        src, content = options.get("src"), options.get("content")
        if src and content not in (None, "", {}):
            problems.append("src and content exclude each other")
        elif src:
            try:
                item.content = Path(src).expanduser().read_bytes()
            except OSError as failure:
                problems.append(f"src {src} can't be read: {failure.strerror}")
        elif content is not None:
            item.content = content
    if item.content is not None:
        _take(item, item.content, "the key", problems)
    item.error = "; ".join(problems)
    return item


def _take(item: Credential, content: Any, what: str, problems: list[str]) -> None:
    """Check a key, and note whose it is."""
    try:
        item.account = vertex.account_of(content)
    except vertex.KeyProblem as problem:
        problems.append(f"{what} {problem}")
        return
    wrong = vertex.unexpected(item.account, item.expected_project, item.expected_email)
    if wrong:
        problems.append(f"{what} {wrong}")
    if isinstance(content, bytes):
        item.data = content
    else:
        item.data = content.encode() if isinstance(content, str) else json.dumps(content, indent=2).encode()


class Credentials:
    """The items of one call.

    Args:
        cluster: how to reach the API server.
        settings: what they share.
        items: see :func:`credential_from_options`.
    """

    def __init__(self, cluster: Cluster, settings: Settings, items: Sequence[Credential]) -> None:
        self.cluster, self.settings, self.items = cluster, settings, list(items)
        self.rest = cluster.rest()
        self.workload: mounts.Workload | None = None
        self.wanted = mounts.Wanted()
        self._fallback = ""
        self.warnings: list[str] = []
        self.rollout: dict[str, Any] = {}
        base = f"/api/v1/namespaces/{settings.namespace}"
        self._secrets = f"{base}/secrets"
        self._deployment = f"/apis/apps/v1/namespaces/{settings.namespace}/deployments/{settings.deployment}"

    def converge(self, *, check_mode: bool) -> dict[str, Any]:
        """Make the cluster match the items; the module's result.

        Raises:
            ClusterError: the cluster refused. What was written by then is said in it.
        """
        refuse_duplicates(self.items, lambda item: item.secret, "this Secret")
        self._read()
        steps = [self._step(item) for item in self.items]
        self._refuse_clashes(steps)
        if any(step.action == FAIL for step in steps):
            for step in steps:
                if step.action != FAIL:
                    step.action, step.changes, step.note = NONE, [], "left as it is, as another item can't be done"
        elif not check_mode:
            self._write(steps)
        elif not self._is_missing():
            self._rehearse(steps)
        out = report.result("credential", steps, check_mode=check_mode, describe=self._describe)
        if check_mode and not out["failed"] and self._is_missing():
            out["msg"] += f". A real run is refused until Deployment {self.settings.deployment} is there"
        out["projects"] = {
            item.path: item.account.project
            for item in self.items
            if item.state == "present" and item.account and not item.error and item.path
        }
        out["rollout"] = self.rollout
        return out

    # ---- looking ----

    def _read(self) -> None:
        found = self.rest.find(self._deployment, mounts.RIGHTS)
        if found is not None:
            self.workload = mounts.Workload(found, self.settings.container)
        for item in self.items:
            if not item.secret:
                continue
            item.found = self.rest.find(f"{self._secrets}/{item.secret}", "get and patch on secrets")
            if item.state == "present" and not item.error:
                self._settle(item)

    def _settle(self, item: Credential) -> None:
        """The file's content as it is to be, and whether Google takes it."""
        problems: list[str] = []
        if item.content is None:
            if item.found is None:
                problems.append(
                    f"there is no Secret {item.secret} in {self.settings.namespace}: give its key as src or content"
                )
            elif not item.stored:
                problems.append(f"Secret {item.secret} has no {FILE}: give the key as src or content")
            else:
                _take(item, item.stored, f"{FILE} of Secret {item.secret}", problems)
        elif item.stored and vertex.same_key(item.stored.decode("utf-8", "replace"), item.content):
            # Laid out otherwise, it is the same key still: nothing has to be rolled out for that.
            item.data = item.stored
        if not problems and item.account is not None and self.settings.probe != "skip":
            item.probe = vertex.probe(item.account, self.settings.iam_endpoint)
            if item.probe.outcome == "failed":
                problems.append(item.probe.reason)
            elif item.probe.outcome == "skipped" and self.settings.probe == "require":
                problems.append(f"the key could not be tried: {item.probe.reason}")
        item.error = "; ".join(problems)

    # ---- deciding ----

    def _step(self, item: Credential) -> Step[Credential, Any]:
        step: Step[Credential, Any] = Step(item.name, NONE, wanted=item)
        if not item.error:
            item.error = self._absent(item, step) if item.state == "absent" else self._present(item, step)
        if item.error:
            step.action, step.error, step.changes = FAIL, item.error, []
        return step

    def _present(self, item: Credential, step: Step[Credential, Any]) -> str:
        """Fills the step in; returns why it can't be done."""
        workload = self.workload
        if workload is None:
            where = f"Deployment {self.settings.deployment} in {self.settings.namespace}"
            step.note = f"{where} isn't there yet: deploy LiteMaaS first"
        elif self.settings.container not in workload.containers:
            return (
                f"Deployment {workload.name} has no container {self.settings.container!r}"
                f" ({', '.join(workload.containers)}): name it with container"
            )
        mounted = workload.mounts if workload else []
        if not item.path:
            own = [one for one in mounted if one.secret == item.secret and not one.sub_path]
            if len(own) != 1:
                return (
                    f"path is missing: where the key is to be in the pods, for example /etc/vertex-credentials/{FILE}"
                )
            if is_system(own[0].folder):
                return (
                    f"Secret {item.secret} is mounted over {own[0].folder}, and hides what the image has there: give a"
                    f" path, for example /etc/vertex-credentials/{FILE}"
                )
            item.path = f"{own[0].folder}/{FILE}"
        there = next((one for one in mounted if one.folder == item.folder), None)
        if there is None:
            there = next((one for one in mounted if one.folder == item.path), None)
        if there is not None and (there.secret != item.secret or there.sub_path):
            what = f"Secret {there.secret}" if there.secret else "something that is no Secret"
            single = ", as a single file, which Kubernetes never brings up to date" if there.sub_path else ""
            return (
                f"{there.folder} of Deployment {self.settings.deployment} is mounted from {what} already (volume"
                f" {there.volume}{single}): take that mount away, or choose another path"
            )
        moved = [
            one
            for one in mounted
            if one.secret == item.secret
            and not one.sub_path
            and one.folder not in (item.folder, item.path)
            # Once applied, one that is moved is only others'.
            and (one.folder in item.left or (workload is not None and workload.owns(one)))
        ]
        refused = self._in_use({f"{one.folder}/{FILE}" for one in moved})
        if refused:
            return refused
        item.left |= {one.folder for one in moved}
        if there is not None:
            item.volume = there.volume
        item.volume = item.volume or (moved[0].volume if moved else item.secret)
        taken = workload.volume_of(item.volume) if workload else None
        if taken is not None and taken != item.secret:
            return (
                f"volume {item.volume} of Deployment {self.settings.deployment} is of"
                f" {f'Secret {taken}' if taken else 'something else'}: choose another name with volume"
            )
        new = item.found is None or not item.stored
        if item.data != item.stored:
            step.changes.append(Change(f"Secret {item.secret} {FILE}", None if new else HIDDEN, HIDDEN))
        where = f"Deployment {self.settings.deployment}"
        if there is None:
            step.changes.append(Change(f"{where} mount {item.folder}", None, f"Secret {item.secret}, read-only"))
        elif not there.read_only:
            step.changes.append(Change(f"{where} mount {item.folder}", "writable", "read-only"))
        for one in moved:
            step.changes.append(Change(f"{where} mount {one.folder}", f"Secret {item.secret}", None))
            self.wanted.moved[one.folder] = one
        before = workload.annotations.get(mounts.CHECKSUM + item.volume) if workload else None
        short = item.checksum[:16]
        if before != short:
            step.changes.append(Change(f"{where} checksum of {item.volume}", before, short))
        step.changes += self._fallback_changes(item, where)
        if step.changes:
            step.action = CREATE if new else ROTATE if item.data != item.stored else UPDATE
            self.wanted.mounts[item.volume] = mounts.Mount(item.folder, item.volume, item.secret)
            self.wanted.checksums[item.volume] = short
            if item.found is not None and not item.is_ours and item.data != item.stored:
                step.note = "the Secret was made by somebody else: its key was replaced, the rest of it is as it was"
        return ""

    def _fallback_changes(self, item: Credential, where: str) -> list[Change]:
        current = self.workload.fallback if self.workload else None
        left = {f"{folder}/{FILE}" for folder in item.left}
        # It follows a key that is moved: nothing is at the old path any more.
        if item.fallback is True or (item.fallback is None and current in left and not self._fallback):
            if self._fallback and self._fallback != item.path:
                item.error = f"fallback is wanted for {self._fallback} too: only one key can be that"
                return []
            self._fallback = item.path
            if current != item.path:
                self.wanted.fallback = item.path
                return [Change(f"{where} {mounts.FALLBACK}", current, item.path)]
        elif item.fallback is False and current is not None and current in {item.path, *left}:
            self.wanted.fallback = self.wanted.fallback or ""
            return [Change(f"{where} {mounts.FALLBACK}", current, None)]
        return []

    def _absent(self, item: Credential, step: Step[Credential, Any]) -> str:
        workload = self.workload
        own = [
            one
            for one in (workload.mounts if workload else [])
            if one.secret == item.secret and (not item.path or one.folder in (item.folder, item.path))
        ]
        paths = {f"{one.folder}/{FILE}" for one in own} | ({item.path} if item.path else set())
        current = workload.fallback if workload else None
        is_there = bool(own) or item.is_ours or (current is not None and current in paths)
        refused = self._in_use(paths) if is_there else ""
        if refused:
            return refused
        for one in own:
            self.wanted.gone[one.volume] = one
            step.changes.append(
                Change(f"Deployment {self.settings.deployment} mount {one.folder}", f"Secret {item.secret}", None)
            )
            item.path, item.volume = item.path or f"{one.folder}/{FILE}", one.volume
        if current is not None and current in paths:
            self.wanted.fallback = self.wanted.fallback or ""
            step.changes.append(Change(f"Deployment {self.settings.deployment} {mounts.FALLBACK}", current, None))
        if item.found is None:
            step.note = "" if step.changes else "not there"
        elif not item.is_ours:
            step.note = f"Secret {item.secret} was made by somebody else: it stays"
        else:
            others = sorted(set(item.found.get("data") or {}) - {FILE})
            step.changes.append(Change(f"Secret {item.secret}", HIDDEN, f"without {FILE}" if others else None))
            if others:
                step.note = f"Secret {item.secret} holds more ({', '.join(others)}): only {FILE} was taken out of it"
        if step.changes:
            step.action = DELETE
        return ""

    def _in_use(self, paths: set[str]) -> str:
        """Why keys at these paths can't go; "" where they can."""
        users = sorted(
            {str(model) for path in paths for model in _listed(self.settings.used_paths.get(path)) if model is not None}
        )
        if not users or self.settings.force:
            return ""
        return (
            f"{', '.join(sorted(paths))} is still used by {_some(users)}: remove these models first, or set force,"
            " and their calls fail from then on"
        )

    def _refuse_clashes(self, steps: list[Step[Credential, Any]]) -> None:
        """Two items for one place, and a Deployment that isn't there though it is needed now."""
        seen: dict[str, str] = {}
        for step in steps:
            item = step.wanted
            if item is None or step.action == FAIL or item.state == "absent":
                continue
            for place in (f"path {item.path}", f"volume {item.volume}"):
                if place in seen:
                    step.action, step.changes = FAIL, []
                    step.error = f"{place} is that of Secret {seen[place]} too: each key needs its own"
                seen.setdefault(place, item.secret)
            if item.error and step.action != FAIL:
                step.action, step.error, step.changes = FAIL, item.error, []

    # ---- writing ----

    def _is_missing(self) -> bool:
        """Whether a key is to be mounted into a Deployment that isn't there."""
        return self.workload is None and any(item.state == "present" for item in self.items)

    def _write(self, steps: list[Step[Credential, Any]]) -> None:
        present = [step.wanted for step in steps if step.wanted and step.wanted.state == "present"]
        if self._is_missing():
            raise ClusterError(
                f"Mount credentials into Deployment {self.settings.deployment} in {self.settings.namespace}",
                "it isn't there",
                "Deploy LiteMaaS first (rhpds.litemaas.deploy_litemaas_ha), or name it with deployment. Nothing was"
                " written",
            )
        self._rehearse(steps)
        done: list[str] = []
        try:
            for item in present:
                if item.data != item.stored:
                    self._write_secret(item)
                    done.append(f"Secret {item.secret} was written")
            if self._write_deployment():
                done.append(f"Deployment {self.settings.deployment} was changed")
            if done or present:
                self._wait()
            self._verify(present)
            for step in steps:
                if step.wanted and step.wanted.state == "absent" and step.wanted.is_ours:
                    self._remove_secret(step.wanted)
                    done.append(f"Secret {step.wanted.secret} was removed")
        except ClusterError as failure:
            if not done:
                raise
            raise ClusterError(
                failure.attempt,
                failure.words,
                f"{failure.advice + '. ' if failure.advice else ''}By then {', '.join(done)}: pods that were ready go"
                " on as they were, and the next run goes on from there",
                failure.status,
            ) from None

    def _rehearse(self, steps: Sequence[Step[Credential, Any]]) -> None:
        """Let the API server try all that will be written, without writing it: rights, and what it finds invalid.

        Raises:
            ClusterError: it refuses.
        """
        items = [step.wanted for step in steps if step.wanted]
        present = [item for item in items if item.state == "present"]
        if present and self.settings.wait and self.settings.verify and not self._may_exec():
            raise ClusterError(
                f"Run a command in pods of {self.settings.namespace}",
                "the account may not",
                "It needs create and get on pods/exec there, to compare the keys in the pods; verify: false goes"
                " without. Nothing was written",
                403,
            )
        for item in present:
            if item.data != item.stored:
                self._write_secret(item, dry_run=True)
        self._write_deployment(dry_run=True)
        for item in items:
            if item.state == "absent" and item.is_ours:
                self._remove_secret(item, dry_run=True)

    def _may_exec(self) -> bool:
        # Older clusters ask for get, as the connection begins with a GET, newer ones for create.
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        for verb in ("create", "get"):
            asked = {"namespace": self.settings.namespace, "verb": verb, "resource": "pods", "subresource": "exec"}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            }
            if self.rest.request("POST", path, review).get("status", {}).get("allowed"):
                return True
        return False

    def _write_secret(self, item: Credential, *, dry_run: bool = False) -> None:
        metadata: dict[str, Any] = {"name": item.secret}
        if item.found is None or item.is_ours:
            metadata |= {"labels": LABELS, "annotations": {MADE: MADE_BY}}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "data": {FILE: base64.b64encode(item.data).decode()},
        }
        if item.found is None:
            body["type"] = "Opaque"
        answer = self._apply(f"{self._secrets}/{item.secret}", body, "create and patch on secrets", dry_run)
        item.found = item.found if dry_run else answer

    def _apply(self, path: str, body: dict[str, Any], rights: str, dry_run: bool) -> dict[str, Any]:
        return self.rest.request(
            "PATCH",
            path,
            body,
            query={"fieldManager": mounts.MANAGER, "force": "true", **_dry(dry_run)},
            content_type=mounts.APPLY,
            rights=rights,
        )

    def _write_deployment(self, *, dry_run: bool = False) -> bool:
        """Whether anything was to write. Raises ClusterError."""
        wrote = False
        for left in reversed(range(TRIES)):
            try:
                wrote = self._patch_deployment(dry_run) or wrote
                break
            except Overtaken as overtaken:
                wrote = wrote or overtaken.wrote
                if not left:
                    raise ClusterError(
                        f"Change Deployment {self.settings.deployment} in {self.settings.namespace}",
                        f"somebody else changed it {TRIES} times meanwhile",
                        "Run again when they are done",
                        409,
                    ) from None
            time.sleep(random.uniform(0, PAUSE))  # apart from each other
            self._look_again()
        if wrote and not dry_run and self.workload is not None and self.workload.interrupts:
            self.warnings.append(
                f"Deployment {self.workload.name}: calls may fail during the rollout, as {self.workload.interrupts}"
            )
        return wrote

    def _look_again(self) -> None:
        """Work out anew what is to write, from the Deployment as it is now.

        Raises:
            ClusterError: an item can't be done any more.
        """
        self.workload = mounts.Workload(self.rest.get(self._deployment, mounts.RIGHTS), self.settings.container)
        self.wanted, self._fallback = mounts.Wanted(), ""
        steps = [self._step(item) for item in self.items]
        self._refuse_clashes(steps)
        for step in steps:
            if step.action == FAIL:
                raise ClusterError(
                    f"Change Deployment {self.settings.deployment} in {self.settings.namespace} for {step.name}",
                    f"somebody else changed it meanwhile: {step.error}",
                )

    def _patch_deployment(self, dry_run: bool) -> bool:
        """Take away and apply; whether there was anything. Raises ClusterError, Overtaken."""
        wanted, workload = self.wanted, self.workload
        if workload is None:
            return False
        wrote = False
        try:
            removal = workload.removal(wanted)
            if removal is not None:
                # First: what is to go and what comes may be in each other's way.
                query = {"fieldManager": mounts.MANAGER, **_dry(dry_run)}
                answer = self.rest.request(
                    "PATCH", self._deployment, removal, query=query, content_type=mounts.MERGE, rights=mounts.RIGHTS
                )
                workload, wrote = mounts.Workload(answer, self.settings.container), True
            if wanted.mounts:
                answer = self._apply(self._deployment, workload.applied(wanted), mounts.RIGHTS, dry_run)
                workload, wrote = mounts.Workload(answer, self.settings.container), True
            leftovers = None if dry_run else workload.leftovers(wanted)
            if leftovers is not None:
                query = {"fieldManager": mounts.MANAGER}
                answer = self.rest.request(
                    "PATCH", self._deployment, leftovers, query=query, content_type=mounts.MERGE, rights=mounts.RIGHTS
                )
                workload = mounts.Workload(answer, self.settings.container)
        except ClusterError as failure:
            if failure.status == 409:
                raise Overtaken(wrote) from None
            raise
        if not dry_run:
            self.workload = workload
        return wrote

    def _wait(self) -> None:
        if not self.settings.wait or self.workload is None:
            return
        name = f"Deployment/{self.settings.deployment}"
        states = rollout.wait_for(self.rest, self.settings.namespace, [name], self.settings.wait_timeout)
        self.rollout = states[0].shown()

    def _verify(self, present: Sequence[Credential]) -> None:
        if not self.settings.wait or not self.settings.verify or self.workload is None or not present:
            return
        checksums = {item.path: item.checksum for item in present}
        seen = mounts.verify(
            self.cluster, self.settings.namespace, self.workload, checksums, min(self.settings.wait_timeout, 180)
        )
        if seen.trouble:
            raise ClusterError(
                f"Check the keys in the pods of Deployment {self.settings.deployment}",
                seen.sentence(),
                "A node brings a mounted Secret up to date within a minute or two: look at the pod's events and at the"
                " user that its container runs as",
            )
        for item in present:
            item.pods = seen.pods

    def _remove_secret(self, item: Credential, *, dry_run: bool = False) -> None:
        path, rights = f"{self._secrets}/{item.secret}", "delete and patch on secrets"
        others = set((item.found or {}).get("data") or {}) - {FILE}
        try:
            if others:
                patch = {"data": {FILE: None}, "metadata": {"annotations": {MADE: None}}}
                kind = "application/merge-patch+json"
                self.rest.request("PATCH", path, patch, query=_dry(dry_run), content_type=kind, rights=rights)
            else:
                self.rest.request("DELETE", path, query=_dry(dry_run), rights=rights)
        except ClusterError as failure:
            if failure.status != 404:  # somebody else was quicker
                raise

    def _describe(self, step: Step[Credential, Any]) -> dict[str, Any]:
        item = step.wanted
        if item is None:
            return {}
        return {
            "secret": item.secret,
            "path": item.path,
            "volume": item.volume,
            "project": item.account.project if item.account else "",
            "email": item.account.email if item.account else "",
            "probe": {"outcome": item.probe.outcome, "reason": item.probe.reason} if item.probe else {},
            "verified_pods": item.pods,
        }


class Overtaken(Exception):
    """The Deployment isn't any more what a patch was worked out from.

    Attributes:
        wrote: whether an earlier patch was taken.
    """

    def __init__(self, wrote: bool) -> None:
        super().__init__(wrote)
        self.wrote = wrote


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value in (None, "") else [value]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
