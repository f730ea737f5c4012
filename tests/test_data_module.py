from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning")
import lightning.pytorch as lightning
import torch
from training_rank import SHUFFLE_SEED, KeysAsPictures, keys_of

from fdsl import EpochOrder, Feed
from fdsl.train.data_module import FeedDataModule

SIZE, EPOCHS = 23, 3


class Model(lightning.LightningModule):  # type: ignore[misc]
    """Notes what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 7)
        self.trained: list[list[list[int]]] = []
        self.validated: list[list[list[int]]] = []

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        self.trained.append(keys_of(batch[0]))
        return self.loss(batch, self.trainer.datamodule.feed.loss_weight if self.trainer.datamodule else 1.0)

    def validation_step(self, batch: Any, batch_index: int) -> None:
        self.validated.append(keys_of(batch[0]))

    def loss(self, batch: Any, weight: float) -> torch.Tensor:
        output = self.layer(batch[0].flatten(1) / 255)
        return weight * torch.nn.functional.cross_entropy(output, batch[1], reduction="sum")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Stop(lightning.Callback):  # type: ignore[misc]
    """Saves a checkpoint after so many steps and ends."""

    def __init__(self, steps: int, file: Path) -> None:
        self.steps, self.file = steps, file

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.file)
            trainer.should_stop = True


def data(size: int = SIZE, held_out: int = 0, **batches: Any) -> FeedDataModule:
    return FeedDataModule(
        KeysAsPictures(size),  # type: ignore[arg-type]
        KeysAsPictures(held_out) if held_out else None,  # type: ignore[arg-type]
        shuffle_seed=SHUFFLE_SEED,
        **batches,
    )


def fit(source: Any, folder: Path, checkpoint: Path | None = None, **options: Any) -> Model:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        **{"max_epochs": EPOCHS, "accelerator": "cpu", "devices": 1} | options,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    torch.manual_seed(0)
    model = Model()
    where = {"datamodule": source} if isinstance(source, FeedDataModule) else {"train_dataloaders": source}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*LeafSpec")  # Lightning's own
        warnings.filterwarnings("ignore", ".*have no `val_dataloader`")  # where there is nothing held out
        warnings.filterwarnings("ignore", ".*srun")  # on a machine with Slurm
        trainer.fit(model, **where, ckpt_path=checkpoint, weights_only=True)
    return model


def expected_keys(epochs: range = range(EPOCHS)) -> list[list[int]]:
    orders = [EpochOrder(SIZE, SHUFFLE_SEED).at(range(SIZE), epoch).tolist() for epoch in epochs]
    return [[epoch, 0, index] for epoch, order in zip(epochs, orders, strict=True) for index in order]


# Of batches of 5 an epoch has five: checkpoints in mid-epoch, of an epoch's last batch, and in the second epoch.
@pytest.mark.parametrize("steps", [1, 4, 5, 7])
def test_a_run_is_resumed_with_the_next_sample_also_in_other_batches(steps: int, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    first = fit(data(batch_size=5), tmp_path, callbacks=[Stop(steps, file)])
    for batch_size in (5, 3, 11):
        rest = fit(data(batch_size=batch_size), tmp_path, file)
        assert sum(first.trained + rest.trained, []) == expected_keys(), batch_size
        assert all(len({epoch for epoch, _, _ in keys}) == 1 for keys in rest.trained)


def test_a_resumed_run_ends_with_the_weights_of_a_whole_one(tmp_path: Path) -> None:
    whole = fit(data(batch_size=5), tmp_path)
    fit(data(batch_size=5), tmp_path, callbacks=[Stop(7, tmp_path / "last.ckpt")])
    resumed = fit(data(batch_size=5), tmp_path, tmp_path / "last.ckpt")
    assert torch.equal(whole.layer.weight, resumed.layer.weight)


def test_a_checkpoint_between_epochs_goes_on_with_the_next(tmp_path: Path) -> None:
    class Save(lightning.Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    fit(data(batch_size=5), tmp_path, max_epochs=1, callbacks=[Save()])
    for batch_size in (5, 3):
        rest = fit(data(batch_size=batch_size), tmp_path, tmp_path / "last.ckpt")
        assert sum(rest.trained, []) == expected_keys(range(1, EPOCHS))


def test_a_feed_alone_is_resumed_too(tmp_path: Path) -> None:
    def feed() -> Feed:
        return Feed(KeysAsPictures(SIZE), batch_size=5, shuffle_seed=SHUFFLE_SEED)  # type: ignore[arg-type]

    for steps in (3, 5, 7):
        first = fit(feed(), tmp_path, callbacks=[Stop(steps, tmp_path / "last.ckpt")])
        rest = fit(feed(), tmp_path, tmp_path / "last.ckpt")
        assert sum(first.trained + rest.trained, []) == expected_keys()


def test_epochs_that_the_trainer_cuts_short_differ(tmp_path: Path) -> None:
    trained = fit(data(batch_size=5), tmp_path, limit_train_batches=2).trained
    whole = expected_keys()
    assert sum(trained, []) == [key for epoch in range(EPOCHS) for key in whole[epoch * SIZE :][:10]]


def test_validation_sees_the_same_pictures_each_time(tmp_path: Path) -> None:
    model = fit(
        data(batch_size=5, held_out=9, held_out_batch_size=4), tmp_path, val_check_interval=2, num_sanity_val_steps=1
    )
    assert [len(keys) for keys in model.validated] == [4] + [4, 4, 1] * 6
    passes = np.array([sum(model.validated[at : at + 3], []) for at in range(1, 19, 3)])
    assert (passes == passes[0]).all()
    assert sorted(passes[0][:, 2]) == list(range(9))
    assert not fit(data(batch_size=5), tmp_path, max_epochs=1).validated


def test_a_checkpoint_of_another_order_is_named(tmp_path: Path) -> None:
    fit(data(batch_size=5), tmp_path, callbacks=[Stop(2, tmp_path / "last.ckpt")])
    with pytest.raises(ValueError, match="feed state has dataset 'keys of 23', this feed 'keys of 24'"):
        fit(data(24, batch_size=5), tmp_path, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="feed state has repeats 1, this feed 2"):
        fit(data(batch_size=5, repeats=2), tmp_path, tmp_path / "last.ckpt")
    with pytest.raises(RuntimeError, match="the feed is made when the Trainer asks for it"):
        _ = data(batch_size=5).feed


if __name__ == "__main__":  # two ranks, which Lightning starts
    folder = Path(sys.argv[1])
    stop = [Stop(3, folder / "last.ckpt")]
    model = fit(data(batch_size=3, held_out=9), folder, devices=2, strategy="ddp", callbacks=stop)
    rank = torch.distributed.get_rank()
    (folder / f"rank{rank}.json").write_text(json.dumps([model.trained, model.validated]))


@pytest.mark.slow
def test_ranks_share_an_epoch_that_one_goes_on_with(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], capture_output=True, env=environment, timeout=180
    )
    assert result.returncode == 0, result.stderr.decode()
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    trained = [sum(slices, []) for slices in zip(*(trained for trained, _ in ranks), strict=True)]
    assert len(trained) == 3
    rest = fit(data(batch_size=4), tmp_path, tmp_path / "last.ckpt")
    assert sum(trained + rest.trained, []) == expected_keys()
    validated = [tuple(key) for _, batches in ranks for keys in batches[1:] for key in keys]  # but the sanity check
    assert set(Counter(validated)) == {(0, 0, index) for index in range(9)}
