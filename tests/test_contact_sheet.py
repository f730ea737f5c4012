from __future__ import annotations

import numpy as np
import pytest

import fdsl
from fdsl.contact_sheet import contact_sheet


def holds(sheet: np.ndarray, image: np.ndarray, left: int, top: int) -> bool:
    part = sheet[top : top + image.shape[1], left : left + image.shape[2]]
    return np.array_equal(part, np.broadcast_to(image.transpose(1, 2, 0), part.shape))


def first_tile(sheet: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """Left and top of the first place where the sheet holds the picture."""
    height, width, _ = sheet.shape
    for top in range(height - image.shape[1]):
        for left in range(width - image.shape[2]):
            if not sheet[top, left].any() and holds(sheet, image, left, top):
                return left, top
    raise AssertionError("the sheet does not hold the picture")


@pytest.mark.parametrize(
    "spec",
    [fdsl.RenderSpec(size=40, points=2000), fdsl.RenderSpec(size=40, points=2000, color="color", draw="point")],
    ids=["gray", "color"],
)
def test_every_picture_is_there_as_it_is(catalog: fdsl.Catalog, spec: fdsl.RenderSpec) -> None:
    dataset = fdsl.Dataset(catalog, range(0, 1000, 40), spec)
    sheet = np.asarray(contact_sheet(dataset, categories=3, instances=5))
    left, top = first_tile(sheet, dataset[0][0])
    for row in range(3):
        for column, place in enumerate((0, 6, 12, 18, 24)):
            assert holds(sheet, dataset[25 * row + place][0], left + 43 * column, top + 43 * row)


def test_categories_are_the_first_or_those_asked_for(catalog: fdsl.Catalog) -> None:
    dataset = fdsl.Dataset(catalog, 4, fdsl.RenderSpec(size=32, points=500))
    whole = contact_sheet(dataset)
    assert whole.mode == "RGB"
    assert whole.size == contact_sheet(dataset, categories=range(4), instances=4).size
    chosen = np.asarray(contact_sheet(dataset, categories=[3, 1], instances=1))
    left, top = first_tile(chosen, dataset[12][0])
    assert holds(chosen, dataset[4][0], left, top + 35)


@pytest.mark.parametrize("instances", [range(1000, 1003), range(80, 81)])
def test_any_instances_have_labels(catalog: fdsl.Catalog, instances: range) -> None:
    dataset = fdsl.Dataset(catalog, instances, fdsl.RenderSpec(size=64, points=500))
    sheet = np.asarray(contact_sheet(dataset, categories=1))
    assert (sheet[:45] > 200).any(), "no instance number above the pictures"
    assert (sheet[45:, :40] > 200).any(), "no class name beside the pictures"


def test_it_is_the_same_each_time(catalog: fdsl.Catalog) -> None:
    dataset = fdsl.Dataset(catalog, 8, fdsl.RenderSpec(size=32, points=500, view=fdsl.RandomView()))
    assert contact_sheet(dataset).tobytes() == contact_sheet(dataset).tobytes()


def test_what_cannot_be_shown_is_an_error(catalog: fdsl.Catalog) -> None:
    dataset = fdsl.Dataset(catalog, 8, fdsl.RenderSpec(size=32, points=500))
    with pytest.raises(ValueError, match="0 categories x 8 instances"):
        contact_sheet(dataset, categories=0)
    with pytest.raises(ValueError, match="4 categories x 0 instances"):
        contact_sheet(dataset, instances=0)
    with pytest.raises(IndexError, match="category 4 is out of range for a catalog of 4"):
        contact_sheet(dataset, categories=[4])
    large = fdsl.Dataset(catalog, 8, fdsl.RenderSpec(size=4096, points=500))
    with pytest.raises(ValueError, match="smaller pictures"):
        contact_sheet(large)
