from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fdsl
from fdsl import Catalog, Dataset, RandomView, RenderSpec
from fdsl.families.fractaldb import UNVARIED_ROW

SPEC = RenderSpec(size=32, points=500)


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    return Dataset(catalog, 20, SPEC)


def test_an_index_is_a_category_and_a_position(catalog: Catalog) -> None:
    numbers = range(3, 1003, 50)
    dataset = Dataset(catalog, numbers, SPEC)
    assert len(dataset) == 4 * 20
    image, label = dataset[2 * 20 + 7]
    assert label == 2
    assert image.shape == (1, 32, 32)
    assert image.dtype == np.uint8
    assert np.array_equal(image, Dataset(catalog, [numbers[7]], SPEC)[2][0])
    assert np.array_equal(dataset[-1][0], dataset[79][0])


def test_targets_and_classes_cost_nothing(catalog: Catalog) -> None:
    dataset = Dataset(catalog, 10**8, SPEC)
    assert len(dataset.targets) == 4 * 10**8
    assert (dataset.targets[10**8], dataset.targets[-1], dataset.targets[1:3]) == (1, 3, [0, 0])
    assert dataset.classes == ["00000", "00001", "00002", "00003"]
    assert np.asarray(Dataset(catalog, 2, SPEC).targets).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_split_holds_out_whole_weight_rows(catalog: Catalog) -> None:
    whole = Dataset(catalog, 1000, SPEC)
    train, held_out = whole.split(0.9)
    numbers = [set(np.asarray(part.instances).tolist()) for part in (train, held_out)]
    assert numbers[0] | numbers[1] == set(range(1000))
    rows = [{number // 40 for number in part} for part in numbers]
    assert not rows[0] & rows[1]
    assert UNVARIED_ROW in rows[0]
    assert len(rows[1]) == 2  # a tenth of 25
    assert whole.split(0.9)[1].digest == held_out.digest
    others = {tuple(Dataset(catalog, 1000, SPEC, seed=seed).split(0.9)[1].instances) for seed in range(8)}
    assert len(others) > 1
    image, label = held_out[0]
    assert np.array_equal(image, whole[held_out.instances[0]][0])
    assert label == 0


def test_a_split_keeps_flips_of_continuous_instances_together(catalog: Catalog) -> None:
    train, held_out = Dataset(catalog, 4000, SPEC).split(0.8)
    assert not {n // 4 for n in train.instances} & {n // 4 for n in held_out.instances}


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, 0.999])
def test_a_split_that_leaves_nothing_is_refused(share: float, catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="split"):
        Dataset(catalog, 1000, SPEC).split(share)
    with pytest.raises(ValueError, match="one side empty"):
        Dataset(catalog, range(80, 120), SPEC).split(0.5)
    with pytest.raises(ValueError, match="fresh"):
        Dataset(catalog, 1000, SPEC, fresh=True).split(0.5)


def test_fresh_instances_never_come_again(catalog: Catalog) -> None:
    dataset = Dataset(catalog, 8, SPEC, fresh=True)
    epochs = [dataset.batch(range(32), epoch=epoch)[0].tobytes() for epoch in range(3)]
    assert len(set(epochs)) == 3
    fixed = Dataset(catalog, 8, SPEC)
    assert np.array_equal(fixed.batch(range(8), epoch=1)[0], fixed.batch(range(8))[0])


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([80], IndexError, "index 80 is out of range for a dataset of 80"),
        ([0, -81], IndexError, "index -81 is out of range"),
        ([0.5], ValueError, "expected integers"),
        ([[0]], ValueError, "expected integers of shape"),
    ],
)
def test_bad_indices_are_named(indices: list, error: type[Exception], message: str, dataset: Dataset) -> None:
    with pytest.raises(error, match=message):
        dataset.batch(indices)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"epoch": -1}, "epoch is -1"),
        ({"repeat": 4096}, "repeat is 4096"),
        ({"threads": 0}, "threads is 0"),
        ({"out": np.zeros((1, 1, 32, 31), np.uint8)}, "out is uint8"),
        ({"out": np.zeros((2, 1, 32, 32), np.uint8)[::2]}, None),
        ({"out": np.zeros((1, 1, 32, 64), np.uint8)[..., ::2]}, "contiguous"),
    ],
)
def test_bad_batch_arguments_are_named(keywords: dict, message: str | None, dataset: Dataset) -> None:
    if message is None:
        dataset.batch([0], **keywords)
        return
    with pytest.raises(ValueError, match=message):
        dataset.batch([0], **keywords)


@pytest.mark.parametrize("instances", [0, -1, [], [1, 1], [-1], [0.5], range(5, -3, -1), [2**32], "all"])
def test_bad_instances_are_named(instances: object, catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="expected"):
        Dataset(catalog, instances, SPEC)


def test_an_index_is_a_whole_number(dataset: Dataset) -> None:
    with pytest.raises(TypeError):
        dataset[0.5]
    with pytest.raises(IndexError, match="index 80 is out of range"):
        dataset[80]
    assert np.array_equal(dataset[np.int64(3)][0], dataset[3][0])


def test_an_empty_batch_is_empty(dataset: Dataset) -> None:
    images, labels = dataset.batch([])
    assert images.shape == (0, 1, 32, 32)
    assert len(labels) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transform_gets_a_pil_image(channels: int, catalog: Catalog) -> None:
    spec = RenderSpec(size=32, points=500, channels=channels)
    dataset = Dataset(catalog, 5, spec, transform=lambda image: (image.mode, np.asarray(image)))
    (mode, pixels), label = dataset[7]
    assert mode == {1: "L", 3: "RGB"}[channels]
    plain, _ = Dataset(catalog, 5, spec)[7]
    assert np.array_equal(pixels.reshape(32, 32, channels).transpose(2, 0, 1), plain)
    assert label == 1


def test_keys_carry_epoch_and_repeat(catalog: Catalog) -> None:
    dataset = Dataset(catalog, 5, RenderSpec(size=32, points=500, view=RandomView()))
    (first, label), (second, _) = dataset.__getitems__([(3, 1, 7), 7])
    assert np.array_equal(first, dataset.batch([7], epoch=3, repeat=1)[0][0])
    assert np.array_equal(second, dataset.batch([7])[0][0])
    assert not np.array_equal(first, second)
    assert label == 1


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_loader_workers_give_the_same_images_epoch_after_epoch(
    start_method: str, tmp_path: Path, catalog: Catalog
) -> None:
    torch = pytest.importorskip("torch")
    catalog.save(tmp_path / "catalog.safetensors")
    dataset = Dataset(Catalog.load(tmp_path / "catalog.safetensors"), 10, SPEC)
    assert len(pickle.dumps(dataset)) < 20_000  # the catalog goes as its path
    dataset.batch(range(4), threads=2)  # a fork after threads have run
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=16, num_workers=2, persistent_workers=True, multiprocessing_context=start_method
    )
    expected, expected_labels = dataset.batch(range(40))
    for _ in range(2):
        images, labels = zip(*loader, strict=True)
        assert np.array_equal(torch.cat(images).numpy(), expected)
        assert torch.cat(labels).tolist() == expected_labels.tolist()


def test_a_deit_style_script_changes_one_line(catalog: Catalog) -> None:
    torch = pytest.importorskip("torch")
    create_loader = pytest.importorskip("timm.data").create_loader
    # was: dataset = torchvision.datasets.ImageFolder(root)
    dataset = Dataset(catalog, 10, RenderSpec(size=48, points=500, channels=3))
    loader = create_loader(
        dataset, (3, 32, 32), batch_size=8, is_training=True, use_prefetcher=False, num_workers=2,
        re_prob=0.25, color_jitter=0.4, hflip=0.0, persistent_workers=False,
        device=torch.device("cpu"),
    )  # fmt: skip
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, len(dataset.classes)))
    optimizer = torch.optim.AdamW(model.parameters())
    for images, labels in loader:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert images.shape == (8, 3, 32, 32)
    assert torch.isfinite(loss)


def test_import_takes_numpy_and_safetensors_and_nothing_heavy() -> None:
    script = (
        "import sys, fdsl\n"
        "fdsl.Dataset\n"
        "heavy = {'torch', 'typer', 'rich', 'PIL', 'timm', 'lightning', 'matplotlib', 'torchvision'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_missing_torch_is_named() -> None:
    script = "import sys; sys.modules['torch'] = None\nimport fdsl\ntry: fdsl.Feed\nexcept ImportError as e: print(e)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'fdsl[torch]'" in ran.stdout


def test_the_public_names_are_there() -> None:
    assert all(hasattr(fdsl, name) for name in fdsl.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = fdsl.nothing


def test_equal_views_have_equal_digests_however_their_numbers_came(catalog: fdsl.Catalog) -> None:
    views = [
        fdsl.RandomView(scale=(0.5, 1), ratio=(1, 2), rotation=0, flip=1),
        fdsl.RandomView(scale=(0.5, 1.0), ratio=(1.0, 2.0), rotation=0.0, flip=1.0),
        fdsl.RandomView(scale=(np.float64(0.5), 1.0), ratio=(1.0, 2.0), rotation=0.0, flip=1.0),
    ]
    digests = {fdsl.Dataset(catalog, 10, fdsl.RenderSpec(view=view)).digest for view in views}
    assert len(digests) == len(set(views)) == 1


@pytest.mark.parametrize("kind", [Dataset, fdsl.clouds.CloudDataset, fdsl.clouds.SceneDataset])
@pytest.mark.parametrize("catalog", ["fractaldb", None])
def test_what_is_no_catalog_is_named(kind: type, catalog: object) -> None:
    with pytest.raises(ValueError, match=f"^catalog is {catalog!r}; expected an fdsl.Catalog"):
        kind(catalog)
