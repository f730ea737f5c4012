"""Dataset: index → parameters → image and label. The only place where a family and an engine meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from operator import index
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdsl import keyed
from fdsl.catalogs import Catalog
from fdsl.compositions import Composition, Target, check_labels, targets
from fdsl.engines import cpu
from fdsl.engines.protocol import Engine
from fdsl.families import family_named
from fdsl.families.protocol import Family, ViewedFamily
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
from fdsl.keyed import Purpose, check_seed
from fdsl.primitives import Drawing, Instances
from fdsl.rendering import RENDER_VERSION, RenderSpec

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Targets(Sequence[int]):
    """The labels of a dataset in index order, computed when asked for: 300 million of them take no memory."""

    def __init__(self, categories: int, instances: int) -> None:
        self._categories, self._instances = categories, instances

    def __len__(self) -> int:
        return self._categories * self._instances

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        positions = range(len(self))[place]
        if isinstance(positions, range):
            return [position // self._instances for position in positions]
        return positions // self._instances

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        labels = np.repeat(np.arange(self._categories), self._instances)
        return labels if dtype is None else labels.astype(dtype)


class IndexedPictures(ABC):
    """What serves pictures by index, to training loops and `torch.utils.data.DataLoader` alike.

    Attributes:
        spec: how pictures are drawn; its size and image_channels are those of every picture.
        transform: applied to a PIL image by `dataset[i]` and DataLoader; `batch` and Feed give plain pixels.
    """

    spec: RenderSpec
    transform: Callable[[Any], Any] | None
    # What dense labels hold; () where a label is a class.
    labels: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 hex of all that decides a pixel."""

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """Names of the classes, by label."""

    @property
    @abstractmethod
    def targets(self) -> Sequence[int]:
        """The label of every index."""

    @abstractmethod
    def split(self, share: float) -> tuple[IndexedPictures, IndexedPictures]:
        """Two datasets of the same classes: about `share` of the instances, and the rest held out."""

    @abstractmethod
    def part_of(self, category: int) -> tuple[Dataset, int]:
        """The dataset that a class is of, and the category's row in its catalog."""

    @abstractmethod
    def _draw(
        self,
        positions: NDArray[np.int64],
        epochs: NDArray[np.int64],
        repeats: NDArray[np.int64],
        out: Any,
        engine: Engine,
    ) -> Any:
        """Draws pictures, of checked positions, epochs and repeats (B,), into `out`; returns their labels."""

    def batch(
        self,
        indices: ArrayLike,
        epoch: ArrayLike = 0,
        repeat: ArrayLike = 0,
        out: Any = None,
        threads: int | None = None,
        engine: Engine | None = None,
    ) -> tuple[Any, Any]:
        """Draws a batch.

        Args:
            indices: integers (B,), in any order, repeated or not; negative ones count from the end.
            epoch: one for all, or one each; matters to views, compositions, fresh datasets and mixes by weight only.
            repeat: likewise, 0 to 4,095; matters to views and compositions only.
            out: uint8 (B, channels, size, size), C-contiguous, to draw into; of a cuda engine, a tensor on its device.
            threads: None uses the processors there are, and one thread in a DataLoader worker.
            engine: what draws, such as `fdsl.engines.cuda.Engine("cuda")`; None is the cpu engine with those threads.

        Returns:
            images uint8 (B, channels, size, size), labels int64 (B,). Dense labels are a list of B dicts, with what was
            asked for of the n objects that are seen, those behind first: "labels" int64 (n,), category + 1, because 0
            is torchvision's background; "boxes" float32 (n, 4), x1 y1 x2 y2 around the seen pixels, with exclusive
            ends; "masks" uint8 (n, size, size), 1 at the seen pixels. An object that others hide has no label. Of a
            cuda engine, images and masks are tensors on its device, and images have the dtype of its pixels.

        Raises:
            IndexError: an index is out of range.
            ValueError: an argument does not fit.

        >>> from fdsl.engines import engine_for
        >>> images, labels = dataset.batch(range(16), engine=engine_for("auto"))  # tensors where there is a GPU
        >>> images.shape
        (16, 1, 224, 224)
        """
        positions = dataset_positions(indices, len(self))
        shape = (len(positions), self.spec.image_channels, self.spec.size, self.spec.size)
        engine = cpu.Engine(threads) if engine is None else engine
        out = engine.empty(shape) if out is None else output(out, shape, np.uint8)
        epochs = counted("epoch", epoch, len(positions), 2**32)
        repeats = counted("repeat", repeat, len(positions), 2**12)
        epochs, repeats = (np.broadcast_to(numbers, positions.shape) for numbers in (epochs, repeats))
        return out, self._draw(positions, epochs, repeats, out, engine)

    def __getitem__(self, key: Key) -> tuple[Any, Any]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[tuple[Any, Any]]:
        """Several (image, label) pairs at once, as DataLoader asks for them: indices, or (epoch, repeat, index)."""
        table = key_table(keys)
        images, labels = self.batch(table[:, 2], epoch=table[:, 0], repeat=table[:, 1])
        pairs = list(zip(images, labels if self.labels else labels.tolist(), strict=True))
        if self.transform is None:
            return pairs
        return [(self.transform(pil_image(image)), label) for image, label in pairs]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self[place] for place in range(len(self)))


class Dataset(IndexedPictures):
    """Pictures of a catalog's categories: index = category * number of instances + position among the instances.

    It serves `torch.utils.data.DataLoader` as it is, without importing torch. Every picture is a pure function of the
    digest and its index (and of the epoch and repeat, where a view or `fresh` depends on them), on any machine.

    Args:
        catalog: the categories.
        instances: a number (the first so many), any range, stepped too, or a sequence of instance numbers.
            `range(0, 1000, 40)` is one per variation, `range(80, 81)` the unvaried picture.
        spec: how pictures are drawn; None is `RenderSpec()`. `dataset.spec` has the family's values where it says None.
        seed: keys trajectories, patches and views.
        fresh: draw the instances anew each epoch, so that none ever comes again.
        transform: applied to a PIL image by `dataset[i]` and DataLoader; `batch` and Feed give plain pixels.
        labels: "class", or some of ("class", "mask", "boxes"): pictures are then composed of several objects, of which
            index i's is the first and the rest are drawn from the whole dataset, and the label of each is a dict in
            torchvision's detection format. Composed anew for each epoch and repeat, as random views are.
        composition: of such pictures; None is `Composition()`.

    Raises:
        ValueError: an argument is out of its range, or the spec has what the family lacks.

    >>> import fdsl
    >>> dataset = fdsl.Dataset(fdsl.search("fractaldb", categories=2), instances=1000)
    >>> len(dataset), dataset[1999][0].shape, dataset[1999][1]
    (2000, (1, 224, 224), 1)
    >>> detection = fdsl.Dataset(dataset.catalog, labels=("class", "mask", "boxes"))
    >>> image, target = detection[1999]
    >>> {name: array.dtype.name for name, array in target.items()}
    {'labels': 'int64', 'boxes': 'float32', 'masks': 'uint8'}
    """

    def __init__(
        self,
        catalog: Catalog,
        instances: int | Sequence[int] | NDArray[np.integer[Any]] = 1000,
        spec: RenderSpec | None = None,
        seed: int = 0,
        fresh: bool = False,
        transform: Callable[[Any], Any] | None = None,
        labels: str | Collection[str] = "class",
        composition: Composition | None = None,
    ) -> None:
        if not isinstance(catalog, Catalog):
            raise ValueError(f"catalog is {catalog!r}; expected an fdsl.Catalog, of fdsl.search or fdsl.catalog")
        self.catalog = catalog
        self.seed = check_seed(seed)
        self.fresh = bool(fresh)
        self.transform = transform
        self.instances = instance_numbers(instances)
        self._family = family_named(catalog.family)
        self.spec = self._family.complete(spec or RenderSpec())
        self.palette = self._family.palette(self.spec)
        self.labels = check_labels(labels)
        self.composition = self._checked(composition) if self.labels or composition is not None else None

    def _checked(self, composition: Composition | None) -> Composition:
        if not self.labels:
            raise ValueError(f"composition is {composition!r}, but labels is 'class'; expected dense labels, or None")
        if composition is not None and not isinstance(composition, Composition):
            raise ValueError(f"composition is {composition!r}; expected fdsl.Composition(...) or None")
        if self.spec.view is not None:
            raise ValueError(f"view is {self.spec.view!r}, but composed pictures have none; expected None")
        if self.transform is not None:
            raise ValueError("transform would part images from their dense labels; expected None")
        return composition or Composition()

    def __len__(self) -> int:
        return len(self.catalog) * len(self.instances)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.catalog.family}, {len(self.catalog):,} categories x {len(self.instances):,} instances, "
            f"{self.spec.size} px, digest {self.digest[:12]})"
        )

    @cached_property
    def digest(self) -> str:
        """sha256 hex of all that decides a pixel: render version, catalog, spec, seed, instances.

        `fresh` and dense labels are part of it; `transform` is not.
        """
        content = {
            "render_version": RENDER_VERSION,
            "catalog": self.catalog.digest,
            "spec": self.spec.canonical(),
            "seed": self.seed,
            "fresh": self.fresh,
            "instances": canonical_instances(self.instances),
        }
        if self.composition is not None:
            content |= {"labels": self.labels, "composition": self.composition.canonical()}
        return content_digest(content)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, as the published folders are named: at least five digits."""
        return [self.class_name(category) for category in range(len(self.catalog))]

    def class_name(self, category: int) -> str:
        """The name of one class: one of 300,000 need not name them all."""
        return f"{category:0{max(5, len(str(len(self.catalog) - 1)))}d}"

    def numbering(self, instance: int) -> dict[str, int]:
        """What an instance number stands for; {} where the instance is drawn continuously.

        >>> dataset.numbering(123)
        {'row': 3, 'pattern': 0, 'flip': 3}
        """
        return {} if self.fresh else self._family.numbering(instance)

    def file_name(self, category: int, instance: int) -> str:
        """The name of a picture's file without its suffix: the published one, else CATEGORY_instance_N.

        >>> dataset.file_name(7, 123)
        '00007_03_count_0_flip3'
        """
        name = self.class_name(category)
        return self._family.file_name(name, instance) if self.numbering(instance) else f"{name}_instance_{instance}"

    @property
    def targets(self) -> Targets:
        """The label of every index, computed when asked for."""
        return Targets(len(self.catalog), len(self.instances))

    def split(self, share: float) -> tuple[Dataset, Dataset]:
        """Two datasets of the same categories: about `share` of the instances, and the rest held out.

        Whole weight rows go to one side (fractaldb: 25 of them below instance 1,000), so that the held-out pictures
        show variations that training never saw; which ones is keyed by the seed. The unvaried row stays in the first.

        Raises:
            ValueError: `share` leaves one side empty, or the dataset is `fresh`.

        >>> import fdsl
        >>> train, held_out = fdsl.Dataset(fdsl.search("fractaldb", categories=2)).split(0.9)
        >>> len(train), len(held_out)
        (1840, 160)
        """
        if not isinstance(share, (int, float)) or not 0 < share < 1:
            raise ValueError(f"split({share!r}); expected a share between 0 and 1")
        if self.fresh:
            raise ValueError("split() of a fresh dataset; expected fresh=False, because no instance of it comes again")
        numbers = np.asarray(self.instances)
        held_out = held_out_instances(self._family, numbers, share, self.seed)
        return self._with_instances(numbers[~held_out]), self._with_instances(numbers[held_out])

    def _with_instances(self, numbers: NDArray[np.int64]) -> Dataset:
        labels = self.labels or "class"
        return Dataset(
            self.catalog, numbers, self.spec, self.seed, self.fresh, self.transform, labels, self.composition
        )

    def part_of(self, category: int) -> tuple[Dataset, int]:
        """The dataset itself, and the category."""
        return self, category

    def _draw(
        self,
        positions: NDArray[np.int64],
        epochs: NDArray[np.int64],
        repeats: NDArray[np.int64],
        out: Any,
        engine: Engine,
    ) -> Any:
        categories, places = np.divmod(positions, len(self.instances))
        instances = Instances(categories, numbers_at(self.instances, places), epochs, repeats, self.seed, self.fresh)
        if self.composition is not None:
            return self._compose(self.composition, instances, places, out, engine)
        self._draw_instances(self.spec, instances, out, engine)
        return categories

    def _draw_instances(self, spec: RenderSpec, instances: Instances, out: Any, engine: Engine) -> Drawing:
        drawing = self._family.drawing(self.catalog, instances, spec)
        engine.draw(drawing, spec, self.palette, self.seed, out)
        return drawing

    def _compose(
        self, composition: Composition, firsts: Instances, places: NDArray[np.int64], out: Any, engine: Engine
    ) -> list[Target]:
        """Draws pictures whose first objects are those instances, at those places among the dataset's."""
        count, channels, size, _ = out.shape
        columns = (firsts.categories, places, firsts.numbers, firsts.epochs, firsts.repeats)
        keys = np.stack(columns, -1).astype(np.uint32)
        objects = composition.place(keys, size, self.seed, len(self.catalog), len(self.instances))
        # One call of the engine draws all objects of one side.
        by_side = np.argsort(objects["side"], kind="stable")
        areas = channels * objects["side"][by_side].astype(np.int64) ** 2
        ends = np.cumsum(areas)
        objects["offset"][by_side] = ends - areas
        pixels, opaque = engine.empty((int(ends[-1]) if count else 0,), "uint8"), False
        sides, starts = np.unique(objects["side"][by_side], return_index=True)
        for side, group in zip(sides.tolist(), np.split(by_side, starts[1:]), strict=False):
            drawn, begin = objects[group], objects["offset"][group[0]]
            instances = replace(
                firsts,
                categories=drawn["category"].astype(np.int64),
                numbers=numbers_at(self.instances, drawn["place"].astype(np.int64)),
                epochs=firsts.epochs[drawn["picture"]],
                repeats=firsts.repeats[drawn["picture"]],
            )
            drawing = self._draw_instances(
                _scaled(self.spec, side),
                instances,
                pixels[begin : begin + channels * side**2 * len(group)].reshape(-1, channels, side, side),
                engine,
            )
            # A field has a value at each pixel, and no ground.
            opaque = getattr(drawing, "opaque", False)
        masks = engine.empty((len(objects) if "mask" in self.labels else 0, size, size), "uint8")
        engine.compose(pixels, objects, self.palette[0], opaque, out, masks)
        return targets(objects, masks, count, self.labels)

    def views(self, category: int, variation: int | None = None, threads: int | None = None) -> Images:
        """All views of one object, uint8 (views, channels, size, size), as MV-FractalDB pairs them.

        Args:
            category: row of the catalog.
            variation: its weight row; None is the unvaried one. `instances` need not hold it.
            threads: None uses the processors there are.

        Raises:
            ValueError: the family has no viewpoints, the dataset is `fresh`, or there is no such weight row.
            IndexError: there is no such category.

        >>> import fdsl
        >>> fdsl.Dataset(fdsl.search("exfractaldb", categories=1)).views(0).shape
        (12, 1, 224, 224)
        """
        family = self._family
        if not isinstance(family, ViewedFamily):
            raise ValueError(
                f"views() of {family.name}, which has no viewpoints; expected a family such as exfractaldb"
            )
        if self.fresh:
            raise ValueError("views() of a fresh dataset; expected fresh=False, because its viewpoints are drawn")
        row = family.unvaried_row if variation is None else variation
        if not isinstance(row, (int, np.integer)) or not 0 <= row < family.weight_rows:
            raise ValueError(f"variation is {variation!r}; expected a weight row from 0 to {family.weight_rows - 1}")
        if not 0 <= index(category) < len(self.catalog):
            raise IndexError(f"category {category} is out of range for a catalog of {len(self.catalog):,}")
        numbers = range(int(row) * family.viewpoints, (int(row) + 1) * family.viewpoints)
        object_views = Dataset(self.catalog, numbers, self.spec, self.seed)
        first = index(category) * family.viewpoints
        images: Images = object_views.batch(range(first, first + family.viewpoints), threads=threads)[0]
        return images


def pil_image(pixels: Images) -> Any:
    """A PIL image, "L" or "RGB", of pixels uint8 (1 or 3, H, W)."""
    from PIL import Image

    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _scaled(spec: RenderSpec, side: int) -> RenderSpec:
    """The spec of the same picture at another size: as many points to a pixel, and as much of it free at the sides."""
    points = spec.points and max(1, spec.points * side**2 // spec.size**2)
    return replace(spec, size=side, points=points, pad=spec.pad and spec.pad * side // spec.size)


def held_out_instances(family: Family, numbers: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Which instances `Dataset.split(share)` holds out, bool (N,).

    Raises:
        ValueError: `share` leaves one side empty.

    >>> int(held_out_instances(family_named("fractaldb"), np.arange(1000), 0.9, seed=0).sum())
    80
    """
    groups, members = np.unique(family.held_out_groups(numbers), return_inverse=True)
    movable = groups if family.unvaried_row is None else groups[groups != family.unvaried_row]
    count = round((1 - share) * len(groups))
    if not 0 < count <= len(movable) or count == len(groups):
        raise ValueError(
            f"split({share}) of {len(numbers)} instances in {len(groups)} weight rows leaves one side empty; "
            "expected more weight rows or another share"
        )
    keys = keyed.words(seed, Purpose.SPLIT, movable)[:, 0]
    return np.isin(groups, movable[np.argsort(keys, kind="stable")[:count]])[members]
