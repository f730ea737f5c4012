"""Composed pictures: what lies where, what is seen of it, and that both say the same."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fdsl
from fdsl import Catalog, Composition, Crop, Dataset, RandomView, RenderSpec
from fdsl.primitives import AffineSystems

LABELS = ("class", "mask", "boxes")
SIZE, INSTANCES = 48, 30
SPEC = RenderSpec(size=SIZE, points=2_000, pad=3)
COMPOSITION_PURPOSE = 7


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    return Dataset(catalog, INSTANCES, SPEC, seed=5, labels=LABELS)


def words(seed: int, *counter: int) -> list[int]:
    out = np.zeros((1, 4), np.uint32)
    fdsl._core.philox(seed, np.array([counter], np.uint32), out)
    return [int(word) for word in out[0]]


def placed(dataset: Dataset, index: int, epoch: int, repeat: int) -> list[tuple[int, int, int, int, int]]:
    """(category, position among the instances, side, left, top) of each object, by the documented rule."""
    composition, size = dataset.composition, dataset.spec.size
    assert composition is not None
    low, high = composition.scale
    sides = [max(1, int((low + (high - low) * (step / 15)) * size + 0.5)) for step in range(16)]
    category, place = divmod(index, len(dataset.instances))

    def draw(slot: int, part: int) -> list[int]:
        purpose = COMPOSITION_PURPOSE << 28 | repeat << 16 | slot << 4 | part
        return words(dataset.seed, category, dataset.instances[place], epoch, purpose)

    fewest, most = composition.objects
    objects: list[tuple[int, int, int, int, int]] = []
    for slot in range(fewest + (draw(0, 0)[3] * (most - fewest + 1) >> 32)):
        first, second, third, _ = draw(slot, 0)
        own = (first * len(dataset.catalog) >> 32, second * len(dataset.instances) >> 32) if slot else (category, place)
        side = sides[third >> 28]
        for left, top in itertools.chain(*((at[:2], at[2:]) for at in (draw(slot, part) for part in range(1, 9)))):
            left, top = left * (size - side + 1) >> 32, top * (size - side + 1) >> 32
            shares = []
            for _, _, other, x, y in objects:
                width = max(0, min(left + side, x + other) - max(left, x))
                height = max(0, min(top + side, y + other) - max(top, y))
                shares.append(width * height / min(side, other) ** 2)
            if max(shares, default=0) <= composition.overlap:
                objects.append((*own, side, left, top))
                break
    return objects


@pytest.mark.parametrize(
    ("spec", "composition"),
    [
        (SPEC, Composition()),
        (SPEC, Composition(objects=(5, 9), scale=(0.5, 1.0), overlap=1.0)),
        (RenderSpec(size=61, points=3_000, color="color"), Composition(objects=(2, 4), overlap=0.0)),
        (RenderSpec(size=40, points=900, color="density", channels=3, draw="point"), Composition(scale=(0.01, 0.3))),
    ],
)
def test_a_picture_is_its_objects_pasted_in_order(spec: RenderSpec, composition: Composition, catalog: Catalog) -> None:
    dataset = Dataset(catalog, range(3, 1200, 40), spec, seed=2**40 + 1, labels=LABELS, composition=composition)
    chosen = [0, 7, 31, 64, 119]
    images, targets = dataset.batch(chosen, epoch=3, repeat=2)
    size = spec.size
    for index, image, target in zip(chosen, images, targets, strict=True):
        canvas = np.zeros((spec.image_channels, size, size), np.uint8)
        shown = np.full((size, size), -1)
        objects = placed(dataset, index, 3, 2)
        assert objects[0][:2] == divmod(index, len(dataset.instances))
        for number, (category, place, side, left, top) in enumerate(objects):
            # As many points to a pixel as in a whole picture, and as large a part of it free.
            points, pad = dataset.spec.points, dataset.spec.pad
            assert points is not None
            assert pad is not None
            small = RenderSpec(side, max(1, points * side**2 // size**2), spec.draw, spec.color, spec.channels,
                               pad * side // size)  # fmt: skip
            own = Dataset(catalog, [dataset.instances[place]], small, dataset.seed).batch([category])[0][0]
            drawn = own.any(0)
            window = np.s_[top : top + side, left : left + side]
            for channel in range(len(canvas)):
                canvas[channel][window][drawn] = own[channel][drawn]
            shown[window][drawn] = number
        assert np.array_equal(image, canvas)
        seen = [number for number in range(len(objects)) if (shown == number).any()]
        assert target["labels"].tolist() == [objects[number][0] + 1 for number in seen]
        assert np.array_equal(target["masks"], [shown == number for number in seen])


@settings(max_examples=40, deadline=None)
@given(
    low=st.integers(1, 12),
    more=st.integers(0, 12),
    scale=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)).map(lambda pair: (min(pair), max(pair))),
    overlap=st.floats(0, 1),
    size=st.integers(1, 70),
    seed=st.integers(0, 2**64 - 1),
)
def test_masks_boxes_and_classes_fit_together(
    low: int, more: int, scale: tuple[float, float], overlap: float, size: int, seed: int, catalog: Catalog
) -> None:
    composition = Composition((low, low + more), scale, overlap)
    spec = RenderSpec(size=size, points=300, pad=0)
    dataset = Dataset(catalog, 50, spec, seed, labels=LABELS, composition=composition)
    images, targets = dataset.batch([0, 77, 199])
    for image, target in zip(images, targets, strict=True):
        count = len(target["labels"])
        assert 1 <= count <= low + more
        assert [(name, array.dtype.name, array.shape) for name, array in target.items()] == [
            ("labels", "int64", (count,)),
            ("boxes", "float32", (count, 4)),
            ("masks", "uint8", (count, size, size)),
        ]
        assert ((target["labels"] >= 1) & (target["labels"] <= len(catalog))).all()
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert max(box[2] - box[0], box[3] - box[1]) <= max(1, scale[1] * size + 0.5)
        # No pixel belongs to two objects, and what belongs to none is ground.
        assert np.array_equal(target["masks"].sum(0), image[0] != 0)


def test_objects_and_sides_are_drawn_evenly_and_in_range(catalog: Catalog) -> None:
    composition = Composition(objects=(2, 5), scale=(0.25, 0.5), overlap=1.0)
    pictures = np.zeros((4_000, 5), np.uint32)
    pictures[:, 2] = np.arange(len(pictures))
    objects = composition.place(pictures, 200, seed=1, categories=3, instances=7)
    counts = np.bincount(objects["picture"])
    assert np.bincount(counts, minlength=6)[2:] == pytest.approx(np.full(4, 1_000), rel=0.15)
    assert np.unique(objects["side"]).tolist() == composition.sides(200).tolist()
    assert composition.sides(200)[[0, -1]].tolist() == [50, 100]
    assert np.bincount(objects["side"])[50:101:10] == pytest.approx(np.full(6, len(objects) / 16), rel=0.15)
    later = np.concatenate([[False], objects["picture"][1:] == objects["picture"][:-1]])
    assert np.bincount(objects["category"][later]) == pytest.approx(np.full(3, later.sum() / 3), rel=0.1)
    assert np.bincount(objects["place"][later]) == pytest.approx(np.full(7, later.sum() / 7), rel=0.1)
    for name in ("left", "top"):
        share = objects[name] / (200 - objects["side"])
        assert (share.min(), share.max()) == (0, 1)
        assert np.histogram(share, 5)[0] == pytest.approx(np.full(5, len(objects) / 5), rel=0.1)


def test_squares_overlap_no_more_than_allowed(catalog: Catalog) -> None:
    pictures = np.zeros((300, 5), np.uint32)
    pictures[:, 2] = np.arange(len(pictures))
    objects = Composition(objects=(8, 8), overlap=0.0).place(pictures, 100, seed=1, categories=3, instances=7)
    covered = np.zeros((300, 100, 100), np.uint8)
    for object_ in objects:
        left, top, side = (int(object_[name]) for name in ("left", "top", "side"))
        covered[object_["picture"], top : top + side, left : left + side] += 1
    assert covered.max() == 1
    # What finds no room is left out, the first object never.
    assert 1 <= np.bincount(objects["picture"]).min() < 8


def test_splits_threads_and_order_change_nothing(dataset: Dataset) -> None:
    images, targets = dataset.batch(range(len(dataset)), epoch=1, threads=1)
    order = np.random.default_rng(0).permutation(len(dataset))
    for part in np.array_split(order, 7):
        again, others = dataset.batch(part, epoch=1, threads=2)
        assert np.array_equal(again, images[part])
        for place, other in zip(part, others, strict=True):
            assert all(np.array_equal(other[name], targets[place][name]) for name in ("labels", "boxes", "masks"))
    assert pickle.dumps(pickle.loads(pickle.dumps(dataset)).batch([3])) == pickle.dumps(dataset.batch([3]))


@pytest.mark.parametrize("kernel", fdsl._core.kernels())
def test_the_same_bytes_on_every_kernel(kernel: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDSL_CPU", kernel)
    images, targets = dataset.batch(range(0, len(dataset), 3), epoch=2, repeat=1)
    content = images.tobytes() + b"".join(target[name].tobytes() for target in targets for name in sorted(target))
    # Made on x86-64 with AVX-512. A change raises rendering.RENDER_VERSION.
    assert hashlib.sha256(content).hexdigest()[:16] == "86577a1b03a2d769"


def test_epochs_and_repeats_compose_anew_around_the_same_first_object(catalog: Catalog) -> None:
    dataset = Dataset(catalog, INSTANCES, SPEC, labels=LABELS, composition=Composition(objects=(1, 3), overlap=0.0))
    pictures = {
        dataset.batch([40], epoch=epoch, repeat=repeat)[0].tobytes() for epoch in range(3) for repeat in range(2)
    }
    assert len(pictures) == 6
    image, target = dataset[(2, 1, 40)]
    assert image.tobytes() in pictures
    assert np.array_equal(target["masks"], dataset.batch([40], epoch=2, repeat=1)[1][0]["masks"])
    for epoch in range(20):
        (target,) = dataset.batch([40], epoch=epoch)[1]
        assert target["labels"][0] == 40 // INSTANCES + 1


def test_only_what_is_asked_for_comes(dataset: Dataset, catalog: Catalog) -> None:
    names = {"class": "labels", "mask": "masks", "boxes": "boxes"}
    whole_images, whole = dataset.batch(range(6))
    for count in (1, 2, 3):
        for labels in itertools.permutations(LABELS, count):
            part = Dataset(catalog, INSTANCES, SPEC, seed=5, labels=labels)
            images, targets = part.batch(range(6))
            assert np.array_equal(images, whole_images)
            for target, all_of in zip(targets, whole, strict=True):
                assert set(target) == {names[label] for label in labels}
                assert all(np.array_equal(array, all_of[name]) for name, array in target.items())


def test_the_digest_covers_labels_and_composition(catalog: Catalog) -> None:
    def digest(*labels: str, **composition: Any) -> str:
        return Dataset(catalog, 9, SPEC, labels=labels, composition=Composition(**composition)).digest

    different = [
        Dataset(catalog, 9, SPEC).digest,
        digest(*LABELS),
        digest("class"),
        digest("mask"),
        digest(*LABELS, objects=(1, 7)),
        digest(*LABELS, scale=(0.2, 0.5)),
        digest(*LABELS, overlap=0.25),
    ]
    assert len(set(different)) == len(different)
    assert digest("boxes", "class", "mask", scale=(0.25, 1)) == digest(*LABELS, scale=(0.25, 1.0))
    assert Dataset(catalog, 9, SPEC, labels=LABELS).digest == digest(*LABELS)
    assert Dataset(catalog, 9, SPEC, labels="class").digest == Dataset(catalog, 9, SPEC).digest


def test_an_empty_batch_is_empty(dataset: Dataset) -> None:
    images, targets = dataset.batch([])
    assert (images.shape, targets) == ((0, 1, SIZE, SIZE), [])


def test_a_split_keeps_dense_labels(catalog: Catalog) -> None:
    whole = Dataset(catalog, 1000, SPEC, labels=("boxes",), composition=Composition(objects=(4, 4), overlap=1.0))
    train, held_out = whole.split(0.9)
    assert len(train) + len(held_out) == len(whole)
    for part in (train, held_out):
        assert (part.labels, part.composition) == (whole.labels, whole.composition)
        assert list(part[0][1]) == ["boxes"]


def test_fresh_objects_are_drawn_anew(catalog: Catalog) -> None:
    composition = Composition(objects=(1, 1), scale=(1.0, 1.0))
    dataset = Dataset(catalog, 8, SPEC, fresh=True, labels=LABELS, composition=composition)
    plain = Dataset(catalog, 8, SPEC, fresh=True)
    for epoch in range(3):
        assert np.array_equal(dataset.batch(range(32), epoch=epoch)[0], plain.batch(range(32), epoch=epoch)[0])


def test_a_picture_without_ground_covers_its_square(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AffineSystems, "opaque", True, raising=False)
    composition = Composition(objects=(1, 1), scale=(0.5, 0.5))
    image, target = Dataset(catalog, 8, SPEC, labels=LABELS, composition=composition)[3]
    left, top, right, bottom = target["boxes"][0].astype(int)
    assert (right - left, bottom - top) == (24, 24)
    assert target["masks"].sum() == 24 * 24
    assert 0 < np.count_nonzero(image) < 24 * 24


@pytest.mark.parametrize("labels", [("area",), (), "mask", ("class", "class"), ("class", 3), None, 7])
def test_bad_labels_are_named(labels: Any, catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=r"labels is .*; expected 'class', or a tuple of some of class, mask, boxes"):
        Dataset(catalog, 5, SPEC, labels=labels)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"objects": (0, 3)}, r"Composition\(objects=\) is \(0, 3\); expected a pair of whole numbers 1 <= low"),
        ({"objects": (4, 3)}, "objects"),
        ({"objects": (1, 256)}, r"\(1, 256\); expected .* <= 255"),
        ({"objects": (1.0, 2)}, "objects"),
        ({"objects": 3}, "objects"),
        ({"scale": (0.6, 0.2)}, r"Composition\(scale=\) is \(0.6, 0.2\); expected a pair 0 < low <= high <= 1"),
        ({"scale": (0, 0.5)}, "scale"),
        ({"scale": (0.5, 1.1)}, "scale"),
        ({"scale": (float("nan"), 0.5)}, "scale"),
        ({"overlap": -0.1}, "overlap"),
        ({"overlap": float("nan")}, "overlap"),
        ({"overlap": "none"}, "overlap"),
    ],
)
def test_bad_compositions_are_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Composition(**setting)


@pytest.mark.parametrize("view", [Crop(of=100), RandomView()])
def test_what_composed_pictures_have_not_is_refused(view: Any, catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"view is .*composed pictures have none; expected None"):
        Dataset(catalog, 5, RenderSpec(size=48, view=view), labels=LABELS)
    with pytest.raises(ValueError, match="transform would part images from their dense labels"):
        Dataset(catalog, 5, SPEC, labels=LABELS, transform=lambda image: image)
    with pytest.raises(ValueError, match="but labels is 'class'"):
        Dataset(catalog, 5, SPEC, composition=Composition())
    with pytest.raises(ValueError, match=r"composition is \(1, 8\); expected"):
        Dataset(catalog, 5, SPEC, labels=LABELS, composition=(1, 8))  # type: ignore[arg-type]
    from fdsl.export.coco import export_coco
    from fdsl.export.folder import export_folder

    with pytest.raises(ValueError, match="or export_coco"):
        export_folder(Dataset(catalog, 5, SPEC, labels=LABELS), tmp_path / "new", [0])
    for labels in ("class", ("class", "boxes")):
        with pytest.raises(ValueError, match="to write as COCO"):
            export_coco(Dataset(catalog, 5, SPEC, labels=labels), tmp_path / "new")
    assert not list(tmp_path.iterdir())


class TestTorch:
    @pytest.mark.parametrize("start_method", ["fork", "spawn"])
    def test_loader_workers_give_the_same(self, start_method: str, dataset: Dataset) -> None:
        torch = pytest.importorskip("torch")
        from fdsl.detection import collate

        loader = torch.utils.data.DataLoader(
            dataset, batch_size=13, num_workers=2, collate_fn=collate, multiprocessing_context=start_method
        )
        expected, expected_targets = dataset.batch(range(len(dataset)))
        place = 0
        for images, targets in loader:
            for image, target in zip(images, targets, strict=True):
                assert np.array_equal(image.numpy(), expected[place])
                assert all(np.array_equal(target[name], array) for name, array in expected_targets[place].items())
                place += 1
        assert place == len(dataset)

    def test_a_feed_yields_lists_of_labels(self, dataset: Dataset) -> None:
        torch = pytest.importorskip("torch")
        feed, seen = fdsl.Feed(dataset, batch_size=50, shuffle_seed=1), 0
        feed.set_epoch(1)
        order = fdsl.EpochOrder(len(dataset), 1).at(range(len(dataset)), epoch=1)
        for images, targets in feed:
            expected, expected_targets = dataset.batch(order[seen : seen + len(targets)], epoch=1)
            assert np.array_equal(images.numpy(), expected)
            for target, other in zip(targets, expected_targets, strict=True):
                assert all(isinstance(tensor, torch.Tensor) for tensor in target.values())
                assert all(np.array_equal(target[name], array) for name, array in other.items())
            seen += len(targets)
        assert seen == len(dataset)

    @pytest.mark.parametrize("name", ["FasterRCNN", "MaskRCNN"])
    def test_torchvision_detectors_learn_from_a_batch(self, name: str, catalog: Catalog) -> None:
        torch = pytest.importorskip("torch")
        models = pytest.importorskip("torchvision.models.detection")
        from torchvision.models.detection.rpn import AnchorGenerator
        from torchvision.ops import MultiScaleRoIAlign

        from fdsl.detection import collate

        dataset = Dataset(catalog, 8, RenderSpec(size=64, points=2_000, channels=3), labels=LABELS)
        torch.manual_seed(0)
        backbone = torch.nn.Conv2d(3, 8, 8, stride=8)
        pools = {"box_roi_pool": MultiScaleRoIAlign(["0"], 7, 2)}
        if name == "MaskRCNN":
            pools["mask_roi_pool"] = MultiScaleRoIAlign(["0"], 14, 2)
        backbone.out_channels = 8
        detector = getattr(models, name)(
            backbone, len(dataset.classes) + 1, min_size=64, max_size=64,
            rpn_anchor_generator=AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),)), **pools,
        )  # fmt: skip
        images, targets = collate([dataset[0], dataset[9]])
        losses = detector([image.float() / 255 for image in images], targets)
        assert ("loss_mask" in losses) == (name == "MaskRCNN")
        sum(losses.values()).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert backbone.weight.grad.abs().sum() > 0

    def test_a_classifier_is_not_trained_on_them(self, dataset: Dataset) -> None:
        sources = pytest.importorskip("fdsl.train.sources")
        with pytest.raises(ValueError, match=r"labels is \('class', 'mask', 'boxes'\); expected 'class'"):
            sources.DrawnSource(dataset)


def decoded(segmentation: dict[str, Any]) -> np.ndarray:
    """A mask of COCO's compressed run lengths, as rleFrString and rleDecode of its maskApi.c read them."""
    height, width = segmentation["size"]
    lengths: list[int] = []
    characters = iter(segmentation["counts"].encode())
    for character in characters:
        value, shift = 0, 0
        while True:
            group = character - 48
            value |= (group & 31) << shift
            shift += 5
            if not group & 32:
                break
            character = next(characters)
        if group & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
    values = np.repeat(np.arange(len(lengths)) % 2, lengths)
    assert len(values) == height * width
    return values.reshape(width, height).T


class TestCoco:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32))
    def test_run_lengths_decode_to_the_mask(self, height: int, width: int, share: float, seed: int) -> None:
        from fdsl.export.coco import run_lengths

        mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
        assert np.array_equal(decoded({"size": mask.shape, "counts": run_lengths(mask)}), mask)

    @pytest.mark.parametrize("side", [700, 4096])
    def test_long_runs_decode_too(self, side: int) -> None:
        from fdsl.export.coco import run_lengths

        for corners in ((), ((0, 0),), ((side // 2, side // 3), (side // 2 + 1, side // 3)), ((side - 1, side - 1),)):
            mask = np.zeros((side, side), np.uint8)
            for corner in corners:
                mask[corner] = 1
            assert np.array_equal(decoded({"size": mask.shape, "counts": run_lengths(mask)}), mask)
            assert np.array_equal(decoded({"size": mask.shape, "counts": run_lengths(1 - mask)}), 1 - mask)

    @pytest.mark.parametrize("color", ["gray", "color"])
    def test_what_is_written_is_what_was_drawn(self, color: str, catalog: Catalog, tmp_path: Path) -> None:
        from fdsl.export.coco import export_coco

        dataset = Dataset(catalog, INSTANCES, RenderSpec(size=48, points=2_000, color=color), labels=LABELS)
        chosen, reports = [5, 77, 118, 0], []
        export_coco(dataset, tmp_path / "coco", chosen, lambda *report: reports.append(report))
        content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
        assert content["info"]["digest"] == dataset.digest
        assert [(row["id"], row["name"]) for row in content["categories"]] == [
            (label + 1, name) for label, name in enumerate(dataset.classes)
        ]
        assert [row["id"] for row in content["images"]] == chosen
        assert [row["id"] for row in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
        assert reports[-1] == ("drawing", 4, 4)
        assert len(list((tmp_path / "coco" / "images").iterdir())) == 4
        for row in content["images"]:
            pixels, target = dataset[row["id"]]
            with Image.open(tmp_path / "coco" / "images" / row["file_name"]) as image:
                assert image.size == (row["width"], row["height"])
                found = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            assert np.array_equal(found, np.broadcast_to(pixels, found.shape))
            own = [entry for entry in content["annotations"] if entry["image_id"] == row["id"]]
            assert [entry["category_id"] for entry in own] == target["labels"].tolist()
            for entry, box, mask in zip(own, target["boxes"], target["masks"], strict=True):
                left, top, width, height = entry["bbox"]
                assert [left, top, left + width, top + height] == box.tolist()
                assert np.array_equal(decoded(entry["segmentation"]), mask)
                assert (entry["area"], entry["iscrowd"]) == (mask.sum(), 0)

    def test_a_failure_leaves_nothing(self, dataset: Dataset, tmp_path: Path) -> None:
        from fdsl.export.coco import export_coco

        def fail(*_: Any) -> None:
            assert list(tmp_path.rglob("*.png"))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export_coco(dataset, tmp_path / "coco", None, fail)
        for indices in ([0, len(dataset)], [-1], [3, 3]):
            with pytest.raises(ValueError, match="indices are not distinct whole numbers from 0 to 119"):
                export_coco(dataset, tmp_path / "coco", indices)
        assert not list(tmp_path.iterdir())


def test_a_contact_sheet_shows_masks_and_boxes(catalog: Catalog) -> None:
    from fdsl.contact_sheet import contact_sheet

    labelled = np.asarray(contact_sheet(Dataset(catalog, 8, SPEC, labels=LABELS), 2, 3))
    plain = np.asarray(contact_sheet(Dataset(catalog, 8, SPEC), 2, 3))
    assert labelled.shape == plain.shape
    colored = labelled.max(-1).astype(int) - labelled.min(-1) > 100
    assert colored.sum() > 500
    assert not (plain.max(-1).astype(int) - plain.min(-1) > 100).any()
