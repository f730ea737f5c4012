"""A GPU: kernels compiled when first asked for and cached on disk, memory of torch's, launches on its stream."""

from __future__ import annotations

import hashlib
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import torch
except ImportError as error:
    raise ImportError("the cuda engine needs torch, which is not installed; pip install 'fdsl[cuda]'") from error

from fdsl.engines import check_gpu
from fdsl.presets import cache_folder

KERNELS = Path(__file__).parents[1] / "kernels"
THREADS = 256
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
        from cuda.pathfinder import find_nvidia_header_directory
    except ImportError as error:
        raise ImportError(
            f"the cuda engine needs {error.name}, which is not installed; pip install 'fdsl[cuda]'"
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
            Device(self.device.index).set_current()
            code = compile_kernels(source, self._architecture)
            try:
                self._kernels[name] = ObjectCode.from_cubin(code, name=source).get_kernel(name)
            except Exception as error:
                raise RuntimeError(
                    f"{torch.cuda.get_device_name(self.device)} does not load kernels compiled by the installed NVRTC "
                    f"({error}); expected a newer NVIDIA driver, or device='cpu'"
                ) from error
        return self._kernels[name]

    def launch(self, kernel: Any, blocks: int, shared_bytes: int, task: int, out: int) -> None:
        """Runs blocks of a kernel on torch's current stream; `task` and `out` are addresses."""
        from cuda.core import LaunchConfig, launch

        config = LaunchConfig(grid=blocks, block=THREADS, shmem_size=shared_bytes)
        launch(torch.cuda.current_stream(self.device), config, kernel, np.uint64(task), np.uint64(out))

    def empty(self, count: int) -> torch.Tensor:
        """So many bytes, at an address that is a multiple of 256; uint8 (count,)."""
        return torch.empty(count, dtype=torch.uint8, device=self.device)

    def upload(self, data: NDArray[np.uint8], to: torch.Tensor) -> None:
        """Copies bytes to the GPU in the order of the stream, through pinned memory: nobody waits."""
        pinned = torch.empty(len(data), dtype=torch.uint8, pin_memory=True)
        pinned.numpy()[:] = data
        to.copy_(pinned, non_blocking=True)
