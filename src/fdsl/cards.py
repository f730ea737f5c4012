"""What is said of a published network or catalog: the card for people, and timm's config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import fdsl

_TAGS = ["fdsl", "formula-driven-supervised-learning", "synthetic"]
_DRAWN = (
    "pictures that formulas draw: no photograph, no person, nobody's labels. The classes are the formula's parameters."
)


def catalog_card(catalog: fdsl.Catalog, name: str, where: str, license: str, figures: Sequence[str]) -> str:
    """The README.md of a catalog.

    Args:
        catalog: what is published.
        name: its title.
        where: "hf:OWNER/NAME", or a folder, whose name alone is said.
        license: as Hugging Face spells it.
        figures: names of PNG files in `figures/`.

    >>> catalog_card(catalog, "fractals", "hub/fractals", "apache-2.0", []).splitlines()[6]
    '# fractals'
    """
    settings = {key: value for key, value in catalog.settings.items() if isinstance(value, (int, float, str))}
    rows = {
        "family": catalog.family,
        "categories": f"{len(catalog):,}",
        "variation": catalog.variation,
        "digest": f"`{catalog.digest}`",
        **{key.replace("_", " "): value for key, value in settings.items()},
    }
    return f"""{_front_matter({"license": license, "tags": [*_TAGS, catalog.family], "viewer": False})}

# {name}

A catalog of {len(catalog):,} categories of the formula family `{catalog.family}`: a few numbers each, from which `fdsl`
draws pictures while a network trains on them. It holds no picture; what it stands for are {_DRAWN}

{_shown(figures)}

## Use

    fdsl pull {_place(name, where)}                        # prints FOLDER
    fdsl pretrain --recipe fractaldb-deit-tiny --data FOLDER

```python
import fdsl, fdsl.hub

catalog = fdsl.catalog(fdsl.hub.pull("{_place(name, where)}"))
```

## What it is

{_table(("", ""), rows.items())}

## Licence

{license}
"""


def model_card(
    recipe: Any,
    info: Any,
    report: Mapping[str, Any],
    settings: Mapping[str, Any],
    catalog: tuple[str, str] | None,
    weights: str,
    name: str,
    where: str,
    license: str,
    figures: Sequence[str],
) -> str:
    """The README.md of a trained network.

    Args:
        recipe: its `Recipe`.
        info: its `WeightsInfo`.
        report: what its run came to; every figure in it is shown.
        settings: those of `result.json` where it was fine-tuned.
        catalog: name and digest of what its pictures were drawn from; None where they were not drawn.
        weights: sha256 hex of the file.
        name, where, license, figures: as `catalog_card`.

    >>> print(model_card(recipe, info, report, {}, None, digest, "tiny", "hub/tiny", "mit", []))  # doctest: +SKIP
    """
    on_hub = where.startswith("hf:")
    source, place = recipe.data.source, _place(name, where)
    data = catalog[0] if catalog else source
    weights_before = str(settings.get("weights", "scratch:"))  # their sha256, or timm:NAME
    tuned = not weights_before.startswith("scratch:")
    before = f"`{weights_before}`" if ":" in weights_before else f"weights with the sha256 `{weights_before}`"
    front: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "license": license,
        "tags": ["image-classification", "timm", *_TAGS[: None if catalog else 2]],
    }
    if report.get("held_out_accuracy") is not None:
        drawn = {"name": f"held-out pictures of {data}", "type": "fdsl"}
        result = {
            "task": {"type": "image-classification"},
            "dataset": drawn if catalog else {"name": data, "type": data.removeprefix("hf:")},
            "metrics": [{"type": "accuracy", "value": report["held_out_accuracy"]}],
        }
        front["model-index"] = [{"name": name, "results": [result]}]
    made = {
        "model": f"`{info.model}` {json.dumps(dict(info.options)) if info.options else ''}".strip(),
        "input": f"{info.channels} × {info.size} × {info.size}, pixels in 0 to 1 normalised by mean "
        f"{_numbers(info.mean)} and std {_numbers(info.std)}",
        "classes": f"{len(info.classes):,}",
        "recipe": recipe.title or "its own",
        "its source": recipe.source or "none",
        "weights (sha256)": f"`{weights}`",
        "dataset (digest)": f"`{report.get('dataset', 'unknown')}`",
    }
    if catalog:
        made["catalog (digest)"] = f"{catalog[0]}, `{catalog[1]}`"
    if tuned:
        made["started from"] = before
    if settings.get("freeze"):
        made["stages that kept their weights"] = f"the first {settings['freeze']}"
    if settings.get("few_shot"):
        made["pictures to train on"] = f"{settings['few_shot']:,} of each class"
    measured = {
        key.replace("_", " "): f"{value:,}" if isinstance(value, (int, float)) else value
        for key, value in report.items()
        if isinstance(value, (int, float, str)) and key not in ("model", "dataset")
    }
    versions = {"fdsl": fdsl.__version__, **report.get("versions", {})}
    again = (
        "; `fdsl pretrain --recipe FOLDER/recipe.yaml --data FOLDER` makes it again" if catalog and not settings else ""
    )
    trained = "fine-tuned" if tuned else "pre-trained" if catalog else "trained"
    licences = f"{license}. It started from {before}, whose licence applies too." if tuned else license
    hub = f"hf-hub:{place[3:]}" if on_hub else "local-dir:FOLDER"
    what = _DRAWN if catalog else f"`{source}`; what that holds, and who may use it, is for its owner to say."
    return f"""{_front_matter(front)}

# {name}

`{info.model}`, {trained} by `fdsl` on {what}

## Use

    fdsl pull {place}                        # prints FOLDER
    fdsl finetune --from FOLDER --data cifar10

```python
import timm

network = timm.create_model("{hub}", pretrained=True, num_classes=10)
```

## How it was made

{_table(("", ""), made.items())}

All settings are in `recipe.yaml`{" and `result.json`" if settings else ""}{again}. With
{", ".join(f"{package} {version}" for package, version in versions.items())}.

## Measured

{_table(("figure", "value"), measured.items()) if measured else "Nothing: the run has no report."}

{_shown(figures)}

## Licence

{licences}
"""


def timm_config(network: Any, info: Any, license: str) -> dict[str, Any]:
    """`config.json` as timm's `save_config_for_hf` writes it, whose arguments have changed between versions.

    Args:
        network: timm's.
        info: its `WeightsInfo`.
        license: as Hugging Face spells it.

    >>> timm_config(network, info, "mit")["pretrained_cfg"]["input_size"]
    [3, 32, 32]
    """
    known = dict(getattr(network, "pretrained_cfg", None) or {})
    kept = ("fixed_input_size", "first_conv", "classifier", "interpolation")
    return {
        "architecture": info.model,
        "num_classes": len(info.classes),
        "num_features": getattr(network, "num_features", None),
        "label_names": list(info.classes),
        "model_args": dict(info.options),
        "pretrained_cfg": {
            **{key: known[key] for key in kept if key in known},
            "tag": "fdsl",
            "custom_load": False,
            "input_size": [info.channels, info.size, info.size],
            "pool_size": None,
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": _per_channel(info.mean, info.channels),
            "std": _per_channel(info.std, info.channels),
            "num_classes": len(info.classes),
            "license": license,
        },
    }


def _place(name: str, where: str) -> str:
    """Where others find it; a folder's path means something on one machine only."""
    return where if where.startswith("hf:") else name


def _front_matter(entries: Mapping[str, Any]) -> str:
    """YAML between lines, as Hugging Face reads it: each value in JSON, which YAML contains."""
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in entries.items()), "---"])


def _table(head: tuple[str, str], rows: Iterable[tuple[str, object]]) -> str:
    lines = [head, ("---", "---"), *((key, str(value).replace("|", "\\|")) for key, value in rows)]
    return "\n".join(f"| {key} | {value} |" for key, value in lines)


def _shown(figures: Sequence[str]) -> str:
    return "\n\n".join(f"![{PurePath(figure).stem}](figures/{quote(figure)})" for figure in figures)


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    """timm has one for each channel."""
    numbers = [float(value) for value in values]
    return numbers * channels if len(numbers) == 1 else numbers
