"""FeedDataModule: training and held-out feeds for a Lightning Trainer, which it resumes with the Trainer alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

try:
    import lightning.pytorch as lightning
    import torch
except ImportError as error:
    raise ImportError(
        f"FeedDataModule needs {error.name}, which is not installed; pip install 'fdsl[train]'"
    ) from error

from fdsl.datasets import IndexedPictures
from fdsl.feed import Feed, Labels

# Options of the held-out feed too.
_OF_BOTH = ("ahead", "threads", "pixels", "engine")


class FeedDataModule(lightning.LightningDataModule):  # type: ignore[misc]
    """Feeds of a training dataset and, for validation, of a held-out one, made when the Trainer knows rank and device.

    An epoch of the Trainer is an epoch of the feed. A checkpoint holds where the feed is; `Trainer.fit(ckpt_path=...)`
    continues with the next sample, also in mid-epoch, with another batch size or with other ranks. So that Lightning
    counts the batches of such an epoch and of the next ones right, it is made to ask for loaders each epoch.

    Validation sees the same held-out pictures each time, each once over all ranks; where the last batch has fewer
    pictures than there are ranks, some get none.

    Args:
        train: what to train on.
        held_out: what to validate on, such as the second part of `dataset.split(0.9)`.
        batch_size: of a rank. Or:
        global_batch_size: of all ranks together.
        held_out_batch_size: of a rank in validation; None takes that of training.
        **options: further arguments of `Feed`: shuffle_seed, repeats, drop_last, ahead, threads, pixels, engine,
            node_local.

    Raises:
        ValueError: an argument is out of its range, when the feeds are made; or the checkpoint is of another order.

    >>> data = FeedDataModule(train, held_out, global_batch_size=1024)  # doctest: +SKIP
    >>> lightning.Trainer(max_epochs=90).fit(model, datamodule=data, ckpt_path="last", weights_only=True)
    """

    def __init__(
        self,
        train: IndexedPictures,
        held_out: IndexedPictures | None = None,
        *,
        batch_size: int | None = None,
        global_batch_size: int | None = None,
        held_out_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._train, self._held_out, self._held_out_batch_size = train, held_out, held_out_batch_size
        self._batches = {"batch_size": batch_size, "global_batch_size": global_batch_size}
        self._options = options
        self._state: dict[str, Any] | None = None
        self._feed: Feed | None = None
        if held_out is None:
            # As if it were not defined here: then Lightning does not validate.
            self.val_dataloader = super().val_dataloader  # type: ignore[method-assign]

    @property
    def feed(self) -> Feed:
        """The training feed: `stats()`, and `loss_weight` for slices that are uneven.

        Raises:
            RuntimeError: the Trainer has not asked for it yet.
        """
        if self._feed is None:
            raise RuntimeError("the feed is made when the Trainer asks for it; expected Trainer.fit to have begun")
        return self._feed

    def setup(self, stage: str) -> None:
        """Forgets the feed of an earlier fit, whose ranks and device may have been others."""
        if stage == "fit":
            self._feed = self._state = None

    def train_dataloader(self) -> Feed:
        """The training feed, at the epoch that the Trainer is in."""
        trainer = self.trainer
        if self._feed is None:
            self._feed = self._make(self._train, **self._batches, **self._options)
            if self._state is not None:
                # Before Lightning does it, which has asked for the epoch's length by then.
                self._feed.load_state_dict(self._state)
        # An epoch may end before the feed's does: limit_train_batches.
        self._feed.set_epoch(max(self._feed.epoch, trainer.fit_loop.epoch_progress.current.processed))
        # From a checkpoint of an epoch's last batch Lightning counts on in the next epoch, if that has more batches.
        loop = trainer.fit_loop.epoch_loop
        if loop.restarting and not self._feed.batches.position and loop.batch_progress.current.ready < len(self._feed):
            self._feed.batches.count_from(loop.batch_progress.current.ready)
        # Else the length of a resumed epoch, which may have had other batches, would be that of all that follow.
        trainer.reload_dataloaders_every_n_epochs = 1
        return self._feed

    def val_dataloader(self) -> Any:
        """The held-out pictures."""
        assert self._held_out is not None
        batches = {"batch_size": self._held_out_batch_size} if self._held_out_batch_size else self._batches
        options = {name: value for name, value in self._options.items() if name in _OF_BOTH}
        return _SameEachTime(self._make(self._held_out, **batches, **options))

    def _make(self, dataset: IndexedPictures, **arguments: Any) -> Feed:
        trainer, where = self.trainer, self.trainer.strategy.root_device
        device = where if where.type == "cuda" else "cpu"  # Lightning moves batches to what is neither
        if arguments.get("node_local") is not None:
            arguments["nodes"] = trainer.num_nodes
        return Feed(dataset, device=device, rank=trainer.global_rank, world_size=trainer.world_size, **arguments)

    def state_dict(self) -> dict[str, Any]:
        """The training feed's state, for a checkpoint."""
        return {} if self._feed is None else self._feed.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the state for the feed that the Trainer will ask for."""
        self._state = state or None


class _SameEachTime:
    """A feed whose every iteration is its first epoch."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __len__(self) -> int:
        return len(self._feed)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, Labels]]:
        self._feed.set_epoch(0)
        return iter(self._feed)
