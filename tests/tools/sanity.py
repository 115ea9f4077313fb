# Copyright: (c) 2026, the rhpds.litemaas contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ``ansible-test sanity`` on this checkout, without containers.

ansible-test works only inside ``ansible_collections/<namespace>/<name>`` and does not follow a link there, so the files
that git tracks or would track are copied to such a place in the cache. It makes its own small environments under
``$HOME/.ansible/test`` and downloads a pip bootstrap for them from a host that many networks close: it gets a home of
its own, with a bootstrap that takes pip from ``ensurepip`` and the package index that pip is set up with.

    python3 tests/tools/sanity.py [ansible-test sanity arguments, such as --test validate-modules]
"""

from __future__ import annotations

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import collection_tree
import dependencies
import pythons
import venvs

# Modules promise to run on these; import and compile are tried on each that the machine has.
MODULE_PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
SKIPPED = {"pslint": "it checks PowerShell with PowerShell, and the collection has none of it"}
BOOTSTRAP = """\
import subprocess
import sys

packages = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
"""


def copy_checkout(target: Path) -> int:
    """Make target hold exactly the files git tracks or would track; returns how many."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=collection_tree.CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    shutil.rmtree(target, ignore_errors=True)
    count = 0
    for name in dict.fromkeys(listed.stdout.split("\0")):
        source = collection_tree.CHECKOUT / name
        if name and (source.is_file() or source.is_symlink()):  # a tracked file may be gone from the work tree
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
            count += 1
    return count


def private_home(folder: Path) -> dict[str, str]:
    """The environment for ansible-test: its own home, with pip set up as for the user.

    ansible-test hands no variable but HOME on to pip, so what the user's pip.conf and PIP_* say is written down there.
    """
    (folder / ".ansible" / "test" / "cache").mkdir(parents=True, exist_ok=True)
    user = Path.home()
    settings = configparser.RawConfigParser()
    settings.read([user / ".pip" / "pip.conf", user / ".config" / "pip" / "pip.conf"], encoding="utf-8")
    for section in ("global", "install"):
        if not settings.has_section(section):
            settings.add_section(section)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or user / ".cache") / "pip"
    settings.set("global", "cache-dir", str(cache))
    settings.set("install", "quiet", "2")
    for name, value in os.environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE":
            settings.set("global", name.removeprefix("PIP_").lower().replace("_", "-"), value)
    config = folder / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.touch(mode=0o600)  # an index's address may hold a password
    with config.open("w", encoding="utf-8") as text:
        settings.write(text)
    environment = {**os.environ, "HOME": str(folder)}
    environment.setdefault("PYENV_ROOT", str(user / ".pyenv"))
    for name in ("PYTHONPATH", "ANSIBLE_CONFIG", "ANSIBLE_COLLECTIONS_PATH"):
        environment.pop(name, None)
    return environment


def write_bootstrap(cache: Path, ansible_test: Path) -> None:
    """Put the bootstrap where ansible-test looks for the one it would download, whatever pip version that is for."""
    source = next(ansible_test.glob("lib/python*/site-packages/ansible_test/_internal/python_requirements.py"))
    words = source.read_text(encoding="utf-8").split("'")
    for version in [word for word in words if word[:1].isdigit() and word.replace(".", "").isdigit()]:
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(BOOTSTRAP, encoding="utf-8")


def link_pythons(folder: Path, targets: list[pythons.Python]) -> None:
    """Links named python3.x to interpreters that work: ansible-test takes the first of that name, shim or not."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for python in targets:
        (folder / f"python{python.minor}").symlink_to(python.path)


def main() -> int:
    """Exit with ansible-test's code."""
    environment_path = venvs.ensure("main")
    # One folder a checkout: two checkouts may be tested at once.
    folder = venvs.cache_dir() / "sanity" / hashlib.sha256(bytes(collection_tree.CHECKOUT)).hexdigest()[:12]
    target = folder / "ansible_collections" / "rhpds" / "litemaas"
    dependencies.copy(folder)
    home = venvs.cache_dir() / "sanity" / "home"
    environment = private_home(home)
    write_bootstrap(home / ".ansible" / "test" / "cache", environment_path)
    controller = pythons.probe(str(environment_path / "bin" / "python"))
    assert controller is not None
    targets = [python for minor in MODULE_PYTHONS if (python := pythons.find(minor))]
    absent = sorted(set(MODULE_PYTHONS) - {python.minor for python in targets})
    link_pythons(folder / "pythons", targets)
    # ansible-test's own Python has to be the environment's, so that comes first.
    environment["PATH"] = os.pathsep.join(
        [str(environment_path / "bin"), str(folder / "pythons"), environment.get("PATH", os.defpath)]
    )

    print(f"sanity: {copy_checkout(target)} files, on Python {controller.minor}", flush=True)
    print(f"sanity: modules tried on Python {', '.join(python.minor for python in targets)}", flush=True)
    if absent:
        print(f"sanity: NOT RUN on Python {', '.join(absent)}: not on this machine", flush=True)
    command = ["ansible-test", "sanity", "--color", "no", "--controller", f"origin:python={controller.minor}"]
    for python in targets:
        command += ["--target-python", python.minor]
    for test, reason in SKIPPED.items():
        print(f"sanity: NOT RUN: {test}: {reason}", flush=True)
        command += ["--skip-test", test]
    done = subprocess.run([*command, *sys.argv[1:]], cwd=target, env=environment, stdin=subprocess.DEVNULL, check=False)
    print(f"sanity: {'failed' if done.returncode else 'clean'}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
