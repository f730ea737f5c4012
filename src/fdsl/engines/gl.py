"""The gl engine: headless OpenGL compute shaders, on any vendor's GPU or on Mesa's software renderer.

It draws what the cpu engine draws, into memory of the host, and differs from it in 0.1 % of the pixels at most: the
numbers are the same, but a driver may round a division its own way. What asks for a catalog is worked out on the host
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
_VERSION = 450
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


class Engine(cpu.Engine):
    """Draws with OpenGL 4.5 through EGL, without a display, into NumPy arrays; all but `draw` is the cpu engine's.

    Threads may share an engine, and take turns at it. A process that was forked makes its own; pickled, an engine is
    made anew.

    Args:
        device: which of EGL's devices, from 0 on; None is the first.

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
        self._context = _create_context(device or 0)
        with self._context:
            self._functions = _load(_FUNCTIONS)
            self.renderer = str(self._context.info["GL_RENDERER"])
            self._slots = [_Slot(self._context, self._functions) for _ in range(2)]
            self._palette = self._context.buffer(reserve=4 * _ENTRIES)
            self._arrays = [self._context.buffer(reserve=4, dynamic=True) for _ in range(2)]
        self._shaders: dict[tuple[Any, ...], Any] = {}
        self._lock, self._process = threading.Lock(), os.getpid()
        self._closed = weakref.finalize(self, self._context.release)

    def __repr__(self) -> str:
        return f"gl.Engine({self._device}), {self.renderer}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Engine, (self._device,)

    def close(self) -> None:
        """Gives the device's memory back; the engine draws no more."""
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
            ValueError: the engine does not draw such a drawing, or `out` does not fit the batch.
            RuntimeError: the engine is closed or of another process, or the device failed.
        """
        if isinstance(drawing, Fields):  # Python's own work
            super().draw(drawing, spec, palette, seed, out)
            return
        plan = _plan(drawing, spec, seed)
        shape = (len(plan.records), palette.shape[1], spec.size, spec.size)
        if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"out is {out.dtype} of {out.shape}; expected uint8 of {shape}, C-contiguous")
        pictures = out.reshape(len(out), -1)
        cell_bytes, pixel_bytes = _picture_bytes(plan, spec, palette)
        # At least two parts, where there are two pictures.
        part = max(1, min(_PART_BYTES // max(cell_bytes, pixel_bytes), -(-len(out) // 2)))
        with self._current():
            self._palette.write(_packed(palette))
            for buffer, array in zip(self._arrays, plan.arrays, strict=False):
                buffer.orphan(array.nbytes)
                buffer.write(array)
            copies: deque[Callable[[], None]] = deque()
            for number, first in enumerate(range(0, len(out), part)):
                if len(copies) == len(self._slots):
                    copies.popleft()()
                slot, rows = self._slots[number % 2], slice(first, first + part)
                self._start(slot, plan, spec, palette, rows)
                slot.fetch(len(pictures[rows]) * pixel_bytes)
                copies.append(partial(slot.copy, pictures[rows]))
            for copy in copies:
                copy()
            error = self._context.error
        if error != "GL_NO_ERROR":
            raise RuntimeError(f"OpenGL says {error} on {self.renderer}; expected smaller batches to fit its memory")

    @contextmanager
    def _current(self) -> Iterator[None]:
        """One thread at a time, with the context as its own."""
        if not self._closed.alive or self._process != os.getpid():
            state = "closed" if self._process == os.getpid() else "of the process that was forked"
            raise RuntimeError(f"{self!r} is {state}; expected an engine made here: fdsl.engines.gl.Engine()")
        with self._lock, self._context:
            yield

    def _start(self, slot: _Slot, plan: _Plan, spec: RenderSpec, palette: NDArray[np.uint8], rows: slice) -> None:
        """Has a part of a batch drawn into the slot's pixels, and does not wait for it."""
        records = plan.records[rows]
        cells, pixels = _picture_bytes(plan, spec, palette)
        slot.reserve(len(records) * cells, len(records) * pixels)
        slot.records.orphan(records.nbytes)
        slot.records.write(records)
        for binding, buffer in enumerate((slot.records, slot.cells, self._palette, slot.pixels, *self._arrays)):
            buffer.bind_to_storage_buffer(binding)
        uniforms = {"bytes": palette.shape[1] * spec.size**2, **plan.uniforms}
        if files := _SHADERS[plan.kind]:
            self._run(files, plan.defines, uniforms, len(records), 1)
        files = _PIXELS.get(plan.kind, ("pixels",))
        self._run(files, plan.defines, uniforms, -(-pixels // (4 * _INVOCATIONS)), len(records))

    def _run(self, files: tuple[str, ...], defines: Mapping[str, str], uniforms: Mapping[str, Any], *groups: int) -> None:
        key = (*files, *defines.values())
        if key not in self._shaders:
            self._shaders[key] = self._context.compute_shader(_source(files, defines))
        shader = self._shaders[key]
        for name, value in uniforms.items():
            if name in shader:
                shader[name].value = value
        self._functions.glUseProgram(shader.glo)
        self._functions.glDispatchCompute(*groups, 1)
        self._context.memory_barrier(_BARRIERS)


class _Slot:
    """What a part of a batch needs of the device, and the memory of the host that its pixels come to."""

    def __init__(self, context: Any, functions: SimpleNamespace) -> None:
        self._context, self._functions = context, functions
        self.records, self.cells, self.pixels = (context.buffer(reserve=4, dynamic=True) for _ in range(3))
        self._name, self._host, self._fence = _NAME(), np.empty(0, np.uint8), None

    def reserve(self, cells: int, pixels: int) -> None:
        """Makes room for so many bytes."""
        if self.cells.size < cells:
            self.cells.orphan(cells)
        if self.pixels.size < pixels:
            self.pixels.orphan(pixels)

    def fetch(self, size: int) -> None:
        """Begins to copy the first `size` bytes of the pixels to the host."""
        gl = self._functions
        if len(self._host) < size:
            gl.glDeleteBuffers(1, self._name)
            gl.glCreateBuffers(1, self._name)
            flags = _MAP_READ | _PERSISTENT | _COHERENT
            gl.glNamedBufferStorage(self._name, size, None, flags | _CLIENT_STORAGE)
            address = gl.glMapNamedBufferRange(self._name, 0, size, flags)
            if not address:
                raise RuntimeError(f"OpenGL maps no {size:,} bytes; expected memory for them")
            self._host = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
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


def _plan(drawing: Drawing, spec: RenderSpec, seed: int) -> _Plan:
    hits = {"color": "KEYS", "density": "COUNTS"}.get(spec.color or "gray", "BITS")
    if spec.draw == "patch_per_point":
        hits = "STAMPS"
    uniforms = {"size": spec.size, "seed": (seed & 0xFFFFFFFF, seed >> 32)}
    uniforms |= {"points": spec.points or 0, "whole": spec.whole, "pad": spec.pad or 0}
    cells, given, arrays = "LINES", (), ()  # type: str, tuple[Any, ...], tuple[NDArray[Any], ...]
    match drawing:
        case AffineSystems(params=params):
            kind, cells, given = "affine", hits, (params["affine"], params["probability"], params["maps"])
        case SpatialSystems(params=params):
            kind, cells, given = "spatial", hits, (params["affine"], params["probability"], params["maps"])
        case Clouds(params=params):
            own = Clouds.own_points(spec.points or 1, drawing.mix)
            kind, cells, given = "clouds", hits, (params["affine"], params["probability"], params["maps"], own)
            uniforms["own"] = own
        case Points(coordinates=coordinates):
            kind, cells, given, arrays = "points", hits, (coordinates,), (coordinates,)
        case Polylines(vertices=vertices, ends=ends):
            # Of each vertex, its line.
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
    getattr(_core, f"gl_{kind}")(*given, cpu._bytes(drawing.records), cpu._record(spec, seed), records)
    flags = {"OWN_FIT": spec.fit == "own", "PATCH": spec.draw == "patch", "HUES": spec.color == "color"}
    defines = {"DRAWING": kind.upper(), "CELLS": cells} | {name: str(int(flag)) for name, flag in flags.items()}
    return _Plan(kind, defines, records, uniforms, arrays)


def _picture_bytes(plan: _Plan, spec: RenderSpec, palette: NDArray[np.uint8]) -> tuple[int, int]:
    """What a picture takes of the cells, and of the pixels: whole words."""
    side = spec.size + 2 * _MARGIN
    words = {"BITS": -(-side // 32) * side, "NOTHING": 1}.get(plan.defines["CELLS"], side**2)
    return 4 * words, -(-palette.shape[1] * spec.size**2 // 4) * 4


def _packed(palette: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Rows of the palette as words, a channel a byte."""
    words = np.zeros((_ENTRIES, 4), np.uint8)
    words[: len(palette), : palette.shape[1]] = palette[:_ENTRIES]
    return words.view(np.uint32)


def _load(functions: Mapping[str, tuple[Any, ...]]) -> SimpleNamespace:
    get = ctypes.CDLL(_LIBRARY).eglGetProcAddress
    get.restype = _POINTER
    return SimpleNamespace(**{name: ctypes.CFUNCTYPE(*types)(get(name.encode())) for name, types in functions.items()})


def _source(files: tuple[str, ...], defines: Mapping[str, str]) -> str:
    folder = resources.files("fdsl") / "kernels" / "gl"
    texts = [(folder / f"{name}.glsl").read_text(encoding="utf-8") for name in ("random", "pictures", *files)]
    nibbles = ", ".join(f"{word}u" for word in _core.LATTICE_NIBBLES)
    lines = [f"#define {name} {value}" for name, value in ({"LATTICE_NIBBLES": nibbles} | dict(defines)).items()]
    return "\n".join([f"#version {_VERSION} core", *lines, *texts])


def _create_context(device: int) -> Any:
    try:
        import moderngl
    except ImportError as error:
        raise ImportError("the gl engine needs moderngl, which is not installed; pip install 'fdsl[gl]'") from error
    try:
        # EGL alone: it knows OpenGL's functions too.
        context = moderngl.create_context(
            standalone=True, backend="egl", require=_VERSION, device_index=device, libgl=_LIBRARY, libegl=_LIBRARY
        )
    except Exception as error:  # moderngl raises nothing more special
        raise OSError(
            f"no OpenGL 4.5 on EGL device {device} ({error}); expected a GPU's driver, or Mesa's software renderer: "
            "apt install libegl1 libgl1-mesa-dri"
        ) from error
    with context:
        return context
