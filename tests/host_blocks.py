"""Kernels of kernels/cuda compiled for the host, block after block and thread after thread."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

KERNELS = Path(__file__).parents[1] / "src" / "fdsl" / "kernels"
FLAGS = ["-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", f"-I{KERNELS}"]


class HostBlocks:
    """What `fdsl.engines.cuda_gpu.Gpu` is to the cuda engine, without a GPU."""

    device = torch.device("cpu")
    backward = False  # blocks, and the threads of a phase

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sources: dict[str, ctypes.CDLL] = {}

    def source(self, name: str) -> ctypes.CDLL:
        if name not in self._sources:
            library = self._folder / f"{name}.so"
            subprocess.run(["g++", *FLAGS, "-x", "c++", KERNELS / "cuda" / f"{name}.cu", "-o", library], check=True)
            self._sources[name] = ctypes.CDLL(str(library))
        return self._sources[name]

    def kernel(self, source: str, name: str) -> Any:
        library = self.source(source)
        ctypes.c_int.in_dll(library, "backward").value = self.backward
        return getattr(library, name)

    def launch(self, kernel: Any, blocks: int, shared_bytes: int, task: int, out: int) -> None:
        assert shared_bytes <= 48 * 1024
        shared = np.empty(shared_bytes + 512, np.uint8)
        aligned = -(-shared.ctypes.data // 256) * 256
        beyond = shared[aligned - shared.ctypes.data + shared_bytes :]
        beyond[:] = 0xA5
        kernel(*map(ctypes.c_void_p, (task, out)), blocks, ctypes.c_void_p(aligned), shared_bytes)
        assert (beyond == 0xA5).all()

    def empty(self, count: int) -> torch.Tensor:
        memory = torch.full((count + 256,), 0xA5, dtype=torch.uint8)
        start = -memory.data_ptr() % 256
        return memory[start : start + count]

    def resident(self, data: NDArray[np.uint8]) -> Callable[[], torch.Tensor]:
        there = self.empty(len(data))
        self.upload(data, there)
        return lambda: there

    def upload(self, data: NDArray[np.uint8], to: torch.Tensor) -> None:
        to.copy_(torch.from_numpy(data.copy()))

    def download(self, data: torch.Tensor) -> NDArray[np.uint8]:
        return data.numpy().copy()
