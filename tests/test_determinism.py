"""The same bytes on every kernel, thread count, batch split, order, process and floating-point mode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pictures
import pytest

import fdsl
from fdsl import Catalog, _core

# Made on x86-64 with AVX-512. A change raises rendering.RENDER_VERSION.
DIGESTS = {
    "fractaldb": {
        "point": "fdea8abf24756381",
        "point, odd size": "1c29f3c08e038ab9",
        "fewer points than trajectories": "078082b033a4e1d1",
        "point, stored fit": "13db88f15bf7f5bd",
        "point, three channels": "9ec513b28b9156ea",
        "point, no padding": "1ee7f9f171cbaebf",
        "patch": "e601a0eaf69168c0",
        "patch, large": "05d2cb3349496782",
        "patch per point": "ac7b6d1e6864a8bd",
        "patch per point, color": "7fda492982439e69",
        "color": "89e4f8bc545410f0",
        "color, patch": "168dd3640c9fbb6f",
        "density": "f5a09595448c78ca",
        "density, patch, three channels": "a5a756c40fae0c0f",
        "crop": "1cb0ec8b288f0f5f",
        "random view": "f16fd529defbc8e5",
        "random view, rotation": "b55632d97fbc5f0b",
        "published instances": "62d0716e928220a0",
        "fresh": "916cbb3a60cf242d",
    },
    "bezier": {
        "gray": "2a1152e9e2b6131a",
        "white, three channels, odd size": "7dad2c8cc895f07f",
        "color": "1fce4c08d41a9ce4",
        "crop": "ee1d356c25afc96f",
        "random view": "be90fb683e9f206d",
        "fresh": "f68efa39b334435e",
    },
    "perlin": {
        "gray": "58178a48772be8d1",
        "three channels, odd size": "45cc9eb702838bd1",
        "color": "a7d9bc4c8cd3f123",
        "crop": "1be2cb83ace4f2e4",
        "random view": "2e6fc91fee4b7a81",
        "fresh": "2be253d8a3cc6eb5",
    },
    "rcdb": {
        "gray": "b522a6c12a0d7703",
        "gray, odd size": "31c423b7400af194",
        "gray, three channels": "320ddbe4361813e4",
        "gray, large": "123c2c404698b5c9",
        "color": "0ef46e48369ea9ec",
        "crop": "d8faa80f83ecd7d9",
        "random view": "5ed97e798c6f3c4f",
        "random view, rotation": "37f111e5a2706afc",
        "fresh": "843c7fdd112fd694",
        "broken contours": "e7bcfb0778a78c28",
    },
    "visualatom": {
        "gray": "11f8a5b41c7e7cda",
        "gray, odd size": "8cf1835743c7e116",
        "gray, three channels": "be367c562580608a",
        "gray, large": "7623fde9074c8d09",
        "color": "fa8ff4ac54497481",
        "crop": "62a5f2b4e39e8be1",
        "random view": "3d9415da42979df7",
        "random view, rotation": "77120fe05c9f3d34",
        "fresh": "3ade5b2ad0d03e4f",
    },
    "exfractaldb": {
        "point": "720d8fdbbecb457c",
        "point, odd size": "a7ab9baf365b69ac",
        "fewer points than trajectories": "97e471bc27441fb7",
        "point, stored fit": "456d9a8ebbf9d12a",
        "point, large": "733e3959324d65ce",
        "patch": "9bed1ccbb0f12540",
        "patch per point": "9cfa0d2d63594bce",
        "patch per point, color": "14e8c9353f717c0d",
        "color": "d7532fa31df05149",
        "color, patch": "f5690704f9cc68e4",
        "density": "232acfa2bdd8f9ab",
        "crop": "b05a054a62368d46",
        "random view": "2c2cab45b776f50b",
        "random view, rotation": "2d7610afdb64b29e",
        "published instances": "13372e7f3f50771f",
        "fresh": "4ff8c47b1baf87c1",
    },
    "sparks": {
        "point": "bac9a01b53f8adff",
        "patch, odd size, three channels": "a0eaa1f5e00bad11",
        "patch per point, color": "87d7f3119162e6b7",
        "color, patch": "18202ca6f05eeab9",
        "density, no padding": "f885efef82f853d9",
        "crop": "3ac0423125c27920",
        "random view, rotation": "5acfb0f968e6ba94",
        "fresh": "247ecc86a91fef31",
    },
    "sparks_in_space": {
        "point": "88cb50b52c4a5b07",
        "color, random view": "1312f416318489ff",
    },
    "zigzags": {
        "gray": "a5b4bee7c9ab26cf",
        "color": "a50aae25064d0f98",
        "white, no padding": "519b728c0e1491e1",
        "crop": "59ed16bbc3025a0d",
        "random view, rotation": "738ad45ae5d4c47d",
        "fresh": "3b0538b7071c3205",
    },
    "ripples": {
        "gray": "616cb57a5fb757d8",
        "color": "4cb2119cdbf4542e",
        "three channels, crop": "4dbaceed4cb5a077",
        "random view, rotation": "e0d7e243fc93264d",
    },
    "pcfractaldb": {
        "point": "921a8388308e020d",
        "odd size, few points": "28a866c01ee7ad35",
        "patch, three channels": "e9fd990c2b74597d",
        "patch per point, color": "fb2278de5ed21e5e",
        "color": "7186965eaef7add3",
        "density": "366b4df1ed0d1eee",
        "crop": "116292c79095c23f",
        "random view, rotation": "ba269f678702fb18",
        "fresh": "a85efbc63c45547f",
    },
}


@pytest.mark.parametrize("kernel", _core.kernels())
@pytest.mark.parametrize(("family", "name"), pictures.CASES)
def test_pixels_are_those_of_the_table(family: str, name: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDSL_CPU", kernel)
    dataset = pictures.dataset(family, name)
    images, _ = dataset.batch(range(len(dataset)), epoch=2, repeat=1, threads=2)
    assert pictures.digest(images) == DIGESTS[family][name]


@pytest.mark.parametrize(
    ("family", "name"),
    [case for case in pictures.CASES if case[1] in ("point", "patch per point, color", "random view", "fresh")],
)
def test_threads_splits_and_order_change_nothing(family: str, name: str) -> None:
    dataset = pictures.dataset(family, name)
    whole, _ = dataset.batch(range(len(dataset)), threads=1)
    shuffled = np.random.default_rng(0).permutation(len(dataset))
    for part in np.array_split(shuffled, 5):
        images, labels = dataset.batch(part, threads=2)
        assert np.array_equal(images, whole[part])
        assert np.array_equal(labels, part // len(pictures.INSTANCES[family]))
    place = len(dataset) // 3
    image, label = dataset[place]
    assert np.array_equal(image, whole[place])
    assert label == place // len(pictures.INSTANCES[family])


def test_a_caller_that_flushes_denormals_gets_the_same_and_keeps_its_mode() -> None:
    torch = pytest.importorskip("torch")
    dataset = pictures.dataset("fractaldb", "point")
    plain, _ = dataset.batch(range(len(dataset)))
    try:
        assert torch.set_flush_denormal(True)
        flushed, _ = dataset.batch(range(len(dataset)))
        assert float(torch.tensor([1e-40]) * 1) == 0.0
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(plain, flushed)


def test_another_process_finds_and_draws_the_same(catalog: Catalog) -> None:
    script = (
        "import fdsl, pictures\n"
        "catalog = fdsl.search('fractaldb', categories=4, seed=3, threads=1)\n"
        "print(catalog.digest, pictures.digest(pictures.dataset('fractaldb', 'patch').batch(range(48))[0]))\n"
    )
    paths = [str(Path(__file__).parent), str(Path(fdsl.__file__).parents[1])]  # of these tests, and of what they test
    environment = os.environ | {"FDSL_CPU": "portable", "PYTHONPATH": os.pathsep.join(paths)}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    images, _ = pictures.dataset("fractaldb", "patch").batch(range(48))
    assert ran.stdout.split() == [catalog.digest, pictures.digest(images)]


def test_a_dataset_digest_covers_all_that_decides_a_pixel(catalog: Catalog) -> None:
    digests = {pictures.dataset(family, name).digest for family, name in pictures.CASES}
    assert len(digests) == len(pictures.CASES)
    base = pictures.dataset("fractaldb", "point")
    assert base.digest == pictures.dataset("fractaldb", "point").digest
    others = [type(base)(catalog, 10, base.spec, 7), type(base)(catalog, pictures.INSTANCES["fractaldb"], base.spec, 8)]
    assert base.digest not in {other.digest for other in others}
    even = [type(base)(catalog, numbers, base.spec) for numbers in (5, [0, 1, 2, 3, 4], range(5), np.arange(5))]
    assert len({dataset.digest for dataset in even}) == 1
