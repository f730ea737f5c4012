from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("timm")
import timm
import torch
from safetensors.torch import save_file

from fdsl.train import weights
from fdsl.train.weights import WeightsInfo, network_from, save_weights

# 32 pixels of four patches, two blocks.
VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
State = dict[str, Any]


def vit(classes: int = 5, size: int = 32, channels: int = 3) -> Any:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=size, num_classes=classes, in_chans=channels, **VIT
    ).eval()


@pytest.fixture
def trained() -> Any:
    torch.manual_seed(1)
    return vit()


@pytest.fixture
def run(tmp_path: Path, trained: Any) -> Path:
    """A run's folder with weights."""
    info = WeightsInfo("vit_tiny_patch16_224", VIT, list("abcde"), 3, 32, (0.2,), (0.5,))
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "run" / "weights.safetensors", trained, info)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def resnet() -> Any:
    """torchvision's, whose names are timm's."""
    torch.manual_seed(2)
    return pytest.importorskip("torchvision").models.resnet18(num_classes=7).eval()


def outputs(network: Any, size: int = 32, channels: int = 3) -> Any:
    with torch.no_grad():
        return network.eval()(torch.linspace(0, 1, channels * size * size).view(1, channels, size, size))


def test_saved_weights_come_back_with_what_they_are_of(run: Path, trained: Any) -> None:
    network, info = network_from(run)
    assert network.training
    assert torch.equal(outputs(network), outputs(trained))
    assert info == WeightsInfo("vit_tiny_patch16_224", VIT, list("abcde"), 3, 32, (0.2,), (0.5,))
    assert info == weights.info_of(run / "weights.safetensors")
    plain = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, num_classes=5, checkpoint_path=run / "weights.safetensors", **VIT
    )
    assert torch.equal(outputs(plain), outputs(trained))


def test_the_same_weights_give_the_same_file(run: Path, trained: Any) -> None:
    file = run / "weights.safetensors"
    first = file.read_bytes()
    for _ in range(8):  # the library writes two keys of metadata in one order or the other
        save_weights(file, trained, weights.info_of(file))
        assert file.read_bytes() == first


def test_a_new_head_leaves_the_rest(run: Path, trained: Any) -> None:
    torch.manual_seed(3)
    network, info = network_from(run, classes=["x", "y", "z"])
    assert info.classes == ["x", "y", "z"]
    for name, value in network.state_dict().items():
        if name.startswith("head."):
            assert len(value) == 3
        else:
            assert torch.equal(value, trained.state_dict()[name]), name
    torch.manual_seed(3)  # a head of the same number is new too, and the seed's
    again, _ = network_from(run, classes=5)
    assert not torch.equal(again.head.weight, trained.head.weight)
    torch.manual_seed(3)
    assert torch.equal(network_from(run, classes=5)[0].head.weight, again.head.weight)
    assert outputs(network_from(run, classes=0)[0]).shape == (1, 48)  # pooled features


def test_another_size_and_channels_are_adapted_as_timm_does(run: Path, trained: Any) -> None:
    from timm.layers import resample_abs_pos_embed

    network, info = network_from(run, size=64, channels=1)
    assert (info.size, info.channels) == (64, 1)
    assert torch.equal(network.patch_embed.proj.weight, trained.patch_embed.proj.weight.sum(1, keepdim=True))
    assert torch.equal(network.pos_embed, resample_abs_pos_embed(trained.pos_embed, [4, 4], num_prefix_tokens=1))
    assert outputs(network, 64, 1).shape == (1, 5)


def lightning(state: State) -> State:
    inside = {f"model.{name}": value for name, value in state.items()}
    return {"state_dict": inside | {"loss.weight": torch.ones(3)}, "epoch": 3, "hyper_parameters": {"lr": 0.1}}


def dino(state: State) -> State:
    backbone = {f"module.backbone.{name}": value for name, value in state.items()}
    return {"student": {}, "teacher": backbone | {"module.head.mlp.0.weight": torch.ones(3)}}


def averaged(state: State) -> State:
    return {"state_dict": {name: value * 0 for name, value in state.items()}, "state_dict_ema": state}


FORMATS: dict[str, Callable[[State], Any]] = {
    "bare.pth": lambda state: state,
    "deit.pth": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3},
    "timm.pth.tar": lambda state: {
        "state_dict": {f"module.{name}": value for name, value in state.items()},
        "arch": "vit_tiny_patch16_224",
        "args": argparse.Namespace(model="vit_tiny_patch16_224"),
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]},
    },
    "compiled.bin": lambda state: {"model_state": {f"_orig_mod.{name}": value for name, value in state.items()}},
    "lightning.ckpt": lightning,
    "dino.pth": dino,
    "averaged.pth": averaged,
}


@pytest.mark.parametrize("name", FORMATS)
def test_weights_published_elsewhere(tmp_path: Path, trained: Any, name: str) -> None:
    torch.save(FORMATS[name](trained.state_dict()), tmp_path / name)
    network, info = network_from(tmp_path / name, model="vit_tiny_patch16_224", options=VIT)
    assert torch.equal(outputs(network), outputs(trained))
    assert (info.size, info.channels, info.classes) == (32, 3, list("01234"))


def test_the_format_before_zip_files(tmp_path: Path, trained: Any) -> None:
    torch.save(trained.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network, _ = network_from(tmp_path / "old.pth", model="vit_tiny_patch16_224", options=VIT)
    assert torch.equal(outputs(network), outputs(trained))


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


class Settings:
    """Something that a checkpoint may hold."""


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_unpickled(tmp_path: Path, zipped: bool) -> None:
    for held, named in ((Payload(tmp_path / "ran"), "mkdir"), (Settings(), "test_weights.Settings")):
        torch.save({"state_dict": {}, "more": held}, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"bad\.pth holds a pickled .*not loaded; expected tensors") as error:
            network_from(tmp_path / "bad.pth")
        assert named in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_the_model_is_told_by_the_shapes(tmp_path: Path, resnet: Any) -> None:
    torch.save(resnet.state_dict(), tmp_path / "FractalDB-7_resnet18.pth")
    network, info = network_from(tmp_path / "FractalDB-7_resnet18.pth")
    assert (info.model, len(info.classes)) == ("resnet18", 7)
    torch.testing.assert_close(outputs(network), outputs(resnet))
    one, _ = network_from(tmp_path / "FractalDB-7_resnet18.pth", channels=1, classes=2)
    torch.testing.assert_close(one.conv1.weight, resnet.conv1.weight.sum(1, keepdim=True))


@pytest.mark.parametrize("model", ["deit_tiny_patch16_224", "vit_base_patch32_224", "swin_tiny_patch4_window7_224"])
def test_common_models_are_known_by_their_shapes(model: str) -> None:
    with torch.device("meta"):
        state = timm.create_model(model, num_classes=3, in_chans=1).state_dict()
    assert weights._alike(state)[0] == model


def test_names_of_older_swins_are_known_too() -> None:
    with torch.device("meta"):
        state = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3).state_dict()
        buffers = {f"layers.{i}.blocks.{j}.attn_mask": torch.empty(1) for i in range(4) for j in range(6)}
    older = {name.replace("head.fc", "head").replace("1.downsample", "0.downsample"): state[name] for name in state}
    assert weights._alike(older | buffers) == ["swin_tiny_patch4_window7_224"]


def test_weights_of_another_architecture(tmp_path: Path, run: Path, trained: Any, resnet: Any) -> None:
    file = tmp_path / "resnet.pth"
    torch.save(resnet.state_dict(), file)
    with pytest.raises(
        ValueError, match=r"resnet\.pth does not fit deit_tiny_patch16_224: it has no cls_token"
    ) as error:
        network_from(file, model="deit_tiny_patch16_224")
    assert str(error.value).endswith("; it fits resnet18")
    with pytest.raises(
        ValueError, match=r"it has no layer1.0.conv3.weight .*its layer1.0.conv1.weight is \(64, 64, 3, 3\)"
    ):
        network_from(file, model="resnet50")
    with pytest.raises(ValueError, match="run does not fit resnet18: it has no conv1"):
        network_from(run, model="resnet18")
    torch.save(trained.state_dict(), tmp_path / "small.pth")
    with pytest.raises(ValueError, match=r"small\.pth does not say its model, .*expected model="):
        network_from(tmp_path / "small.pth")
    with pytest.raises(ValueError, match=r"no model 'resnet8'; expected .*such as resnet"):
        network_from(file, model="resnet8")
    with pytest.raises(
        ValueError, match=r"'vit_tiny_patch16_224' with options .* does not take images of \(3, 32, 32\) .*flavour"
    ):
        network_from(run, options={"flavour": 1})


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty holds no weights; expected one of weights\.safetensors"):
        network_from(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"resnet18 is not there; .*scratch:resnet18"):
        network_from("resnet18")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("no weights at all")
        with pytest.raises(ValueError, match=rf"{name}: not a"):
            network_from(tmp_path / name)
    for said in ("{not json", '{"model": "resnet18", "extra": 1}', "[]"):  # of some other tool
        save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata={"fdsl": said})
        with pytest.raises(
            ValueError, match=r"foreign\.safetensors: its metadata 'fdsl' is .*; expected what"
        ) as error:
            network_from(tmp_path / "foreign.safetensors")
        assert "\n" not in str(error.value)
    torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"none\.pth holds no weights \(epoch, optimizer\); expected them"):
        network_from(tmp_path / "none.pth")


def test_from_scratch() -> None:
    torch.manual_seed(4)
    network, info = network_from("scratch:vit_tiny_patch16_224", classes=2, size=32, channels=1, options=VIT)
    assert outputs(network, 32, 1).shape == (1, 2)
    assert (info.model, info.size, info.channels, info.classes) == ("vit_tiny_patch16_224", 32, 1, ["0", "1"])
    with pytest.raises(ValueError, match="model is 'resnet18', and the source scratch:resnet50"):
        network_from("scratch:resnet50", model="resnet18")


def test_a_folder_as_timm_writes_it(tmp_path: Path, trained: Any) -> None:
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "vit_tiny_patch16_224", "num_classes": 5, "model_args": VIT})
    )
    assert torch.equal(outputs(network_from(tmp_path)[0]), outputs(trained))


def test_a_run_that_is_not_done(tmp_path: Path, trained: Any) -> None:
    from fdsl.train.recipes import Data, Model, Recipe

    recipe = Recipe(data=Data(size=32, mean=(0.2,)), model=Model(name="vit_tiny_patch16_224", options=VIT))
    (tmp_path / "recipe.yaml").write_text(recipe.yaml())
    checkpoint = lightning(trained.state_dict())
    for file in ("last.ckpt", "averaged"):
        torch.save(checkpoint, tmp_path / "last.ckpt")
        network, info = network_from(tmp_path)
        assert torch.equal(outputs(network), outputs(trained)), file
        # With training.ema the raw weights lie beside the averaged ones, which a run that is done saves.
        averaged = {f"ema.module.{name}": value for name, value in trained.state_dict().items()}
        raw = {f"model.{name}": torch.zeros_like(value) for name, value in trained.state_dict().items()}
        checkpoint = {"state_dict": raw | averaged}
    assert (info.mean, info.options) == ((0.2,), VIT)
