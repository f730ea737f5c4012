from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import fdsl
from fdsl.export.encodings import SUFFIXES, decode, encode
from fdsl.export.png import png_bytes

Pixels = NDArray[np.uint8]


def opened(content: bytes, channels: int) -> Pixels:
    """As Pillow reads it, uint8 (C, H, W)."""
    with Image.open(io.BytesIO(content)) as image:
        array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def png_chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG file, each held to its CRC (PNG specification, section 5.3)."""
    assert content[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    chunks, at = {}, 8
    while at < len(content):
        length, name = struct.unpack(">I4s", content[at : at + 8])
        chunks[name] = content[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", content[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(name + chunks[name])
        at += 12 + length
    assert at == len(content)
    return chunks


def check_png(content: bytes, width: int, height: int) -> tuple[int, int]:
    """Bits a sample and colour type of a file that has the chunks and the bytes that it must have, and no others."""
    chunks = png_chunks(content)
    *shape, depth, color, compression, filtering, interlace = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert (shape, compression, filtering, interlace) == ([width, height], 0, 0, 0)
    expected = [b"IHDR", b"PLTE", b"IDAT", b"IEND"] if color == 3 else [b"IHDR", b"IDAT", b"IEND"]
    assert list(chunks) == expected
    assert chunks[b"IEND"] == b""
    samples = {0: 1, 2: 3, 3: 1}[color]
    decompress = zlib.decompressobj()
    lines = decompress.decompress(chunks[b"IDAT"])
    assert decompress.eof
    assert decompress.unused_data == b""
    line = 1 + -(-width * samples * depth // 8)
    assert len(lines) == height * line
    assert set(lines[::line]) <= {0, 1}
    if color == 3:
        assert len(chunks[b"PLTE"]) == 3 * 2
        # Bits after the last pixel of a line are zero: the same pixels are the same bytes.
        assert all(lines[end] & ((1 << -width % 8) - 1) == 0 for end in range(line - 1, len(lines), line))
    return depth, color


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Pixels, Pixels]:
    """Pixels and palettes of any size and kind: two values, grays and colours; noise, runs and slopes."""
    channels = draw(st.sampled_from([1, 3]))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["two", "ground", "gray", "color", "slope"]))
    if kind in ("two", "ground"):
        palette = random.permutation(256)[: 2 * channels].astype(np.uint8).reshape(2, channels)
        if draw(st.booleans()):
            palette[:, 1:] = palette[:, :1]
        numbers = random.integers(0, 1 if kind == "ground" else 2, (height, width))
    elif kind == "slope":
        palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], channels, axis=1)
        numbers = (np.arange(height)[:, None] * 3 + np.arange(width) * 2) % 256
    else:
        count = draw(st.integers(3, 256))
        palette = random.integers(0, 256, (count, 1 if kind == "gray" else channels), np.uint8)
        palette = np.ascontiguousarray(np.broadcast_to(palette, (count, channels)))
        numbers = random.integers(0, count, (height, width))
    return np.ascontiguousarray(palette[numbers].transpose(2, 0, 1)), palette


@given(pictures(), st.sampled_from(sorted(SUFFIXES)))
@settings(deadline=None, max_examples=200)
def test_every_encoding_gives_the_same_pixels(picture: tuple[Pixels, Pixels], encoding: str) -> None:
    pixels, palette = picture
    content = encode(pixels, palette, encoding)
    back = decode(content, encoding, len(pixels))
    assert (back.dtype, back.shape, back.flags.c_contiguous) == (np.uint8, pixels.shape, True)
    np.testing.assert_array_equal(back, pixels)
    others = np.load(io.BytesIO(content)) if encoding == "raw" else opened(content, len(pixels))
    np.testing.assert_array_equal(others, pixels)
    assert encode(pixels.copy(), palette, encoding) == content


@given(pictures())
@settings(deadline=None, max_examples=200)
def test_png_files_have_the_chunks_of_their_kind(picture: tuple[Pixels, Pixels]) -> None:
    pixels, palette = picture
    channels, height, width = pixels.shape
    gray = (palette == palette[:, :1]).all()
    kind = (1, 3) if len(palette) == 2 else (8, 0 if gray else 2)
    assert check_png(png_bytes(pixels, palette), width, height) == kind
    without = png_bytes(pixels)
    assert check_png(without, width, height) == (8, 0 if channels == 1 else 2)
    np.testing.assert_array_equal(opened(without, channels), pixels)


@pytest.mark.parametrize(
    ("family", "spec", "kind"),
    [
        ("fractaldb", {}, (1, 3)),
        ("fractaldb", {"draw": "point", "channels": 3}, (1, 3)),
        ("fractaldb", {"color": "white"}, (1, 3)),
        ("fractaldb", {"color": "density"}, (8, 0)),
        ("fractaldb", {"color": "density", "channels": 3}, (8, 0)),
        ("fractaldb", {"color": "color"}, (8, 2)),
        ("exfractaldb", {}, (1, 3)),
        ("bezier", {}, (1, 3)),
        ("bezier", {"color": "color"}, (8, 2)),
        ("rcdb", {}, (8, 0)),
        ("visualatom", {}, (8, 0)),
        ("perlin", {}, (8, 0)),
        ("perlin", {"channels": 3}, (8, 0)),
    ],
)
def test_families_keep_their_pixels(family: str, spec: dict[str, Any], kind: tuple[int, int]) -> None:
    catalog = fdsl.search(family, 4)
    for size in (57, 96):
        dataset = fdsl.Dataset(catalog, 2, fdsl.RenderSpec(size=size, **spec))
        for pixels in dataset.batch(range(8))[0]:
            assert check_png(encode(pixels, dataset.palette, "png"), size, size) == kind
            for encoding in SUFFIXES:
                content = encode(pixels, dataset.palette, encoding)
                np.testing.assert_array_equal(decode(content, encoding, len(pixels)), pixels)


@pytest.mark.parametrize("draw", ["point", "patch"])
@pytest.mark.parametrize("size", [224, 256, 512])
def test_two_valued_files_are_half_of_the_published_ones(catalog: fdsl.Catalog, draw: str, size: int) -> None:
    dataset = fdsl.Dataset(catalog, range(0, 1000, 40), fdsl.RenderSpec(size=size, draw=draw))
    ours = published = 0
    for pixels in dataset.batch(range(0, len(dataset), 3))[0]:
        ours += len(encode(pixels, dataset.palette, "png"))
        # The published renderer has an RGB image, and calls image.save(path).
        buffer = io.BytesIO()
        Image.fromarray(np.repeat(pixels[0][..., None], 3, axis=2)).save(buffer, "PNG")
        published += buffer.tell()
    assert 2 * ours <= published


def test_another_encoding_is_one_line() -> None:
    pixels, palette = np.zeros((1, 8, 8), np.uint8), np.zeros((2, 1), np.uint8)
    for work in (lambda: encode(pixels, palette, "gif"), lambda: decode(b"", "gif", 1)):
        with pytest.raises(ValueError, match=r"^encoding is 'gif'; expected one of png, webp, raw$"):
            work()


@pytest.mark.parametrize("encoding", sorted(SUFFIXES))
def test_damaged_files_are_one_line(encoding: str) -> None:
    pixels = np.arange(3 * 40 * 40, dtype=np.int64).astype(np.uint8).reshape(3, 40, 40)
    content = encode(pixels, np.zeros((256, 3), np.uint8) + np.arange(3, dtype=np.uint8), encoding)
    for damaged in (b"", b"nothing", content[:30], content[: len(content) // 2]):
        with pytest.raises(ValueError, match=f"^a {encoding} picture cannot be read; expected a whole file$"):
            decode(damaged, encoding, 3)
    other = {"png": "webp", "webp": "png", "raw": "png"}[encoding]
    with pytest.raises(ValueError, match="cannot be read"):
        decode(content, other, 3)


def test_raw_arrays_of_another_kind_are_refused() -> None:
    for array in (np.zeros((1, 8, 8), np.uint8), np.zeros((3, 8, 8)), np.zeros((8, 3), np.uint8)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        with pytest.raises(ValueError, match=r"^a raw picture is .*; expected uint8 \(3, H, W\)$"):
            decode(buffer.getvalue(), "raw", 3)
