"""Pretraining: a timm model, a Feed and Lightning, with checkpoints from which a run continues exactly."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    import lightning.pytorch as lightning
    import timm
    import torch
    from torch.nn import functional
except ImportError as error:
    raise ImportError(f"pretraining needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from rich.progress import Progress, TaskID

from fdsl.datasets import Dataset
from fdsl.feed import Feed
from fdsl.stalls import FeedStats
from fdsl.train.networks import (
    CLIP_NORM,
    PixelNorm,
    device_named,
    device_text,
    has_fast_bf16,
    network_named,
    optimizer_of,
)
from fdsl.train.progress import progress_bars
from fdsl.whole_files import whole_or_nothing

CHECKPOINT, LOG, REPORT = "last.ckpt", "log.csv", "report.json"
_COLUMNS = ("step", "seconds", "loss", "learning_rate", "held_out_accuracy")
_LOG_EVERY = 10
# As many batches as Lightning may count; `steps` or `seconds` ends the run.
_WITHOUT_END = 2**40


@dataclass(frozen=True)
class PretrainReport:
    """What a run came to; `report.json` holds the same.

    Args:
        model: timm's name of it.
        dataset: digest of what it saw.
        categories: how many classes there were.
        steps: optimizer steps, of all sessions of the run together, as all that follows.
        seconds: from the first step to the last, evaluations included.
        images_per_s: images trained on per second, evaluations left out.
        waiting_share: the part of that time in which the step waited for data, 0 to 1.
        train_loss: mean of the last steps, in nats, label smoothing included.
        held_out_accuracy: top-1, 0 to 1; None without `held_out`.
        held_out_images: of which that is the share of right ones.
        device: its name.
        versions: of torch, timm and lightning.
    """

    model: str
    dataset: str
    categories: int
    steps: int
    seconds: float
    images_per_s: float
    waiting_share: float
    train_loss: float
    held_out_accuracy: float | None
    held_out_images: int
    device: str
    versions: dict[str, str]


def pretrain(
    dataset: Dataset,
    model: str = "deit_tiny_patch16_224",
    *,
    output: str | os.PathLike[str],
    steps: int | None = None,
    seconds: float | None = None,
    held_out: Dataset | None = None,
    held_out_images: int = 10_000,
    evaluations: int = 10,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.05,
    label_smoothing: float = 0.1,
    checkpoint_every: int = 1000,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    progress: bool | Progress = True,
) -> PretrainReport:
    """Trains a timm model to tell the categories of a dataset apart, on pictures drawn while it trains.

    AdamW (no decay of biases and norms), a linear warm-up and then a cosine per step, gradients clipped to norm 1,
    bf16 autocast on CUDA and on processors with AMX. The folder `output` gets `last.ckpt` (Lightning's), `log.csv` (a
    row each ten steps and each evaluation) and at the end `report.json`. A run on the CPU that stops anywhere and is
    resumed ends with the bits of one that never stopped; with `seconds`, the clock decides.

    Args:
        dataset: what to train on.
        model: a name that `timm.list_models()` has.
        output: the run's folder: new, empty, or with `resume=True` one of an earlier session.
        steps: optimizer steps of the whole run. Or:
        seconds: the time of the whole run; the schedule then follows the clock.
        held_out: pictures to measure accuracy on, such as the second half of `dataset.split(0.9)`.
        held_out_images: at most so many of them per evaluation: a fixed, shuffled choice.
        evaluations: how many, evenly over the run; the last one is at its end.
        batch_size: images of a step.
        learning_rate: after the warm-up.
        weight_decay: AdamW's.
        warmup: share of the run in which the learning rate rises.
        label_smoothing: 0 to 1.
        checkpoint_every: steps between checkpoints; there is always one at the end.
        resume: continue from `last.ckpt`, or start where a session ended before the first one.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        seed: keys the weights, the order and dropout.
        progress: show a bar; or a Rich display to add it to.

    Raises:
        FileExistsError: `output` is not empty and there is nothing in it to resume.
        OSError: it cannot be written.
        ValueError: an argument is out of its range, timm has no such model, or a checkpoint is of other settings.
        RuntimeError: the device is not there.
        KeyboardInterrupt: Ctrl-C; says at which step, and where the last checkpoint is.

    >>> train, held_out = fdsl.Dataset(fdsl.search("fractaldb", categories=100)).split(0.9)  # doctest: +SKIP
    >>> pretrain(train, "resnet18", steps=5000, held_out=held_out, output="runs/first").held_out_accuracy
    0.93
    """
    _check(dataset, held_out, steps, seconds, warmup, label_smoothing)
    for name, value in (
        ("batch_size", batch_size),
        ("held_out_images", held_out_images),
        ("evaluations", evaluations),
        ("checkpoint_every", checkpoint_every),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
    where = device_named(device)
    settings = {
        "dataset": dataset.digest,
        "model": model,
        "steps": steps,
        "seconds": seconds,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "label_smoothing": label_smoothing,
        "seed": seed,
    }
    folder = Path(output)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        feed = Feed(dataset, batch_size=batch_size, device=where, shuffle_seed=seed, drop_last=True)
        module = _Pretraining(network_named(model, dataset), feed, settings)
        _claim(folder, resume)
        checkpoint = _checkpoint(folder / CHECKPOINT, settings) if resume else None
        with _quiet(), progress_bars(progress) as bars:
            run = _Run(folder, bars, held_out, held_out_images, evaluations, checkpoint_every)
            try:
                _fit(module, run, where, checkpoint)
                if run.accuracy is None and held_out is not None:  # an interruption came between the two
                    run.evaluate(module)
            except KeyboardInterrupt:
                at = f"; the last checkpoint is {folder / CHECKPOINT}" if (folder / CHECKPOINT).is_file() else ""
                raise KeyboardInterrupt(f"interrupted at step {module.step}{at}; resume=True continues") from None
    report = PretrainReport(
        model=model,
        dataset=dataset.digest,
        categories=len(dataset.catalog),
        steps=module.step,
        seconds=round(module.elapsed, 2),
        images_per_s=round(module.step * batch_size / module.training_seconds, 1),
        waiting_share=round(module.waited / module.training_seconds, 4),
        train_loss=round(module.mean_loss, 4),
        held_out_accuracy=run.accuracy,
        held_out_images=min(held_out_images, len(held_out)) if held_out is not None else 0,
        device=device_text(where),
        versions={"torch": torch.__version__, "timm": timm.__version__, "lightning": lightning.__version__},
    )
    (folder / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


class _Pretraining(lightning.LightningModule):  # type: ignore[misc]
    """The model, its loss and its schedule; and what a checkpoint holds beyond Lightning's own state."""

    def __init__(self, model: torch.nn.Module, feed: Feed, settings: dict[str, Any]) -> None:
        super().__init__()
        self.norm, self.model = PixelNorm(), model
        self.batches = _Batches(feed)
        self.settings = settings
        self.step = 0
        self.rate = 0.0
        # The mean loss of the last row of the log, and the sum over the steps since.
        self.mean_loss, self.steps_since = math.nan, 0
        self.loss_sum = torch.zeros(())
        # Seconds and waiting of earlier sessions, and what evaluations took of all.
        self.earlier = self.earlier_waited = self.evaluating = 0.0
        self.began: float | None = None
        self._random_state: dict[str, torch.Tensor] = {}

    @property
    def elapsed(self) -> float:
        """Seconds of training, evaluations included."""
        return self.earlier + (0.0 if self.began is None else time.perf_counter() - self.began)

    @property
    def training_seconds(self) -> float:
        return max(self.elapsed - self.evaluating, 1e-9)

    @property
    def waited(self) -> float:
        """Seconds of it in which a step waited for its batch, the first one too."""
        stats = self.batches.stats()
        return self.earlier_waited + stats.first_batch_s + stats.waited

    @property
    def done(self) -> float:
        """The share of the run that is done, by steps or by the clock."""
        steps, seconds = self.settings["steps"], self.settings["seconds"]
        return float(self.step / steps if steps else self.elapsed / seconds)

    @property
    def learning_rate(self) -> float:
        """Of the step that comes: at the middle of the step, so that no step is taken at 0."""
        steps, warmup = self.settings["steps"], self.settings["warmup"]
        done = min(1.0, self.done + (0.5 / steps if steps else 0.0))
        share = done / warmup if done < warmup else 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))
        return float(self.settings["learning_rate"] * share)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(self.norm(images))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images, labels = batch
        loss = functional.cross_entropy(self(images), labels, label_smoothing=self.settings["label_smoothing"])
        self.loss_sum += loss.detach()
        self.steps_since += 1
        return loss

    def train_dataloader(self) -> _Batches:
        return self.batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer_of(self.model, self.settings["learning_rate"], self.settings["weight_decay"])

    def on_train_start(self) -> None:
        self.loss_sum = self.loss_sum.to(self.device)
        if self._random_state:
            torch.set_rng_state(self._random_state["cpu"])
            if "cuda" in self._random_state and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._random_state["cuda"], self.device)
        self.began = time.perf_counter()

    def on_train_batch_start(self, batch: object, batch_index: int) -> None:
        self.rate = self.learning_rate
        for group in self.optimizers().param_groups:
            group["lr"] = self.rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint["fdsl"] = {
            "settings": self.settings,
            "random_state": state,
            "step": self.step,
            "mean_loss": self.mean_loss,
            "loss_sum": self.loss_sum.item(),
            "steps_since": self.steps_since,
            "elapsed": self.elapsed,
            "waited": self.waited,
            "evaluating": self.evaluating,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["fdsl"]
        self._random_state = state["random_state"]
        self.step, self.mean_loss, self.steps_since = state["step"], state["mean_loss"], state["steps_since"]
        self.loss_sum = torch.tensor(state["loss_sum"])
        self.earlier, self.earlier_waited = state["elapsed"], state["waited"]
        self.evaluating = state["evaluating"]


class _Batches:
    """A feed's epochs one after the other, which Lightning sees as one.

    It has a length because Lightning asks an iterable without one for a batch more than it trains on, and the feed's
    state would then be one batch ahead of the weights.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __len__(self) -> int:
        return _WITHOUT_END

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from self._feed

    def stats(self) -> FeedStats:
        return self._feed.stats()

    def state_dict(self) -> dict[str, Any]:
        return self._feed.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._feed.load_state_dict(state)


class _Run(lightning.Callback):  # type: ignore[misc]
    """What happens between steps: the log, evaluations, checkpoints and the bar; and the end."""

    def __init__(
        self,
        folder: Path,
        bars: Progress,
        held_out: Dataset | None,
        held_out_images: int,
        evaluations: int,
        checkpoint_every: int,
    ) -> None:
        self._folder, self._bars = folder, bars
        self._held_out, self._held_out_images = held_out, held_out_images
        self._evaluations, self._checkpoint_every = evaluations, checkpoint_every
        self._done = 0.0
        self._shown = -math.inf
        self._task = TaskID(0)
        self.accuracy: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, module: _Pretraining) -> None:
        self._done = module.done
        _start_log(self._folder / LOG, module.step)
        self._task = self._bars.add_task("training", total=1.0, note="")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: _Pretraining, outputs: object, batch: object, batch_index: int
    ) -> None:
        module.step += 1
        before, self._done = self._done, module.done
        ended = self._done >= 1
        fields: dict[str, float] = {}
        if module.step % _LOG_EVERY == 0 or ended:
            module.mean_loss, module.steps_since = module.loss_sum.item() / module.steps_since, 0
            module.loss_sum.zero_()
            fields = {"loss": module.mean_loss, "learning_rate": module.rate}
        if self._held_out is not None and (
            ended or int(self._done * self._evaluations) > int(before * self._evaluations)
        ):
            fields["held_out_accuracy"] = self.evaluate(module)
        if fields:
            _append_log(self._folder / LOG, {"step": module.step, "seconds": module.elapsed} | fields)
        if ended or module.step % self._checkpoint_every == 0:
            with whole_or_nothing(self._folder / CHECKPOINT) as temporary:
                trainer.save_checkpoint(temporary)
        if ended:
            trainer.should_stop = True
        self._show(module, last=ended)

    def evaluate(self, module: _Pretraining) -> float:
        """Top-1 accuracy on the held-out pictures, 0 to 1: the same ones each time."""
        assert self._held_out is not None
        began = time.perf_counter()
        wanted = min(self._held_out_images, len(self._held_out))
        feed = Feed(self._held_out, batch_size=min(256, wanted), device=module.device, shuffle_seed=0)
        right, seen = torch.zeros((), dtype=torch.int64, device=module.device), 0
        task = self._bars.add_task("evaluating", total=wanted, note="")
        module.eval()
        batches = iter(feed)
        fast = has_fast_bf16(module.device)
        with torch.inference_mode(), torch.autocast(module.device.type, torch.bfloat16, enabled=fast):
            while seen < wanted:
                images, labels = next(batches)
                images, labels = images[: wanted - seen], labels[: wanted - seen]
                right += (module(images).argmax(1) == labels).sum()
                seen += len(labels)
                self._bars.update(task, completed=seen)
        batches.close()  # type: ignore[attr-defined]
        module.train()
        self._bars.remove_task(task)
        self.accuracy = round(right.item() / wanted, 4)
        if module.began is not None:  # while the run's clock goes
            module.evaluating += time.perf_counter() - began
        return self.accuracy

    def _show(self, module: _Pretraining, last: bool) -> None:
        # Twice a second: a loss that is looked at makes a GPU finish first.
        now = time.perf_counter()
        if self._bars.disable or (now - self._shown < 0.5 and not last):
            return
        self._shown = now
        loss = module.loss_sum.item() / module.steps_since if module.steps_since else module.mean_loss
        speed = module.step * module.settings["batch_size"] / module.training_seconds
        accuracy = "" if self.accuracy is None else f", {self.accuracy:.0%} right"
        note = f"step {module.step:,}, loss {loss:.2f}, {speed:,.0f} images/s"
        drawing = module.batches.stats().render_images_per_s
        note += f", {module.waited / module.training_seconds:.1%} waiting (drawn at {drawing:,.0f}/s){accuracy}"
        self._bars.update(self._task, completed=min(1.0, self._done), note=note)


def _fit(module: _Pretraining, run: _Run, device: torch.device, checkpoint: dict[str, Any] | None) -> None:
    if checkpoint is not None:
        module.on_load_checkpoint(checkpoint)
        if module.done >= 1:
            module.load_state_dict(checkpoint["state_dict"])
            module.to(device)
            return
    cuda = device.type == "cuda"
    trainer = lightning.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=[device.index or 0] if cuda else 1,
        precision="bf16-mixed" if has_fast_bf16(device) else "32-true",
        max_epochs=1,
        max_steps=module.settings["steps"] or -1,
        gradient_clip_val=CLIP_NORM,
        callbacks=[run],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run._folder,
    )
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, ckpt_path=run._folder / CHECKPOINT if checkpoint else None, weights_only=True)
    except SystemExit as error:  # what Lightning makes of Ctrl-C, after it has made the next one be ignored
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if module.began is not None:
            module.earlier, module.began = module.elapsed, None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)


def _check(
    dataset: Dataset,
    held_out: Dataset | None,
    steps: int | None,
    seconds: float | None,
    warmup: float,
    label_smoothing: float,
) -> None:
    if (steps is None) == (seconds is None):
        raise ValueError(f"steps is {steps!r} and seconds is {seconds!r}; expected one of them")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps is {steps!r}; expected a whole number of at least 1")
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds!r}; expected a time over 0")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup!r}; expected a share of the run, from 0 to under 1")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is {label_smoothing!r}; expected 0 to under 1")
    if dataset.labels:
        raise ValueError(f"labels is {dataset.labels!r}; expected 'class', which a classifier learns")
    if held_out is not None:
        for name, asked, found in (
            ("catalog", dataset.catalog.digest[:12], held_out.catalog.digest[:12]),
            ("channels", dataset.spec.image_channels, held_out.spec.image_channels),
        ):
            if found != asked:
                raise ValueError(f"held_out has {name} {found}, dataset {asked}; expected the same")


def _claim(folder: Path, resume: bool) -> None:
    # A run's folder has a log from its first moment, so `resume` tells one from a folder of something else.
    if folder.is_dir() and any(folder.iterdir()) and not (resume and (folder / LOG).is_file()):
        raise FileExistsError(
            f"{folder} is not empty; expected a new or empty folder, or resume=True and a run's folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a"):
        pass


def _checkpoint(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        found = checkpoint["fdsl"]["settings"]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: not a checkpoint of fdsl.train.pretraining: {reason}") from None
    for name, value in settings.items():
        if found.get(name) != value:
            raise ValueError(
                f"{file}: its {name} is {found.get(name)!r}, and {value!r} was asked for; expected the same"
            )
    return checkpoint


def _start_log(file: Path, step: int) -> None:
    # What an earlier session logged after its last checkpoint comes again.
    with file.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if int(row["step"]) <= step]
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _append_log(file: Path, row: dict[str, float]) -> None:
    with file.open("a", newline="") as lines:
        csv.DictWriter(lines, _COLUMNS, lineterminator="\n").writerow(
            {name: value if isinstance(value, int) else f"{value:.6g}" for name, value in row.items()}
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Lightning tells which accelerators there are not, gives tips, and says that the run ended as it was asked to.
    # Its use of torch's tree functions is deprecated, which its users cannot help.
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", r".*LeafSpec", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)
