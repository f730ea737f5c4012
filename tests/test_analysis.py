from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import fdsl
from fdsl.cli import app

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("fdsl.analysis.attention")
pytest.importorskip("fdsl.analysis.report")
pytest.importorskip("fdsl.train.weights")
import timm
import torch

from fdsl import hub
from fdsl.analysis import attention, drawing, filters, pictures, position_embeddings, report
from fdsl.train import weights

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 4}
VIT = "vit_tiny_patch16_224"
# How a ViT's tokens may begin, and how many there are before the sixteen patches.
TOKENS = [
    pytest.param(VIT, {}, 1, id="class token"),
    pytest.param("deit_tiny_distilled_patch16_224", {}, 2, id="distilled"),
    pytest.param(VIT, {"reg_tokens": 3}, 4, id="registers"),
    pytest.param(VIT, {"reg_tokens": 3, "no_embed_class": True}, 4, id="registers without positions"),
    pytest.param(VIT, {"class_token": False, "global_pool": "avg"}, 0, id="no class token"),
    pytest.param(VIT, {"qk_norm": True}, 1, id="normalised queries and keys"),
]


def network_of(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **SMALL | options).eval()


def attention_of(weights: Any, rows: int, columns: int, from_class: bool = True) -> Any:
    """One picture, one layer, one head."""
    return attention.Attention(
        torch.as_tensor(weights, dtype=torch.float32)[None, None, None], rows, columns, from_class
    )


class TestDistance:
    def test_a_head_that_attends_to_the_same_token_has_distance_0(self) -> None:
        assert attention.mean_distances(attention_of(np.eye(13), 3, 4), 48, 64).tolist() == [[0.0]]

    @pytest.mark.parametrize("extra", [0, 1, 4])
    def test_equal_attention_has_the_mean_distance_of_two_patches(self, extra: int) -> None:
        centres = [(8 + 16 * row, 4 + 8 * column) for row in range(3) for column in range(4)]
        mean = sum(math.dist(one, other) for one in centres for other in centres) / 12**2
        equal = np.full((12 + extra, 12 + extra), 1 / (12 + extra))
        assert attention.mean_distances(attention_of(equal, 3, 4), 48, 32) == pytest.approx(mean, rel=1e-6)

    def test_weights_on_extra_tokens_are_left_out(self) -> None:
        # Both patches give nine tenths to the class token, and the rest to each other, 16 pixels away.
        given = [[1, 0, 0], [0.9, 0, 0.1], [0.9, 0.1, 0]]
        assert attention.mean_distances(attention_of(given, 1, 2), 16, 32) == pytest.approx(16)
        nothing = [[1, 0, 0], [1, 0, 0], [1, 0, 0]]
        assert attention.mean_distances(attention_of(nothing, 1, 2), 16, 32) == 0

    def test_layers_and_heads_stay_apart_and_pictures_are_averaged(self) -> None:
        stays, swaps = torch.eye(2), torch.eye(2).flip(0)
        weights = torch.stack([torch.stack([stays, swaps]), torch.stack([swaps, swaps])])  # (layers, heads, N, N)
        second = torch.stack([torch.stack([stays, stays]), torch.stack([swaps, swaps])])
        both = torch.stack([weights, second], dim=1)
        found = attention.mean_distances(attention.Attention(both, 1, 2, False), 8, 16)
        assert found.tolist() == [[0, 4], [8, 8]]


class TestReader:
    @pytest.mark.parametrize(("name", "options", "extra"), TOKENS)
    def test_it_reads_the_softmax_of_queries_times_keys(self, name: str, options: dict[str, Any], extra: int) -> None:
        network, expected = network_of(name, **options), []
        images = torch.randn(3, 3, 32, 32)
        for block in network.blocks:

            def keep(_: Any, __: Any, qkv: Any, layer: Any = block.attn) -> None:
                count, tokens, _ = qkv.shape
                q, k, _ = qkv.reshape(count, tokens, 3, 2, 16).permute(2, 0, 3, 1, 4)
                q, k = layer.q_norm(q), layer.k_norm(k)
                expected.append((q @ k.transpose(-1, -2) / 16**0.5).softmax(-1))

            handle = block.attn.qkv.register_forward_hook(keep)
            del handle
        with torch.inference_mode():
            network(images)
        by_hand = torch.stack(expected)
        read = attention.AttentionReader(network)(images)
        assert (read.extra, read.rows, read.columns) == (extra, 4, 4)
        assert read.from_class == (options.get("class_token", True))
        torch.testing.assert_close(read.weights, by_hand)

    def test_the_network_stays_as_it_was(self) -> None:
        network = network_of(VIT).train()
        attention.AttentionReader(network)(torch.zeros(1, 3, 32, 32))
        assert network.training
        assert network.blocks[0].attn.fused_attn
        assert not any(module._forward_hooks for module in network.modules())

    def test_a_class_token_that_is_not_used_is_not_asked(self) -> None:
        read = attention.AttentionReader(network_of(VIT, global_pool="avg"))(torch.zeros(1, 3, 32, 32))
        assert (read.extra, read.from_class) == (1, False)

    @pytest.mark.parametrize(
        ("name", "options", "layers", "tokens"),
        [
            ("eva02_tiny_patch14_224", SMALL, 2, 17),  # rotary positions
            ("vit_relpos_small_patch16_224", SMALL, 2, 16),
            ("beit_base_patch16_224", SMALL, 2, 17),
            ("test_vit2", {"num_classes": 4}, 8, 5),  # any size of picture: 2 x 2 patches, not the usual 10 x 10
        ],
    )
    def test_other_vits_of_timm(self, name: str, options: dict[str, Any], layers: int, tokens: int) -> None:
        read = attention.AttentionReader(timm.create_model(name, **options))(torch.randn(1, 3, 32, 32))
        assert read.weights.shape == (layers, 1, 2, tokens, tokens)

    def test_attentions_side_by_side_are_heads_of_one_layer(self) -> None:
        network = network_of("vit_small_patch16_18x2_224")
        for block in network.blocks:
            torch.nn.init.zeros_(block.attns[1].attn.qkv.weight)  # it attends to all tokens equally
        read = attention.AttentionReader(network)(torch.randn(3, 3, 32, 32))
        assert read.weights.shape == (2, 3, 4, 17, 17)
        equal = torch.isclose(read.weights, torch.tensor(1 / 17), atol=1e-6).flatten(3).all(-1)
        assert (equal == torch.tensor([False, False, True, True])).all()

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("resnet10t", {}),
            ("swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 1)}),
            ("cait_xxs24_224", {**SMALL, "patch_size": 16}),  # talking heads: weights that are mixed after the softmax
            (VIT, {**SMALL, "attn_layer": "diff"}),
            ("xcit_nano_12_p16_224", {"img_size": 32}),  # over channels
        ],
    )
    def test_what_does_not_attend_from_each_token_to_all_has_nothing(self, name: str, options: dict[str, Any]) -> None:
        network = timm.create_model(name, **options)
        size = options.get("img_size", 32)
        assert attention.AttentionReader(network)(torch.randn(1, 3, size, size)) is None


class TestMaps:
    def test_the_last_layer_from_the_class_token(self) -> None:
        first, last = torch.rand(2, 2, 5, 5), torch.rand(2, 2, 5, 5)
        read = attention.Attention(torch.stack([first, last]), 2, 2, True)
        assert np.array_equal(attention.last_layer(read), last[:, :, 0, 1:].reshape(2, 2, 2, 2).numpy())

    def test_without_a_class_token_it_is_the_mean_of_the_patches(self) -> None:
        last = torch.rand(1, 2, 5, 5)
        read = attention.Attention(last[None], 2, 2, False)
        expected = last[:, :, 1:, 1:].mean(2).reshape(1, 2, 2, 2)
        assert attention.last_layer(read) == pytest.approx(expected.numpy())

    def test_rollout(self) -> None:
        weights = torch.rand(3, 1, 2, 5, 5).softmax(-1)
        layers = [(layer[0].mean(0).numpy() + np.eye(5)) / 2 for layer in weights]
        joint = layers[2] @ layers[1] @ layers[0]
        found = attention.rollout(attention.Attention(weights, 2, 2, True))
        assert found == pytest.approx(joint[0, 1:].reshape(1, 2, 2))
        found = attention.rollout(attention.Attention(weights, 2, 2, False))
        assert found == pytest.approx(joint[1:, 1:].mean(0).reshape(1, 2, 2))

    def test_an_even_map_is_drawn_in_the_middle_and_a_peaked_one_from_0_to_its_peak(self) -> None:
        even = np.full((4, 4), 0.05, np.float32)
        faint, peaked = even.copy(), 0 * even
        faint[0, 0] += 0.0001
        peaked[2, 3] = 0.2
        brightness = attention.map_brightness(np.stack([even, faint, peaked]))
        assert brightness[:2] == pytest.approx(0.5, abs=0.002)
        assert np.array_equal(brightness[2], peaked / np.float32(0.2))

    def test_a_layer_that_attends_to_itself_changes_no_rollout(self) -> None:
        weights = torch.rand(1, 1, 1, 5, 5).softmax(-1)
        more = torch.cat([weights, torch.eye(5).reshape(1, 1, 1, 5, 5)])
        one, other = (attention.rollout(attention.Attention(w, 2, 2, True)) for w in (weights, more))
        assert one == pytest.approx(other)


class TestFilters:
    def test_filter_k_stands_in_its_row_and_column(self) -> None:
        tiles = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(2, 2).repeat(3, 3)
        sheet = drawing.tiled(tiles, columns=4, zoom=2)
        assert sheet.shape == (3 * 7 + 1, 4 * 5 + 1, 3)
        for k in range(10):
            top, left = 1 + k // 4 * 7, 1 + k % 4 * 5
            assert (sheet[top : top + 6, left : left + 4] == k).all()
        ground = sheet[0, 0]
        assert (sheet[::7] == ground).all()
        assert (sheet[:, ::5] == ground).all()
        assert (sheet[15:, 11:] == ground).all(), "where no filter is left"

    def test_a_filter_is_scaled_by_itself_over_its_colours(self) -> None:
        kernel = np.zeros((3, 3, 1, 2), np.float32)
        kernel[0, :, 0, 0], kernel[0, :, 0, 1] = (-1, 0, 3), (1, 1, 1)
        kernel[1] = 1000 * kernel[0]
        pixels = filters.filter_pictures(kernel)
        assert pixels[0].tolist() == [[[0, 64, 255], [128, 128, 128]]]
        assert np.array_equal(pixels[0], pixels[1])
        assert (pixels[2] == 128).all(), "a filter of one value"

    @pytest.mark.parametrize("channels", [1, 2])
    def test_without_three_channels_it_is_gray(self, channels: int) -> None:
        kernel = np.float32([[-1, 0, 3]]).repeat(channels, axis=0)[None, :, None]
        assert filters.filter_pictures(kernel)[0, 0].tolist() == [[0] * 3, [64] * 3, [255] * 3]

    def test_principal_components(self) -> None:
        # Filters along two orthogonal directions around a mean, with variances 9 and 1.
        one, two, mean = np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.full((1, 2, 2), 7.0)
        one[0, 0], two[0, 1] = (-0.6, 0.8), (1, 0)
        kernel = np.stack([mean + 3 * one, mean - 3 * one, mean + two, mean - two]).astype(np.float32)
        components, shares = filters.principal_components(kernel)
        assert components[:2] == pytest.approx(np.stack([one, two]), abs=1e-6)
        assert shares == pytest.approx([0.9, 0.1, 0], abs=1e-6)
        assert len(filters.principal_components(kernel, count=1)[0]) == 1

    def test_filters_that_are_all_the_same_have_components_of_no_share(self) -> None:
        _, shares = filters.principal_components(np.ones((4, 3, 2, 2), np.float32))
        assert shares.tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        ("name", "module", "shape"),
        [
            ("resnet18", "conv1", (64, 3, 7, 7)),
            ("resnet10t", "conv1.0", (24, 3, 3, 3)),
            ("deit_tiny_patch16_224", "patch_embed.proj", (192, 3, 16, 16)),
            ("convnext_atto", "stem.0", (40, 3, 4, 4)),
        ],
    )
    def test_the_first_layer(self, name: str, module: str, shape: tuple[int, ...]) -> None:
        network = timm.create_model(name)
        layer = filters.first_layer(network)
        assert (layer.name, layer.filters.shape) == (module, shape)
        assert np.array_equal(layer.filters, network.get_submodule(module).weight.detach().numpy())

    def test_networks_that_timm_did_not_make(self) -> None:
        nn = torch.nn
        assert filters.first_layer(nn.Sequential(nn.Identity(), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 9, 3))).name == "1"
        assert filters.first_layer(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))) is None


class TestPositionEmbeddings:
    @pytest.mark.parametrize(("name", "options", "extra"), TOKENS)
    def test_extra_tokens_are_left_out(self, name: str, options: dict[str, Any], extra: int) -> None:
        network = network_of(name, **options)
        kept = 0 if options.get("no_embed_class") else extra
        assert network.pos_embed.shape[1] == 16 + kept
        found = position_embeddings.position_embeddings(network)
        assert np.array_equal(found.reshape(16, 32), network.pos_embed[0, kept:].detach().numpy())

    @pytest.mark.parametrize("name", ["resnet10t", "vit_relpos_small_patch16_224"])
    def test_networks_without_any(self, name: str) -> None:
        assert position_embeddings.position_embeddings(timm.create_model(name)) is None

    def test_cosines(self) -> None:
        embeddings = np.float32([[[1, 0], [3, 3]], [[0, 5], [-2, 0]], [[0, 0], [1, 1]]])
        cosines = position_embeddings.similarities(embeddings)
        for one in np.ndindex(3, 2):
            for other in np.ndindex(3, 2):
                a, b = embeddings[one], embeddings[other]
                norm = math.hypot(*a) * math.hypot(*b)
                assert cosines[one][other] == pytest.approx(a @ b / norm if norm else 0, abs=1e-6)

    def test_mean_cosines_of_kinds_of_pairs(self) -> None:
        cosines = np.random.default_rng(0).random((3, 4, 3, 4), np.float32)
        pairs: dict[str, list[float]] = {"side_by_side": [], "same_row_or_column": [], "others": []}
        for (i, j), (k, m) in ((a, b) for a in np.ndindex(3, 4) for b in np.ndindex(3, 4) if a != b):
            pairs["same_row_or_column" if i == k or j == m else "others"].append(cosines[i, j, k, m])
            if abs(i - k) + abs(j - m) == 1:
                pairs["side_by_side"].append(cosines[i, j, k, m])
        found = position_embeddings.mean_similarities(cosines)
        assert found == pytest.approx({kind: np.mean(values) for kind, values in pairs.items()})
        assert position_embeddings.mean_similarities(cosines[:1, :1, :1, :1]) == {}

    def test_the_map_of_a_patch_is_drawn_in_its_place(self) -> None:
        cosines = np.random.default_rng(0).uniform(-1, 1, (3, 4, 3, 4)).astype(np.float32)
        drawn = position_embeddings.draw_similarities(cosines).axes[0].images[0].get_array()
        assert drawn.shape == (3 * 4 - 1, 4 * 5 - 1)
        for i, j in np.ndindex(3, 4):
            assert np.array_equal(drawn[4 * i : 4 * i + 3, 5 * j : 5 * j + 4], cosines[i, j])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, one of them gray and one in a folder; its name would be markup in a page."""
    folder = tmp_path_factory.mktemp("given") / "a<b>&c"
    (folder / "more").mkdir(parents=True)
    colors = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    Image.fromarray(colors[0]).save(folder / "1.png")
    Image.fromarray(colors[1]).save(folder / "2.JPG")
    Image.fromarray(colors[2, :, :, 0]).save(folder / "more" / "3.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


class TestPictures:
    def test_folders_and_files(self, photos: Path) -> None:
        found = pictures.pictures_from([photos, photos / "1.png"], channels=3, size=32)
        assert found.pixels.shape == (4, 3, 32, 32)
        assert found.pixels.dtype == np.uint8
        assert np.array_equal(found.pixels[0], found.pixels[3])
        assert not np.array_equal(found.pixels[0, 0], found.pixels[0, 1])
        assert np.array_equal(found.pixels[2, 0], found.pixels[2, 1]), "gray in three channels"
        assert pictures.pictures_from([photos], channels=1, size=16).pixels.shape == (3, 1, 16, 16)

    def test_the_middle_is_kept_as_it_is(self, photos: Path) -> None:
        with Image.open(photos / "1.png") as image:
            expected = np.asarray(image)[:, 10:50].transpose(2, 0, 1)
        assert np.array_equal(pictures.pictures_from([photos / "1.png"], 3, 40).pixels[0], expected)

    def test_of_many_an_even_choice(self, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = pictures.pictures_from([photos], 3, 32)
        monkeypatch.setattr(pictures, "PICTURES", 2)
        some = pictures.pictures_from([photos], 3, 32)
        assert np.array_equal(some.pixels, whole.pixels[[0, 2]])
        assert some.origin == f"{photos}: 2 of 3"

    def test_a_catalog(self, catalog: fdsl.Catalog, tmp_path: Path) -> None:
        catalog.save(tmp_path / "catalog.safetensors")
        catalog.to_csv(tmp_path / "csv")
        for name in ("catalog.safetensors", "csv"):
            found = pictures.pictures_from([tmp_path / name], channels=3, size=32)
            assert found.pixels.shape == (128, 3, 32, 32)
            assert set(np.unique(found.pixels)) == {0, 127}
            with pytest.raises(ValueError, match="expected one catalog, or files and folders"):
                pictures.pictures_from([tmp_path / name, tmp_path / name], channels=3, size=32)

    def test_a_published_catalog_is_drawn_and_its_contact_sheet_is_no_picture(
        self, catalog: fdsl.Catalog, tmp_path: Path
    ) -> None:
        hub.publish(catalog, tmp_path / "fractals")
        assert pictures.pictures_from([tmp_path / "fractals"], 3, 32).pixels.shape == (128, 3, 32, 32)

    def test_a_folder_of_pictures_may_hold_their_labels(self, tmp_path: Path) -> None:
        Image.new("L", (8, 8), 7).save(tmp_path / "1.png")
        (tmp_path / "labels.csv").write_text("file,label\n1.png,3\n")
        assert np.all(pictures.pictures_from([tmp_path], 1, 8).pixels == 7)
        with pytest.raises(ValueError, match="expected a run that has ended, or a catalog"):
            hub.publish(tmp_path, tmp_path / "hub")

    def test_16_bits_keep_their_shades(self, tmp_path: Path) -> None:
        shades = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(shades).save(tmp_path / "1.png")
        assert np.array_equal(pictures.pictures_from([tmp_path], 1, 8).pixels[0, 0], shades // 256)

    def test_without_any_it_is_noise(self) -> None:
        found = pictures.pictures_from([], channels=1, size=8)
        assert found.pixels.shape == (128, 1, 8, 8)
        assert "random noise" in found.origin

    def test_bad_input(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.png").write_text("no picture")
        Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
        (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
        with pytest.raises(ValueError, match=r"empty holds no picture; expected files in \.png, \.jpg"):
            pictures.pictures_from([tmp_path / "empty"], 3, 8)
        for name in ("text.png", "half.png"):
            with pytest.raises(ValueError, match=f"{name} is no picture"):
                pictures.pictures_from([tmp_path / name], 3, 8)
        with pytest.raises(FileNotFoundError, match=r"missing\.png"):
            pictures.pictures_from([tmp_path / "missing.png"], 3, 8)


def images_in(page: str) -> list[Image.Image]:
    found = re.findall(r'src="([^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in found)
    opened = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2], validate=True))) for source in found]
    for image in opened:
        image.load()
    return opened


class TestReport:
    def test_a_vit(self, photos: Path, tmp_path: Path) -> None:
        found = report.inspect_network("scratch:test_vit", [photos], output=tmp_path / "out")
        assert json.loads((tmp_path / "out" / "report.json").read_text()) == found
        assert (found["model"], found["size"], found["attention_maps"]["count"]) == ("test_vit", 160, 3)
        assert np.shape(found["attention_distance"]["by_layer_and_head"]) == (6, 2)
        assert sum(found["components"]["variance_shares"]) < 1
        figures = ("first_layer", "components", "position_embeddings", "attention_distance", "attention_maps")
        for name in figures:
            with Image.open(tmp_path / "out" / f"{name}.png") as image:
                image.load()
                assert min(image.size) > 200
        with report.safetensors.safe_open(tmp_path / "out" / "arrays.safetensors", "numpy") as arrays:
            assert arrays.get_tensor("position_embedding_similarity").shape == (10, 10, 10, 10)
            assert arrays.get_tensor("rollout").shape == (3, 10, 10)
            assert arrays.get_tensor("last_layer_attention").shape == (3, 2, 10, 10)
        page = (tmp_path / "out" / "report.html").read_text()
        assert len(images_in(page)) == len(figures)
        assert len(page) < 5_000_000
        assert not re.search(r"<script|<link|@import|url\(|href=|https?:", page)
        assert "<b>" not in page
        assert "a&lt;b&gt;&amp;c" in page

    def test_the_figures_are_those_of_the_network(self, photos: Path, tmp_path: Path) -> None:
        network = network_of(VIT)
        options = {name: value for name, value in SMALL.items() if name not in ("img_size", "num_classes")}
        info = weights.WeightsInfo(VIT, options, ["a", "b", "c", "d"], 3, 32, (0.2,), (0.5,))
        weights.save_weights(tmp_path / "weights.safetensors", network, info)
        found = report.inspect_network(tmp_path / "weights.safetensors", [photos], output=tmp_path / "out")
        pixels = pictures.pictures_from([photos], 3, 32).pixels
        read = attention.AttentionReader(network)((torch.from_numpy(pixels) / 255 - 0.2) / 0.5)
        expected = attention.mean_distances(read, 32, 32)
        assert np.array(found["attention_distance"]["by_layer_and_head"]) == pytest.approx(expected, abs=0.006)
        with report.safetensors.safe_open(tmp_path / "out" / "arrays.safetensors", "numpy") as arrays:
            assert arrays.get_tensor("rollout") == pytest.approx(attention.rollout(read), abs=1e-6)
            assert arrays.get_tensor("last_layer_attention") == pytest.approx(attention.last_layer(read), abs=1e-6)

    def test_a_resnet_has_filters_only(self, photos: Path, tmp_path: Path) -> None:
        found = report.inspect_network("scratch:test_resnet", [photos], output=tmp_path / "out")
        assert found["first_layer"]["module"] == "conv1.0"
        for name in ("position_embeddings", "attention_distance", "attention_maps"):
            assert found[name] is None
            assert not (tmp_path / "out" / f"{name}.png").exists()
        page = (tmp_path / "out" / "report.html").read_text()
        assert len(images_in(page)) == 2
        assert "This page reads attention where" in page
        assert "This page reads position embeddings that" in page

    def test_a_run_is_shown_its_own_data(self, catalog: fdsl.Catalog, tmp_path: Path) -> None:
        from fdsl.train.recipes import Data, Recipe

        run = tmp_path / "run"
        run.mkdir()
        catalog.save(run / "catalog.safetensors")  # as `fdsl publish` leaves it
        info = weights.WeightsInfo("test_vit", {}, ["a", "b"], 1, 32)
        torch.manual_seed(0)
        network = timm.create_model("test_vit", img_size=32, in_chans=1, num_classes=2)
        weights.save_weights(run / "weights.safetensors", network, info)
        data = Data(source="catalog.safetensors", size=32, points=1000, channels=1, instances=40)
        (run / "recipe.yaml").write_text(Recipe(title="A trial", data=data).yaml())
        (run / "report.json").write_text(json.dumps({"steps": 7}))
        found = report.inspect_network(run, output=tmp_path / "out")
        assert found["run"] == {"recipe": "A trial", "data": data.source, "steps": 7}
        assert found["attention_maps"]["pictures"] == f"the run's own data, {run / data.source}"
        assert found["attention_maps"]["count"] == 128

    def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="empty holds no picture"):
            report.inspect_network("scratch:test_vit", [tmp_path / "empty"], output=tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["empty"]

    def test_weights_of_another_architecture(self, tmp_path: Path) -> None:
        torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet.pth")
        with pytest.raises(ValueError, match=r"resnet\.pth does not fit vit_tiny_patch16_224"):
            report.inspect_network(tmp_path / "resnet.pth", model=VIT, output=tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestCommand:
    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def run(self, *arguments: object) -> Any:
        return CliRunner().invoke(app, ["inspect", *map(str, arguments)], prog_name="fdsl")

    def test_figures_and_json(self, photos: Path) -> None:
        result = self.run("scratch:test_vit", "--images", photos)
        assert result.exit_code == 0, result.output
        assert re.search(r"mean attention distance +\d+( \d+){5}\n", result.stdout)
        assert result.stdout.endswith(f"{Path('inspect-test_vit', 'report.html')}\n")
        result = self.run("scratch:test_vit", "--images", photos, "--json", "--out", "again")
        assert json.loads(result.stdout) == json.loads(Path("again", "report.json").read_text())

    def test_a_folder_gives_its_whole_name_and_the_folder_of_what_is_written_is_made(self, photos: Path) -> None:
        network, info = weights.network_from("scratch:test_vit")
        Path("deit.v2").mkdir()
        weights.save_weights("deit.v2/weights.safetensors", network, info)
        for arguments in (("deit.v2",), ("deit.v2/weights.safetensors", "--out", "new/folder")):
            assert self.run(*arguments, "--images", photos / "1.png").exit_code == 0
        assert Path("inspect-deit.v2", "report.html").is_file()
        assert Path("new", "folder", "report.html").is_file()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("missing",), "error: missing"),
            (("scratch:resnet99",), "resnet99"),
            (("scratch:test_vit", "--images", "missing"), "error: missing: No such file or directory"),
            (("scratch:test_vit", "--images", "empty"), "error: empty holds no picture"),
            (("scratch:test_vit", "--out", "full"), "error: full exists; expected a new or an empty folder"),
        ],
    )
    def test_bad_calls_are_one_line(self, arguments: tuple[str, ...], message: str) -> None:
        Path("empty").mkdir()
        Path("full").mkdir()
        Path("full", "thesis.tex").touch()
        result = self.run(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert message in result.stderr
        assert sorted(path.name for path in Path().iterdir()) == ["empty", "full"]
