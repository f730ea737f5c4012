#!/usr/bin/env python3
"""How fast pictures of two values become files on one core, and how large those are, beside Pillow's PNG encoder."""

from __future__ import annotations

import argparse
import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rounds import (
    Contestant,
    Ratio,
    Record,
    compared,
    count,
    machine,
    new_table,
    one_round,
    progress_bar,
    rounded_to_five_digits,
    speed_table,
    speeds,
    timed,
    versions,
)

import fdsl
from fdsl.export.encodings import SUFFIXES, encode

CATEGORIES, PICTURES = 40, 80
SIZES, DRAWS = (224, 256, 512), ("point", "patch")
TARGET = 2000  # PNG/s of one core, drawn and encoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rounds", type=count, default=5, metavar="N", help="interleaved rounds (default 5)")
    add("--tries", type=count, default=3, metavar="N", help="tries a round; its best counts (default 3)")
    add("--output", type=Path, default=Path(__file__).with_name("results") / "encodings.json", metavar="FILE")
    add("--json", action="store_true", help="print the JSON and nothing else")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    report = run(arguments)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    console = Console()
    console.print(speed_table("Files/s of one core", report, "files/s"))
    table = new_table("Mean bytes of a file", "pictures", *SUFFIXES, "published RGB PNG", "png to published")
    for name, sizes in report["bytes"].items():
        share = f"{sizes['png'] / sizes['published']:.3f}"
        table.add_row(name, *(f"{sizes[kind]:,.0f}" for kind in (*SUFFIXES, "published")), share)
    console.print(table)
    console.print(f"{report['targets_met']} of {report['targets']} targets met; {arguments.output}")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every round, and the report of them."""
    began, busy_before, record = datetime.now(UTC), os.getloadavg()[0], Record()
    catalog = fdsl.search("fractaldb", CATEGORIES)
    contestants: list[Contestant] = []
    sizes: dict[str, dict[str, float]] = {}
    for size in SIZES:
        for draw in DRAWS:
            spec = fdsl.RenderSpec(size=size, draw=draw)
            dataset = fdsl.Dataset(catalog, range(0, 1000, 40), spec)
            # Of every category two variations.
            indices = np.linspace(0, len(dataset) - 1, PICTURES).round().astype(np.int64)
            images, _ = dataset.batch(indices, threads=1)
            contestants += contestants_of(f"{draw} {size}", dataset, indices, images, arguments.tries)
            kinds = {kind: [len(encode(image, dataset.palette, kind)) for image in images] for kind in SUFFIXES}
            kinds["published"] = [len(published_png(image)) for image in images]
            sizes[f"{draw} {size}"] = {kind: float(np.mean(lengths)) for kind, lengths in kinds.items()}
    with progress_bar() as progress:
        note = progress.add_task("", total=arguments.rounds * sum(contestant.tries for contestant in contestants))
        for number in range(arguments.rounds):
            say = f"round {number + 1} of {arguments.rounds}: "

            def step(label: str, say: str = say) -> None:
                progress.update(note, description=say + label, advance=1)

            one_round(contestants, record, step)
    rates = speeds(record)
    judged = [rates[f"{name}: drawing and png"]["median"] >= TARGET for name in sizes]
    judged += [2 * kinds["png"] <= kinds["published"] for kinds in sizes.values()]
    pairs = [(f"{name}: png", f"{name}: Pillow, one bit") for name in sizes]
    return rounded_to_five_digits(
        {
            "benchmark": "encodings",
            "date": began.isoformat(timespec="seconds"),
            "machine": machine() | {"load_average_before": busy_before},
            "versions": versions(("fdsl", "numpy", "pillow"), {}),
            "settings": {
                "cores_used": 1,
                "rounds": arguments.rounds,
                "tries": arguments.tries,
                "pictures": PICTURES,
                "categories": CATEGORIES,
                "points": 100_000,
                "least_png_per_s_drawn_and_encoded": TARGET,
                "largest_share_of_published_bytes": 0.5,
            },
            "images_per_s": rates,
            "ratios": compared(record, [Ratio(ours, theirs, "Pillow, one bit") for ours, theirs in pairs]),
            "bytes": sizes,
            "targets": len(judged),
            "targets_met": sum(judged),
        }
    )


def contestants_of(
    name: str, dataset: fdsl.Dataset, indices: np.ndarray, images: np.ndarray, tries: int
) -> list[Contestant]:
    """What is timed of pictures of one size and kind; each try makes all of them."""
    memory = np.empty_like(images)

    def drawn_and_encoded() -> None:
        dataset.batch(indices, out=memory, threads=1)
        for image in memory:
            encode(image, dataset.palette, "png")

    def each(work: Any) -> Any:
        return lambda: [work(image) for image in images]

    works = {
        "drawing and png": drawn_and_encoded,
        "png": each(lambda image: encode(image, dataset.palette, "png")),
        "webp": each(lambda image: encode(image, dataset.palette, "webp")),
        "raw": each(lambda image: encode(image, dataset.palette, "raw")),
        "Pillow, one bit": each(lambda image: one_bit_png(image, dataset.palette)),
        "Pillow, RGB as published": each(published_png),
    }
    return [
        Contestant(
            f"{name}: {label}", lambda work=work, label=label: {f"{name}: {label}": len(images) / timed(work)}, tries
        )
        for label, work in works.items()
    ]


def one_bit_png(pixels: np.ndarray, palette: np.ndarray) -> bytes:
    """Pillow's file of a picture with a palette of two colours."""
    image = Image.frombytes("P", pixels.shape[:0:-1], (pixels[0] != palette[0, 0]).tobytes())
    image.putpalette(palette.repeat(3 // palette.shape[1], axis=1).tobytes())
    return saved(image)


def published_png(pixels: np.ndarray) -> bytes:
    """The published code's: an RGB image's save(path)."""
    return saved(Image.fromarray(np.repeat(pixels[0][..., None], 3, axis=2)))


def saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
