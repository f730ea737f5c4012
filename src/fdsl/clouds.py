"""Point clouds of fractals in space, and scenes of them with boxes, drawn when they are asked for: PC-FractalDB.

Yamada et al., Point Cloud Pre-training with Natural 3D Structures, CVPR 2022; what the published code does
(https://github.com/ryosuke-yamada/3dfractaldb) and where this differs is said where it is done.

>>> catalog = fdsl.search("pcfractaldb", categories=100)
>>> points, label = fdsl.clouds.CloudDataset(catalog)[0]
>>> scene = fdsl.clouds.SceneDataset(catalog)[0]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import _core
from fdsl.catalogs import Catalog
from fdsl.datasets import Labels, Targets
from fdsl.engines import cpu
from fdsl.indexing import (
    Key,
    canonical_instances,
    content_digest,
    counted,
    dataset_positions,
    instance_numbers,
    key_table,
    numbers_at,
    output,
)
from fdsl.keyed import check_seed
from fdsl.primitives import Clouds
from fdsl.rendering import RENDER_VERSION

Points = NDArray[np.float32]
# The arrays of a scene, or of a batch of them, by name.
Scene = dict[str, NDArray[Any]]

MAX_POINTS = 2**20
MAX_OBJECTS = 1000
_FAMILIES = ("exfractaldb", "pcfractaldb")


class _Clouds:
    """What both datasets have: categories in space, and how a cloud of one is drawn."""

    def __init__(self, catalog: Catalog, points: int, mix: float, seed: int, fresh: bool) -> None:
        if not isinstance(catalog, Catalog):
            raise ValueError(f"catalog is {catalog!r}; expected an fdsl.Catalog, of fdsl.search or fdsl.catalog")
        if catalog.family not in _FAMILIES:
            expected = " or ".join(_FAMILIES)
            raise ValueError(
                f"catalog is of the family {catalog.family}; expected {expected}, whose fractals are in space"
            )
        _check_whole("points", points, MAX_POINTS)
        if isinstance(mix, bool) or not isinstance(mix, (int, float)) or not 0 <= mix < 1:
            raise ValueError(f"mix is {mix!r}; expected a share of the points from 0 to below 1")
        self.catalog = catalog
        self.points = int(points)
        self.mix = float(mix)
        self.seed = check_seed(seed)
        self.fresh = bool(fresh)

    @property
    def own_points(self) -> int:
        """Points of a cloud's own category, which come first in it; the others are its partner's. At least one."""
        return Clouds.own_points(self.points, self.mix)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, as the published folders are named: six digits."""
        return [self._class_name(category) for category in range(len(self.catalog))]

    def file_name(self, category: int, instance: int) -> str:
        """The name of a cloud's file without its suffix, as published: CATEGORY_NNNN.

        >>> dataset.file_name(7, 123)
        '000007_0123'
        """
        return f"{self._class_name(category)}_{instance:04d}"

    def _class_name(self, category: int) -> str:
        return f"{category:0{max(6, len(str(len(self.catalog) - 1)))}d}"

    def _digest_of(self, **content: object) -> str:
        content |= {
            "render_version": RENDER_VERSION,
            "catalog": self.catalog.digest,
            "points": self.points,
            "mix": self.mix,
            "seed": self.seed,
            "fresh": self.fresh,
        }
        return content_digest(content)

    def _draw(self, records: NDArray[np.void], out: Points | None, engine: cpu.Engine) -> Points:
        out = output(out, (len(records), self.points, 3), np.float32)
        engine.draw_clouds(self.catalog.params, records, self.seed, self.own_points, out)
        return out


class CloudDataset(_Clouds):
    """Point clouds of a catalog's categories: index = category * number of instances + position among the instances.

    A cloud is a FractalNoiseMix: most of its points are of the category, a share `mix` of another one, its partner.
    The points of each part are normalised by themselves: the least of all their coordinates goes to -1 and the largest
    to 1, then their centroid to the origin. The category's own points come first; a sample of a cloud must be drawn
    over all of it.

    The partner is drawn by (seed, category, instance), all other categories alike. Published, instance j has the same
    partner in every category, which can be the category itself; that tells a model the instance, and the same 1,000
    partners serve every class. The published code divides both sums by the number of all points, so that it centres a
    part by its share only; here each is centred, as the paper says. Published clouds have 9,998 points (from 10,000):
    `points=10_000` is that; 2,048 is what detectors and classifiers commonly sample.

    It serves `torch.utils.data.DataLoader` as it is. Every cloud is a pure function of the digest and its index (and of
    the epoch, where `fresh`), on any machine.

    Args:
        catalog: of the family pcfractaldb or exfractaldb.
        instances: a number (the first so many), a range, or a sequence of instance numbers.
        points: of a cloud, 1 to 2^20.
        mix: share of the points that are the partner's, 0 to below 1.
        seed: keys trajectories and partners.
        fresh: draw the instances anew each epoch, so that none ever comes again.

    Raises:
        ValueError: an argument is out of its range, or the catalog is of another family.

    >>> import fdsl
    >>> dataset = fdsl.clouds.CloudDataset(fdsl.search("pcfractaldb", categories=2), instances=10)
    >>> len(dataset), dataset[19][0].shape, dataset[19][1]
    (20, (2048, 3), 1)
    """

    def __init__(
        self,
        catalog: Catalog,
        instances: int | Sequence[int] | NDArray[np.integer[Any]] = 1000,
        points: int = 2048,
        mix: float = 0.2,
        seed: int = 0,
        fresh: bool = False,
    ) -> None:
        super().__init__(catalog, points, mix, seed, fresh)
        self.instances = instance_numbers(instances)

    def __len__(self) -> int:
        return len(self.catalog) * len(self.instances)

    def __repr__(self) -> str:
        return (
            f"CloudDataset({self.catalog.family}, {len(self.catalog):,} categories x {len(self.instances):,} instances "
            f"of {self.points:,} points, digest {self.digest[:12]})"
        )

    @cached_property
    def digest(self) -> str:
        """sha256 hex of all that decides a point: render version, catalog, points, mix, seed, fresh, instances."""
        return self._digest_of(kind="clouds", instances=canonical_instances(self.instances))

    @property
    def targets(self) -> Targets:
        """The label of every index, computed when asked for."""
        return Targets(len(self.catalog), len(self.instances))

    def batch(
        self, indices: ArrayLike, epoch: ArrayLike = 0, out: Points | None = None, threads: int | None = None
    ) -> tuple[Points, Labels]:
        """Draws a batch.

        Args:
            indices: integers (B,), in any order, repeated or not; negative ones count from the end.
            epoch: one for all, or one each; matters to fresh datasets only.
            out: float32 (B, points, 3), C-contiguous, to draw into.
            threads: None uses the processors there are, and one thread in a DataLoader worker.

        Returns:
            points float32 (B, points, 3) in [-2, 2], labels int64 (B,).

        Raises:
            IndexError: an index is out of range.
            ValueError: an argument does not fit.

        >>> points, labels = dataset.batch(range(32))
        """
        labels, places = np.divmod(dataset_positions(indices, len(self)), len(self.instances))
        records = np.zeros(len(labels), cpu.CLOUD)
        records["category"], records["number"] = labels, numbers_at(self.instances, places)
        epochs = counted("epoch", epoch, len(labels), 2**32)
        records["epoch"] = epochs if self.fresh else 0
        return self._draw(records, out, cpu.Engine(threads)), labels

    def __getitem__(self, key: Key) -> tuple[Points, int]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[tuple[Points, int]]:
        """Several (points, label) pairs at once, as DataLoader asks for them: indices, or (epoch, repeat, index)."""
        table = key_table(keys)
        points, labels = self.batch(table[:, 2], epoch=table[:, 0])
        return list(zip(points, labels.tolist(), strict=True))

    def __iter__(self) -> Iterator[tuple[Points, int]]:
        return (self[place] for place in range(len(self)))


class SceneDataset(_Clouds):
    """Scenes: fractals on a floor, with the boxes that a 3D detector such as VoteNet learns from.

    A scene has `objects` + Poisson(5) objects, each a cloud of CloudDataset's, category and instance drawn with equal
    chances. A box's size is U(0.75, 1.25), its y and z times U(0.9, 1.1) each; its centre lies anywhere on a square
    floor about the origin, at half the height, so that it stands at z = 0; its heading is U(-pi, pi), counter-clockwise
    about z (the negative of VoteNet's SUN RGB-D heading). The circles around two boxes are at least 0.25 apart; an
    object that finds no place in 100 tries ends the scene. The cloud is stretched along each axis to fill its box, and
    turned with it: boxes are tight. (Published are the boxes and which cloud is in each, not how it is scaled.)

    A scene is a dict of arrays, for n objects:
        points: float32 (n * points_per_object, 3), object by object.
        objects: int32 (n * points_per_object,), the object that each point is of, 0 to n - 1.
        boxes: float32 (n, 7): centre x, y, z, size x, y, z, heading in radians.
        classes: int64 (n,), the categories.
        instances: int64 (n,), their instance numbers in CloudDataset.

    Every scene is a pure function of the digest and its index (and of the epoch, where `fresh`), on any machine. Use
    `collate` with a DataLoader.

    Args:
        catalog: of the family pcfractaldb or exfractaldb.
        scenes: how many.
        objects: the mean number of objects of a scene less five, 1 to 1,000; 15 as published.
        points_per_object: 1 to 2^20.
        floor: side of the square that centres lie on.
        instances: instances of each category to choose from.
        mix: share of each cloud's points that are its partner's.
        seed: keys the scenes and their clouds.
        fresh: draw the scenes anew each epoch, so that none ever comes again.

    Raises:
        ValueError: an argument is out of its range, or the catalog is of another family.

    >>> import fdsl
    >>> dataset = fdsl.clouds.SceneDataset(fdsl.search("pcfractaldb", categories=4), scenes=100)
    >>> dataset[0]["boxes"].shape[1]
    7
    """

    def __init__(
        self,
        catalog: Catalog,
        scenes: int = 10_000,
        objects: int = 15,
        points_per_object: int = 2048,
        floor: float = 15.0,
        instances: int = 1000,
        mix: float = 0.2,
        seed: int = 0,
        fresh: bool = False,
    ) -> None:
        _check_whole("points_per_object", points_per_object, MAX_POINTS)
        super().__init__(catalog, points_per_object, mix, seed, fresh)
        _check_whole("scenes", scenes, 2**32)
        _check_whole("objects", objects, MAX_OBJECTS)
        _check_whole("instances", instances, 2**32 - 1)
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0 < floor <= 1e4:
            raise ValueError(f"floor is {floor!r}; expected a side over 0 and up to 10,000")
        self.scenes, self.objects, self.instances = int(scenes), int(objects), int(instances)
        self.floor = float(floor)

    def __len__(self) -> int:
        return self.scenes

    def __repr__(self) -> str:
        return (
            f"SceneDataset({self.catalog.family}, {self.scenes:,} scenes of {self.objects} + Poisson(5) objects, "
            f"{self.points:,} points each, digest {self.digest[:12]})"
        )

    @property
    def points_per_object(self) -> int:
        """Points of each object."""
        return self.points

    @cached_property
    def digest(self) -> str:
        """sha256 hex of all that decides a point or a box, except the number of scenes."""
        return self._digest_of(kind="scenes", objects=self.objects, floor=self.floor, instances=self.instances)

    @property
    def most_objects(self) -> int:
        """More objects than this no scene has."""
        return self.objects + _core.POISSON_MOST

    def batch(
        self, indices: ArrayLike, epoch: ArrayLike = 0, out: Points | None = None, threads: int | None = None
    ) -> Scene:
        """Draws a batch of scenes, object by object.

        Args:
            indices: integers (B,), in any order, repeated or not; negative ones count from the end.
            epoch: one for all, or one each; matters to fresh datasets only.
            out: float32 (K, points_per_object, 3), C-contiguous, to draw into; K = B * most_objects is always enough.
                It saves what new memory costs.
            threads: None uses the processors there are, and one thread in a DataLoader worker.

        Returns:
            A dict; M objects in all, those of scene i from offsets[i] to offsets[i + 1]: points float32
            (M, points_per_object, 3), boxes float32 (M, 7), classes and instances int64 (M,), offsets int64 (B + 1,).

        Raises:
            IndexError: an index is out of range.
            ValueError: an argument does not fit.

        >>> batch = dataset.batch(range(8))
        >>> first_scene = batch["points"][: batch["offsets"][1]].reshape(-1, 3)
        """
        engine = cpu.Engine(threads)
        scenes = dataset_positions(indices, len(self))
        epochs = counted("epoch", epoch, len(scenes), 2**32) if self.fresh else 0
        records, counts = engine.place_scenes(
            scenes, epochs, self.seed, self.floor, self.objects, len(self.catalog), self.instances
        )
        if out is not None and out.ndim == 3 and len(out) < len(records):
            raise ValueError(f"out has room for {len(out)} objects; expected {len(scenes) * self.most_objects}")
        return {
            "points": self._draw(records, None if out is None else out[: len(records)], engine),
            "boxes": np.ascontiguousarray(records["box"]),
            "classes": records["category"].astype(np.int64),
            "instances": records["number"].astype(np.int64),
            "offsets": np.concatenate([[0], np.cumsum(counts)]),
        }

    def __getitem__(self, key: Key) -> Scene:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Scene]:
        """Several scenes at once, as DataLoader asks for them: indices, or (epoch, repeat, index)."""
        table = key_table(keys)
        batch = self.batch(table[:, 2], epoch=table[:, 0])
        offsets = batch.pop("offsets")
        scenes = [{name: array[a:b] for name, array in batch.items()} for a, b in pairwise(offsets.tolist())]
        for scene in scenes:
            scene["objects"] = np.repeat(np.arange(len(scene["boxes"]), dtype=np.int32), self.points)
            scene["points"] = scene["points"].reshape(-1, 3)
        return scenes

    def __iter__(self) -> Iterator[Scene]:
        return (self[place] for place in range(len(self)))


_OF_POINTS, _OF_BOXES = ("points", "objects"), ("boxes", "classes", "instances")


def collate(scenes: Sequence[Scene]) -> dict[str, Any]:
    """A DataLoader's `collate_fn` for SceneDataset: the arrays of all scenes as torch tensors, one after the other.

    Scenes have different numbers of objects, and nothing is padded: scene i has the points
    `points[point_offsets[i]:point_offsets[i + 1]]` and the boxes `boxes[box_offsets[i]:box_offsets[i + 1]]`, as sparse
    convolutions and point transformers take them; `torch.nn.utils.rnn.pad_sequence` of those slices pads.

    Raises:
        ImportError: torch is not installed.

    >>> loader = torch.utils.data.DataLoader(dataset, batch_size=8, collate_fn=fdsl.clouds.collate)
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("clouds.collate needs torch, which is not installed; pip install 'fdsl[torch]'") from error
    whole: dict[str, Any] = {
        name: torch.from_numpy(np.concatenate([scene[name] for scene in scenes])) for name in (*_OF_POINTS, *_OF_BOXES)
    }
    for name, of in (("point_offsets", "points"), ("box_offsets", "boxes")):
        whole[name] = torch.tensor([0, *np.cumsum([len(scene[of]) for scene in scenes]).tolist()])
    return whole


def _check_whole(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
        raise ValueError(f"{name} is {value!r}; expected a whole number from 1 to {most:,}")
