from __future__ import annotations

import platform
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

import fdsl

augmentation = pytest.importorskip("fdsl.train.augmentation")
torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm.data.auto_augment")
from timm.data.mixup import Mixup, mixup_target  # noqa: E402
from timm.data.random_erasing import RandomErasing  # noqa: E402

from fdsl.train.rand_augment import OPERATIONS, apply, argument  # noqa: E402
from fdsl.train.recipes import Augmentation  # noqa: E402

WARPS = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}
BLENDS = {"Color", "Contrast", "Brightness", "Sharpness"}
FILL = (128, 100, 7)


def augment(seed: int = 0, classes: int = 10, mean: Any = (0.5,), std: Any = (0.5,), **settings: Any) -> Any:
    return augmentation.Augment(Augmentation(**settings), classes, mean, std, seed)


@pytest.fixture(scope="module")
def pictures(catalog: fdsl.Catalog) -> Any:
    """Drawn ones, noise of any, of dark and of two values, a ramp, one of one value: uint8 (9, 3, 40, 40)."""
    numbers, spec = np.random.default_rng(0), fdsl.RenderSpec(size=40, points=3000, color="color")
    drawn = fdsl.Dataset(catalog, 1, spec).batch([0, 1, 2])[0]
    gray = np.repeat(drawn.max(1, keepdims=True), 3, 1)[:1]
    noise = [numbers.integers(0, high, (1, 3, 40, 40)) for high in (256, 40, 2)]
    ramp = np.arange(40) * np.array([6, 5, 2])[:, None, None] + np.arange(40)[:, None] % 3
    return torch.from_numpy(
        np.concatenate([drawn, gray, *noise, ramp[None], np.full((1, 3, 40, 40), 9)]).astype(np.uint8)
    )


def pillow(image: Any) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())


def array(image: Image.Image) -> NDArray[np.int64]:
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1).astype(int)


def done(images: Any, name: str, values: NDArray[np.float64], fill: Any = (128,)) -> NDArray[np.int64]:
    layer = [(name, np.arange(len(images)), values)]
    return apply(images, [layer], torch.tensor(fill).float().view(1, -1, 1, 1)).numpy().astype(int)


@pytest.mark.parametrize("increasing", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_magnitude_means_what_it_means_in_timm(name: str, increasing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    named = name + "Increasing" if increasing and name + "Increasing" in timm.LEVEL_TO_ARG else name
    magnitudes = np.linspace(0, 10, 87)
    for sign in (1, -1):
        monkeypatch.setattr(timm, "_randomly_negate", lambda value, sign=sign: sign * value)
        level = timm.LEVEL_TO_ARG[named] or (lambda *_: (0.0,))
        expected = [level(magnitude, {})[0] for magnitude in magnitudes]
        assert argument(name, magnitudes, sign, increasing).tolist() == expected


def test_the_operations_are_those_of_timm_in_its_order() -> None:
    assert list(OPERATIONS) == timm._RAND_TRANSFORMS


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in WARPS])
def test_pixel_values_are_those_of_timm(name: str, channels: int, pictures: Any) -> None:
    images = pictures[:, :channels]
    for magnitude in (0, 2.6, 5.1, 9, 10):
        for increasing, sign in ((False, 1), (True, 1), (True, -1)):
            value = float(argument(name, magnitude, sign, increasing))
            if name == "Posterize" and not value:
                expected = np.zeros(images.shape, int)  # Pillow 13 refuses it
            else:
                arguments = [int(value) if "oster" in name or "olar" in name else value]
                arguments = [] if name in ("AutoContrast", "Equalize", "Invert") else arguments
                expected = np.stack([array(timm.NAME_TO_OP[name](pillow(image), *arguments)) for image in images])
            # On other processors Pillow's compiler may fuse a multiplication with an addition.
            allowed = name in BLENDS and platform.machine() not in ("x86_64", "AMD64")
            assert np.abs(done(images, name, np.full(len(images), value)) - expected).max() <= allowed


@pytest.mark.parametrize("shape", [(30, 30), (40, 27)])
@pytest.mark.parametrize("name", sorted(WARPS))
def test_warps_are_those_of_timm(name: str, shape: tuple[int, int], pictures: Any) -> None:
    images = pictures[..., : shape[0], : shape[1]]
    for magnitude in (-10.0, -8.7, 0.0, 3.3, 9.1):
        value = float(argument(name, abs(magnitude), np.sign(magnitude)))
        options = {"resample": Image.Resampling.BILINEAR, "fillcolor": FILL}
        expected = np.stack([array(timm.NAME_TO_OP[name](pillow(image), value, **options)) for image in images])
        difference = np.abs(done(images, name, np.full(len(images), value), FILL) - expected)
        # Between simple fractions values are whole numbers, and how they are rounded decides.
        assert np.mean(difference > 0) < 0.03
        assert np.mean(difference > 1) < 0.0002


def test_one_channel_becomes_what_three_equal_ones_do(pictures: Any) -> None:
    gray, labels = pictures.repeat(40, 1, 1, 1)[:, :1], torch.zeros(360, dtype=torch.int64)
    change = augment(rand_augment=9, rand_augment_increasing=True)
    one, three = (change(images, labels, 0)[0] for images in (gray, gray.expand(-1, 3, -1, -1)))
    assert torch.equal(one.expand(-1, 3, -1, -1), three)


ALL_KEYED = {"rand_augment": 9.0, "rand_augment_increasing": True, "erasing": 0.5}


@pytest.mark.parametrize("settings", [ALL_KEYED, {"color_jitter": 0.4, "erasing": 0.5}])
def test_a_sample_is_a_function_of_the_seed_and_its_number(settings: dict[str, Any], pictures: Any) -> None:
    images, labels = pictures[[0, 3, 4, 7] * 8], torch.arange(32) % 10
    before, first = images.clone(), 2**32 - 20
    whole, _ = augment(**settings)(images, labels, first)
    assert torch.equal(images, before)
    parts = [
        augment(**settings)(images[part], labels[part], first + part.start) for part in (slice(0, 9), slice(9, 32))
    ]
    assert torch.equal(torch.cat([pixels for pixels, _ in parts]), whole)
    for other in (augment(seed=1, **settings)(images, labels, first), augment(**settings)(images, labels, first + 32)):
        assert (other[0] != whole).flatten(1).any(1).float().mean() > 0.5


def test_lower_precision_of_training_does_not_reach_it(pictures: Any) -> None:
    labels = torch.arange(9)
    expected = augment(**ALL_KEYED, mixup=0.8)(pictures, labels, 0)
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(augment(**ALL_KEYED, mixup=0.8)(pictures, labels, 0), expected, strict=True):
            assert torch.equal(one, other)


def test_other_random_numbers_are_left_alone(pictures: Any) -> None:
    def states() -> list[Any]:
        return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]

    before = states()
    change = augment(**ALL_KEYED, mixup=0.8, cutmix=1.0)
    change(pictures, torch.zeros(9, dtype=torch.int64), 0)
    assert states() == before
    assert not change.state_dict()
    assert not list(change.parameters())


def test_rand_augment_draws_as_timm() -> None:
    layers = augment(rand_augment=9).operations(0, 30_000)
    assert len(layers) == 2
    for layer in layers:
        members = np.concatenate([members for _, members, _ in layer])
        assert len(members) == len(set(members)) == pytest.approx(15_000, abs=300)
        for _, members, _ in layer:
            assert len(members) == pytest.approx(1000, abs=150)
        values = {name: values for name, _, values in layer}
        magnitudes = np.abs(values["Rotate"]) / 3
        numbers = np.random.default_rng(0).normal(9, 0.5, 100_000).clip(0, 10)
        assert magnitudes.mean() == pytest.approx(numbers.mean(), abs=0.06)
        assert magnitudes.std() == pytest.approx(numbers.std(), abs=0.06)
        assert (values["Rotate"] > 0).mean() == pytest.approx(0.5, abs=0.06)
    together = np.zeros((15, 15))
    chosen = np.full((2, 30_000), -1)
    for layer, numbers in zip(layers, chosen, strict=True):
        for name, members, _ in layer:
            numbers[members] = list(OPERATIONS).index(name)
    both = (chosen >= 0).all(0)
    np.add.at(together, tuple(chosen[:, both]), 1)
    assert both.mean() == pytest.approx(0.25, abs=0.01)
    assert together.min() > 10
    assert together.max() < 70  # 33 each, also the same twice


def test_colour_jitter_is_that_of_torchvision(pictures: Any) -> None:
    images, change = pictures.repeat(3, 1, 1, 1), augment(color_jitter=0.4, mean=[0.0], std=[1 / 255])
    enhancers = {"Brightness": ImageEnhance.Brightness, "Contrast": ImageEnhance.Contrast, "Color": ImageEnhance.Color}
    layers = change.operations(0, len(images))
    expected = [pillow(image) for image in images]
    for layer in layers:
        for name, members, factors in layer:
            for member, factor in zip(members, factors, strict=True):
                expected[member] = enhancers[name](expected[member]).enhance(factor)
    pixels, _ = change(images, torch.zeros(27, dtype=torch.int64), 0)
    assert np.abs(pixels.numpy() - np.stack([array(image) for image in expected])).max() < 1.01
    drawn = change.operations(0, 6000)
    for layer in drawn:
        assert [len(members) for _, members, _ in layer] == pytest.approx([2000] * 3, abs=150)
        factors = np.concatenate([factors for _, _, factors in layer])
        assert factors.min() == pytest.approx(0.6, abs=0.01)
        assert factors.max() == pytest.approx(1.4, abs=0.01)


def test_erasing_is_that_of_timm() -> None:
    images, labels = torch.full((800, 3, 32, 24), 255, dtype=torch.uint8), torch.zeros(800, dtype=torch.int64)
    pixels, _ = augment(erasing=0.25)(images, labels, 0)
    white = augment().normalize(images)
    erased = (pixels != white).any(1)
    found = erased.flatten(1).any(1)
    assert found.float().mean() == pytest.approx(0.25, abs=0.05)
    for mask in erased[found]:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()
    noise = pixels.permute(0, 2, 3, 1)[erased]
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1, abs=0.03)

    erased = (augment(erasing=1.0)(images, labels, 0)[0] != white).any(1)
    random.seed(0)
    reference = RandomErasing(1.0, mode="pixel", device="cpu")(torch.ones(800, 3, 32, 24))
    reference = (reference != 1).any(1)
    for measure in (
        lambda mask: mask.flatten(1).float().mean(1),
        lambda mask: mask.any(2).sum(1) / mask.any(1).sum(1),
        lambda mask: mask.any(2).float().argmax(1).float(),
        lambda mask: mask.any(1).float().argmax(1).float(),
    ):
        ours, theirs = measure(erased), measure(reference)
        error = float((ours.var() + theirs.var()) / 800) ** 0.5
        assert ours.mean() == pytest.approx(float(theirs.mean()), abs=4 * error)
        assert ours.std() == pytest.approx(float(theirs.std()), rel=0.15)


def kept(targets: Any, labels: Any) -> float:
    """The share that a picture keeps, of targets without smoothing, where the first and last label are different."""
    return float(targets[0, labels[0]])


def test_mixup_is_that_of_timm(pictures: Any) -> None:
    images, labels = pictures[:8], torch.arange(8)
    change = augment(mixup=0.8, mean=[0.2, 0.3, 0.4], std=[0.5, 0.4, 0.3])
    plain = change.normalize(images)
    shares = []
    for first in range(0, 3200, 8):
        pixels, targets = change(images[:, :, :2, :2], labels, first)
        shares.append(kept(targets, labels))
        expected = plain[..., :2, :2] * shares[-1] + plain[..., :2, :2].flip(0) * (1 - shares[-1])
        assert torch.allclose(pixels, expected, atol=1e-5)
        assert torch.allclose(targets, mixup_target(labels, 10, shares[-1]), atol=1e-6)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.15)


def test_cutmix_is_that_of_timm() -> None:
    images = torch.arange(1, 7, dtype=torch.uint8)[:, None, None, None].expand(6, 1, 20, 30).contiguous()
    labels, change = torch.arange(6), augment(cutmix=1.0, mean=[0.0], std=[1 / 255])
    shares = []
    for first in range(0, 6 * 600, 6):
        pixels, targets = change(images, labels, first)
        theirs = (pixels - images.flip(0)).abs() < 1e-4
        assert torch.equal(theirs, theirs[:1].expand_as(theirs))
        assert ((pixels - images).abs() < 1e-4)[~theirs].all()
        assert theirs[0, 0].sum() == theirs[0, 0].any(0).sum() * theirs[0, 0].any(1).sum()
        shares.append(kept(targets, labels))
        assert shares[-1] == pytest.approx(1 - float(theirs[0].float().mean()), abs=1e-6)
    np.random.seed(0)
    reference = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0)
    expected = [reference._mix_batch(images.float()) for _ in range(600)]
    error = float(np.sqrt((np.var(shares) + np.var(expected)) / 600))
    assert np.mean(shares) == pytest.approx(np.mean(expected), abs=4 * error)
    assert np.std(shares) == pytest.approx(np.std(expected), rel=0.1)


def test_a_batch_has_mixup_or_cutmix_at_equal_odds() -> None:
    images, labels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).repeat(1, 1, 6, 6), torch.tensor([0, 1])
    change = augment(mixup=0.8, cutmix=1.0)
    mixed = [bool((change(images, labels, first)[0].abs() < 0.999).any()) for first in range(0, 1000, 2)]
    assert np.mean(mixed) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_smoothed_as_in_timm(smoothing: float) -> None:
    images, labels = torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.tensor([3, 0, 9, 9, 1])
    _, targets = augment(label_smoothing=smoothing)(images, labels, 0)
    assert torch.equal(targets, mixup_target(labels, 10, 1.0, smoothing))
    _, targets = augment(label_smoothing=smoothing, mixup=0.8)(images, labels, 0)
    on, off = 1 - smoothing + smoothing / 10, smoothing / 10
    share = float((targets[0, 3] - off) / (on - off))
    assert torch.allclose(targets, mixup_target(labels, 10, share, smoothing), atol=1e-6)


def test_pixels_are_shifted_and_scaled_by_channel(pictures: Any) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    change = augment(mean=mean, std=std)
    expected = (pictures / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.allclose(change.normalize(pictures), expected, atol=1e-5)
    assert torch.equal(change(pictures, torch.zeros(9, dtype=torch.int64), 0)[0], change.normalize(pictures))
    assert change.normalize(pictures[:0]).shape == (0, 3, 40, 40)  # a rank's slice of a short batch may be empty


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": 0}, "classes is 0; expected 1 or more"),
        ({"mean": [0.5, 0.5]}, r"mean is \[0.5, 0.5\]; expected one number, or three"),
        ({"std": [0.0]}, r"std is \[0.0\]; expected numbers over 0"),
        ({"seed": -1}, "seed is -1; expected an integer"),
    ],
)
def test_bad_numbers_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment(**changed)


def test_other_images_are_refused() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"torch.float32 \(2, 1, 4, 4\); expected uint8 \(batch, 1 or 3"):
        augment(rand_augment=9)(torch.zeros(2, 1, 4, 4), labels, 0)
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\); expected uint8 \(batch, 3, height, width\)"):
        augment(mean=[0.5] * 3)(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), labels, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the way through pinned memory not run")
def test_without_kernels_a_gpu_does_the_same(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_gpu", lambda _: None)
    images, labels = pictures.repeat(30, 1, 1, 1), torch.arange(270) % 10
    change = augment(**ALL_KEYED, mixup=0.8, cutmix=1.0, label_smoothing=0.1)
    here, there = change(images, labels, 8), change(images.cuda(), labels.cuda(), 8)
    assert ((here[0] - there[0].cpu()).abs() > 0.02).float().mean() < 0.001
    assert torch.allclose(here[1], there[1].cpu())
