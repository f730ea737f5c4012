"""Engines draw primitives into memory that the caller owns. They know no catalog format, no order, no training."""

from __future__ import annotations

import re
import warnings
from typing import Any

from fdsl.engines.pixel_format import PixelFormat
from fdsl.engines.protocol import Engine

LEAST_CAPABILITY = (7, 5)


def engine_for(device: str, threads: int | None = None, pixels: PixelFormat | None = None) -> Engine:
    """The engine that draws on a device.

    Args:
        device: "cpu"; "cuda" or "cuda:1", which need torch and cuda-core; "gl" or "gl:1", which need moderngl, and draw
            with OpenGL but judge with the cpu; or "auto": "cuda" where there is a GPU that can be used, else "cpu".
        threads: of the cpu engine; None uses the processors there are.
        pixels: how the cuda engine writes them; None is plain bytes, which the others always write.

    Raises:
        ValueError: there is no such device, or `threads` is not a whole number of at least 1.
        ImportError: a package is not installed; the message names it.
        RuntimeError: the GPU is not there, or too old; the message says what to do.

    >>> engine_for("cpu").empty((2, 1, 32, 32)).dtype
    dtype('uint8')
    """
    from fdsl.engines import cpu

    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|(cuda|gl)(:\d+)?", device):
        raise ValueError(f"device is {device!r}; expected 'auto', 'cpu', 'gl', 'cuda' or 'cuda:N'")
    processor = cpu.Engine(threads)
    if device == "cpu":
        return processor
    if device.startswith("gl"):
        from fdsl.engines import gl

        return gl.Engine(int(device[3:]) if device[3:] else None)
    auto = device == "auto"
    device = "cuda" if auto else device
    try:
        check_gpu(device)
    except (ImportError, RuntimeError):
        if auto:
            return processor
        raise
    try:
        from fdsl.engines.cuda import Engine as CudaEngine

        return CudaEngine(device, pixels)
    except (ImportError, RuntimeError) as error:
        if not auto:
            raise
        warnings.warn(f"a GPU is there, but the cpu draws: {error}", stacklevel=3)
        return processor


def check_gpu(device: Any, least: tuple[int, int] = LEAST_CAPABILITY) -> None:
    """Raises a one-line error that says what to do, where torch can't use that GPU or it is older than Turing.

    Args:
        device: "cuda", "cuda:1", or a torch.device of that type.
        least: compute capability; what draws needs 7.5, and what is only trained on takes any.

    Raises:
        ImportError: torch is not installed.
        RuntimeError: there is no such GPU, its driver is too old for torch, or its compute capability is under `least`.
    """
    asked = f"device {str(device)!r}"
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{asked} needs torch, which is not installed; pip install 'fdsl[cuda]'") from error
    gpu = f"a GPU of compute capability {'.'.join(map(str, LEAST_CAPABILITY))} or newer"
    expected = f"expected {gpu} and an up-to-date NVIDIA driver, or device='cpu'"
    with warnings.catch_warnings(action="ignore"):  # of torch, that the driver is too old: the error says so
        available = torch.version.cuda is not None and torch.cuda.is_available()
    if not available:
        raise RuntimeError(f"{asked} is not there: torch sees no CUDA GPU ({_reason(torch)}); {expected}")
    count, place = torch.cuda.device_count(), torch.device(device).index
    if place is not None and place >= count:
        raise RuntimeError(f"{asked} is not there: the last of {count} is 'cuda:{count - 1}'; {expected}")
    capability = torch.cuda.get_device_capability(place)
    if capability < least:
        name = torch.cuda.get_device_name(place)
        raise RuntimeError(f"{asked} is a {name} of {'.'.join(map(str, capability))}; {expected}")


def _reason(torch: Any) -> str:
    """Why torch sees none: no driver, one that is too old, a torch for processors or AMD."""
    if torch.version.cuda is None:
        return "it is built without CUDA"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return str(error).partition(". ")[0].partition("\n")[0]
    return "it does not say why"
