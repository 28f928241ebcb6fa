"""Images of every mode and depth become 8-bit grey or colour, upright and of the size asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from real_makers import encoded, pictures

from attar.errors import DataError
from attar.io import images

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def reread(image: Image.Image, kind: str, **options) -> np.ndarray:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return np.asarray(images.decode(out.getvalue(), "it"))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind):
    colour, grey = pictures(1)[0], pictures(1, colour=False)[0]
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(reread(Image.fromarray(colour), kind, **options), colour)
    if kind != "WEBP":  # which knows colour only
        assert np.array_equal(reread(Image.fromarray(grey), kind), grey)


def test_gif_has_a_palette_and_becomes_colour():
    grey = pictures(1, colour=False)[0]
    assert np.array_equal(reread(Image.fromarray(grey), "GIF"), np.stack([grey] * 3, -1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_and_not_clipped(kind):
    deep = np.array([[0, 257, 65535], [128 * 257, 128, 129]], np.uint16)
    assert reread(Image.fromarray(deep), kind).tolist() == [[0, 1, 255], [128, 0, 1]]


def test_alpha_is_laid_on_white():
    layer = np.zeros((1, 3, 4), np.uint8)
    layer[0, :, 3] = [0, 255, 51]  # transparent, opaque and one-fifth black
    assert reread(Image.fromarray(layer, "RGBA"), "PNG")[0].tolist() == [[255] * 3, [0] * 3, [204] * 3]
    grey = reread(Image.fromarray(layer[:, :, 2:], "LA"), "PNG")
    assert grey.tolist() == [[255, 0, 204]]


def test_palettes_and_their_transparent_colour():
    paletted = Image.new("P", (2, 1))
    paletted.putpalette([*RED, *BLUE])
    paletted.putpixel((1, 0), 1)
    assert reread(paletted, "PNG")[0].tolist() == [[*RED], [*BLUE]]
    assert reread(paletted, "PNG", transparency=1)[0].tolist() == [[*RED], [255] * 3]


def test_cmyk_and_one_bit():
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(reread(ink, "JPEG", quality=95).astype(int) - RED).max() < 8
    assert reread(Image.new("1", (2, 2), 1), "PNG").tolist() == [[255, 255]] * 2


def test_photographs_are_turned_upright():
    wide = np.zeros((2, 4, 3), np.uint8)
    wide[0, 0] = RED
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the top is on the right
    out = reread(Image.fromarray(wide), "PNG", exif=exif)
    assert out.shape == (4, 2, 3) and out[0, 1].tolist() == [*RED]


def test_policies():
    stripes = np.zeros((4, 8, 3), np.uint8)
    stripes[:, :2], stripes[:, 2:6], stripes[:, 6:] = RED, GREEN, BLUE
    image = Image.fromarray(stripes)
    assert (np.asarray(images.fit(image, (4, 4), "crop")) == GREEN).all()
    squashed = np.asarray(images.fit(image, (4, 4), "squash"))
    assert squashed[0, 0, 0] > 200 and squashed[0, 3, 2] > 200
    padded = np.asarray(images.fit(image, (8, 8), "pad"))
    assert not padded[:2].any() and not padded[6:].any() and np.array_equal(padded[2:6], stripes)


def test_crop_equals_shrinking_then_cutting():
    image = Image.fromarray(pictures(1, size=(48, 96))[0])
    two_steps = image.resize((24, 12), Image.Resampling.BICUBIC).crop((6, 0, 18, 12))
    assert np.array_equal(np.asarray(images.fit(image, (12, 12), "crop")), np.asarray(two_steps))


def test_shrinking_is_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = np.asarray(images.fit(Image.fromarray(board), (8, 8), "squash")).astype(int)
    assert np.abs(small - 127.5).max() < 8


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from(images.RESIZE),
)
def test_any_size_fits_any_size(have, want, policy):
    image = Image.fromarray(np.full(have, 200, np.uint8))
    out = np.asarray(images.fit(image, want, policy))
    assert out.shape == want
    assert (out == 200).all() if policy != "pad" else (out == 200).any()


WHOLE = [
    encoded(pictures(1)[0]),
    encoded(pictures(1, size=(16, 16))[0], "JPEG"),
    encoded(pictures(1)[0], "GIF"),
    encoded(pictures(1)[0], "BMP"),
    encoded(pictures(1)[0], "TIFF"),
    encoded(pictures(1)[0], "WEBP"),
    encoded(pictures(1)[0], "PPM"),
]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(WHOLE), st.data())
def test_damaged_images_are_read_or_refused(whole, data):
    body = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body
    try:
        with images.quiet():
            assert images.decode(bytes(body), "it").mode in ("L", "RGB")
    except DataError as e:
        assert str(e).startswith("it ")


@settings(deadline=None, max_examples=100)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"P6 ", b"II*\0"]),
)
def test_random_bytes_are_refused(noise, start):
    try:
        with images.quiet():
            assert images.decode(start + noise, "it").mode in ("L", "RGB")
    except DataError as e:
        assert str(e).startswith("it ")
