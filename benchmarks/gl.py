#!/usr/bin/env python3
"""How fast the gl engine draws, beside the cpu engine in one run; on a CUDA GPU, beside the original design too.

It checks first that both engines draw the same, but for 0.1 % of the pixels.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rounds import (
    CORES,
    Contestant,
    Ratio,
    Record,
    compared,
    count,
    machine,
    memory,
    one_round,
    progress_bar,
    rounded_to_five_digits,
    speed_table,
    speeds,
    timed,
    versions,
)

import fdsl
from fdsl import _core
from fdsl.engines import cpu, gl
from fdsl.primitives import Drawing, Instances

MODES = (("point", "gray"), ("patch", "gray"), ("patch_per_point", "gray"), ("patch", "color"), ("patch", "density"))
FITS = ("own", "stored")
SIZES, POINTS, BATCH, TRIES = (512, 224), 100_000, 128, 3
MOST_UNLIKE = 0.001


def main() -> None:
    arguments = parse_arguments()
    began, busy_before = datetime.now(UTC), os.getloadavg()[0]
    try:
        engine = gl.Engine(arguments.device)
    except (ImportError, OSError) as error:
        raise SystemExit(str(error)) from None
    settings = {name: getattr(arguments, name) for name in ("sizes", "points", "batch", "tries")}
    catalog = fdsl.search("fractaldb", categories=100)
    report = {
        "benchmark": "gl",
        "date": began.isoformat(timespec="seconds"),
        "machine": machine() | {"load_average_before": busy_before},
        "versions": versions(("fdsl", "numpy", "moderngl", "torch", "cuda-core"), {}),
    } | rounded_to_five_digits(measured(catalog, arguments.rounds, engine=engine, **settings))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2)) if arguments.json else print_tables(report, arguments.output)


def print_tables(report: dict[str, Any], output: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 108
    facts, settings = report["machine"], report["settings"]
    console.print(
        f"{report['renderer']}; {facts['cpu']}, {facts['cores']} cores, kernel {facts['kernel']}; "
        f"batches of {settings['batch']}, {settings['points']:,} points; medians of {settings['rounds']} rounds"
    )
    console.print(speed_table("Drawing", report))
    if report["not_run"]:
        console.print(f"Not run, for want of a CUDA GPU: {', '.join(report['not_run'])}.")
    console.print(f"All rounds: {output}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/gl.py --batch 256")
    add = parser.add_argument
    add("--device", type=int, metavar="N", help="EGL's device (default: the first)")
    add("--sizes", type=count, nargs="+", default=SIZES, metavar="N", help="pixels of a side (default 512 224)")
    add("--points", type=count, default=POINTS, metavar="N", help="of a picture (default 100000)")
    add("--batch", type=count, default=BATCH, metavar="N", help="pictures (default 128)")
    add("--rounds", type=count, default=5, metavar="N", help="interleaved rounds (default 5)")
    add("--tries", type=count, default=TRIES, metavar="N", help="tries a round; its best counts (default 3)")
    add("--output", type=Path, default=Path(__file__).with_name("results") / "gl.json", metavar="FILE")
    add("--json", action="store_true", help="print the JSON and nothing else")
    return parser.parse_args()


def measured(
    catalog: fdsl.Catalog,
    rounds: int,
    original: bool = True,
    engine: gl.Engine | None = None,
    sizes: Sequence[int] = SIZES,
    points: int = POINTS,
    batch: int = BATCH,
    tries: int = TRIES,
) -> dict[str, Any]:
    """Images/s of both engines and, where wanted and possible, of the original design; how unlike their pixels are."""
    engine = engine or gl.Engine()
    record, unlike = Record(), dict[str, float]()
    with progress_bar() as progress:
        note = progress.add_task("checking", total=None)
        contestants = list(engine_contestants(catalog, engine, sizes, points, batch, tries, unlike))
        if original and cuda_is_there():
            contestants += original_contestants(catalog, engine, sizes, points, batch, tries)
        progress.update(note, total=rounds * sum(contestant.tries for contestant in contestants))
        for number in range(rounds):

            def step(label: str, say: str = f"round {number + 1} of {rounds}: ") -> None:
                progress.update(note, description=say + label, advance=1)

            one_round(contestants, record, step)
    ratios = [Ratio(f"gl {name}", f"cpu {name}", "cpu") for name in unlike]
    wanted = []
    for size in sizes if original else ():
        known = f"gl {key('point', 'gray', size, points, 'stored')}"
        ratios += [Ratio(each, original_name(size), "original") for each in (known, on_cuda(size))]
        wanted += [on_cuda(size), original_name(size)]
    return {
        "renderer": engine.renderer,
        "settings": {"catalog": catalog.digest, "points": points, "batch": batch, "rounds": rounds, "tries": tries},
        "unlike_pixels": unlike,
        "images_per_s": speeds(record),
        "ratios": compared(record, ratios),
        "not_run": [name for name in wanted if name not in record.images_per_s],
    }


def key(draw: str, color: str, size: int, points: int, fit: str) -> str:
    return f"{draw}-{color}/{size}/{points}/{fit}"


def on_cuda(size: int) -> str:
    return f"gl, drawn into a CUDA tensor {size}"


def original_name(size: int) -> str:
    return f"original design: CUDA vertex buffer, EGL points, read back {size}"


def engine_contestants(
    catalog: fdsl.Catalog,
    engine: gl.Engine,
    sizes: Sequence[int],
    points: int,
    batch: int,
    tries: int,
    unlike: dict[str, float],
) -> Iterator[Contestant]:
    """Both engines side by side; fills in how unlike what they draw is."""
    processor = cpu.Engine(CORES)
    for size, (draw, color), fit in product(sizes, MODES, FITS):
        dataset = dataset_of(catalog, size, points, draw=draw, color=color, fit=fit)
        indices, name = indices_of(dataset, batch), key(draw, color, size, points, fit)
        expected, drawn = (dataset.batch(indices, engine=each)[0] for each in (processor, engine))
        unlike[name] = float(np.mean(expected != drawn))
        if unlike[name] > MOST_UNLIKE:
            raise SystemExit(f"{name}: {unlike[name]:.2%} of the pixels differ; expected {MOST_UNLIKE:.2%} at most")
        for label, each in (("cpu", processor), ("gl", engine)):
            yield contestant(f"{label} {name}", batch_drawer(dataset, indices, each), batch, tries)


def original_contestants(
    catalog: fdsl.Catalog, engine: gl.Engine, sizes: Sequence[int], points: int, batch: int, tries: int
) -> Iterator[Contestant]:
    for size in sizes:
        dataset = dataset_of(catalog, size, points, draw="point", color="gray", fit="stored")
        indices = indices_of(dataset, batch)
        yield contestant(on_cuda(size), cuda_drawer(engine, dataset, indices), batch, tries)
        yield contestant(original_name(size), original_drawer(engine, dataset, indices), batch, tries)


def dataset_of(catalog: fdsl.Catalog, size: int, points: int, **spec: Any) -> fdsl.Dataset:
    return fdsl.Dataset(catalog, range(80, 1000), fdsl.RenderSpec(size=size, points=points, **spec))


def indices_of(dataset: fdsl.Dataset, batch: int) -> np.ndarray:
    return np.arange(batch) * 997 % len(dataset)  # of all categories and variations


def contestant(name: str, work: Callable[[], object], batch: int, tries: int) -> Contestant:
    return Contestant(name, lambda: {name: batch / timed(work)}, tries)


def batch_drawer(dataset: fdsl.Dataset, indices: np.ndarray, engine: cpu.Engine) -> Callable[[], object]:
    # Made and touched before the clock runs: a training loop reuses its memory.
    out = memory((len(indices), dataset.spec.image_channels, dataset.spec.size, dataset.spec.size))
    return lambda: dataset.batch(indices, out=out, engine=engine)


def cuda_is_there() -> bool:
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("cuda.core") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def drawing_of(dataset: fdsl.Dataset, indices: np.ndarray) -> Drawing:
    categories, places = np.divmod(indices, len(dataset.instances))
    zeros = np.zeros(len(indices), np.int64)
    instances = Instances(categories, np.asarray(dataset.instances)[places], zeros, zeros, dataset.seed)
    return dataset._family.drawing(dataset.catalog, instances, dataset.spec)


def cuda_drawer(engine: gl.Engine, dataset: fdsl.Dataset, indices: np.ndarray) -> Callable[[], object]:
    import torch

    def work() -> None:
        drawing = drawing_of(dataset, indices)
        engine.draw_on_cuda(drawing, dataset.spec, dataset.palette, dataset.seed)
        torch.cuda.synchronize()

    work()
    return work


# --- the original design, not run yet: no machine at hand had a CUDA GPU with EGL -------------------------------------

# The points of one picture, as vertices: x and y from -1 to 1 across the stored box.
WALK = r"""
struct Record {
  unsigned char picture[104];
  int threshold[8], alias[8];
  float coefficient[6][8], start[2], box[4];
};
extern "C" __global__ void walk(const Record* records, int picture, int points, float2* vertices) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x, trajectories = gridDim.x * blockDim.x;
  const Record& r = records[picture];
  unsigned state = (j + 1) * 0x9E3779B9u | 1u;
  float x = r.start[0], y = r.start[1];
  for (int i = j - 32 * trajectories; i < points; i += trajectories) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    const int slot = state & 7u, map = static_cast<int>(state) < r.threshold[slot] ? slot : r.alias[slot];
    const float to = r.coefficient[0][map] * x + r.coefficient[1][map] * y + r.coefficient[4][map];
    y = r.coefficient[2][map] * x + r.coefficient[3][map] * y + r.coefficient[5][map];
    x = to;
    if (i >= 0)
      vertices[i] = {2.0f * (x - r.box[0]) / (r.box[1] - r.box[0]) - 1.0f,
                     2.0f * (y - r.box[2]) / (r.box[3] - r.box[2]) - 1.0f};
  }
}
"""
VERTEX = "#version 450 core\nin vec2 at; void main() { gl_Position = vec4(at, 0.0, 1.0); }"
FRAGMENT = "#version 450 core\nout float value; void main() { value = 127.0 / 255.0; }"


def walk_kernel(architecture: str) -> Any:
    """The compiled kernel, which needs no driver."""
    from cuda.core import Program, ProgramOptions

    return Program(WALK, "c++", ProgramOptions(arch=architecture, std="c++17")).compile("cubin")


def original_drawer(engine: gl.Engine, dataset: fdsl.Dataset, indices: np.ndarray) -> Callable[[], object]:
    """Picture after picture: CUDA fills a vertex buffer of OpenGL's, which draws it as points and is read back."""
    import torch
    from cuda.core import Device, GraphicsResource, LaunchConfig, launch

    device = Device()
    device.set_current()
    stream = device.create_stream(torch.cuda.current_stream())
    major, minor = torch.cuda.get_device_capability()
    kernel = walk_kernel(f"sm_{major}{minor}").get_kernel("walk")
    spec, context, params = dataset.spec, engine._context, dataset.catalog.params
    out = memory((len(indices), 1, spec.size, spec.size))
    with context:
        vertices = context.buffer(reserve=8 * spec.points)
        program = context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        points = context.vertex_array(program, vertices, "at")
        canvas = context.framebuffer(context.renderbuffer((spec.size, spec.size), 1))
        resource = GraphicsResource.from_gl_buffer(vertices.glo, flags="write_discard")

    def work() -> None:
        drawing = drawing_of(dataset, indices)
        host = np.empty((len(indices), _core.GL_BYTES["affine"]), np.uint8)
        systems = (params["affine"], params["probability"], params["maps"])
        _core.gl_affine(*systems, cpu.record_bytes(drawing.records), cpu.spec_bytes(spec, dataset.seed), host)
        records = torch.from_numpy(host).cuda()
        with context:
            canvas.use()
            for number, picture in enumerate(out):
                with resource.map(stream=stream) as mapped:
                    config = LaunchConfig(grid=16, block=256)
                    given = (records.data_ptr(), np.int32(number), np.int32(spec.points), int(mapped.handle))
                    launch(stream, config, kernel, *given)
                canvas.clear()
                points.render(context.POINTS)
                canvas.read_into(picture, components=1, alignment=1)

    work()
    return work


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
