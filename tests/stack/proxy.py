# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The LiteLLM proxy: its configuration, its environment, its start."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from processes import Child, free_port, run, start, stop
from progress import StackError
from provision import LiteLLM, write_engine_launcher

CONFIG = """\
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  store_model_in_db: true
  # Spend reaches the tables within seconds, so that tests of budgets need not wait.
  proxy_batch_write_at: 1
  # Newer versions let other replicas notice a new model sooner; 1.81 takes 30 s whatever stands here.
  proxy_config_reload_interval_seconds: 5
litellm_settings:
  num_retries: 0
  telemetry: false
router_settings:
  num_retries: 0
"""
# Ten on an idle machine; others may be at work on this one.
START_SECONDS = 180
# What the first start of a proxy would do; two proxies that start at once get in each other's way.
CREATE_VIEWS = """\
import asyncio
from litellm.proxy.db.create_views import create_missing_views
from prisma import Prisma

async def main():
    async with Prisma() as db:
        await create_missing_views(db)

asyncio.run(main())
"""


def write_prisma_stub(folder: Path) -> Path:
    """A `prisma` that finds the tables in order. The real one downloads engines at every start to say the same."""
    folder.mkdir(parents=True, exist_ok=True)
    stub = folder / "prisma"
    stub.write_text("#!/bin/sh\n# The stack has applied the migrations.\nexit 0\n")
    stub.chmod(0o755)
    return folder


def environment(home: Path, engine: Path, dsn: str, master_key: str, salt_key: str) -> dict[str, str]:
    """All the proxy gets. Nothing of ours is passed on: no provider's key, no HTTP proxy, no other `prisma` on PATH."""
    return {
        "PATH": f"{write_prisma_stub(home / 'bin')}:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "*",
        "DATABASE_URL": dsn,
        "PRISMA_QUERY_ENGINE_BINARY": str(engine),
        "LITELLM_MASTER_KEY": master_key,
        "LITELLM_SALT_KEY": salt_key,
        "STORE_MODEL_IN_DB": "True",
        "DISABLE_SCHEMA_UPDATE": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        # Anything but DEV: no .env file of the folders above is read.
        "LITELLM_MODE": "PRODUCTION",
        "SCARF_NO_ANALYTICS": "true",
        "DO_NOT_TRACK": "1",
    }


def create_views(litellm: LiteLLM, folder: Path, dsn: str, log: Path) -> None:
    """Make LiteLLM's views with its own code."""
    engine = write_engine_launcher(folder / "query-engine", litellm.node, litellm.engine)
    env = environment(folder, engine, dsn, "sk-none", "sk-none")
    run("creating LiteLLM's views", [litellm.python, "-c", CREATE_VIEWS], log=log, env=env, cwd=folder)


class Proxy:
    def __init__(self, number: int, litellm: LiteLLM, folder: Path, env: dict[str, str], log: Path) -> None:
        self.name = f"litellm-{number}"
        self._litellm = litellm
        self._folder = folder
        self._env = env
        self._log = log
        self._attempts = 0
        self.port = 0
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Child:
        """Start it on a port that is free now; wait() follows."""
        self._attempts += 1
        self.port = free_port()
        config = self._folder / "config.yaml"
        config.write_text(CONFIG)
        venv = self._litellm.venv
        self.child = start(
            self.name,
            [
                venv / "bin" / "python",
                venv / "bin" / "litellm",
                "--config",
                config,
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--num_workers",
                "1",
                "--telemetry",
                "False",
            ],
            log=self._log,
            env=self._env,
            cwd=self._folder,
        )
        return self.child

    def wait(self) -> None:
        """Until it answers as administrator; started again when somebody took its port first."""
        deadline = time.monotonic() + START_SECONDS
        child = self.child or self.start()
        while time.monotonic() < deadline:
            ended = child.exit_status()
            if ended is not None:
                error = StackError(
                    f"{self.name} ended with status {ended} while it started", log=self._log, hint="see its log"
                )
                if self._attempts < 3 and any("address already in use" in line.lower() for line in error.tail):
                    child = self.start()
                    continue
                raise error
            if self.ready():
                return
            time.sleep(0.1)
        stop([child])
        hint = "see its log; a machine under heavy load needs another try"
        raise StackError(f"{self.name} did not answer within {START_SECONDS} s", log=self._log, hint=hint)

    def ready(self) -> bool:
        status, body = get(f"{self.url}/health/readiness")
        if status != 200 or not isinstance(body, dict) or body.get("db") != "connected":
            return False
        return get(f"{self.url}/model/info", self._env["LITELLM_MASTER_KEY"])[0] == 200


def get(url: str, key: str = "", timeout: float = 5) -> tuple[int, Any]:
    """Status and JSON of a GET on loopback; status 0 when nobody answers."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"} if key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            body: Any = None
            with contextlib.suppress(ValueError):
                body = json.load(answer)
            return answer.status, body
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None
