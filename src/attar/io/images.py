"""Safe reading of images: an allow-list of formats, the size checked before pixels are decoded, two plain modes out.

Whatever comes in, what comes out is 8-bit grey (mode L) or 8-bit colour (mode RGB), upright, without alpha. Grey of 16
bits is divided by 257 and rounded, never clipped; alpha is laid on white; palettes, CMYK and the like become RGB.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from attar.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
"""What Pillow may open; its other plug-ins are rarely used and more rarely attacked by testers."""

MAX_PIXELS = 64 * 10**6
"""Larger images are refused from their header, before memory is spent on them."""

RESIZE = ("crop", "squash", "pad")
_GREY = ("1", "L", "LA", "La")
_WHITE = 255


def decode(data: bytes | Path, where: str) -> Image.Image:
    """An encoded image as mode L or RGB.

    Args:
        data: the bytes of a file, or its path.
        where: how to name it in messages.

    Raises:
        DataError: empty, not an image of an allowed format, truncated, or more than 64 megapixels.
    """
    if not (data if isinstance(data, bytes) else _size(data, where)):
        raise _bad(where, "is empty (0 bytes)")
    with _named(where), Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS) as image:
        return opened(image, where)


def opened(image: Image.Image, where: str) -> Image.Image:
    """A Pillow image, its pixels perhaps not read yet, as mode L or RGB; errors as those of :func:`decode`."""
    with _named(where):
        check_size(image.width, image.height, where)
        image.load()
        return plain(image, where)


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Names the image in whatever Pillow raises."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as e:
        raise _bad(where, f"is not an image in one of the formats {', '.join(FORMATS)}") from e
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:  # Pillow's limit, passed far above ours
        raise _bad(where, f"claims more than the limit of {MAX_PIXELS // 10**6} megapixels") from e
    except (
        Exception
    ) as e:  # Pillow's parsers let through whatever they stumble over: struct.error, KeyError, zlib.error
        raise _bad(where, f"is damaged ({e or type(e).__name__})") from e


def check_size(width: int, height: int, where: str) -> None:
    """Refuses an image from its header."""
    if width * height > MAX_PIXELS:
        limit = f"the limit of {MAX_PIXELS // 10**6} megapixels"
        raise _bad(where, f"claims {width}x{height} pixels, more than {limit}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences Pillow's remarks on odd metadata, and on huge images, which :func:`decode` refuses by itself.

    The filter belongs to the process, so it is set once around a pool of threads and not inside them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def plain(image: Image.Image, where: str) -> Image.Image:
    """Any Pillow image as mode L (if its mode is a grey one) or RGB, turned upright, alpha laid on white."""
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_deep_grey(np.asarray(image), where))
    mode = "L" if image.mode in _GREY else "RGB"
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    layer = image.convert("LA" if mode == "L" else "RGBA")
    ground = Image.new(mode, image.size, _WHITE if mode == "L" else (_WHITE,) * 3)
    ground.paste(layer.convert(mode), mask=layer.getchannel("A"))
    return ground


def from_array(a: np.ndarray, where: str) -> Image.Image:
    """An array [H, W], [H, W, C] or [C, H, W] with C of 1 or 3 as mode L or RGB."""
    a = eight_bit(channels_last(a, where), where)  # [H, W, C]
    check_size(a.shape[1], a.shape[0], where)
    return Image.fromarray(np.ascontiguousarray(a[:, :, 0] if a.shape[2] == 1 else a))


def channels_last(a: np.ndarray, where: str) -> np.ndarray:
    """[H, W], [H, W, C] or [C, H, W] -> [H, W, C]; C is 1 or 3, looked for at the end first."""
    shape = list(a.shape)
    if a.ndim == 2:
        a = a[:, :, None]
    elif a.ndim == 3 and a.shape[2] not in (1, 3) and a.shape[0] in (1, 3):
        a = a.transpose(1, 2, 0)
    if a.ndim != 3 or a.shape[2] not in (1, 3) or 0 in a.shape:
        raise _bad(where, f"has the shape {shape}, and neither [H, W], [H, W, C] nor [C, H, W] with C of 1 or 3")
    return a


def eight_bit(a: np.ndarray, where: str) -> np.ndarray:
    """Pixels of any kind as uint8, same shape: 16 bits by (v + 128) // 257, floats in [0, 1] by round(255 v).

    Raises:
        DataError: NaN or infinity, floats outside [0, 1], integers outside 0..255 that are not of 16 bits.
    """
    if a.dtype == np.uint8:
        return a
    if a.dtype == np.bool_:
        return a.astype(np.uint8) * 255
    if a.dtype == np.uint16:
        return ((a.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if a.dtype.kind == "f":
        if not np.isfinite(a).all():
            raise _bad(where, "has a pixel that is NaN or infinite")
        _within(a, 1, where, "floating-point pixels must be in [0, 1]: divide by 255, and do not normalise before")
        return np.rint(a.astype(np.float64) * 255).astype(np.uint8)
    if a.dtype.kind in "iu":
        _within(a, 255, where, "whole-number pixels must be in 0..255, or of type uint16 in 0..65535")
        return a.astype(np.uint8)
    raise _bad(where, f"has pixels of type {a.dtype}, which are no numbers")


def fit(image: Image.Image, size: tuple[int, int], policy: str) -> Image.Image:
    """Resizes to (H, W), antialiased (Pillow's bicubic filter, its support widened by the scale when shrinking).

    Args:
        policy: ``crop`` (the shorter side fits, then the centre is cut out; in one resampling), ``squash`` (sides are
            scaled apart), ``pad`` (the longer side fits, black around).
    """
    h, w = size
    if image.size == (w, h):
        return image
    if policy == "squash":
        return image.resize((w, h), Image.Resampling.BICUBIC)
    if policy == "crop":
        scale = max(w / image.width, h / image.height)
        bw, bh = min(w / scale, image.width), min(h / scale, image.height)
        left, top = (image.width - bw) / 2, (image.height - bh) / 2
        return image.resize((w, h), Image.Resampling.BICUBIC, box=(left, top, left + bw, top + bh))
    scale = min(w / image.width, h / image.height)
    inner = image.resize(
        (min(w, max(1, round(image.width * scale))), min(h, max(1, round(image.height * scale)))),
        Image.Resampling.BICUBIC,
    )
    ground = Image.new(image.mode, (w, h))
    ground.paste(inner, ((w - inner.width) // 2, (h - inner.height) // 2))
    return ground


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # the pixels are good and only the EXIF block is not: an orientation that cannot be read is none
        return image


def _deep_grey(a: np.ndarray, where: str) -> np.ndarray:
    """Pillow's modes of more than 8 bits: I;16 and I hold 0..65535, F holds [0, 1]; [H, W] -> uint8 [H, W]."""
    if a.dtype.kind in "iu":
        _within(a, 65535, where, "grey pixels of more than 8 bits must be in 0..65535")
        a = a.astype(np.uint16)
    return eight_bit(a, where)


def _within(a: np.ndarray, top: int, where: str, expected: str) -> None:
    low, high = a.min(), a.max()
    if low < 0 or high > top:
        raise _bad(where, f"has pixels from {low:g} to {high:g}, but {expected}")


def _size(path: Path, where: str) -> int:
    try:
        return path.stat().st_size
    except OSError as e:
        raise _bad(where, f"cannot be read ({e.strerror})") from e


def _bad(where: str, what: str) -> DataError:
    return DataError(f"{where} {what}; replace or delete it, or skip such images with --on-bad skip")
