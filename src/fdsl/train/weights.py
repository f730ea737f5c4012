"""Weights: files of ours and files that others published, into timm models. Nothing is unpickled."""

from __future__ import annotations

import argparse
import difflib
import functools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

try:
    import timm
    import torch
    import yaml
    from pydantic import TypeAdapter, ValidationError
except ImportError as error:
    raise ImportError(f"weights need {error.name}, which is not installed; pip install 'fdsl[train]'") from error

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fdsl.whole_files import file_digest, whole_or_nothing

WEIGHTS = "weights.safetensors"
# What a folder of weights may hold, the best first: a run of ours, a published folder, a run that is not done.
_IN_FOLDERS = (WEIGHTS, "model.safetensors", "last.ckpt")
# Where a checkpoint has its weights, the best first: averaged weights before raw ones, as in timm.
_ENTRIES = (
    "state_dict_ema",
    "model_ema",
    "teacher",
    "state_dict",
    "model_state",
    "model_state_dict",
    "model",
)
# What DistributedDataParallel, torch.compile, Lightning and DINO put before the names of a network's weights.
# First, of a run of ours, its averaged weights, which it measures and saves.
_WRAPPERS = ("ema.module.", "module.", "_orig_mod.", "model.", "backbone.")
# The models that are looked through where a file does not say which is its own, by a name that their weights have.
_COMMON = {
    "cls_token": (
        "deit_tiny_patch16_224",
        "deit_small_patch16_224",
        "deit_base_patch16_224",
        "vit_large_patch16_224",
        "vit_small_patch32_224",
        "vit_base_patch32_224",
        "vit_base_patch8_224",
    ),
    "dist_token": (
        "deit_tiny_distilled_patch16_224",
        "deit_small_distilled_patch16_224",
        "deit_base_distilled_patch16_224",
    ),
    "layers.0.blocks.0.norm1.weight": (
        "swin_tiny_patch4_window7_224",
        "swin_small_patch4_window7_224",
        "swin_base_patch4_window7_224",
    ),
    "layer1.0.conv1.weight": (
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "resnext50_32x4d",
        "wide_resnet50_2",
    ),
    "features.conv0.weight": ("densenet121",),
    "stages.0.blocks.0.conv_dw.weight": ("convnext_tiny", "convnext_base"),
}
# Head, first convolution and position embeddings may have other shapes; so much of the rest must have the model's own.
_ALIKE = 0.8

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class WeightsInfo:
    """What weights are of.

    Args:
        model: timm's name.
        options: what else `timm.create_model` was given.
        classes: names, in the order of the head's outputs; numbers where nobody named them.
        channels: of the pictures.
        size: pixels of a side.
        mean, std: by which pixels in 0 to 1 are shifted and scaled.
    """

    model: str
    options: dict[str, Any]
    classes: list[str]
    channels: int
    size: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)


_INFO = TypeAdapter(WeightsInfo)


def save_weights(path: str | os.PathLike[str], network: torch.nn.Module, info: WeightsInfo) -> None:
    """Writes a network's weights as safetensors, with `info` as JSON in the metadata under "fdsl".

    The names are timm's, so `timm.create_model(info.model, checkpoint_path=path)` takes the file too. The same weights
    give the same bytes.

    Raises:
        OSError: it cannot be written; nothing is left behind.

    >>> save_weights("weights.safetensors", network, WeightsInfo("resnet18", {}, ["cat", "dog"], 3, 224))
    """
    state = {name: value.detach().cpu().contiguous() for name, value in _unwrapped(network.state_dict()).items()}
    with whole_or_nothing(Path(path)) as temporary:
        # Not by save_file, whose files only their owner can read.
        temporary.write_bytes(_in_order(save(state, metadata={"format": "pt", "fdsl": json.dumps(asdict(info))})))


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its metadata in order: the library writes it in a random one."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def network_from(
    source: str | os.PathLike[str],
    *,
    classes: int | Sequence[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[torch.nn.Module, WeightsInfo]:
    """A network with the weights of `source`, on the CPU and in training mode, and what they are of.

    Sources are the folder of a run or of published weights, a `.safetensors` file, a file of `torch.save` (`.pth`,
    `.pth.tar`, `.bin`, `.ckpt`), "timm:NAME" (timm's own weights, which it fetches) and "scratch:NAME" (none). Of a
    `torch.save` only tensors, plain values and `argparse.Namespace` (timm's checkpoints hold one) are read. The weights
    may lie under "state_dict", "model", "teacher", ... and behind the prefixes of DistributedDataParallel,
    torch.compile and Lightning; names of torchvision's ResNets and of older ViTs are brought to timm's by timm.

    Args:
        source: where the weights are.
        classes: of a new head, a number or their names; None keeps the head that is there.
        size: pixels of a side; position embeddings are resized by timm. None is the weights' own.
        channels: of the pictures; the first convolution is adapted by timm. None is the weights' own.
        model: timm's name; None is what the source says, or the common model whose shapes these are.
        options: for `timm.create_model`, over those that the source says.

    Raises:
        FileNotFoundError: there is no such file, or no weights in the folder.
        ValueError: the file holds other things than weights, or weights of another architecture: says what does not
            fit, and which common model does.
        OSError: timm's weights cannot be fetched.

    >>> network, info = network_from("runs/fractaldb", classes=10)
    >>> network, info = network_from("FractalDB-1000_resnet50_epoch90.pth", classes=["cat", "dog"], size=32)
    >>> info.model
    'resnet50'
    """
    state, own = _opened(source, model)
    own = replace(own, options={**own.options, **(options or {})})
    if isinstance(classes, int):
        classes = [str(number) for number in range(classes)]
    wanted = replace(
        own,
        classes=own.classes if classes is None else list(classes),
        channels=channels or own.channels,
        size=size or own.size,
    )
    if state is None:
        return _created(wanted, source, pretrained=str(source).startswith("timm:")), wanted
    # First, so that a new head depends on the seed alone, and not on what is read.
    network = None if classes is None else _created(wanted, source)
    loaded = _loaded(state, replace(wanted, classes=own.classes), own, source)
    if network is None:
        return loaded, wanted
    heads, state = _heads(own.model), network.state_dict()
    state |= {
        name: value
        for name, value in loaded.state_dict().items()
        if name in state and value.shape == state[name].shape and not name.startswith(heads)
    }
    network.load_state_dict(state)
    return network, wanted


def info_of(source: str | os.PathLike[str], *, model: str | None = None) -> WeightsInfo:
    """What the weights of a source are of, without a network; see `network_from`.

    >>> info_of("timm:resnet18").channels
    3
    """
    return _opened(source, model)[1]


def file_of(source: str | os.PathLike[str]) -> Path | None:
    """The file that a source's weights are in; None of "timm:NAME" and "scratch:NAME".

    Raises:
        FileNotFoundError: there is no such file, or no weights in the folder.
    """
    return None if str(source).startswith(("timm:", "scratch:")) else _file(Path(source))


def digest_of(source: str | os.PathLike[str]) -> str:
    """What the weights of a source are told apart by: sha256 hex of their file; "timm:NAME" and "scratch:NAME" as is.

    Raises:
        FileNotFoundError: there is no such file, or no weights in the folder.

    >>> digest_of("timm:resnet18")
    'timm:resnet18'
    """
    file = file_of(source)
    return str(source) if file is None else file_digest(file)


def _opened(source: str | os.PathLike[str], model: str | None) -> tuple[State | None, WeightsInfo]:
    file = file_of(source)
    if file is None:
        name = str(source).partition(":")[2]
        if model not in (None, name):
            raise ValueError(f"model is {model!r}, and the source {source}; expected one model")
        return None, _says({"model": _known(name)}, {})
    state, said = _contents(file)
    if model not in (None, said.get("model")):
        said = {}
    said["model"] = _known(model or said.get("model") or _likest(state, file))
    return state, _says(said, state)


def _file(source: Path) -> Path:
    if source.is_dir():
        for name in _IN_FOLDERS:
            if (source / name).is_file():
                return source / name
        raise FileNotFoundError(f"{source} holds no weights; expected one of {', '.join(_IN_FOLDERS)} in it")
    if not source.is_file():
        hint = f" (or timm:{source}, scratch:{source})" if timm.is_model(str(source)) else ""
        raise FileNotFoundError(f"{source} is not there; expected a run's folder, or a file of weights{hint}")
    return source


def _contents(file: Path) -> tuple[State, dict[str, Any]]:
    """The weights in a file, by name, and what it or its folder says of them: some of the fields of WeightsInfo."""
    said: dict[str, Any] = {}
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, "pt") as opened:
                if ours := (opened.metadata() or {}).get("fdsl"):
                    said = asdict(_INFO.validate_json(ours))
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        except ValidationError:
            raise ValueError(
                f"{file}: its metadata 'fdsl' is {ours!r:.60}; expected what save_weights writes"
            ) from None
        except SafetensorError as error:
            raise ValueError(f"{file}: not a safetensors file: {error}") from None
        state = _unwrapped(state)
    else:
        checkpoint = _checkpoint(file)
        state = _state(checkpoint, file)
        if isinstance(checkpoint, dict):
            names = (getattr(checkpoint.get("args"), "model", None), checkpoint.get("arch"))
            model = next((name for name in names if isinstance(name, str) and timm.is_model(name)), None)
            said = {"model": model} if model else {}
    return state, said or _folder_says(file.parent)


def _folder_says(folder: Path) -> dict[str, Any]:
    """What lies beside a file without a word: timm's config.json, or the recipe of a run that is not done."""
    try:
        if (folder / "config.json").is_file():
            config = json.loads((folder / "config.json").read_text())
            if timm.is_model(config.get("architecture") or ""):
                return {"model": config["architecture"], "options": config.get("model_args") or {}}
        if (folder / "recipe.yaml").is_file():
            recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
            data, model = recipe["data"], recipe["model"]
            picture = {name: data[name] for name in ("size", "channels", "mean", "std") if name in data}
            return {"model": _known(model["name"]), "options": model.get("options", {})} | picture
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        pass  # of something else: then the weights' shapes say it
    return {}


def _checkpoint(file: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # each format of torch.save fails with another class
        text = str(error)
        pickled = re.findall(r"(?:GLOBAL|class|function) '?([\w.]+)", text)
        if pickled:
            raise ValueError(
                f"{file} holds a pickled {pickled[0]}, which could run code when it is loaded, and is not loaded; "
                "expected tensors and plain values alone, as of torch.save(model.state_dict(), file)"
            ) from None
        raise ValueError(f"{file}: not a file of torch.save or safetensors: {text.partition(chr(10))[0]}") from None


def _state(checkpoint: Any, file: Path) -> State:
    """The weights of a checkpoint, wherever it has them."""
    held = checkpoint
    while isinstance(held, Mapping):
        inner = next((held[entry] for entry in _ENTRIES if isinstance(held.get(entry), Mapping)), None)
        if inner is None:
            break
        held = inner
    state = {k: v for k, v in held.items() if isinstance(v, torch.Tensor)} if isinstance(held, Mapping) else {}
    if not state:
        keys = ", ".join(map(str, held)) if isinstance(held, Mapping) else type(held).__name__
        raise ValueError(
            f"{file} holds no weights ({keys[:100]}); expected them at its top or in {', '.join(_ENTRIES)}"
        )
    return _unwrapped(state)


def _unwrapped(state: Mapping[str, torch.Tensor]) -> State:
    """Without the prefixes of wrappers; what lies beside the wrapped network is left out, such as a loss's weights."""
    state = dict(state)
    while inside := next((prefix for prefix in _WRAPPERS if any(name.startswith(prefix) for name in state)), None):
        state = {name.removeprefix(inside): value for name, value in state.items() if name.startswith(inside)}
    return state


def _says(said: dict[str, Any], state: State) -> WeightsInfo:
    """What weights are of: as said, else by their shapes, else as timm has the model."""
    model = said["model"]
    config = _config(model)
    channels, size, _ = config["input_size"]
    number = config["num_classes"]
    if state:
        heads = [state[name] for head in (*_heads(model), "head.", "fc.") if (name := f"{head}weight") in state]
        number = len(heads[0]) if heads else 0
        if (first := state.get(f"{config.get('first_conv')}.weight")) is not None and first.ndim == 4:
            channels = first.shape[1]
        size = _side(state) or size
    found = {
        "options": {},
        "classes": [str(place) for place in range(number)],
        "channels": channels,
        "size": size,
        "mean": config["mean"],
        "std": config["std"],
        **said,
    }
    return WeightsInfo(**found | {name: tuple(found[name]) for name in ("mean", "std")})


def _side(state: State) -> int | None:
    """The pixels of a side that position embeddings are for, where they are of squares and class tokens."""
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    tokens = positions.shape[1] - ("cls_token" in state) - ("dist_token" in state)
    return isqrt(tokens) * patches.shape[-1] if isqrt(tokens) ** 2 == tokens else None


def _config(model: str) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(model)
    return (config or timm.models.PretrainedCfg()).to_dict()  # type: ignore[no-any-return]


def _heads(model: str) -> tuple[str, ...]:
    """What the names of the classifier's weights begin with."""
    heads = _config(model).get("classifier") or ()
    return tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))


def _known(model: str) -> str:
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=3, cutoff=0.4)
        raise ValueError(f"timm has no model {model!r}; expected one of timm.list_models(), such as {', '.join(near)}")
    return model


def _create(info: WeightsInfo, **weights: Any) -> torch.nn.Module:
    options = {**info.options, "num_classes": len(info.classes), "in_chans": info.channels, **weights}
    try:
        return timm.create_model(info.model, **options | {"img_size": info.size})
    except TypeError as error:
        if "img_size" not in str(error):  # convolutions take any size
            raise
        return timm.create_model(info.model, **options)


def _created(info: WeightsInfo, source: object, pretrained: bool = False) -> torch.nn.Module:
    try:
        return _create(info, pretrained=pretrained)
    except Exception as error:  # of timm's models, or of what fetches their weights
        reason = str(error).partition("\n")[0]
        if pretrained:
            raise OSError(f"{source}: timm has or gets no such weights: {reason}") from None
        shape = (info.channels, info.size, info.size)
        options = f" with options {info.options}" if info.options else ""
        raise ValueError(
            f"model {info.model!r}{options} does not take images of {shape} (channels, height, width): {reason}"
        ) from None


def _loaded(state: State, wanted: WeightsInfo, own: WeightsInfo, source: object) -> torch.nn.Module:
    """The wanted network, of as many classes as the weights, with the weights."""
    network = _created(wanted, source)
    if _shapes_of(network.state_dict()) == _shapes_of(state):
        network.load_state_dict(state)
        return network
    said = {
        "state_dict": state,
        "input_size": (own.channels, own.size, own.size),
        "num_classes": len(own.classes),
        "label_offset": 0,
    }
    try:
        network = _create(wanted, pretrained=True, pretrained_cfg_overlay=said)
    except Exception:  # timm's filters for names and shapes fail in many ways where the weights are of something else
        raise ValueError(_misfit(state, own, source)) from None
    if getattr(network, "pretrained_cfg", {}).pop("state_dict", None) is None:  # a model that is not built by timm
        raise ValueError(_misfit(state, own, source))
    return network


def _misfit(state: State, own: WeightsInfo, source: object) -> str:
    """One line: which names and shapes are not the model's, and whose they are."""
    expected, found = _shapes_of(_created(own, source).state_dict()), _shapes_of(state)
    wrong = []
    for what, names in (
        ("it has no", [name for name in expected if name not in found]),
        ("it has an unknown", [name for name in found if name not in expected]),
    ):
        if names:
            wrong.append(f"{what} {names[0]}" + (f" (nor {len(names) - 1} more)" if len(names) > 1 else ""))
    for name, shape in found.items():
        if shape != expected.get(name, shape):
            wrong.append(f"its {name} is {shape}, the model's {expected[name]}")
            break
    alike = _alike(state)
    fits = f"; it fits {alike[0]}" if alike and alike[0] != own.model else ""
    return f"{source} does not fit {own.model}: {', '.join(wrong) or 'timm cannot adapt it'}{fits}"


def _likest(state: State, source: object) -> str:
    alike = _alike(state)
    if alike:
        return alike[0]
    name, shape = next(iter(_shapes_of(state).items()))
    raise ValueError(
        f"{source} does not say its model, and has the shapes of no common one ({name} {shape}, ...); expected model="
    )


def _alike(state: State) -> list[str]:
    """The common models nearly all of whose names and shapes these are, the likest first."""
    found = set(_shapes_of(state).items())
    near = [model for name, models in _COMMON.items() if name in state for model in models]
    shares = {model: len(found & _shapes(model)) / max(len(found), len(_shapes(model))) for model in near}
    return sorted((model for model in near if shares[model] >= _ALIKE), key=lambda model: -shares[model])


@functools.cache
def _shapes(model: str) -> frozenset[tuple[str, tuple[int, ...]]]:
    with torch.device("meta"):
        return frozenset(_shapes_of(timm.create_model(model).state_dict()).items())


def _shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
