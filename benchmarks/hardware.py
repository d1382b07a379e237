"""The JSON shape that every benchmark prints: figures with hardware, versions and date behind them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil


def as_json(name: str, figures: Mapping[str, float], *, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the object that a benchmark's `--json` prints; figures are rounded to five digits."""
    return {
        "name": name,
        "figures": {key: float(f"{value:.5g}") for key, value in figures.items()},
        "hardware": hardware(),
        "versions": dict(versions),
        "date": datetime.now(UTC).date().isoformat(),
    }


def hardware() -> dict[str, str | int | float]:
    """Return what the figures depend on: processor, number formats, cores, memory in GB of 2**30 bytes."""
    name, flags = _processor()
    formats = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16") if flag in flags]
    return {
        "processor": name,
        "formats": " ".join(formats) or "unknown",
        "cores": len(psutil.Process().cpu_affinity())
        if platform.system() == "Linux"
        else os.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Return Python's version and those of installed packages."""
    return {"python": platform.python_version()} | {package: version(package) for package in packages}


def _processor() -> tuple[str, set[str]]:
    """Return the processor's name and flags as Linux says them; elsewhere what Python knows, and no flags."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine(), set()
    fields = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in path.read_text().split("\n\n")[0].splitlines())
    }
    return fields.get("model name", platform.machine()), set(
        fields.get("flags", fields.get("Features", "")).split()
    )
