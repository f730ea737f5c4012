"""One rank of a training whose model is the list of samples that it was trained on; test_exactly_once.py kills it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray

from fdsl.feed import Feed
from fdsl.order import EpochBatches

SHUFFLE_SEED = 5


class KeysAsPictures:
    """A dataset whose picture of a sample is its key, so that what training saw can be read off the pictures."""

    def __init__(self, size: int) -> None:
        self.size, self.digest = size, f"keys of {size}"
        self.spec = SimpleNamespace(image_channels=1, size=4)

    def __len__(self) -> int:
        return self.size

    def batch(
        self, indices: NDArray[np.int64], *, epoch: int, repeat: NDArray[np.int64], out: NDArray[np.uint8], engine: Any
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        keys = np.stack([np.full(len(indices), epoch), repeat, indices, np.zeros(len(indices))], 1).astype("<u4")
        out[:] = keys.view(np.uint8).reshape(-1, 1, 4, 4)
        return out, indices % 7

    def __getitems__(self, keys: list[tuple[int, int, int]]) -> list[tuple[torch.Tensor, int]]:
        return [(torch.tensor([*key, 0]), key[-1] % 7) for key in keys]

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[torch.Tensor, int]:
        return self.__getitems__([key])[0]


def keys_of(images: torch.Tensor) -> list[list[int]]:
    if images.dtype == torch.uint8:
        images = torch.from_numpy(images.reshape(-1, 16).numpy().copy().view("<u4").astype(np.int64))
    return images[:, :3].tolist()  # type: ignore[no-any-return]


class Training:
    """Steps in lock step, as gradients make them, and checkpoints of the "model" together with the loader's state."""

    def __init__(self, folder: Path, size: int, epochs: int, every: int, workers: int | None, batches: dict[str, Any]):
        self.folder, self.epochs, self.every = folder, epochs, every
        self.rank, self.world_size = distributed.get_rank(), distributed.get_world_size()
        dataset = KeysAsPictures(size)
        if workers is None:
            self.loader: Any = Feed(dataset, shuffle_seed=SHUFFLE_SEED, **batches)  # type: ignore[arg-type]
            self.order = self.loader.batches
        else:
            from torchdata.stateful_dataloader import StatefulDataLoader

            self.order = EpochBatches(size, shuffle_seed=SHUFFLE_SEED, **batches)
            self.loader = StatefulDataLoader(
                dataset, batch_sampler=self.order, num_workers=workers, multiprocessing_context="fork"
            )
        self.trained: list[Any] = []  # rank 0 holds it: (world size, samples) of each global batch
        self.since: list[Any] = []
        self.epoch = 0
        if (folder / "checkpoint.json").exists():
            saved = json.loads((folder / "checkpoint.json").read_text())
            self.trained, self.epoch = saved["trained"], saved["epoch"]
            self.loader.load_state_dict(saved["loader"])

    def run(self, die_at: int | None = None) -> None:
        steps = 0
        while self.epoch < self.epochs:
            for images, _ in self.loader:
                self.since.append(keys_of(images))
                distributed.all_reduce(torch.ones(1))
                steps += 1
                if steps == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                if steps % self.every == 0:
                    self.save()
                if self.rank == 0:
                    with (self.folder / "steps").open("a") as file:
                        file.write(".")
            self.epoch += 1
            self.save()

    def save(self) -> None:
        ranks: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        distributed.gather_object(self.since, ranks)
        self.since = []
        if ranks is None:
            return
        for slices in zip(*ranks, strict=True):
            self.trained.append([self.world_size, sum(slices, [])])
        state = {"trained": self.trained, "epoch": self.epoch, "loader": self.loader.state_dict()}
        (self.folder / "temporary").write_text(json.dumps(state))
        os.replace(self.folder / "temporary", self.folder / "checkpoint.json")


def start(rank: int, world_size: int, store: str, folder: Path, *arguments: Any) -> None:
    """A rank under a launcher that only starts processes."""
    os.setpgid(0, 0)  # loader workers die with their rank, as under a launcher
    with (folder / "log").open("a") as log:
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    Training(folder, *arguments).run()
    distributed.destroy_process_group()  # else gloo's threads may abort the process at its end: once in twenty


if __name__ == "__main__":  # under torchrun: rank 1 dies in its first life
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    training = Training(Path(sys.argv[1]), 100, 2, 2, None, {"batch_size": 3})
    training.run(die_at=5 if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and training.rank == 1 else None)
    distributed.destroy_process_group()
