# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of a Kubernetes client as the fake node needs: requests, and lists that are kept up by a watch."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import yaml

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
Object = dict[str, Any]


class ApiError(Exception):
    """The API server said no: its status, and what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Requests with the credentials of a kubeconfig."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, kubeconfig: str) -> AsyncIterator[Api]:
        """For as long as it is used; the kubeconfig is one that cluster.py wrote."""
        with open(kubeconfig, encoding="utf-8") as text:
            config = yaml.safe_load(text)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        trusted = ssl.create_default_context(cadata=authority)
        connector = aiohttp.TCPConnector(ssl=trusted, limit=0)
        headers = {"Authorization": f"Bearer {user['token']}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            yield cls(session, cluster["server"])

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Object:
        """The answer to a request; raises ApiError."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": kind}
        async with self._session.request(method, self._url + path, data=data, headers=headers) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise ApiError(answer.status, text)
            found: Object = json.loads(text)
            return found

    async def get(self, path: str) -> Object | None:
        """An object, or None where it isn't."""
        try:
            return await self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def watch(self, path: str, seen: Callable[[str, Object], None]) -> None:
        """Tell of every object of a list, and of every change, for ever: ``seen("ADDED", object)``.

        An end of the watch, which is in the nature of watches, begins with the list again.
        """
        known: dict[str, Object] = {}
        while True:
            try:
                listed = await self.call("GET", path)
                fresh = {item["metadata"]["uid"]: item for item in listed["items"]}
                for uid in known.keys() - fresh.keys():
                    seen("DELETED", known.pop(uid))
                for uid, item in fresh.items():
                    known[uid] = item
                    seen("ADDED", item)
                version = listed["metadata"]["resourceVersion"]
                query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "1"}
                # A change may be longer than aiohttp likes a line to be.
                async with self._session.get(self._url + path, params=query, read_bufsize=1 << 24) as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] == "BOOKMARK":
                            continue
                        item = event["object"]
                        if event["type"] == "DELETED":
                            known.pop(item["metadata"]["uid"], None)
                        else:
                            known[item["metadata"]["uid"]] = item
                        seen(event["type"], item)
            except (OSError, aiohttp.ClientError, TimeoutError, ValueError, ApiError) as error:
                print(f"watch {path}: {error}", flush=True)
                await asyncio.sleep(1)


class Queue:
    """Work by key: one at a time for each key, again when it was asked for meanwhile, and later when it asks for it."""

    def __init__(self, work: Callable[[str], Awaitable[float | None]]) -> None:
        #: Returns the seconds after which it wants to be called again, or None
        self._work = work
        self._busy: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def add(self, key: str) -> None:
        """Do the work for a key soon."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._busy:
            self._busy[key] = True
            return
        self._busy[key] = False
        task = asyncio.get_running_loop().create_task(self._run(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: str) -> None:
        while True:
            self._busy[key] = False
            later: float | None = None
            try:
                later = await self._work(key)
            except (ApiError, OSError, aiohttp.ClientError) as error:
                # Somebody else was faster, or the object is gone: the next event has it.
                later = None if isinstance(error, ApiError) and error.status in (404, 409) else 1
                if later:
                    print(f"{key}: {error}", flush=True)
            except Exception as error:  # noqa: BLE001 - one object's fault must not stop the others
                print(f"{key}: {type(error).__name__}: {error}", flush=True)
            if not self._busy[key]:
                break
        del self._busy[key]
        if later is not None:
            self._timers[key] = asyncio.get_running_loop().call_later(later, self.add, key)
