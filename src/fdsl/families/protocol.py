"""What the rest of fdsl asks of a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fdsl.primitives import Drawing, Instances
from fdsl.rendering import RenderSpec

if TYPE_CHECKING:
    from fdsl.catalogs import Catalog

# A variation is moved toward the unvaried parameters by so many steps at most, until its probe is sound.
SHRINK_STEPS = 8

Params = Mapping[str, NDArray[Any]]
Settings = Mapping[str, Any]


class Family(Protocol):
    """A formula: what a category is, how one is sampled, and how an instance varies it. It draws nothing."""

    @property
    def name(self) -> str:
        """What `fdsl.search` and catalogs call it."""

    @property
    def settings(self) -> Settings:
        """What `fdsl.search` takes for it beside categories and seed, with what each is unless said."""

    @property
    def criterion(self) -> str | None:
        """What a candidate is judged by, a name in criteria.py; None accepts all."""

    @property
    def weight_rows(self) -> int:
        """Parameter variations of a category, each of which is probed; 0 where there are none."""

    @property
    def unvaried_row(self) -> int | None:
        """The weight row that varies nothing, which a split leaves in its first part."""

    def check_settings(self, settings: Settings) -> None:
        """Raises a ValueError that names the first setting that is out of its range."""

    def sample(self, seed: int, candidates: NDArray[np.int64], settings: Settings) -> dict[str, NDArray[Any]]:
        """Parameters of numbered candidates, (N, ...) each; a pure function of (seed, number, settings).

        A formula may leave out candidates that it rejects by itself; {} stands for all of them.
        """

    def check_params(self, params: Params) -> int:
        """The number of categories; raises a ValueError where an array is missing, or its dtype or shape is another."""

    def check_values(self, params: Params) -> None:
        """Raises a ValueError that names the first category whose numbers make no picture."""

    def complete(self, spec: RenderSpec) -> RenderSpec:
        """The spec with the family's own values where it says None; rejects by name what the family does not have."""

    def palette(self, spec: RenderSpec) -> NDArray[np.uint8]:
        """What a pixel can hold, uint8 (N, channels), the ground first."""

    def drawing(self, catalog: Catalog, instances: Instances, spec: RenderSpec) -> Drawing:
        """What an engine needs to draw these instances."""

    def numbering(self, number: int) -> dict[str, int]:
        """What an instance number stands for, such as {"row": 3, "pattern": 0, "flip": 3}; {} where it is drawn."""

    def file_name(self, category: str, number: int) -> str:
        """The name of an instance's file without its suffix, as the published code names it."""

    def held_out_groups(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """What a split must not part, int64 (N,)."""


@runtime_checkable
class ProbedFamily(Family, Protocol):
    """A family whose parameter variations may come out broken, so that each is probed when a catalog is made."""

    @property
    def box_numbers(self) -> int:
        """Numbers of a probe's box: 4 in the plane, 5 in space (least and largest coordinate, centre of mass)."""

    def factors(self, variation: float | None) -> NDArray[np.float64]:
        """What each parameter is multiplied by, float64 (weight rows, 9, parameters): by shrink factor in eighths."""

    def probes(self, params: Params, categories: NDArray[np.int64], factors: NDArray[np.float64]) -> Drawing:
        """Unbounded pictures of categories int64 (N,), their parameters times factors float64 (N, parameters)."""


@runtime_checkable
class ViewedFamily(Family, Protocol):
    """A family whose first instances look at each weight row's object from several viewpoints."""

    @property
    def viewpoints(self) -> int:
        """Views of an object: instance = weight row * viewpoints + view."""
