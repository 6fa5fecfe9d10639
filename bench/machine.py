"""The machine a run was made on, and the versions of everything that was compared."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from OpenSSL import SSL

from bench.peers import FWKNOPD, KINDS


def describe() -> dict[str, Any]:
    """What a reader needs to judge the figures; a peer that is missing is None."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_at_start": [round(each, 2) for each in os.getloadavg()],
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "uvloop": _version("uvloop"),
        "openssl": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().removeprefix("OpenSSL "),
        "cryptography": _version("cryptography"),
        "pyopenssl": _version("pyopenssl"),
        "gloam": _version("gloam"),
        "peers": {kind.name: kind.version() for kind in (*KINDS, FWKNOPD)},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
