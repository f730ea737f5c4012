#!/usr/bin/env python3
"""What a model learns from pictures drawn while it trains, beside the same number of them, drawn once and stored.

Each model is pre-trained twice, with equal steps over the same categories and instances: *streamed*, where each epoch
sees new views of them, and *stored*, where the views of the first epoch are files that come again and again. Accuracy
is that on weight rows that neither saw, without a random view.

Then the transfer: scikit-learn's digits (real handwriting), fine-tuned on 1, 5 and 10 pictures a class, from the
streamed and the stored weights and from scratch, over the same seeds; intervals are 95 % by Student's t.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rounds import count, machine, new_table, rounded_to_five_digits, versions

import fdsl
from fdsl.export import export_dataset

# Recipe, and epochs of pre-training: in the first seven hundred steps a small ViT learns next to nothing.
MODELS = {"ResNet": ("tiny-resnet", 10), "ViT": ("tiny-vit", 40)}
STREAMED, STORED, SCRATCH = "streamed", "stored", "scratch"
VIEW = fdsl.RandomView(scale=(0.4, 1.0), flip=0.0)
EXAMPLE = """\
examples:
  python benchmarks/learning.py --pictures docs/pictures  # an hour on two cores
  python benchmarks/learning.py --categories 10 --epochs 2 --seeds 2 --tune-steps 10 --output try.json  # a try
"""


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="learning-") as temporary:
        work = Path(arguments.work or temporary)
        report = {
            "benchmark": "learning",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(("fdsl", "numpy", "torch", "timm", "lightning", "scikit-learn"), {}),
            "settings": {name: value for name, value in vars(arguments).items() if isinstance(value, (int, list))},
            "models": {
                label: one_model(recipe, arguments.epochs or epochs, arguments, work / recipe)
                for label, (recipe, epochs) in MODELS.items()
            },
        }
    report = rounded_to_five_digits(report)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if arguments.pictures:
        draw(report, arguments.pictures / "learning.png")
    print(json.dumps(report, indent=2)) if arguments.json else print_tables(report, arguments.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--categories", type=count, default=100, metavar="N", help="of fractaldb (default 100)")
    add("--instances", type=count, default=50, metavar="N", help="of each, a divisor of 1,000 (default 50)")
    add("--epochs", type=count, metavar="N", help="of pre-training (default: 10 of the ResNet, 40 of the ViT)")
    add("--seeds", type=count, default=5, metavar="N", help="of fine-tuning (default 5)")
    add("--shots", type=count, nargs="+", default=[1, 5, 10], metavar="N", help="digits of a class (default 1 5 10)")
    add("--tune-steps", type=count, default=100, metavar="N", help="of fine-tuning (default 100)")
    add("--work", type=Path, metavar="FOLDER", help="for runs, which are kept (default: a temporary one)")
    add("--output", type=Path, default=Path(__file__).with_name("results") / "learning.json", metavar="FILE")
    add("--pictures", type=Path, metavar="FOLDER", help="for the plot (default: none)")
    add("--json", action="store_true", help="print the JSON and nothing else")
    arguments = parser.parse_args()
    if 1000 % arguments.instances:
        parser.error(f"--instances {arguments.instances} is not a divisor of 1,000")
    return arguments


def one_model(name: str, epochs: int, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from fdsl.train.finetuning import finetune
    from fdsl.train.pretraining import pretrain
    from fdsl.train.recipes import recipe_named
    from fdsl.train.sources import DrawnSource, open_source

    catalog = fdsl.search("fractaldb", categories=arguments.categories)
    plain = recipe_named(name)
    fields = ("size", "points", "draw", "color", "channels", "pad")
    spec = fdsl.RenderSpec(**{field: getattr(plain.data, field) for field in fields}, view=VIEW)
    instances = range(0, 1000, 1000 // arguments.instances)
    train, held_out = fdsl.Dataset(catalog, instances, spec).split(0.9)
    files = folder / "pictures"
    export_dataset(train, files, to="folder")
    recipe = recipe_named(name, set=[f"schedule.epochs={epochs}", "training.evaluations=10"])
    stored = open_source(recipe.data.model_copy(update={"source": f"imagefolder:{files}", "held_out": 0.0}))
    drawn = DrawnSource(train, held_out)
    assert (stored.images, stored.classes) == (drawn.images, drawn.classes)
    runs = {}
    for what, source in ((STREAMED, drawn), (STORED, _Measured(stored, drawn))):
        done = pretrain(recipe, output=folder / what, source=source, resume=True)
        runs[what] = {"held_out_accuracy": done.held_out_accuracy, "train_loss": done.train_loss, "steps": done.steps}
    transfer = {}
    for shots in arguments.shots:
        tuned = finetune(
            [str(folder / STREAMED), str(folder / STORED), SCRATCH],
            "digits",
            output=folder / f"digits-{shots}",
            recipe=name,
            set=[f"schedule.steps={arguments.tune_steps}", "optimizer.learning_rate=1e-3", "data.held_out=0.2"],
            seeds=range(arguments.seeds),
            few_shot=shots,
        )
        transfer[shots] = {
            what: {"mean": result.mean, "low": result.low, "high": result.high, "accuracies": result.accuracies}
            for what, result in zip((STREAMED, STORED, SCRATCH), tuned.results, strict=True)
        }
    images = {"images": drawn.images, "held_out_images": drawn.held_out_images}
    return {"recipe": name, "epochs": epochs, **images, "runs": runs, "digits": transfer}


class _Measured:
    """A source to train on, measured on the held-out pictures of another."""

    def __init__(self, source: Any, measured_on: Any) -> None:
        self._source, self.held_out, self.held_out_images = source, measured_on.held_out, measured_on.held_out_images

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def draw(report: dict[str, Any], file: Path) -> None:
    figure = Figure(figsize=(10, 3.6), dpi=120, layout="constrained")
    models = report["models"]
    for axes, (label, model) in zip(figure.subplots(1, len(models), sharey=True), models.items(), strict=True):
        shots = [int(number) for number in model["digits"]]
        for what, color in ((STREAMED, "#2a6f97"), (STORED, "#bc6c25"), (SCRATCH, "#777777")):
            results = [found[what] for found in model["digits"].values()]
            means = [100 * result["mean"] for result in results]
            errors = [[100 * (r["mean"] - r["low"]) for r in results], [100 * (r["high"] - r["mean"]) for r in results]]
            axes.errorbar(shots, means, errors, label=what, color=color, marker="o", capsize=3)
        axes.set(title=label, xlabel="digits of a class", xticks=shots)
        axes.grid(axis="y", color="#e5e5e5")
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.axes[0].legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def print_tables(report: dict[str, Any], output: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    table = new_table("Pre-training: accuracy on held-out weight rows", "model", STREAMED, STORED, "steps")
    for label, model in report["models"].items():
        accuracies = [f"{model['runs'][what]['held_out_accuracy']:.1%}" for what in (STREAMED, STORED)]
        table.add_row(label, *accuracies, f"{model['runs'][STREAMED]['steps']:,}")
    console.print(table)
    table = new_table("Digits, fine-tuned: test accuracy", "model", "of a class", STREAMED, STORED, SCRATCH)
    for label, model in report["models"].items():
        for shots, found in model["digits"].items():
            cells = [f"{100 * r['mean']:.1f} ({100 * r['low']:.1f} - {100 * r['high']:.1f})" for r in found.values()]
            table.add_row(label, str(shots), *cells)
    console.print(table)
    console.print(f"All figures: {output}")


if __name__ == "__main__":
    main()
