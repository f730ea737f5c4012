"""Pre-training: a recipe, run by Lightning on one process or many, with checkpoints from which it continues exactly."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import logging
import math
import os
import secrets
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

try:
    import lightning.pytorch as lightning
    import numpy as np
    import timm
    import torch
    from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
    from timm.utils import ModelEmaV3
    from torch.nn import functional
except ImportError as error:
    raise ImportError(f"pretraining needs {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from rich.console import Console
from rich.progress import Progress, TaskID

from fdsl.order import slice_of
from fdsl.ranks import Rank
from fdsl.stalls import FeedStats
from fdsl.train import processes
from fdsl.train.augmentation import Augment
from fdsl.train.networks import device_named, device_text, has_fast_bf16, highest_rate, network_of, optimizer_of
from fdsl.train.progress import progress_bars, reports_to
from fdsl.train.recipes import RECIPE, Recipe
from fdsl.train.run_folder import CHECKPOINT, REPORT, append_log, checkpoint_in, claim, read_json, start_log
from fdsl.train.schedules import learning_rate, steps_of, steps_per_epoch, unreached
from fdsl.train.sources import Loader, Source, open_source
from fdsl.train.weights import WEIGHTS, WeightsInfo, save_weights
from fdsl.whole_files import whole_or_nothing

_LOG_EVERY = 10
# As many batches as Lightning may count; the schedule ends the run.
_WITHOUT_END = 2**40
# What Lightning can log to, and a package that each needs.
_LOGGERS = {"tensorboard": ("tensorboardX", "tensorboard"), "wandb": ("wandb",)}
# What torch says where memory ran out, on the GPU, in its libraries and on the CPU.
_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class PretrainReport:
    """What a run came to; `report.json` holds the same.

    Args:
        model: timm's name of it.
        dataset: digest of what it saw.
        categories: how many classes there were.
        steps: optimizer steps, of all sessions of the run together, as all that follows.
        seconds: from the first step to the last, evaluations included.
        images_per_s: images trained on per second by all ranks, evaluations left out.
        waiting_share: the part of that time in which the step waited for data, 0 to 1; of rank 0.
        train_loss: mean of the last steps, in nats, label smoothing included.
        held_out_accuracy: top-1, 0 to 1, with the averaged weights where the recipe has `ema`; None without held-out
            pictures.
        held_out_images: of which that is the share of right ones.
        world_size: how many processes trained.
        device: the name of rank 0's.
        versions: of torch, timm and lightning.
        recipe: all of its settings.
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
    world_size: int
    device: str
    versions: dict[str, str]
    recipe: dict[str, Any]


def pretrain(
    recipe: Recipe,
    *,
    output: str | os.PathLike[str],
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    progress: bool | Progress = True,
    source: Source | None = None,
    network: torch.nn.Module | None = None,
    loggers: Sequence[str | Logger] = (),
    skip_corrupt: bool = False,
) -> PretrainReport:
    """Trains a timm model as a recipe says, on pictures drawn while it trains, or on stored ones.

    The folder `output` gets `recipe.yaml` (all settings), `last.ckpt` (Lightning's), `log.csv` (a row each ten steps
    and each evaluation) and at the end `weights.safetensors` (which timm loads) and `report.json`.

    A run that stops anywhere and is resumed with as many processes ends, on the CPU, with the bits of one that never
    stopped, on one process and on two; where `schedule.seconds` is set, the clock decides. Resumed with another number
    of processes it goes on with the next picture; dropout draws other numbers, and mixing finds other partners.

    Args:
        recipe: what is trained on what, and how.
        output: the run's folder: new, empty, or with `resume=True` one of an earlier session.
        resume: continue from `last.ckpt`, or start where a session ended before the first one.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1".
        devices: processes on this machine, each with a GPU of its own where there are GPUs. They are started here, by
            "spawn", unless torchrun, srun or mpirun did: then it may be left out, and is checked if it is not.
        nodes: machines, for the same check.
        progress: show a bar; or a Rich display to add it to.
        source: pictures that are open already, in place of `recipe.data`'s.
        network: what to train, in place of `recipe.model` untrained: a module of (B, C, H, W) to (B, classes).
        loggers: "tensorboard", "wandb" or Lightning's loggers, beside the log in the folder.
        skip_corrupt: leave out picture files that cannot be decoded, with a warning.

    Raises:
        FileExistsError: `output` is not empty and there is nothing in it to resume.
        OSError: it cannot be written.
        ValueError: an argument is out of its range, timm has no such model, or a checkpoint is of other settings.
        RuntimeError: the device is not there, or a process was killed.
        MemoryError: the device has too little memory; says which batch size was found to fit.
        KeyboardInterrupt: Ctrl-C; says where the last checkpoint is.

    >>> recipe = recipe_named("fractaldb-deit-tiny", set=["schedule.steps=5000"])  # doctest: +SKIP
    >>> pretrain(recipe, output="runs/first", devices=2).held_out_accuracy
    0.93
    """
    folder, rank = Path(output), processes.rank_of_run(devices, nodes)
    alone = rank.launcher or devices == 1
    call = partial(_as_rank, recipe, folder, resume, device, source, network, tuple(loggers), skip_corrupt)
    try:
        if alone:
            return call(progress, rank)
        show = not progress.disable if isinstance(progress, Progress) else progress
        return processes.on_each_device(partial(call, show, None), devices)
    except KeyboardInterrupt as interrupt:
        if rank.rank:
            raise SystemExit(1) from None  # rank 0 says it
        at = f"; the last checkpoint is {folder / CHECKPOINT}" if (folder / CHECKPOINT).is_file() else ""
        raise KeyboardInterrupt(f"{str(interrupt) or 'interrupted'}{at}; resume=True continues") from None
    finally:
        if not alone:
            Console(stderr=True).show_cursor()  # which the bar of a process that was ended may have hidden


def _as_rank(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    device: str,
    source: Source | None,
    network: torch.nn.Module | None,
    loggers: tuple[str | Logger, ...],
    skip_corrupt: bool,
    progress: bool | Progress,
    rank: Rank | None,
) -> PretrainReport:
    rank = rank or processes.rank_of_run(1, 1)
    where = processes.device_of(rank, device_named(device), device)
    processes.join(rank, where)
    first = rank.rank == 0

    def set_up() -> _Pretraining:
        _check_loggers(loggers)
        opened = source or open_source(
            recipe.data, progress=None if bars.disable else reports_to(bars), skip_corrupt=skip_corrupt
        )
        torch.manual_seed(recipe.training.seed)
        classes = len(opened.classes)
        model = network or network_of(recipe.model, opened.channels, opened.size, classes)
        return _Pretraining(recipe, opened, model, rank, where)

    with (
        torch.random.fork_rng(devices=[where] if where.type == "cuda" else []),
        _quiet(rank),
        progress_bars(progress if first else False) as bars,
    ):
        module = processes.together(rank, set_up)
        processes.together(rank, lambda: claim(folder, resume) if first else None)
        checkpoint = processes.together(rank, lambda: checkpoint_in(folder, module.settings) if resume else None)
        digest = module.source.digest
        if ended := processes.of_first(rank, _report_in(folder, recipe, digest) if resume and first else None):
            return ended
        if first:
            with whole_or_nothing(folder / RECIPE) as temporary:
                temporary.write_text(recipe.yaml(), "utf-8")
        run = _Run(folder, bars)
        try:
            _fit(module, run, _loggers(loggers, folder, checkpoint) if first else [], checkpoint)
            if run.accuracy is None and module.source.held_out_images:  # an interruption came between the two
                run.evaluate(module)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted at step {module.step}") from None
        source, batch_size = module.source, recipe.training.batch_size
        report = PretrainReport(
            model=recipe.model.name,
            dataset=source.digest,
            categories=len(source.classes),
            steps=module.step,
            seconds=round(module.elapsed, 2),
            images_per_s=round(module.step * batch_size / module.training_seconds, 1),
            waiting_share=round(module.waited / module.training_seconds, 4),
            train_loss=round(module.mean_loss, 4),
            held_out_accuracy=run.accuracy,
            held_out_images=run.images,
            world_size=rank.world_size,
            device=device_text(where),
            versions={"torch": torch.__version__, "timm": timm.__version__, "lightning": lightning.__version__},
            recipe=recipe.model_dump(mode="json", exclude_none=True),
        )
        if first:
            info = WeightsInfo(
                recipe.model.name,
                recipe.model.options,
                list(source.classes),
                source.channels,
                source.size,
                recipe.data.mean,
                recipe.data.std,
            )
            save_weights(folder / WEIGHTS, module.measured, info)
            with whole_or_nothing(folder / REPORT) as temporary:
                temporary.write_text(json.dumps(asdict(report), indent=2) + "\n")
        return processes.of_first(rank, report)


def _report_in(folder: Path, recipe: Recipe, digest: str) -> PretrainReport | None:
    """That of a run that has ended, with this very recipe and data: what it measured then is not measured again."""
    if not (folder / WEIGHTS).is_file():
        return None
    try:
        found = read_json(folder / REPORT)
        report = PretrainReport(**{field.name: found[field.name] for field in fields(PretrainReport)})
    except (ValueError, KeyError):
        return None  # it is made again
    asked = (digest, recipe.model_dump(mode="json", exclude_none=True))
    return report if (report.dataset, report.recipe) == asked else None


class _Pretraining(lightning.LightningModule):  # type: ignore[misc]
    """The network, its augmentation, loss and schedule; and what a checkpoint holds beyond Lightning's own state."""

    def __init__(
        self, recipe: Recipe, source: Source, network: torch.nn.Module, rank: Rank, device: torch.device
    ) -> None:
        super().__init__()
        training = recipe.training
        if training.batch_size < rank.world_size:
            raise ValueError(f"batch_size is {training.batch_size}; expected at least the {rank.world_size} ranks")
        self.recipe, self.source, self.rank, self.where = recipe, source, rank, device
        self.settings = {"dataset": source.digest, "recipe": recipe.model_dump(mode="json")}
        self.steps_per_epoch = steps_per_epoch(source.images, training.batch_size)
        self.steps = steps_of(recipe.schedule, self.steps_per_epoch)
        if left := unreached(recipe.schedule, self.steps_per_epoch):
            warnings.warn(
                f"the run has {self.steps:,} steps, and {left}; for a shorter run set schedule.warmup_share, or "
                "schedule.milestones, too",
                stacklevel=2,
            )
        self.highest = highest_rate(recipe.optimizer, training.batch_size)
        self.share = slice_of(training.batch_size, rank.rank, rank.world_size)
        self.model = network
        self.ema = None if training.ema is None else ModelEmaV3(network, training.ema).train().requires_grad_(False)
        # In a tuple, or its weights would be saved twice.
        self.forward_pass = (torch.compile(network) if training.compile else network,)
        self.augment = Augment(
            recipe.augmentation, len(source.classes), recipe.data.mean, recipe.data.std, training.seed
        )
        self.bf16 = training.precision == "bf16" or (training.precision == "auto" and has_fast_bf16(device))
        self.batches = _Batches(
            source.train(training.batch_size, device, seed=training.seed, rank=rank.rank, world_size=rank.world_size)
        )
        self.step, self.rate, self.done = 0, 0.0, 0.0
        # The mean loss of the last row of the log, and the sum over the steps since.
        self.mean_loss, self.steps_since = math.nan, 0
        self.loss_sum = torch.zeros(())
        # Seconds and waiting of earlier sessions, and what evaluations took of all.
        self.earlier = self.earlier_waited = self.evaluating = 0.0
        self.began: float | None = None
        self.rank_state: dict[str, Any] = {}

    @property
    def measured(self) -> torch.nn.Module:
        """The network that is evaluated and saved: of averaged weights, where there are some."""
        return self.model if self.ema is None else self.ema.module

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

    def share_done(self) -> float:
        """The share of the run that is done, by steps or by the clock of rank 0."""
        if self.steps is not None:
            return self.step / self.steps
        return processes.of_first(self.rank, self.elapsed / (self.recipe.schedule.seconds or 1))

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Summed over the pictures, of this rank's part of the step's batch."""
        first = self.step * self.recipe.training.batch_size + self.share.start
        with torch.autocast(images.device.type, enabled=False):
            pixels, targets = self.augment(images, labels, first)
        return functional.cross_entropy(self.forward_pass[0](pixels), targets, reduction="sum")

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        # Weighted so that the mean over ranks is that over the whole batch.
        loss = self.loss(*batch) * self.batches.loss_weight
        self.loss_sum += loss.detach()
        self.steps_since += 1
        return loss

    def train_dataloader(self) -> _Batches:
        return self.batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer_of(self.model, self.recipe.optimizer, self.recipe.training.batch_size)

    def on_train_start(self) -> None:
        self.loss_sum = self.loss_sum.to(self.device)
        if self.rank_state:
            torch.set_rng_state(self.rank_state["cpu"])
            if "cuda" in self.rank_state and self.device.type == "cuda":
                torch.cuda.set_rng_state(self.rank_state["cuda"], self.device)
        elif self.rank.rank or self.step:
            # Dropout must not be the same on all ranks.
            words = np.random.SeedSequence((self.recipe.training.seed, self.rank.rank, self.step)).generate_state(2)
            torch.manual_seed(int(words[0]) << 32 | int(words[1]))
        self.began = time.perf_counter()

    def on_train_batch_start(self, batch: object, batch_index: int) -> None:
        self.rate = learning_rate(self.recipe.schedule, self.highest, self.step, self.steps_per_epoch, self.done)
        for group in self.optimizers().param_groups:
            group["lr"] = self.rate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = {"cpu": torch.get_rng_state(), "loss_sum": self.loss_sum.item()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint["fdsl"] = {
            "settings": self.settings,
            "ranks": processes.gathered(self.rank, state),
            "step": self.step,
            "mean_loss": self.mean_loss,
            "steps_since": self.steps_since,
            "elapsed": self.elapsed,
            "waited": self.waited,
            "evaluating": self.evaluating,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["fdsl"]
        self.step, self.mean_loss, self.steps_since = state["step"], state["mean_loss"], state["steps_since"]
        self.earlier, self.earlier_waited = state["elapsed"], state["waited"]
        self.evaluating, ranks = state["evaluating"], state["ranks"]
        self.rank_state = ranks[self.rank.rank] if len(ranks) == self.rank.world_size else {}
        loss_sum = sum(one["loss_sum"] for one in ranks) / len(ranks)
        self.loss_sum = torch.tensor(self.rank_state.get("loss_sum", loss_sum))
        self.done = self.share_done()


class _Batches:
    """A loader's epochs one after the other, which Lightning sees as one.

    It has a length because Lightning asks an iterable without one for a batch more than it trains on, and the loader's
    state would then be one batch ahead of the weights.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return _WITHOUT_END

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from self._loader

    @property
    def loss_weight(self) -> float:
        return self._loader.loss_weight

    def stats(self) -> FeedStats:
        return self._loader.stats()

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._loader.load_state_dict(state)


class _Run(lightning.Callback):  # type: ignore[misc]
    """What happens between steps: the log, evaluations, checkpoints and the bar; and the end."""

    def __init__(self, folder: Path, bars: Progress) -> None:
        self._folder, self._bars = folder, bars
        self._shown = -math.inf
        self._task = TaskID(0)
        self.accuracy: float | None = None
        self.images = 0

    def on_train_start(self, trainer: lightning.Trainer, module: _Pretraining) -> None:
        if module.rank.rank == 0:
            start_log(self._folder, module.step)
        for logger in trainer.loggers:
            logger.log_hyperparams(module.settings["recipe"])
        self._task = self._bars.add_task("training", total=1.0, note="")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: _Pretraining, outputs: object, batch: object, batch_index: int
    ) -> None:
        training = module.recipe.training
        module.step += 1
        if module.ema is not None:
            module.ema.update(module.model)
        before, module.done = module.done, module.share_done()
        ended = module.done >= 1
        row: dict[str, float] = {}
        if module.step % _LOG_EVERY == 0 or ended:
            (total,) = processes.summed(module.rank, module.loss_sum.item())
            module.mean_loss, module.steps_since = total / module.rank.world_size / module.steps_since, 0
            module.loss_sum.zero_()
            if not math.isfinite(module.mean_loss):  # as DeiT's code stops; the last checkpoint is from before
                raise ValueError(
                    f"the loss is {module.mean_loss} at step {module.step}; expected a number: a lower "
                    "optimizer.learning_rate, or optimizer.clip_norm"
                )
            row = {"loss": module.mean_loss, "learning_rate": module.rate}
        if module.source.held_out_images and (
            ended or int(module.done * training.evaluations) > int(before * training.evaluations)
        ):
            row["held_out_accuracy"] = self.evaluate(module)
        if row and module.rank.rank == 0:
            append_log(self._folder, {"step": module.step, "seconds": module.elapsed} | row)
            for logger in trainer.loggers:
                logger.log_metrics(row, step=module.step)
        if ended or module.step % training.checkpoint_every == 0:
            file = self._folder / CHECKPOINT
            with whole_or_nothing(file) if module.rank.rank == 0 else contextlib.nullcontext(file) as temporary:
                trainer.save_checkpoint(temporary)
        if ended:
            trainer.should_stop = True
        self._show(module, last=ended)

    def evaluate(self, module: _Pretraining) -> float:
        """Top-1 accuracy on the held-out pictures of all ranks together, 0 to 1: the same ones each time."""
        began = time.perf_counter()
        rank, training = module.rank, module.recipe.training
        batches = module.source.held_out(
            training.batch_size,
            module.where,
            limit=training.held_out_images,
            rank=rank.rank,
            world_size=rank.world_size,
        )
        assert batches is not None
        right, seen = torch.zeros((), dtype=torch.int64, device=module.where), 0
        total = min(training.held_out_images, module.source.held_out_images)
        task = self._bars.add_task("evaluating", total=total, note="")
        network = module.measured
        processes.share_buffers(rank, network)
        trained = [part for part in network.modules() if part.training]  # frozen ones may not be
        network.eval()
        with torch.inference_mode(), torch.autocast(module.where.type, torch.bfloat16, enabled=module.bf16):
            for images, labels in batches:
                if len(labels):
                    right += (network(module.augment.normalize(images)).argmax(1) == labels).sum()
                seen += len(labels)
                self._bars.update(task, completed=seen * rank.world_size)
        for part in trained:
            part.training = True
        self._bars.remove_task(task)
        all_right, all_seen = processes.summed(rank, right.item(), seen)
        if not all_seen:
            raise ValueError("no held-out picture can be decoded; expected some to measure on")
        self.accuracy, self.images = round(all_right / all_seen, 4), int(all_seen)
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
        speed = module.step * module.recipe.training.batch_size / module.training_seconds
        accuracy = "" if self.accuracy is None else f", {self.accuracy:.0%} right"
        note = f"step {module.step:,}, loss {loss:.2f}, {speed:,.0f} images/s"
        drawing = module.batches.stats().render_images_per_s
        note += f", {module.waited / module.training_seconds:.1%} waiting (drawn at {drawing:,.0f}/s){accuracy}"
        self._bars.update(self._task, completed=min(1.0, module.done), note=note)


def _fit(module: _Pretraining, run: _Run, loggers: list[Logger], checkpoint: dict[str, Any] | None) -> None:
    device, rank = module.where, module.rank
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
        num_nodes=rank.world_size,
        plugins=[processes.OneProcess(rank)],
        precision="bf16-mixed" if module.bf16 else "32-true",
        max_epochs=1,
        max_steps=module.steps or -1,
        gradient_clip_val=module.recipe.optimizer.clip_norm,
        callbacks=[run],
        logger=loggers or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run._folder,
    )
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, ckpt_path=run._folder / CHECKPOINT if checkpoint else None, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C, after it has made the next one be ignored; and of SIGTERM
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the step's tensors
        del trainer
        raise MemoryError(_what_fits(module)) from None
    finally:
        if module.began is not None:
            module.earlier, module.began = module.elapsed, None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def _what_fits(module: _Pretraining) -> str:
    """What went wrong, and the largest half, quarter, ... of the batch with which a step was found to work."""
    asked, ranks = module.recipe.training.batch_size, module.rank.world_size
    of = f"training.batch_size {asked}{f' on {ranks} ranks' if ranks > 1 else ''}, {device_text(module.where)}"
    images = module.share.stop - module.share.start
    while images := images // 2:
        try:
            _try_step(module, images)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
        else:
            return f"out of memory with {of}; {images * ranks} fits (--set training.batch_size={images * ranks})"
    return f"out of memory with {of}; not even one picture a rank fits: expected a smaller model or picture"


def _try_step(module: _Pretraining, images: int) -> None:
    module.zero_grad(set_to_none=True)
    gc.collect()
    if module.where.type == "cuda":
        torch.cuda.empty_cache()
    module.to(module.where)
    source = module.source
    shape = (images, source.channels, source.size, source.size)
    pixels = torch.zeros(shape, dtype=torch.uint8, device=module.where)
    with torch.autocast(module.where.type, torch.bfloat16, enabled=module.bf16):
        loss = module.loss(pixels, torch.zeros(images, dtype=torch.int64, device=module.where))
    loss.backward()
    module.configure_optimizers().step()  # its state takes memory too


def _check_loggers(names: Sequence[str | Logger]) -> None:
    for name in names:
        if isinstance(name, str) and name not in _LOGGERS:
            raise ValueError(f"log is {name!r}; expected {' or '.join(map(repr, _LOGGERS))}")
        if isinstance(name, str) and not any(map(importlib.util.find_spec, _LOGGERS[name])):
            missing = _LOGGERS[name][0]
            raise ImportError(f"log {name!r} needs {missing}, which is not installed; pip install {missing}")


def _loggers(names: Sequence[str | Logger], folder: Path, checkpoint: Mapping[str, Any] | None) -> list[Logger]:
    """Lightning's loggers of these names, which go on where the checkpoint is."""
    made: list[Logger] = []
    for name in names:
        if isinstance(name, Logger):
            made.append(name)
        elif name == "tensorboard":
            step = checkpoint["fdsl"]["step"] if checkpoint else 0
            made.append(TensorBoardLogger(folder, "", name, default_hp_metric=False, purge_step=step + 1))
        else:
            identity = folder / "wandb.id"
            if not identity.is_file():
                identity.write_text(secrets.token_hex(4))
            made.append(WandbLogger(folder.name, folder, id=identity.read_text(), project="fdsl"))
    return made


@contextlib.contextmanager
def _quiet(rank: Rank) -> Iterator[None]:
    # Lightning tells which accelerators there are not, gives tips, and says that the run ended as it was asked to.
    # Its use of torch's tree functions is deprecated, which its users cannot help. Other ranks warn of the same.
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", r".*LeafSpec", DeprecationWarning)
            warnings.filterwarnings("ignore", r".*srun")  # a hint on machines that have it, whoever launched this
            warnings.filterwarnings("ignore", r".*in eval mode at the start of training")  # frozen ones
            if rank.rank:
                warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
