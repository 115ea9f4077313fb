# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a started pod of the fake node has: the environment of its containers, the files of its volumes, its logs."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeapi import Api, Object

VARIABLE = re.compile(r"\$(\$)|\$\(([-._A-Za-z0-9]+)\)")


class NotThere(Exception):
    """A Secret, a ConfigMap or a key of one that a container can't start without; worded as a kubelet does."""


class NotMounted(NotThere):
    """It is a volume that can't be made."""


@dataclass(frozen=True)
class Mount:
    """A path in the container, and where its files really are."""

    path: str
    place: Path


@dataclass
class Container:
    """One container of a started pod. The environment is the one of its start, as with a real one."""

    environment: dict[str, str] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    log: str = ""
    previous_log: str = ""

    def here(self, text: str) -> str:
        """Text of a command, with paths in the container made paths on this machine."""
        for mount in sorted(self.mounts, key=lambda one: -len(one.path)):
            found = rf"(?<![\w./-]){re.escape(mount.path.rstrip('/'))}(?=$|[/\s\"'`;:,)&|<>=\]}}])"
            text = re.sub(found, lambda _match, place=mount.place: str(place), text)  # type: ignore[misc]
        return text


@dataclass
class Started:
    """A started pod."""

    pod: Object
    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    #: How often a crashing container was started again
    restarts: int = 0

    def remove(self) -> None:
        """Its files go; those of claims stay."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Starter:
    """Resolves what a pod refers to, through the API."""

    def __init__(self, api: Api, root: Path) -> None:
        self._api = api
        self._root = root

    async def start(self, pod: Object, restarts: int = 0) -> Started:
        """A pod's containers with all they refer to. Raises NotThere."""
        started = Started(pod, self._root / "pods" / pod["metadata"]["uid"], restarts=restarts)
        started.folder.mkdir(parents=True, exist_ok=True)
        sources = Sources(self._api, pod["metadata"]["namespace"])
        places = await self.volumes(started, sources)
        for number, spec in enumerate(all_containers(pod)):
            container = Container(await environment(sources, pod, spec))
            for count, mount in enumerate(spec.get("volumeMounts") or []):
                place = places.get(mount["name"])
                if place is None:
                    continue
                if mount.get("subPath"):
                    place = subpath(place, mount["subPath"], started.folder / "subpaths" / f"{number}-{count}")
                container.mounts.append(Mount(mount["mountPath"], place))
            started.containers[spec["name"]] = container
        return started

    async def volumes(self, started: Started, sources: Sources) -> dict[str, Path]:
        """Write the volumes' files, and take away what isn't in them any more; each volume's folder by name."""
        pod, places = started.pod, {}
        for volume in pod["spec"].get("volumes") or []:
            place = started.folder / "volumes" / volume["name"]
            if claim := volume.get("persistentVolumeClaim"):
                place = self.claim(pod["metadata"]["namespace"], claim["claimName"])
            place.mkdir(parents=True, exist_ok=True)
            try:
                files = await sources.files(pod, volume)
            except NotThere as error:
                raise NotMounted(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error
            if files is not None:
                write_files(place, files)
            places[volume["name"]] = place
        return places

    async def refresh(self, started: Started) -> None:
        """Bring Secrets and ConfigMaps that changed to the files of a running pod."""
        await self.volumes(started, Sources(self._api, started.pod["metadata"]["namespace"]))

    def claim(self, namespace: str, name: str) -> Path:
        """Where a claim's files are: they outlive the pod."""
        return self._root / "claims" / namespace / name


def all_containers(pod: Object) -> Iterator[Object]:
    """Init containers first."""
    yield from pod["spec"].get("initContainers") or []
    yield from pod["spec"]["containers"]


def write_files(place: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold exactly these files; a reader sees an old file or a new one, never half of one."""
    for name, content in files.items():
        path = place / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"..{path.name}")
            fresh.write_bytes(content)
            fresh.replace(path)
    for path in sorted(place.rglob("*"), reverse=True):
        if path.is_file() and str(path.relative_to(place)) not in files:
            path.unlink()


def subpath(place: Path, name: str, copy: Path) -> Path:
    """One file or folder of a volume. A file is a copy: as with a kubelet, later changes don't reach it."""
    source = place / name
    if not source.is_file():
        source.mkdir(parents=True, exist_ok=True)
        return source
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, copy)
    return copy


class Sources:
    """The Secrets and ConfigMaps of a namespace, each read once."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._read: dict[str, dict[str, bytes] | None] = {}

    async def data(self, kind: str, name: str) -> dict[str, bytes] | None:
        """What a Secret (``secrets``) or a ConfigMap (``configmaps``) holds; None where it isn't."""
        path = f"{kind}/{name}"
        if path not in self._read:
            found = await self._api.get(f"/api/v1/namespaces/{self._namespace}/{path}")
            if found is None:
                self._read[path] = None
            else:
                values = found.get("data") or {}
                decoded = {
                    key: base64.b64decode(value) if kind == "secrets" else value.encode()
                    for key, value in values.items()
                }
                binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
                self._read[path] = decoded | binary
        return self._read[path]

    async def whole(self, kind: str, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """All of one; raises NotThere unless it may be missing."""
        found = await self.data(kind, name)
        if found is None and not optional:
            raise NotThere(f'{kind.removesuffix("s")} "{name}" not found')
        return found or {}

    async def key(self, kind: str, reference: dict[str, Any]) -> bytes | None:
        """One value; None where it is missing and may be."""
        optional = bool(reference.get("optional"))
        values = await self.whole(kind, reference["name"], optional=optional)
        if reference["key"] in values:
            return values[reference["key"]]
        if optional:
            return None
        shown = {"secrets": "Secret", "configmaps": "ConfigMap"}[kind]
        raise NotThere(f"couldn't find key {reference['key']} in {shown} {self._namespace}/{reference['name']}")

    async def files(self, pod: Object, volume: Object) -> dict[str, bytes] | None:
        """A volume's files; None for a kind of volume whose files aren't ours."""
        if secret := volume.get("secret"):
            return await self._some("secrets", secret["secretName"], secret)
        if found := volume.get("configMap"):
            return await self._some("configmaps", found["name"], found)
        if found := volume.get("downwardAPI"):
            return downward(pod, found.get("items") or [])
        if found := volume.get("projected"):
            files: dict[str, bytes] = {}
            for source in found.get("sources") or []:
                if part := source.get("secret"):
                    files |= await self._some("secrets", part["name"], part)
                if part := source.get("configMap"):
                    files |= await self._some("configmaps", part["name"], part)
                if part := source.get("downwardAPI"):
                    files |= downward(pod, part.get("items") or [])
            return files
        return None

    async def _some(self, kind: str, name: str, source: dict[str, Any]) -> dict[str, bytes]:
        optional = bool(source.get("optional"))
        values = await self.whole(kind, name, optional=optional)
        if not source.get("items"):
            return values
        for item in source["items"]:
            if item["key"] not in values and not optional:
                raise NotThere(f"references non-existent {kind.removesuffix('s')} key: {item['key']}")
        return {item["path"]: values[item["key"]] for item in source["items"] if item["key"] in values}


def downward(pod: Object, items: Iterable[dict[str, Any]]) -> dict[str, bytes]:
    return {
        item["path"]: pod_field(pod, item["fieldRef"]["fieldPath"]).encode() for item in items if "fieldRef" in item
    }


async def environment(sources: Sources, pod: Object, spec: Object) -> dict[str, str]:
    """A container's own variables, as a kubelet works them out. Raises NotThere."""
    found: dict[str, str] = {}
    for source in spec.get("envFrom") or []:
        for kind, reference in (("configmaps", source.get("configMapRef")), ("secrets", source.get("secretRef"))):
            if reference:
                optional = bool(reference.get("optional"))
                values = await sources.whole(kind, reference["name"], optional=optional)
                for key, value in values.items():
                    found[(source.get("prefix") or "") + key] = value.decode("utf-8", "replace")
    for variable in spec.get("env") or []:
        source = variable.get("valueFrom")
        if not source:
            found[variable["name"]] = expand(variable.get("value") or "", found)
        elif field_ref := source.get("fieldRef"):
            found[variable["name"]] = pod_field(pod, field_ref["fieldPath"])
        else:
            for kind, reference in (
                ("secrets", source.get("secretKeyRef")),
                ("configmaps", source.get("configMapKeyRef")),
            ):
                if reference:
                    content = await sources.key(kind, reference)
                    if content is not None:
                        found[variable["name"]] = content.decode("utf-8", "replace")
    return found


def expand(text: str, known: dict[str, str]) -> str:
    """``$(NAME)`` becomes an earlier variable, ``$$`` a dollar; what isn't known stays."""
    return VARIABLE.sub(lambda match: "$" if match[1] else known.get(match[2], match[0]), text)


def pod_field(pod: Object, path: str) -> str:
    """A field as the downward API names it, such as ``metadata.labels['app']``."""
    if keyed := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((pod["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def base_environment(folder: Path, programs: Iterable[str]) -> dict[str, str]:
    """What every command of the fake node has besides its container's variables."""
    path = os.pathsep.join([*programs, "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"}
