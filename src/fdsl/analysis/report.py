"""`fdsl inspect`: all figures of a network, as PNG files, numbers, and one page that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

try:
    import safetensors.numpy
    import torch
except ImportError as error:
    raise ImportError(f"inspecting needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from fdsl.analysis import attention, filters, position_embeddings
from fdsl.analysis.drawing import png
from fdsl.analysis.pictures import Pictures, pictures_from
from fdsl.progress import Progress
from fdsl.train.run_folder import read_json
from fdsl.train.weights import network_from
from fdsl.whole_files import whole_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, REPORT, ARRAYS = "report.html", "report.json", "arrays.safetensors"
_SHOWN_PICTURES = 8


@dataclass(frozen=True)
class Panel:
    """A part of the page: a figure, or why there is none.

    Args:
        title, reading, source: what it is called, how to read it, and where it was published.
        name: of the PNG file, without suffix.
        drawn: a Matplotlib figure, or uint8 (H, W, 3); None where the network has nothing to show.
        numbers: what report.json says of it; empty without a figure.
        arrays: what arrays.safetensors holds of it.
        wide: whether it may be scrolled sideways, as a small screen cannot hold it.
    """

    title: str
    reading: str
    source: str
    name: str
    drawn: Figure | NDArray[np.uint8] | None
    numbers: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    wide: bool = False


def inspect_network(
    source: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]] = (),
    *,
    output: str | os.PathLike[str],
    model: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Looks into a timm network: first-layer filters, position embeddings, attention.

    The folder `output` gets a PNG file for each figure, `report.html` (one file that loads nothing), `report.json`
    (what this returns) and `arrays.safetensors` (the arrays behind the figures). It appears when all is done.

    Args:
        source: a run's folder, a published folder, a file of weights, "timm:NAME" or "scratch:NAME".
        images: pictures to read attention on, as `pictures_from` takes them; none: those that the run was trained on,
            else random noise.
        output: a folder, new or empty.
        model: timm's name of the network, of a file that does not say it.
        progress: called with (what, done, total).

    Returns:
        `source`, `model`, `parameters`, `classes`, `size`, `channels`, `run` (its recipe, data, steps and held-out
        accuracy, as far as its folder says them), and by figure its numbers:
        `first_layer`, `components`, `position_embeddings`, `attention_distance` (pixels, by layer and head) and
        `attention_maps`; a figure that the network has nothing for is None.

    Raises:
        ValueError: the weights are of another architecture, or a file is no picture.
        OSError: what is not there, or cannot be written.

    >>> report = inspect_network("runs/deit", ["photos"], output="inspect-deit")
    >>> report["attention_distance"]["by_layer"][0]
    71.3
    """
    network, info = network_from(source, model=model)
    network.eval()
    run, data = _run(Path(source))
    pictures = partial(pictures_from, images, info.channels, info.size, data, progress)
    panels = [*_first_layer(network), _positions(network), *_attention(network, info, pictures, progress)]
    report: dict[str, Any] = {
        "source": str(source),
        "model": info.model,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "classes": len(info.classes),
        "size": info.size,
        "channels": info.channels,
        "run": run,
    } | {panel.name: panel.numbers or None for panel in panels}
    files = {panel.name: png(panel.drawn) for panel in panels if panel.drawn is not None}
    with whole_folder(output) as folder:
        for name, content in files.items():
            (folder / f"{name}.png").write_bytes(content)
        arrays = {key: np.ascontiguousarray(array) for panel in panels for key, array in panel.arrays.items()}
        (folder / ARRAYS).write_bytes(safetensors.numpy.save(arrays))
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
        (folder / PAGE).write_text(_page(report, panels, files), encoding="utf-8")
    return report


def _run(folder: Path) -> tuple[dict[str, Any], Any]:
    """What the folder of a run says of it, and the data of its recipe; nothing where it is none."""
    if not (folder / "recipe.yaml").is_file():
        return {}, None
    from fdsl.train.recipes import recipe_named

    recipe = recipe_named(folder / "recipe.yaml")
    # A published folder brings its catalog.
    said: dict[str, Any] = {"recipe": recipe.title, "data": recipe.data.source.removeprefix(f"{folder}{os.sep}")}
    written = read_json(folder / REPORT)
    said |= {name: written[name] for name in ("steps", "held_out_accuracy") if written.get(name) is not None}
    return {name: value for name, value in said.items() if value}, recipe.data


def _first_layer(network: Any) -> list[Panel]:
    layer = filters.first_layer(network)
    vit = "Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021, arXiv:2010.11929), figure 7, left"
    if layer is None:
        reading = "This network does not begin with a convolution, so it has no filters to show."
        return [
            Panel("First-layer filters", reading, "", "first_layer", None, {}, {}),
        ]
    components, shares = filters.principal_components(layer.filters)
    count, channels, height, width = layer.filters.shape
    shown = f"{count}" if count <= filters.SHOWN else f"The first {filters.SHOWN} of {count}"
    each = "each scaled by itself from its lowest weight (black) to its highest (white)"
    numbers = {"module": layer.name, "shape": [count, channels, height, width]}
    return [
        Panel(
            "First-layer filters",
            f"{shown} filters of {layer.name}, {height} x {width} pixels, {each}. Edges, blobs and gratings at several "
            "angles and widths say that it has learned; noise says that it has not, or that a filter is not used.",
            "Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (NeurIPS 2012), fig. 3",
            "first_layer",
            filters.draw_filters(layer.filters),
            numbers,
            {"first_layer": layer.filters},
        ),
        Panel(
            "Principal components of the filters",
            f"The {len(components)} directions in which these filters differ most, the first one top left, {each}. "
            f"They hold {shares.sum():.0%} of the variance. A trained ViT's look like a basis for the structure of a "
            "patch, from smooth to fine; an untrained one's are noise, each with about the same share.",
            vit,
            "components",
            filters.draw_components(components),
            {"variance_shares": _rounded(shares)},
            {"components": components, "variance_shares": shares},
        ),
    ]


def _positions(network: Any) -> Panel:
    title, name = "Similarity of position embeddings", "position_embeddings"
    embeddings = position_embeddings.position_embeddings(network)
    if embeddings is None:
        why = (
            "This page reads position embeddings that are one vector for each patch, added behind the patch embedding "
            "(timm's pos_embed, in a row). This network has none, or keeps them otherwise."
        )
        return Panel(title, why, "", name, None, {}, {})
    cosines = position_embeddings.similarities(embeddings)
    means = position_embeddings.mean_similarities(cosines)
    return Panel(
        title,
        "A small map for each patch: the cosine similarity of its position embedding with that of every patch. A "
        "bright spot at the patch's own place that fades with distance, or a bright row and column, says that the "
        "network has learned how its patches lie in the plane; one bright point on an even ground says that it has "
        "not.",
        "Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021, arXiv:2010.11929), figure 7, centre",
        name,
        position_embeddings.draw_similarities(cosines),
        {"grid": list(cosines.shape[:2]), "mean_cosine": {kind: round(mean, 4) for kind, mean in means.items()}},
        {"position_embedding_similarity": cosines},
    )


def _attention(network: Any, info: Any, pictures: Callable[[], Pictures], progress: Progress | None) -> list[Panel]:
    titles = ("Mean attention distance", "Attention maps")
    names = ("attention_distance", "attention_maps")
    reader = attention.AttentionReader(network)
    read = reader(torch.zeros(1, info.channels, info.size, info.size))
    if read is None:
        why = (
            "This page reads attention where timm tells the grid of patches, and each head of each layer has a softmax "
            "over all tokens that nothing mixes afterwards. This network has none, or another kind, such as windows or "
            "talking heads."
        )
        return [Panel(title, why, "", name, None, {}, {}) for title, name in zip(titles, names, strict=True)]
    seen = pictures()
    mean, std = (torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1) for values in (info.mean, info.std))
    distances, rollouts, heads = [], [], []
    # One picture at a time: the weights of all layers of a large ViT take half a gigabyte.
    for number, pixels in enumerate(seen.pixels):
        read = reader((torch.from_numpy(pixels[None]) / 255 - mean) / std)
        assert read is not None
        distances.append(attention.mean_distances(read, info.size, info.size))
        if number < _SHOWN_PICTURES:
            rollouts.append(attention.rollout(read))
            heads.append(attention.last_layer(read))
        if progress is not None:
            progress("reading attention", number + 1, len(seen.pixels))
    mean_distances, equal = np.mean(distances, axis=0), _equal_distance(read, info.size)
    rolled, last, shown = np.concatenate(rollouts), np.concatenate(heads), seen.pixels[:_SHOWN_PICTURES]
    queries = "the class token" if read.from_class else "the average patch"
    peaks = (last.max(axis=(2, 3)) / np.maximum(last.mean(axis=(2, 3)), 1e-30)).mean(axis=0)
    return [
        Panel(
            titles[0],
            f"How far each head looks from a patch, over {len(seen.pixels)} pictures: the distance to the other "
            "patches in pixels, weighted by attention; class and other extra tokens are left out. Attentions side "
            "by side in a block are one layer. Low dots are heads that look nearby, as convolutions do. In a trained "
            "ViT the first layers have both kinds, and the last ones look far; equal attention to all patches would "
            f"give {equal:.0f} pixels.",
            "Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021, arXiv:2010.11929), figure 7, right, and "
            "D.7; of FractalDB: Nakashima et al., Can Vision Transformers Learn without Natural Images? (AAAI 2022, "
            "arXiv:2103.13023)",
            names[0],
            attention.draw_distances(mean_distances, equal, info.size),
            {
                "by_layer": _rounded(mean_distances.mean(axis=1), 2),
                "by_layer_and_head": _rounded(mean_distances, 2),
                "of_equal_attention": round(equal, 2),
            },
            {"attention_distance": mean_distances},
        ),
        Panel(
            titles[1],
            f"A row for each picture. Rollout: what {queries} can have drawn on through all layers. Heads: what "
            f"{queries} attends to in the last layer. Black is none, bright yellow a map's own maximum, but at least "
            "twice its mean: equal attention is an even red, as in an untrained network. Heads that mark the shape, "
            "each another part of it, say that the network sees objects; the same pattern under every picture follows "
            "position, not content.",
            "Abnar and Zuidema, Quantifying Attention Flow in Transformers (ACL 2020, arXiv:2005.00928); Caron et al., "
            "Emerging Properties in Self-Supervised Vision Transformers (ICCV 2021, arXiv:2104.14294)",
            names[1],
            attention.draw_maps(shown, rolled, last),
            {
                "pictures": seen.origin,
                "count": len(seen.pixels),
                "from": "class token" if read.from_class else "patches",
                "peak_over_mean_by_head": _rounded(peaks, 2),
            },
            {"rollout": rolled, "last_layer_attention": last, "pictures": shown},
            wide=True,
        ),
    ]


def _equal_distance(read: attention.Attention, size: int) -> float:
    tokens = read.extra + read.rows * read.columns
    equal = attention.Attention(torch.full((1, 1, 1, tokens, tokens), 1 / tokens), read.rows, read.columns, False)
    return float(attention.mean_distances(equal, size, size)[0, 0])


def _rounded(values: NDArray[Any], digits: int = 4) -> Any:
    return np.round(values.astype(np.float64), digits).tolist()


_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1d1f24; --faint: #5a5f6b; --line: #d9dbe0 }
@media (prefers-color-scheme: dark) { :root { --ground: #16171b; --text: #e6e7ea; --faint: #9ca1ad; --line: #33363e } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem }
table { border-collapse: collapse }
td, th { border-bottom: 1px solid var(--line); padding-block: .25rem; vertical-align: top }
th { font-weight: normal; text-align: left; color: var(--faint); padding-right: 1.5rem }
td { overflow-wrap: anywhere }
.figure { overflow-x: auto; border-radius: .4rem; background: #26282e }
img { display: block; max-width: 100%; height: auto; margin: auto } .wide img { max-width: none }
.source { color: var(--faint); font-size: .85rem; margin-top: .5rem }
"""


def _page(report: dict[str, Any], panels: Sequence[Panel], files: dict[str, bytes]) -> str:
    """One HTML page; its pictures are in it, and it loads nothing."""
    facts = {
        "weights": report["source"],
        "timm's name": report["model"],
        "parameters": f"{report['parameters']:,}",
        "classes": f"{report['classes']:,}",
        "input": f"{report['size']} x {report['size']} pixels, {report['channels']} channels",
        **{name.replace("_", " "): f"{value}" for name, value in report["run"].items()},
    }
    if maps := report["attention_maps"]:
        facts["looked at"] = f"{maps['count']} pictures: {maps['pictures']}"
    rows = "\n".join(f"<tr><th>{html.escape(name)}<td>{html.escape(fact)}" for name, fact in facts.items())
    parts = []
    for panel in panels:
        parts.append(f"<h2>{html.escape(panel.title)}</h2>\n<p>{html.escape(panel.reading)}</p>")
        if panel.name in files:
            content = base64.b64encode(files[panel.name]).decode()
            parts.append(
                f'<div class="figure{" wide" * panel.wide}"><img alt="{html.escape(panel.title)}" '
                f'src="data:image/png;base64,{content}"></div>\n<p class="source">{html.escape(panel.source)}</p>'
            )
    title = html.escape(f"{Path(report['source']).name} ({report['model']})")
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
<h1>{title}</h1>
<table>
{rows}
</table>
{body}
</html>
"""
