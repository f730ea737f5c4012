"""The command line: `fdsl search`, `export`, `pretrain`, `finetune` and the rest of `fdsl --help`."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from math import isqrt
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
import typer
from typer.core import TyperCommand, TyperGroup

import fdsl
from fdsl.catalogs import check_csv_layout
from fdsl.compositions import LABELS
from fdsl.families import family_named, family_names, has_family
from fdsl.families.protocol import ViewedFamily
from fdsl.progress import Progress, lines_on_stderr
from fdsl.whole_files import whole_or_nothing

_INTERRUPTED = 130
# The base of all wrong calls, which has moved between Click and Typer.
_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]


class _RayCommand(TyperCommand):
    """A command whose `--ray` may come without an address; Typer knows no such option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place in reversed(range(len(args))):
            if args[place] == "--ray" and (place + 1 == len(args) or args[place + 1].startswith("-")):
                args.insert(place + 1, "local")
        return super().parse_args(ctx, args)


class _Interrupted(Exception):
    """Ctrl-C, with what it says; Typer would turn a KeyboardInterrupt into a bare exit code."""


class _OneLineErrors(TyperGroup):
    """Every failure is one line on stderr: exit code 1, 2 for a wrong call, 130 for Ctrl-C."""

    def main(self, *args: Any, **extra: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
            code = self._run(*args, **extra)
        try:
            sys.stdout.flush()
        except OSError as error:
            # What is still buffered would raise again when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = code or (1 if isinstance(error, BrokenPipeError) else _fail(f"standard output: {error.strerror}"))
        sys.exit(code)

    def _run(self, *args: Any, **extra: Any) -> int:
        try:
            code = int(super().main(*args, **extra | {"standalone_mode": False}) or 0)
            return _fail("interrupted", code) if code == _INTERRUPTED else code
        except (_Interrupted, KeyboardInterrupt, typer.Abort) as error:
            return _fail(str(error) or "interrupted", _INTERRUPTED)
        except BrokenPipeError:
            return 1
        except OSError as error:
            return _fail(f"error: {_plain(error)}")
        except (ValueError, ImportError, RuntimeError, IndexError, MemoryError) as error:
            return _fail(f"error: {error}")
        except Exception as error:
            if not isinstance(error, _USAGE_ERROR):
                raise
            command = error.ctx.command_path if error.ctx else "fdsl"
            return _fail(f"error: {error.format_message()} (see {command} --help)", 2)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted(*error.args) from None


def _say(line: str) -> None:
    print(" ".join(line.splitlines()), file=sys.stderr)


def _fail(line: str, code: int = 1) -> int:
    # The functions behind a command speak of their own arguments.
    _say(line.replace("resume=True", "--resume").replace("skip_corrupt", "--skip-corrupt"))
    return code


def _plain(error: OSError) -> str:
    """`file: what is wrong`, without the number that Python puts before it."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror


app = typer.Typer(
    cls=_OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer()
app.add_typer(bench, name="bench")


def main() -> NoReturn:
    """Runs the command line of this process."""
    app(args=sys.argv[1:] or ["--help"], prog_name="fdsl")
    raise AssertionError("the command line ends the process")


# Options that several commands share.
CatalogName = Annotated[
    str,
    typer.Argument(
        metavar="catalog",
        help="A preset such as fractaldb-1k, a .safetensors file, or a folder of CSV files.",
        show_default=False,
    ),
]
CatalogOrFamily = Annotated[
    str,
    typer.Argument(
        metavar="catalog",
        help="A preset such as fractaldb-1k, a .safetensors file, a folder of CSV files, or a family to search a few.",
    ),
]
Variation = Annotated[
    float | None,
    typer.Option(help="Setting of the parameter variations, over 0 to 0.5.", show_default="a file's own, else 0.4"),
]
Seed = Annotated[int, typer.Option(help="Keys everything random.")]
SearchDevice = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda or cuda:1; the result is the same. A GPU needs torch, whose import takes seconds."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Instances = Annotated[
    str, typer.Option(metavar="RANGE", help="The first so many, or a range: 0:20, 0:1000:40 (all variations).")
]
_drawing = "Drawing"
Size = Annotated[int, typer.Option(help="Pixels of a side.", rich_help_panel=_drawing)]
_own = "the family's own"
Points = Annotated[int | None, typer.Option(help="Points of a picture.", show_default=_own, rich_help_panel=_drawing)]
Draw = Annotated[
    Literal["point", "patch", "patch_per_point"] | None,
    typer.Option(
        help="Hit pixels, one 3x3 patch per instance, or one per point.", show_default=_own, rich_help_panel=_drawing
    ),
]
Color = Annotated[
    Literal["gray", "white", "color", "density"] | None,
    typer.Option(
        help="Gray (127 on black), white, hue by step, or brightness by count.",
        show_default=_own,
        rich_help_panel=_drawing,
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(help="1 or 3.", show_default="3 for color, else 1", rich_help_panel=_drawing),
]
Pad = Annotated[
    int | None, typer.Option(help="Pixels left free on each side.", show_default=_own, rich_help_panel=_drawing)
]
Fit = Annotated[
    Literal["own", "stored"] | None,
    typer.Option(
        help="Scale to the picture's own box, or the catalog's (twice as fast).",
        show_default=_own,
        rich_help_panel=_drawing,
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="What few families have, such as broken_contours=1000 of rcdb; give it again for more.",
        rich_help_panel=_drawing,
    ),
]
CropOf = Annotated[
    int | None,
    typer.Option(metavar="N", help="Draw N pixels a side, and keep a window of --size.", rich_help_panel=_drawing),
]
ViewScale = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH", help="Draw a random view of so much of the area, 0 to 1.", rich_help_panel=_drawing
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fdsl {fdsl.__version__}")
        raise typer.Exit


@app.callback()
def _fdsl(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    formula: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A Python file, or a module, that registers families of your own."),
    ] = None,
) -> None:
    """Pre-train vision models on pictures that formulas draw.

    Example: fdsl show fractaldb --categories 5
    """
    from fdsl.families.user import import_formulas

    for source in formula or ():
        import_formulas(source)


@app.command()
def search(
    family: Annotated[str, typer.Argument(help=f"The formula: {', '.join(family_names())}.", show_default=False)],
    categories: Annotated[int, typer.Option(help="How many to find.")] = 1000,
    seed: Seed = 0,
    fill_rate: Annotated[
        float | None,
        typer.Option(help="Least share of the pixels that a category's picture hits.", show_default=_own),
    ] = None,
    variance: Annotated[
        float | None, typer.Option(help="Least variance of a cloud on each axis, of its side 2.", show_default=_own)
    ] = None,
    variation: Annotated[
        float | None, typer.Option(help="Setting of the parameter variations, over 0 to 0.5.", show_default=_own)
    ] = None,
    sampler: Annotated[
        Literal["uniform", "sigma", "perturbed"] | None,
        typer.Option(
            help="As published, contractive maps by singular values, or perturbations of --base.", show_default=_own
        ),
    ] = None,
    sigma_factor: Annotated[
        float | None, typer.Option(help="Of --sampler sigma.", show_default="drawn per category")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Of --sampler perturbed: a catalog of one category.", show_default=False)
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Of --sampler perturbed: each parameter times 1-D to 1+D.", show_default=False)
    ] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of the family, such as lines=[1,50]; give it again for more.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A .safetensors file, or a folder for CSV files as published.",
            show_default="FAMILY-N.safetensors",
        ),
    ] = None,
    max_candidates: Annotated[
        int | None,
        typer.Option(
            min=1, help="Give up after so many.", show_default="1,000 a category (by variance 20,000), at least 100,000"
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="The result is the same for any.", show_default="all processors")
    ] = None,
    device: SearchDevice = "cpu",
    as_json: AsJson = False,
) -> None:
    """Find categories of a family and save them as a catalog.

    Example: fdsl search fractaldb --categories 1000 --seed 0 --out catalog.safetensors
    Example: fdsl search fractaldb --categories 100000 --device cuda
    Example: fdsl search rcdb --categories 1000 --set vertices=[3,50] --out rcdb.safetensors
    """
    name = out or f"{family}-{categories}.safetensors"
    target = Path(name)
    to_file = target.suffix == ".safetensors" and not name.endswith("/")
    if target.suffix and not to_file and not name.endswith("/"):
        raise typer.BadParameter(f"{name}; expected a name in .safetensors, or a folder: {name}/", param_hint="--out")
    if not to_file:
        check_csv_layout(family)
    _require_new(target, empty_folder=not to_file)
    named = _settings(own, "--set")
    for name in named.keys() & inspect.signature(fdsl.search).parameters.keys():
        raise typer.BadParameter(f"{name!r} is no setting of a family; expected an option of it", param_hint="--set")
    settings = {
        "fill_rate": fill_rate,
        "variance": variance,
        "variation": variation,
        "sampler": sampler,
        "sigma_factor": sigma_factor,
        "base": base and fdsl.Catalog.load(base),
        "delta": delta,
        **named,
    }
    began = time.perf_counter()
    with _progress_bar() as progress:
        catalog = fdsl.search(
            family,
            categories=categories,
            seed=seed,
            max_candidates=max_candidates,
            threads=threads,
            device=device,
            progress=progress,
            **{name: value for name, value in settings.items() if value is not None},
        )
    seconds = time.perf_counter() - began
    target.parent.mkdir(parents=True, exist_ok=True)
    (catalog.save if to_file else catalog.to_csv)(target)
    _print_figures(
        {
            "categories": len(catalog),
            "candidates": catalog.settings["candidates"],
            "seconds": round(seconds, 3),
            "digest": catalog.digest,
            "out": str(target),
        },
        as_json,
    )


@app.command("catalog")
def ready_catalog(
    source: CatalogName,
    variation: Variation = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read it through and compare it with its digest.")] = False,
    device: SearchDevice = "cpu",
    as_json: AsJson = False,
) -> None:
    """Make a preset ready before a job is queued; say what a catalog holds.

    A preset is searched once, and kept in the folder FDSL_CACHE, else in
    ~/.cache/fdsl. There are fractaldb, exfractaldb, rcdb and visualatom with
    -1k, -10k, -21k, -50k, -100k and -300k. A kept one that --verify finds
    damaged is made anew.

    Example: fdsl catalog fractaldb-21k
    Example: fdsl catalog fractaldb-100k --device cuda
    """
    with _progress_bar() as progress:
        catalog = fdsl.catalog(source, variation, progress, verify, device)
    figures = {
        "family": catalog.family,
        "categories": len(catalog),
        "variation": catalog.variation,
        "digest": catalog.digest,
        "path": catalog.path and str(catalog.path),
        "bytes": catalog.path and catalog.path.stat().st_size,
    }
    _print_figures({name: value for name, value in figures.items() if as_json or value is not None}, as_json)


@app.command()
def show(
    source: CatalogOrFamily,
    categories: Annotated[
        str, typer.Option(metavar="RANGE", help="The first so many, or a range: 0:20, 0:1000:10.")
    ] = "10",
    columns: Annotated[int, typer.Option(min=1, help="How many of the instances, spread evenly.")] = 8,
    instances: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="The first so many, or a range: 0:20, 0:1000:40 (all variations).",
            show_default="1000, or all that are numbered by variation and view",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The PNG file.", show_default="contact-sheet-NAME.png", dir_okay=False)
    ] = None,
    variation: Variation = None,
    seed: Seed = 0,
    size: Size = 224,
    points: Points = None,
    draw: Draw = None,
    color: Color = None,
    option: Options = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Compose several objects to a picture, with their masks and boxes.")
    ] = False,
) -> None:
    """Draw a contact sheet: categories by instances, with labels.

    Example: fdsl show fractaldb --categories 5 --color density --out sheet.png
    Example: fdsl show rcdb --option broken_contours=1000
    """
    rows = _range(categories, "--categories")
    target = out or Path(f"contact-sheet-{Path(source).name.removesuffix('.safetensors')}.png")
    spec = fdsl.RenderSpec(size=size, points=points, draw=draw, color=color, options=_settings(option, "--option"))
    _require_new(target)
    with _progress_bar() as progress:
        catalog = _open(source, variation, progress, few=max(rows) + 1)
    from fdsl.contact_sheet import contact_sheet
    from fdsl.export.png import png_bytes

    family = family_named(catalog.family)
    if instances is not None:
        numbers = _range(instances, "--instances")
    else:
        numbers = range(max(1000, family.weight_rows * family.viewpoints) if isinstance(family, ViewedFamily) else 1000)
    dataset = fdsl.Dataset(catalog, numbers, spec, seed, labels=LABELS if labels else "class")
    sheet = contact_sheet(dataset, rows.stop if rows == range(rows.stop) else rows, columns)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_or_nothing(target.absolute()) as temporary:
        temporary.write_bytes(png_bytes(np.asarray(sheet).transpose(2, 0, 1)))
    print(target)


@app.command()
def render(
    source: CatalogName,
    out: Annotated[Path, typer.Option(help="A folder, new or empty.", show_default=False, file_okay=False)],
    categories: Annotated[
        str | None,
        typer.Option(metavar="RANGE", help="The first so many, or a range: 0:20, 0:1000:10.", show_default="all"),
    ] = None,
    instances: Instances = "1000",
    variation: Variation = None,
    seed: Seed = 0,
    size: Size = 224,
    points: Points = None,
    draw: Draw = None,
    color: Color = None,
    channels: Channels = None,
    pad: Pad = None,
    fit: Fit = None,
    crop_of: CropOf = None,
    view_scale: ViewScale = None,
    option: Options = None,
    labels: Annotated[
        Literal["class", "coco"],
        typer.Option(
            help="Folders of each class, or pictures of several objects with their masks and boxes in annotations.json."
        ),
    ] = "class",
) -> None:
    """Draw pictures as PNG files.

    Their names are the published ones, CATEGORY/CATEGORY_WW_count_P_flipF.png
    with the weight row WW, the pattern P and the flip F; from instance 1,000
    on they are CATEGORY/CATEGORY_instance_N.png. With --labels coco they are
    images/NUMBER.png: --categories then says what the first object of each
    shows, and the others are of any category.

    Example: fdsl render fractaldb-1k --out pictures --categories 0:10 --instances 0:1000:40
    Example: fdsl render fractaldb-1k --out detection --labels coco --color color --instances 0:1000:100
    """
    from fdsl.export.coco import export_coco
    from fdsl.export.folder import export_folder

    chosen = _range(categories, "--categories") if categories else None
    options = _settings(option, "--option")
    spec = fdsl.RenderSpec(size, points, draw, color, channels, pad, fit, _view(crop_of, view_scale), options)
    target = out.resolve()  # a link stays one, and what it points to is filled
    _require_new(target, empty_folder=True)
    with _progress_bar() as progress:
        catalog = fdsl.catalog(source, variation, progress)
        numbers = _range(instances, "--instances")
        dataset = fdsl.Dataset(catalog, numbers, spec, seed, labels=LABELS if labels == "coco" else "class")
        chosen = range(len(catalog)) if chosen is None else chosen
        if max(chosen) >= len(catalog):
            raise IndexError(f"category {max(chosen)} is out of range for a catalog of {len(catalog):,}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if labels == "coco":
            count = len(dataset.instances)
            export_coco(dataset, target, [i * count + j for i in chosen for j in range(count)], progress)
        else:
            export_folder(dataset, target, chosen, progress)
    print(f"{len(chosen) * len(dataset.instances):,} pictures in {out}")


@app.command(cls=_RayCommand)
def export(
    out: Annotated[
        Path,
        typer.Option(help="A folder: new, empty, or an export that was stopped.", show_default=False, file_okay=False),
    ],
    source: Annotated[
        str, typer.Argument(metavar="catalog", help="As for render; none with --verify.", show_default=False)
    ] = "",
    to: Annotated[
        Literal["folder", "webdataset", "parquet"] | None,
        typer.Option(help="CATEGORY/NAME.png, tar shards of NAME.png and NAME.cls, or parquet files."),
    ] = None,
    encoding: Annotated[
        Literal["png", "webp", "raw"],
        typer.Option(help="PNG (a bit a pixel where there are two values), lossless WebP, or NumPy's .npy."),
    ] = "png",
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Pictures of a shard.", show_default="10,000; a category for folders")
    ] = None,
    order: Annotated[
        Literal["shuffled", "category"] | None,
        typer.Option(help="Of the pictures over the shards.", show_default="shuffled; category for folders"),
    ] = None,
    shuffle_seed: Annotated[int, typer.Option(help="Keys the order.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, of a thread each.", show_default="all processors")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS]", help="Draw on a Ray cluster; without an address on this machine's own."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the files of --out back, and compare them with its manifest.")
    ] = False,
    instances: Instances = "1000",
    variation: Variation = None,
    seed: Seed = 0,
    size: Size = 224,
    points: Points = None,
    draw: Draw = None,
    color: Color = None,
    channels: Channels = None,
    pad: Pad = None,
    fit: Fit = None,
    crop_of: CropOf = None,
    view_scale: ViewScale = None,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Write a whole dataset as shards that other programs read.

    Stopped or killed, the same command goes on: a shard is complete or absent,
    and manifest.json, which comes last, has digests of pixels and files. Under
    srun, mpirun or torchrun each rank writes its share of the shards.

    Example: fdsl export fractaldb-1k --to webdataset --out shards --size 256 --workers 2
    Example: fdsl export --verify --out shards
    """
    began = time.perf_counter()
    if verify:
        from fdsl.export import verify_export

        with _progress_bar() as progress:
            found = verify_export(out, workers, progress)
        seconds = round(time.perf_counter() - began, 3)
        problems = found.problems if as_json else len(found.problems)
        figures = {"pictures": found.pictures, "shards": found.shards, "problems": problems, "seconds": seconds}
        _print_figures(figures | {"out": str(out)}, as_json)
        if found.problems:
            more = f", and {len(found.problems) - 10} more" if len(found.problems) > 10 else ""
            raise ValueError(f"{out} is not what its manifest says: {', '.join(found.problems[:10])}{more}")
        return
    for name, given in (("catalog", source), ("--to", to)):
        if not given:
            raise typer.BadParameter("missing; expected it, or --verify", param_hint=name)
    assert to is not None
    numbers, options = _range(instances, "--instances"), _settings(option, "--option")
    spec = fdsl.RenderSpec(size, points, draw, color, channels, pad, fit, _view(crop_of, view_scale), options)
    from fdsl.export import export_dataset

    # Ray tells of workers that died on stdout; the report alone goes there.
    with contextlib.redirect_stdout(sys.stderr), _progress_bar() as progress:
        dataset = fdsl.Dataset(fdsl.catalog(source, variation, progress), numbers, spec, seed)
        began = time.perf_counter()
        report = export_dataset(
            dataset,
            out,
            to,
            encoding=encoding,
            shard_size=shard_size,
            order=order,
            shuffle_seed=shuffle_seed,
            workers=workers,
            ray=ray,
            progress=progress,
        )
    seconds = time.perf_counter() - began
    if report.left:
        _say(f"{report.left:,} of {report.shards:,} shards are left to other ranks; the last writes manifest.json")
    elif not report.drawn:
        _say(f"{out} is complete; nothing was left to draw")
    rate = {"seconds": round(seconds, 3), "pictures_per_s": round(report.drawn / seconds, 1)}
    _print_figures(asdict(report) | rate | {"out": str(out)}, as_json)


@bench.callback()
def _bench() -> None:
    """Measure what drawing and feeding cost on this machine.

    Example: fdsl bench render, or fdsl bench feed
    """


@bench.command("render")
def bench_render(
    source: CatalogOrFamily = "fractaldb",
    size: Size = 224,
    points: Points = None,
    draw: Draw = None,
    color: Color = None,
    fit: Fit = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Give it again for another number.", show_default="1 and all")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of drawing with each number of threads.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Measure the images/s of the engine.

    Example: fdsl bench render --draw point --size 512 --threads 1 --threads 2
    """
    from fdsl.bench import render_speed
    from fdsl.engines.cpu import default_threads, kernel_name

    spec = fdsl.RenderSpec(size=size, points=points, draw=draw, color=color, fit=fit)
    with _progress_bar() as progress:
        dataset = fdsl.Dataset(_open(source, None, progress), spec=spec)
        speeds = render_speed(dataset, sorted(set(threads or (1, default_threads()))), seconds, progress)
    if as_json:
        rates = [{"threads": speed.threads, "images_per_s": round(speed.images_per_s, 1)} for speed in speeds]
        print(json.dumps({"kernel": kernel_name(), "spec": json.loads(dataset.spec.canonical()), "results": rates}))
        return
    from rich.console import Console
    from rich.table import Table

    how = {name: value for name, value in json.loads(dataset.spec.canonical()).items() if value not in (None, {})}
    title = ", ".join(f"{name} {value}" for name, value in how.items())
    table = Table(title=f"{dataset.catalog.family}: {title}; kernel {kernel_name()}")
    for heading in (
        "threads",
        "images/s",
        "ms per image",
        f"x {speeds[0].threads} thread{'s' * (speeds[0].threads > 1)}",
    ):
        table.add_column(heading, justify="right")
    for speed in speeds:
        ratio = speed.images_per_s / speeds[0].images_per_s
        table.add_row(
            f"{speed.threads}", f"{speed.images_per_s:,.0f}", f"{1e3 / speed.images_per_s:.3f}", f"{ratio:.2f}"
        )
    Console().print(table)


@bench.command("feed")
def bench_feed(
    source: CatalogOrFamily = "fractaldb",
    batch_size: Annotated[int, typer.Option(help="Images of a batch.")] = 256,
    step_ms: Annotated[float, typer.Option(help="Milliseconds that the consumer takes for a batch.")] = 0.0,
    ahead: Annotated[int, typer.Option(help="Batches drawn before they are asked for.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the drawing.", show_default="all processors")] = None,
    device: Annotated[
        str, typer.Option(help="Where batches lie and what draws them: auto, cpu, gl, cuda or cuda:1.")
    ] = "cpu",
    instances: Instances = "1000",
    variation: Variation = None,
    seed: Seed = 0,
    size: Size = 224,
    points: Points = None,
    draw: Draw = None,
    color: Color = None,
    channels: Channels = None,
    pad: Pad = None,
    fit: Fit = None,
    crop_of: CropOf = None,
    view_scale: ViewScale = None,
    option: Options = None,
    seconds: Annotated[float, typer.Option(help="To go on for, after the first batch.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Measure the images/s of a Feed, and how long its consumer waits.

    Example: fdsl bench feed --batch-size 256 --step-ms 100
    """
    from fdsl.bench import feed_speed

    view, options = _view(crop_of, view_scale), _settings(option, "--option")
    spec = fdsl.RenderSpec(size, points, draw, color, channels, pad, fit, view, options)
    numbers = _range(instances, "--instances")
    with _progress_bar() as progress:
        dataset = fdsl.Dataset(_open(source, variation, progress), numbers, spec, seed)
        stats = feed_speed(
            dataset,
            batch_size,
            step_ms / 1e3,
            seconds,
            ahead=ahead,
            threads=threads,
            device=device,
            progress=progress,
        )
    _print_figures(
        {
            "images_per_s": round(stats.images_per_s, 1),
            "waiting_share": round(stats.waiting_share, 4),
            "first_batch_s": round(stats.first_batch_s, 4),
            "render_images_per_s": round(stats.render_images_per_s, 1),
            "queue_depth": round(stats.queue_depth, 2),
            "queue_empty_share": round(stats.empty_share, 4),
            "batch_size": batch_size,
            "step_ms": step_ms,
        },
        as_json,
    )


@app.command()
def plan(
    source: CatalogOrFamily,
    model: Annotated[
        str | None, typer.Option(help="A name that timm knows; its training step is measured here.", show_default=False)
    ] = None,
    images_per_s: Annotated[
        float | None,
        typer.Option(help="Or what one GPU trains on with your model, where you know it.", show_default=False),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Pictures of an epoch.", show_default="categories x instances, of a family 100 x")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of the run.")] = 300,
    batch_size: Annotated[int, typer.Option(help="Images of a step on one GPU.")] = 256,
    ranks: Annotated[int, typer.Option(help="GPUs of the whole run.")] = 1,
    cores: Annotated[
        int | None,
        typer.Option(help="Of each GPU's process.", show_default="this machine's, shared out among its GPUs"),
    ] = None,
    device: Annotated[str, typer.Option(help="What draws, and trains --model: auto, cpu, cuda or cuda:1.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Train --model with torch.compile.")] = False,
    instances: Instances = "1000",
    variation: Variation = None,
    seed: Seed = 0,
    size: Size = 224,
    points: Points = None,
    draw: Draw = None,
    color: Color = None,
    channels: Channels = None,
    pad: Pad = None,
    fit: Fit = None,
    crop_of: CropOf = None,
    view_scale: ViewScale = None,
    option: Options = None,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Say what a training run needs and what this machine has for it.

    A family stands for a catalog of it: 100 categories are searched and drawn.

    Example: fdsl plan fractaldb-1k --model deit_tiny_patch16_224 --ranks 4
    Example: fdsl plan fractaldb --images 300000000 --images-per-s 2500 --epochs 90 --ranks 64 --cores 8
    """
    from fdsl.planning import plan as measured

    if (model is None) == (images_per_s is None):
        raise typer.BadParameter("expected one of --model and --images-per-s", param_hint="--model")
    view, options = _view(crop_of, view_scale), _settings(option, "--option")
    spec = fdsl.RenderSpec(size, points, draw, color, channels, pad, fit, view, options)
    numbers = _range(instances, "--instances")
    with _progress_bar() as progress:
        dataset = fdsl.Dataset(_open(source, variation, progress), numbers, spec, seed)
        found = measured(
            dataset,
            images_per_s=images_per_s,
            model=model,
            images=images,
            epochs=epochs,
            batch_size=batch_size,
            ranks=ranks,
            cores=cores,
            device=device,
            compiled=compiled,
            seconds=seconds,
            progress=progress,
        )
    if as_json:
        print(json.dumps(found.figures()))
        return
    rows = found.rows()
    what_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for what, value, known in rows:
        print(f"{what:{what_width}}  {value:{value_width}}  {known}".rstrip())


@app.command()
def pretrain(
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A name of `fdsl recipes`, a YAML file, or another run's folder.",
            show_default="of the run to --resume",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="data.source: a preset such as fractaldb-1k, a catalog, shards:PATTERN or imagefolder:FOLDER.",
            show_default="the recipe's",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="model.name: one of timm's.", show_default="the recipe's")] = None,
    steps: Annotated[int | None, typer.Option(help="schedule.steps: of the run.", show_default="the recipe's")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another setting of the recipe; give it again for more."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder, new or empty.", show_default="runs/RECIPE", file_okay=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes to start on this machine, each with its own GPU.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines, over which torchrun, srun or mpirun start the processes.")] = 1,
    log: Annotated[
        list[str] | None, typer.Option(help="tensorboard or wandb, beside log.csv; give it again for more.")
    ] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out picture files that cannot be decoded.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a timm model as a recipe says, on pictures that are drawn while it trains, or on stored ones.

    Example: fdsl pretrain --recipe fractaldb-deit-tiny --set training.ema=0.9999 --out runs/deit --devices 4
    Example: fdsl pretrain --resume --out runs/deit --devices 4
    Example: torchrun --nproc-per-node 8 --no-python fdsl pretrain --recipe fractaldb-deit-tiny
    Example: srun --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 fdsl pretrain --recipe fractaldb-deit-tiny
    Example: mpirun -n 16 --hostfile hosts -x MASTER_ADDR=node1 fdsl pretrain --recipe fractaldb-deit-tiny
    """
    from fdsl.ranks import this_rank

    first = this_rank().rank == 0  # it alone speaks
    if recipe is None and not (resume and out):
        raise typer.BadParameter("expected one, or --resume with the --out of a run", param_hint="--recipe")
    from fdsl.train.recipes import recipe_named

    shorthands = {"data.source": data, "model.name": model, "schedule.steps": steps}
    changes = [f"{name}={json.dumps(value)}" for name, value in shorthands.items() if value is not None]
    try:
        resolved = recipe_named(out if recipe is None and out else recipe or "", set=[*changes, *(overrides or ())])
        output = out or Path("runs", _name_of(recipe or ""))
        if first and not resume:
            _require_new(output, empty_folder=True)
    except (ValueError, OSError):
        if first:
            raise
        raise typer.Exit(1) from None
    from fdsl.train.pretraining import pretrain as train

    with contextlib.redirect_stdout(sys.stderr):  # the report alone goes to stdout
        report = train(
            resolved,
            output=output,
            resume=resume,
            device=device,
            devices=devices,
            nodes=nodes,
            progress=sys.stderr.isatty(),
            loggers=log or (),
            skip_corrupt=skip_corrupt,
        )
    if first:
        figures = asdict(report) | {"out": str(output)}
        if not as_json:
            del figures["recipe"]  # which lies in the folder
        _print_figures(figures, as_json)


@app.command("recipes")
def show_recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A recipe's name, or its YAML file.", show_default="all")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of RECIPE, one setting; give it again for more."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the training recipes, or print one of them as YAML.

    Example: fdsl recipes
    Example: fdsl recipes fractaldb-deit-tiny --set schedule.epochs=100 > mine.yaml
    """
    from fdsl.train.recipes import recipe_named, recipe_names

    if name is not None:
        recipe = recipe_named(name, override or ())
        print(json.dumps(recipe.model_dump(mode="json", exclude_none=True)) if as_json else recipe.yaml().rstrip())
        return
    if override:
        raise typer.BadParameter("expected the RECIPE to change", param_hint="--set")
    recipes = {each: recipe_named(each) for each in recipe_names()}
    rows: list[dict[str, Any]] = [
        {
            "name": each,
            "title": recipe.title,
            "model": recipe.model.name,
            "data": recipe.data.source,
            "epochs": recipe.schedule.epochs,
            "steps": recipe.schedule.steps,
            "batch": recipe.training.batch_size,
        }
        for each, recipe in recipes.items()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell or "" for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, list(rows[0]), strict=True)]
    for line in [list(rows[0]), *cells]:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command("inspect")
def inspect_run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE|timm:NAME",
            help="A run's folder, a file of weights, or timm's own; scratch:NAME is an untrained one.",
            show_default=False,
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="A folder or a file of pictures, or a catalog to draw; give it again for more.",
            show_default="the run's own data, else random noise",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder, new or empty.", show_default="inspect-NAME", file_okay=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="timm's name, of a file that does not say it.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look into a network: filters, position embeddings, attention.

    Draws first-layer filters and their principal components, the similarity of
    position embeddings, the mean attention distance of each head and attention
    maps over pictures, as PNG files and in report.html, which is one file for
    any browser. A ResNet has filters only.

    Example: fdsl inspect runs/deit --images photos --out inspect-deit
    """
    output = out or Path(f"inspect-{_name_of(source.rpartition(':')[2])}")
    _require_new(output, empty_folder=True)
    from fdsl.analysis.report import PAGE, inspect_network

    with contextlib.redirect_stdout(sys.stderr), _progress_bar() as progress:
        report = inspect_network(source, images or (), output=output, model=model, progress=progress)
    if as_json:
        print(json.dumps(report))
        return
    layer, distance, maps = (report[name] for name in ("first_layer", "attention_distance", "attention_maps"))
    figures = {
        "model": report["model"],
        "parameters": report["parameters"],
        "pictures": maps and f"{maps['count']}: {maps['pictures']}",
        "first layer": layer and f"{layer['module']}, {' x '.join(map(str, layer['shape']))}",
        "mean attention distance": distance and " ".join(f"{pixels:.0f}" for pixels in distance["by_layer"]),
        "out": str(output / PAGE),
    }
    _print_figures({name: value for name, value in figures.items() if value}, as_json)


@app.command()
def finetune(
    source: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="RUN|FILE|scratch",
            help="Weights: a run's folder, a .safetensors or .pth file, timm:NAME, or scratch for none; "
            "give it again to compare.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="cifar10, cifar100, flowers102, stanford-cars, digits, imagefolder:FOLDER or hf:NAME.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="A name that timm knows.", show_default="what the weights say, or their shapes")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe's name, or a YAML file; `fdsl recipes` lists them.",
            show_default="finetune-resnet for a convolutional network, else finetune-deit",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override the recipe: schedule.epochs=10; give it again for more."
        ),
    ] = None,
    freeze: Annotated[
        int,
        typer.Option(
            min=0, help="Stages that keep their weights: 1 is the stem or the embeddings, 2 a layer or block more."
        ),
    ] = 0,
    linear: Annotated[bool, typer.Option("--linear", help="Train a linear classifier on frozen features.")] = False,
    knn: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Vote of K nearest neighbours by frozen features.")
    ] = None,
    knn_temperature: Annotated[
        float, typer.Option(min=0, help="A vote weighs exp(similarity / temperature); 0 weighs all the same.")
    ] = 0.07,
    few_shot: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Train on K pictures of each class, chosen by the seed.")
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="RANGE", help="So many runs, or a range of seeds: 5:10.")] = "1",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of results; runs of earlier calls are taken over.",
            show_default="runs/DATA",
            file_okay=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes on this machine, each with a GPU.")] = 1,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out picture files that cannot be decoded; they are named.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure weights on a dataset: fine-tuned, behind frozen stages, linear or k-NN.

    The table has the accuracy on the test pictures with its 95 % confidence
    interval, over seeds where there are several. The same command again does
    what is left of one that was interrupted.

    Example: fdsl finetune --from runs/fractaldb --from scratch --data cifar10 --seeds 5
    Example: fdsl finetune --from FractalDB-1000_resnet50_epoch90.pth --data flowers102 --freeze 2
    Example: fdsl finetune --from runs/fractaldb --data digits --few-shot 10 --knn 5 --seeds 5
    """
    numbers = _range(seeds, "--seeds")
    from fdsl.ranks import this_rank
    from fdsl.train.finetuning import finetune as measured

    with contextlib.redirect_stdout(sys.stderr):  # the results alone go to stdout
        report = measured(
            source,
            data,
            output=out or Path("runs", data.partition(":")[2].strip("/").replace("/", "-") or data),
            model=model,
            recipe=recipe,
            set=settings or (),
            seeds=numbers,
            freeze=freeze,
            linear=linear,
            knn=knn,
            knn_temperature=knn_temperature or None,
            few_shot=few_shot,
            device=device,
            devices=devices,
            skip_corrupt=skip_corrupt,
            progress=sys.stderr.isatty(),
        )
    if this_rank().rank == 0:
        print(json.dumps(asdict(report)) if as_json else report.table())


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="A folder: new, empty, or an earlier demo, which is replaced.", file_okay=False)
    ] = Path("runs/demo"),
    as_json: AsJson = False,
) -> None:
    """Search, train a small model and report, in about two minutes.

    Example: fdsl demo --out runs/demo
    """
    from fdsl.train.demo import demo as run

    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        report = run(output=out, progress=sys.stderr.isatty())
    if as_json:
        print(json.dumps(report))


@app.command()
def publish(
    source: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's folder; or a catalog, by its name or file.", show_default=False),
    ],
    dest: Annotated[str, typer.Argument(help="A folder, such as hub/NAME, or hf:OWNER/NAME.", show_default=False)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what was published under that name before.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository on Hugging Face private.")] = False,
    license: Annotated[str, typer.Option(help="Of what is published, as Hugging Face spells it.")] = "apache-2.0",
    figures: Annotated[
        Path | None,
        typer.Option(help="A folder of PNG files to show, such as that of fdsl inspect.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put a run's weights, recipe, catalog, figures and card into a folder or on Hugging Face.

    timm loads it: timm.create_model("local-dir:hub/NAME", pretrained=True), or
    "hf-hub:OWNER/NAME". The token is that of `hf auth login`.

    Example: fdsl publish runs/deit hub/deit-tiny-fractaldb
    Example: fdsl publish catalog.safetensors hf:OWNER/fractals
    """
    from fdsl.hub import publish as put

    found = put(source, dest, replace=replace, private=private, license=license, figures=figures)
    shown = asdict(found)
    if not as_json:
        shown |= {"files": ", ".join(found.files), "written": "yes" if found.written else "no, it was there"}
    _print_figures(shown, as_json)


@app.command()
def pull(
    source: Annotated[
        str,
        typer.Argument(help="A published folder, or hf:OWNER/NAME, also hf:OWNER/NAME@REVISION.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="A new or empty folder.", show_default="one in FDSL_CACHE, else ~/.cache/fdsl"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring here what was published, check it against its digests, and print where it is.

    Example: fdsl pull hf:OWNER/NAME --out models/NAME
    Example: fdsl finetune --from $(fdsl pull hub/NAME) --data cifar10
    """
    from fdsl.hub import pull as bring

    folder = bring(source, out)
    print(json.dumps({"out": str(folder)}) if as_json else folder)


@app.command()
def study(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A YAML file, or the name of a study.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The study's folder; it goes on there.", show_default="runs/NAME", file_okay=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what each cell takes, and run none.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Pre-train and fine-tune a grid of settings, and put the results into one table.

    The studies of the package, each at the published size and, with -small, at one
    for a processor: categories, color, contours, drawing, families, freezing, points.

    Example: fdsl study points-small --out runs/points-small
    Example: fdsl study my-study.yaml --dry-run
    """
    folder = out or Path("runs", _name_of(source))
    from fdsl.train import study as studies
    from fdsl.train.study_tables import table

    if dry_run:
        planned = studies.plan(source, folder)
        if as_json:
            print(json.dumps([asdict(cell) for cell in planned]))
        else:
            _print_table(*studies.plan_table(planned))
        return
    with contextlib.redirect_stdout(sys.stderr):  # the report alone goes to stdout
        report = studies.study(source, output=folder, device=device, progress=sys.stderr.isatty())
    if as_json:
        print(json.dumps(asdict(report) | {"out": str(folder)}))
        return
    heading, rows = table(report)
    _print_table(heading, rows, report.title)
    print(folder)


def _name_of(source: str) -> str:
    """A file's name without its suffix; of a folder or of what is no path the whole name, as deit.v2."""
    path = Path(source).resolve()
    return path.stem if path.is_file() else path.name


def _print_table(heading: list[str], rows: list[list[str]], title: str = "") -> None:
    from rich.console import Console
    from rich.table import Table

    if title:
        print(title)
    table = Table()
    for name in heading:
        numbers = all(row[heading.index(name)][:1] in "0123456789–-" for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _open(source: str, variation: float | None, progress: Progress, few: int = 100) -> fdsl.Catalog:
    """The catalog of that name or path, or `few` categories of the family of that name (of a grid, a few more)."""
    if not has_family(source):
        return fdsl.catalog(source, variation, progress)
    if "categories" in family_named(source).settings:
        few = (isqrt(few - 1) + 1) ** 2
    settings: dict[str, Any] = {} if variation is None else {"variation": variation}
    return fdsl.search(source, few, progress=progress, **settings)


def _settings(texts: list[str] | None, option: str) -> dict[str, Any]:
    """`largest=5` is 5 and `kind=round` is "round"."""
    settings: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}; expected NAME=VALUE", param_hint=option)
        settings[name] = value
        with contextlib.suppress(ValueError):
            settings[name] = json.loads(value)
    return settings


def _view(crop_of: int | None, view_scale: tuple[float, float] | None) -> fdsl.Crop | fdsl.RandomView | None:
    if crop_of is not None and view_scale is not None:
        raise typer.BadParameter("expected one of --crop-of and --view-scale, not both", param_hint="--view-scale")
    if crop_of is not None:
        return fdsl.Crop(of=crop_of)
    return fdsl.RandomView(scale=view_scale) if view_scale is not None else None


def _range(text: str, option: str) -> range:
    """`8` is the first eight, `2:8` and `0:8:2` are ranges; never empty."""
    with contextlib.suppress(ValueError):
        parts = [int(part) for part in text.split(":")]
        numbers = range(*parts) if len(parts) < 4 else range(0)
        if numbers and min(numbers[0], numbers[-1]) >= 0:  # a range is monotonic, and may be long
            return numbers
    raise typer.BadParameter(
        f"{text!r}; expected a number of at least 1, or a range such as 0:20 or 0:1000:40", param_hint=option
    )


def _require_new(target: Path, empty_folder: bool = False) -> None:
    """Raises an OSError before the work is done that could not be saved."""
    if target.exists() and not (empty_folder and target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target} exists; expected a new {'or an empty folder' if empty_folder else 'name'}")
    ancestor = next(folder for folder in target.absolute().parents if folder.exists())
    if not ancestor.is_dir():
        raise NotADirectoryError(f"{target}: {ancestor} is not a folder; expected one to write to")
    if not os.access(ancestor, os.W_OK):
        raise PermissionError(f"{target}: {ancestor} cannot be written to; expected a folder of your own")


def _print_figures(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items())
        print(f"{name.replace('_', ' '):{width}}  {f'{value:,}' if isinstance(value, (int, float)) else value}")


@contextlib.contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on stderr for each thing that is done, gone at the end; a line a minute where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lines_on_stderr()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


if __name__ == "__main__":
    main()
