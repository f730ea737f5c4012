"""The gl engine: headless OpenGL compute shaders, on any vendor's GPU or on Mesa's software renderer.

It draws what the cpu engine draws, into memory of the host, and differs from it in 0.1 % of the pixels at most: the
arithmetic is the same, but a driver may round a division its own way. What asks for a catalog is worked out on the host
(kernels/cpu/bind_gl.cpp); boxes, placement, points and pixels are the shaders' own (kernels/gl/).
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdsl import _core
from fdsl.engines import cpu
from fdsl.primitives import (
    AffineSystems,
    BezierCurves,
    Clouds,
    Contours,
    Drawing,
    Fields,
    GradientNoise,
    Points,
    Polylines,
    SpatialSystems,
)
from fdsl.rendering import RenderSpec

_LIBRARY = "libEGL.so.1"
_VERSION = 450  # compute shaders and doubles (4.3), buffers that stay mapped (4.4) and need not be bound (4.5)
_MOST_DEVICES = 16
# What a part of a batch takes of the device for each of its buffers, unless one picture takes more: shaders reach 128
# MiB everywhere.
_PART_BYTES = 2**25
_INVOCATIONS = 256  # of a work group
_MARGIN = 2  # kernels/gl/pictures.glsl
_ENTRIES = 256  # of a palette, at most
# The files that draw the cells of each kind of drawing, and those that make pixels of them.
_SHADERS = {
    "affine": ("maps", "hits", "systems"),
    "spatial": ("maps", "hits", "systems"),
    "clouds": ("elementary", "maps", "hits", "clouds"),
    "points": ("hits", "given"),
    "polylines": ("lines", "polylines"),
    "contours": ("elementary", "lines", "contours"),
    "bezier": ("elementary", "lines", "bezier"),
    "perlin": (),
}
_PROBE = """layout(local_size_x = 1) in;
layout(std430, binding = 0) buffer Result { float result; };
uniform float x, whole;
void main() { precise float once = fma(x, x, whole); result = once; }
"""
_PIXELS = {"perlin": ("elementary", "perlin", "pixels")}

# What moderngl does not give: buffers that stay mapped, fences, and a dispatch that lets go of the GIL.
_NAME, _SIZE, _POINTER = ctypes.c_uint, ctypes.c_ssize_t, ctypes.c_void_p
_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "glUseProgram": (None, _NAME),
    "glDispatchCompute": (None, _NAME, _NAME, _NAME),
    "glCreateBuffers": (None, ctypes.c_int, ctypes.POINTER(_NAME)),
    "glDeleteBuffers": (None, ctypes.c_int, ctypes.POINTER(_NAME)),
    "glNamedBufferStorage": (None, _NAME, _SIZE, _POINTER, _NAME),
    "glMapNamedBufferRange": (_POINTER, _NAME, _SIZE, _SIZE, _NAME),
    "glCopyNamedBufferSubData": (None, _NAME, _NAME, _SIZE, _SIZE, _SIZE),
    "glFenceSync": (_POINTER, _NAME, _NAME),
    "glClientWaitSync": (_NAME, _POINTER, _NAME, ctypes.c_uint64),
    "glDeleteSync": (None, _POINTER),
}
_MAP_READ, _PERSISTENT, _COHERENT, _CLIENT_STORAGE = 0x1, 0x40, 0x80, 0x200
_COMMANDS_COMPLETE, _FLUSH, _TIMEOUT_EXPIRED, _WAIT_FAILED = 0x9117, 0x1, 0x911B, 0x911D
_BARRIERS = 0x2000 | 0x200  # what a shader wrote, shaders and copies see
_SECOND = 10**9  # in nanoseconds


@dataclass(frozen=True)
class _Plan:
    """How a drawing becomes cells, which a second shader makes pixels of."""

    kind: str
    defines: Mapping[str, str]
    records: NDArray[np.uint8]  # (B, bytes)
    uniforms: Mapping[str, Any]
    arrays: tuple[NDArray[Any], ...]  # that all pictures read
    shape: tuple[int, int, int, int]  # of the batch
    cell_bytes: int  # of a picture, in whole words, as pixel_bytes are
    pixel_bytes: int

    @property
    def bytes(self) -> int:
        """Of a picture's pixels."""
        _, channels, size, _ = self.shape
        return channels * size**2


class Engine(cpu.Engine):
    """Draws with OpenGL 4.5 through EGL, without a display, into NumPy arrays; all but `draw` is the cpu engine's.

    Threads may share an engine, and take turns at it. A process that was forked makes its own; pickled, an engine is
    made anew.

    Args:
        device: which of EGL's devices, from 0 on; None is the first that has OpenGL 4.5.

    Attributes:
        renderer: OpenGL's name of the device.

    Raises:
        ImportError: moderngl is not installed.
        OSError: there is no EGL, no such device, or its OpenGL is older than 4.5.
        ValueError: `device` is no such number.

    >>> engine = Engine()
    >>> images, labels = dataset.batch(range(8), engine=engine)
    """

    def __init__(self, device: int | None = None) -> None:
        super().__init__()
        if device is not None and (not isinstance(device, int) or isinstance(device, bool) or device < 0):
            raise ValueError(f"device is {device!r}; expected the number of an EGL device, from 0 on, or None")
        self._device = device
        self._context = _create_context(device)
        with self._context:
            self._functions = _load(_FUNCTIONS)
            self.renderer = str(self._context.info["GL_RENDERER"])
            self._most_bytes = int(self._context.info["GL_MAX_SHADER_STORAGE_BLOCK_SIZE"])
            self._fused = str(int(_is_fused(self._context)))
            self._slots = [_Slot(self._context, self._functions) for _ in range(2)]
            self._palette = self._context.buffer(reserve=4 * _ENTRIES)
            self._arrays = [self._context.buffer(reserve=4, dynamic=True) for _ in range(2)]
        self._shaders: dict[tuple[Any, ...], Any] = {}
        self._lock, self._process = threading.Lock(), os.getpid()
        self._closed = weakref.finalize(self, self._context.release)

    def __repr__(self) -> str:
        return f"gl.Engine({self._device}) on {self.renderer}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self._device,)

    def close(self) -> None:
        """Gives the device's memory back; the engine draws no more."""
        with self._lock:
            self._closed()

    def draw(
        self,
        drawing: Drawing,
        spec: RenderSpec,
        palette: NDArray[np.uint8],
        seed: int,
        out: NDArray[np.uint8],
    ) -> None:
        """Draws a batch into `out`, uint8 (B, channels, size, size), C-contiguous; see `protocol.Engine.draw`.

        It goes in parts, two of them in flight: while one is copied to `out`, the next is drawn.

        Raises:
            ValueError: `out` does not fit the batch, or the batch's points or lines do not fit a buffer.
            RuntimeError: the engine is closed or of another process, or the driver or the device failed.
        """
        if isinstance(drawing, Fields):  # Python's own work
            super().draw(drawing, spec, palette, seed, out)
            return
        plan = _plan(drawing, spec, palette.shape[1], seed)
        if out.shape != plan.shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"out is {out.dtype} of {out.shape}; expected uint8 of {plan.shape}, C-contiguous")
        pictures = out.reshape(len(out), plan.bytes)
        with self._current():
            copies: deque[Callable[[], None]] = deque()
            for slot, rows in self._parts(plan, palette):
                slot.fetch(len(pictures[rows]) * plan.pixel_bytes)
                copies.append(partial(slot.copy, pictures[rows]))
                if len(copies) == len(self._slots):
                    copies.popleft()()
            for copy in copies:
                copy()
            self._check()

    def draw_on_cuda(self, drawing: Drawing, spec: RenderSpec, palette: NDArray[np.uint8], seed: int) -> Any:
        """Draws a batch into a torch tensor, uint8 (B, channels, size, size), on the CUDA device that draws.

        CUDA maps OpenGL's buffers, so that no pixel passes the host: the original FractalDB renderer's way.

        Raises:
            ImportError: torch or cuda-core is not installed.
            RuntimeError: torch sees no CUDA GPU, or as `draw` does.
            ValueError: the drawing is the host's own work, as fields are.
        """
        try:
            import torch
            from cuda.core import Device, GraphicsResource
        except ImportError as error:
            raise ImportError(f"draw_on_cuda needs {error.name}; pip install 'fdsl[cuda]'") from error
        if not torch.cuda.is_available():
            raise RuntimeError("draw_on_cuda is without a CUDA GPU: torch sees none; expected one, or Engine.draw")
        plan = _plan(drawing, spec, palette.shape[1], seed)
        out = torch.empty(plan.shape, dtype=torch.uint8, device="cuda")
        pictures = out.view(len(out), plan.bytes)
        stream = Device(out.device.index).create_stream(torch.cuda.current_stream())
        with self._current():
            for slot, rows in self._parts(plan, palette):
                count = len(pictures[rows])
                with (
                    GraphicsResource.from_gl_buffer(slot.pixels.glo, flags="read_only") as resource,
                    resource.map(stream=stream) as mapped,
                ):
                    pixels = torch.from_dlpack(mapped).view(torch.uint8)[: count * plan.pixel_bytes]
                    pictures[rows] = pixels.view(count, plan.pixel_bytes)[:, : plan.bytes]
            self._check()
        return out

    @contextmanager
    def _current(self) -> Iterator[None]:
        """One thread at a time, with the context as its own."""
        if not self._closed.alive or self._process != os.getpid():
            state = "closed" if self._process == os.getpid() else "of the process that was forked"
            raise RuntimeError(f"{self!r} is {state}; expected an engine made here: gl.Engine()")
        with self._lock, self._context:
            yield

    def _parts(self, plan: _Plan, palette: NDArray[np.uint8]) -> Iterator[tuple[_Slot, slice]]:
        """Has part after part of a batch drawn, each in the other slot than the one before, and waits for none."""
        self._palette.write(_packed(palette))
        for buffer, array in zip(self._arrays, plan.arrays, strict=False):
            if array.nbytes > self._most_bytes:
                raise ValueError(f"the batch reads {array.nbytes:,} bytes; expected at most {self._most_bytes:,}")
            buffer.orphan(array.nbytes)
            buffer.write(array)
        count = len(plan.records)
        # At least two parts, where there are two pictures.
        part = max(1, min(_PART_BYTES // max(plan.cell_bytes, plan.pixel_bytes), -(-count // 2)))
        for number, first in enumerate(range(0, count, part)):
            slot, rows = self._slots[number % 2], slice(first, first + part)
            records = plan.records[rows]
            slot.reserve(records, len(records) * plan.cell_bytes, len(records) * plan.pixel_bytes)
            for binding, buffer in enumerate((slot.records, slot.cells, self._palette, slot.pixels, *self._arrays)):
                buffer.bind_to_storage_buffer(binding)
            if files := _SHADERS[plan.kind]:
                self._run(files, plan, len(records), 1)
            words = plan.pixel_bytes // 4
            self._run(_PIXELS.get(plan.kind, ("pixels",)), plan, -(-words // _INVOCATIONS), len(records))
            yield slot, rows

    def _run(self, files: tuple[str, ...], plan: _Plan, across: int, down: int) -> None:
        key = (*files, *plan.defines.values())
        if key not in self._shaders:
            try:
                source = _source(files, {"FUSED": self._fused, **plan.defines})
                self._shaders[key] = self._context.compute_shader(source)
            except Exception as error:  # moderngl's are no more special
                reason = " ".join(str(error).split())
                raise RuntimeError(f"{self.renderer} does not compile {files[-1]}.glsl: {reason}") from error
        shader = self._shaders[key]
        for name, value in plan.uniforms.items():
            if name in shader:
                shader[name].value = value
        self._functions.glUseProgram(shader.glo)
        self._functions.glDispatchCompute(across, down, 1)
        self._context.memory_barrier(_BARRIERS)

    def _check(self) -> None:
        error = self._context.error
        if error != "GL_NO_ERROR":
            raise RuntimeError(f"OpenGL says {error} on {self.renderer}; expected batches that fit its memory")


class _Slot:
    """What a part of a batch needs of the device, and the memory of the host that its pixels come to."""

    def __init__(self, context: Any, functions: SimpleNamespace) -> None:
        self._context, self._functions = context, functions
        self.records, self.cells, self.pixels = (context.buffer(reserve=4, dynamic=True) for _ in range(3))
        self._name, self._host, self._fence = _NAME(), np.empty(0, np.uint8), None

    def reserve(self, records: NDArray[np.uint8], cells: int, pixels: int) -> None:
        """Takes the records of a part, and makes room for so many bytes of what it becomes."""
        self.records.orphan(records.nbytes)
        self.records.write(records)
        if self.cells.size < cells:
            self.cells.orphan(cells)
        if self.pixels.size < pixels:
            self.pixels.orphan(pixels)

    def fetch(self, size: int) -> None:
        """Begins to copy the first `size` bytes of the pixels to the host."""
        gl = self._functions
        if len(self._host) < size:
            self._host = np.empty(0, np.uint8)
            gl.glDeleteBuffers(1, self._name)
            gl.glCreateBuffers(1, self._name)
            flags = _MAP_READ | _PERSISTENT | _COHERENT
            gl.glNamedBufferStorage(self._name, size, None, flags | _CLIENT_STORAGE)
            address = gl.glMapNamedBufferRange(self._name, 0, size, flags)
            if not address:
                raise RuntimeError(f"OpenGL maps no {size:,} bytes; expected memory for them")
            self._host = np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)
        gl.glCopyNamedBufferSubData(self.pixels.glo, self._name, 0, 0, size)
        self._fence = gl.glFenceSync(_COMMANDS_COMPLETE, 0)

    def copy(self, pictures: NDArray[np.uint8]) -> None:
        """Waits for what `fetch` began, and copies it to pictures (N, bytes)."""
        gl, state = self._functions, _TIMEOUT_EXPIRED
        while state == _TIMEOUT_EXPIRED:
            state = gl.glClientWaitSync(self._fence, _FLUSH, _SECOND)
        gl.glDeleteSync(self._fence)
        if state == _WAIT_FAILED:
            raise RuntimeError("OpenGL lost the device; expected a driver that runs")
        count, size = pictures.shape
        padded = -(-size // 4) * 4
        pictures[...] = self._host[: count * padded].reshape(count, padded)[:, :size]


def _plan(drawing: Drawing, spec: RenderSpec, channels: int, seed: int) -> _Plan:
    hits = {"color": "KEYS", "density": "COUNTS"}.get(spec.color or "gray", "BITS")
    if spec.draw == "patch_per_point":
        hits = "STAMPS"
    cells, own = "LINES", 0
    given: tuple[Any, ...] = ()
    arrays: tuple[NDArray[Any], ...] = ()
    match drawing:
        case AffineSystems(params=params):
            kind, cells, given = "affine", hits, (params["affine"], params["probability"], params["maps"])
        case SpatialSystems(params=params):
            kind, cells, given = "spatial", hits, (params["affine"], params["probability"], params["maps"])
        case Clouds(params=params):
            own = Clouds.own_points(spec.points or 1, drawing.mix)
            kind, cells, given = "clouds", hits, (params["affine"], params["probability"], params["maps"], own)
        case Points(coordinates=coordinates):
            kind, cells, given, arrays = "points", hits, (coordinates,), (coordinates,)
        case Polylines(vertices=vertices, ends=ends):
            # The line of each vertex.
            lines = np.repeat(np.arange(-1, len(ends) - 1, dtype=np.int32), np.diff(ends, prepend=0))
            kind, given, arrays = "polylines", (vertices, ends), (vertices, lines)
        case Contours():
            kind = "contours"
        case BezierCurves(params=params, weights=weights):
            kind, given, arrays = "bezier", (params["control_points"], params["curves"], len(weights)), (weights,)
        case GradientNoise(params=params):
            kind, cells, given = "perlin", "NOTHING", (params["frequencies"],)
        case _:
            raise ValueError(f"the gl engine draws no {type(drawing).__name__}; expected another drawing or engine")
    records = np.empty((len(drawing.records), _core.GL_BYTES[kind]), np.uint8)
    getattr(_core, f"gl_{kind}")(*given, cpu.record_bytes(drawing.records), cpu.spec_bytes(spec, seed), records)
    flags = {"OWN_FIT": spec.fit == "own", "PATCH": spec.draw == "patch", "HUES": spec.color == "color"}
    side, picture_bytes = spec.size + 2 * _MARGIN, channels * spec.size**2
    return _Plan(
        kind=kind,
        defines={"DRAWING": kind.upper(), "CELLS": cells} | {name: str(int(flag)) for name, flag in flags.items()},
        records=records,
        uniforms={
            "size": spec.size,
            "bytes": picture_bytes,
            "seed": (seed & 0xFFFFFFFF, seed >> 32),
            "points": spec.points or 0,
            "own": own,
            "whole": spec.whole,
            "pad": spec.pad or 0,
        },
        arrays=arrays,
        shape=(len(records), channels, spec.size, spec.size),
        cell_bytes=4 * side * {"BITS": -(-side // 32), "NOTHING": 0}.get(cells, side),
        pixel_bytes=-(-picture_bytes // 4) * 4,
    )


def _packed(palette: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Rows of the palette as words, a channel a byte."""
    words = np.zeros((_ENTRIES, 4), np.uint8)
    words[: len(palette), : palette.shape[1]] = palette[:_ENTRIES]
    return words.view(np.uint32)


def _load(functions: Mapping[str, tuple[Any, ...]]) -> SimpleNamespace:
    get = ctypes.CDLL(_LIBRARY).eglGetProcAddress
    get.restype = _POINTER
    return SimpleNamespace(**{name: ctypes.CFUNCTYPE(*types)(get(name.encode())) for name, types in functions.items()})


def _is_fused(context: Any) -> bool:
    """Whether the driver rounds a fused multiply-add once: with x = 1 + 2^-12, x x is 1 + 2^-11 and a bit too small."""
    result = context.buffer(reserve=4)
    result.bind_to_storage_buffer(0)
    shader = context.compute_shader(f"#version {_VERSION} core\n{_PROBE}")
    shader["x"].value, shader["whole"].value = 1 + 2.0**-12, -1 - 2.0**-11
    shader.run()
    context.memory_barrier()
    fused = bool(np.frombuffer(result.read(), np.float32)[0] > 0)
    shader.release()
    result.release()
    return fused


def _source(files: tuple[str, ...], defines: Mapping[str, str]) -> str:
    folder = resources.files("fdsl") / "kernels" / "gl"
    texts = [(folder / f"{name}.glsl").read_text(encoding="utf-8") for name in ("random", "fused", "pictures", *files)]
    nibbles = ", ".join(f"{word}u" for word in _core.LATTICE_NIBBLES)
    lines = [f"#define {name} {value}" for name, value in ({"LATTICE_NIBBLES": nibbles} | dict(defines)).items()]
    return "\n".join([f"#version {_VERSION} core", *lines, *texts])


def _create_context(device: int | None) -> Any:
    try:
        import moderngl
    except ImportError as error:
        raise ImportError("the gl engine needs moderngl, which is not installed; pip install 'fdsl[gl]'") from error
    errors: list[Exception] = []
    for number in range(_MOST_DEVICES) if device is None else (device,):
        # EGL alone: it knows OpenGL's functions too.
        settings: dict[str, Any] = {"backend": "egl", "device_index": number, "libgl": _LIBRARY, "libegl": _LIBRARY}
        try:
            context = moderngl.create_context(standalone=True, require=_VERSION, **settings)
        except Exception as error:  # moderngl's are no more special
            errors.append(error)
            continue
        with context:  # lets go of it: it was made this thread's
            return context
    raise OSError(
        f"EGL device {device or 0} has no OpenGL 4.5: {errors[0]}; expected a GPU's driver, or Mesa's renderer of "
        "apt install libegl1 libgl1-mesa-dri"
    ) from errors[0]
