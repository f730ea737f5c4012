"""A GPU: kernels compiled when first asked for and cached on disk, memory of torch's, launches on its stream."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import torch
except ImportError as error:
    raise ImportError("the cuda engine needs torch, which is not installed; pip install 'fdsl[cuda]'") from error

from fdsl import _core
from fdsl.engines import check_gpu
from fdsl.presets import cache_folder

KERNELS = Path(__file__).parents[1] / "kernels"
THREADS = _core.TRAJECTORIES  # of a block
_CACHE_BYTES = 256 << 20


def compile_kernels(name: str, architecture: str) -> bytes:
    """A cubin of the kernels in kernels/cuda/NAME.cu; needs no GPU and no driver.

    Args:
        name: of the file, such as "affine".
        architecture: such as "sm_90".

    Raises:
        ImportError: cuda-core or the headers of CCCL are not installed.
        RuntimeError: the source does not compile; the message is NVRTC's.

    >>> compile_kernels("affine", "sm_90")[:4]
    b'\\x7fELF'
    """
    headers = _headers()
    from cuda.core import Program, ProgramOptions
    from cuda.core.utils import FileStreamProgramCache, make_program_cache_key

    source = (KERNELS / "cuda" / f"{name}.cu").read_text()
    # Every product and sum is rounded by itself, as on the cpu.
    options = ProgramOptions(
        arch=architecture,
        std="c++20",
        fma=False,
        ftz=False,
        prec_div=True,
        prec_sqrt=True,
        include_path=[str(KERNELS), headers],
    )
    key = make_program_cache_key(
        code=source, code_type="c++", options=options, target_type="cubin", extra_digest=_headers_digest()
    )
    with FileStreamProgramCache(cache_folder() / "kernels", max_size_bytes=_CACHE_BYTES) as cached:
        code = cached.get(key)
        if code is None:
            code = Program(source, "c++", options).compile("cubin").code
            cached[key] = code
    return bytes(code)


def _headers() -> str:
    """The folder of CCCL's headers; raises an ImportError for what compiling lacks."""
    try:
        import cuda.core  # noqa: F401
        from cuda.pathfinder import DynamicLibNotFoundError, find_nvidia_header_directory, load_nvidia_dynamic_lib
    except ImportError as error:
        raise ImportError(
            f"the cuda engine needs {error.name}, which is not installed; pip install 'fdsl[cuda]'"
        ) from error
    try:
        load_nvidia_dynamic_lib("nvrtc")
    except DynamicLibNotFoundError as error:
        version = (torch.version.cuda or "13").partition(".")[0]
        raise ImportError(
            f"the cuda engine finds no NVRTC for the installed cuda-bindings; pip install 'cuda-bindings=={version}.*' "
            "nvidia-cuda-nvrtc"
        ) from error
    folder: str | None = find_nvidia_header_directory("cccl")
    if folder is None:
        raise ImportError("the cuda engine needs nvidia-cuda-cccl, which is not installed; pip install 'fdsl[cuda]'")
    return folder


@cache
def _headers_digest() -> bytes:
    digest = hashlib.sha256()
    for folder in ("shared", "cuda"):
        for path in sorted((KERNELS / folder).glob("*.h")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.digest()


class Gpu:
    """What the cuda engine needs of a GPU; the tests have another that runs blocks on the host.

    Args:
        device: "cuda" (the current one), "cuda:1", ...

    Raises:
        RuntimeError: it is not there, or too old.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        check_gpu(self.device)
        index = torch.cuda.current_device() if self.device.index is None else self.device.index
        self.device = torch.device("cuda", index)
        _headers()
        self._kernels: dict[str, Any] = {}

    @cached_property
    def _architecture(self) -> str:
        return "sm_{}{}".format(*torch.cuda.get_device_capability(self.device))

    def kernel(self, source: str, name: str) -> Any:
        """The kernel `name` of kernels/cuda/SOURCE.cu, to launch."""
        from cuda.core import Device, ObjectCode

        if name not in self._kernels:
            with torch.cuda.device(self.device):  # which is then again the caller's
                Device(self.device.index).set_current()
                code = compile_kernels(source, self._architecture)
                try:
                    self._kernels[name] = ObjectCode.from_cubin(code, name=source).get_kernel(name)
                except Exception as error:
                    gpu = torch.cuda.get_device_name(self.device)
                    raise RuntimeError(
                        f"{gpu} does not load kernels compiled by the installed NVRTC ({error}); expected a newer "
                        "NVIDIA driver, or device='cpu'"
                    ) from error
        return self._kernels[name]

    def launch(self, kernel: Any, blocks: int, shared_bytes: int, task: int, out: int) -> None:
        """Runs blocks of a kernel on torch's current stream; `task` and `out` are addresses."""
        from cuda.core import LaunchConfig, launch

        config = LaunchConfig(grid=blocks, block=THREADS, shmem_size=shared_bytes)
        with torch.cuda.device(self.device):
            launch(torch.cuda.current_stream(), config, kernel, np.uint64(task), np.uint64(out))

    def empty(self, count: int) -> torch.Tensor:
        """So many bytes, at an address that is a multiple of 256; uint8 (count,).

        Raises:
            torch.OutOfMemoryError: there is no room for them.
        """
        try:
            return torch.empty(count, dtype=torch.uint8, device=self.device)
        except torch.OutOfMemoryError:
            free, total = (size >> 20 for size in torch.cuda.mem_get_info(self.device))
            raise torch.OutOfMemoryError(
                f"{self.device} has {free:,} of {total:,} MiB free, and {-(-count >> 20):,} more are needed to draw; "
                "expected a smaller batch"
            ) from None

    def resident(self, data: NDArray[np.uint8]) -> Callable[[], torch.Tensor]:
        """Bytes that stay on the GPU, for any stream: a call gives them to the current one.

        Its work waits for the upload, and the memory for its work, should the engine go before.
        """
        there, uploaded = self.empty(len(data)), torch.cuda.Event()
        self.upload(data, there)
        uploaded.record(torch.cuda.current_stream(self.device))

        def given() -> torch.Tensor:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(uploaded)
            there.record_stream(stream)
            return there

        return given

    def upload(self, data: NDArray[np.uint8], to: torch.Tensor) -> None:
        """Copies bytes to the GPU in the order of the stream, through pinned memory: nobody waits."""
        pinned = torch.empty(len(data), dtype=torch.uint8, pin_memory=True)
        pinned.numpy()[:] = data
        to.copy_(pinned, non_blocking=True)

    def download(self, data: torch.Tensor) -> NDArray[np.uint8]:
        """Bytes from the GPU, once all that the stream has launched is done."""
        # Into pinned memory, and one wait for that copy: a pageable one is taken in pieces.
        pinned = torch.empty(len(data), dtype=torch.uint8, pin_memory=True)
        pinned.copy_(data, non_blocking=True)
        torch.cuda.current_stream(self.device).record_event().synchronize()
        found: NDArray[np.uint8] = pinned.numpy()
        return found
