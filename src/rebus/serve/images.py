"""Images in requests: data URLs or bare base64, read as tables read them, and looked at before they are decoded.

No address is ever fetched and no path is ever opened: what is given on is always bytes. What a decoder says of a
broken image is never told to the client, as it may speak of this machine.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rebus.data.image_sources import image_bytes, is_base64_image, is_data_address
from rebus.data.images import FORMATS, format_of, read_header
from rebus.errors import ImageError, ImageSizeError
from rebus.serve.errors import ApiError, invalid
from rebus.serve.settings import Limits

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor

_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]{0,20}):")
MOVING = ("GIF", "WEBP", "PNG", "TIFF", "AVIF")  # formats that may hold several frames


@dataclass(frozen=True)
class Image:
    """An image that was sent.

    Attributes:
        content: the file's bytes.
        digest: of them.
        pixels: (S, S, 3), as the model sees it.
    """

    content: bytes
    digest: str
    pixels: NDArray[np.uint8]


def check_address(url: str, param: str) -> None:
    """Raise ApiError for a value that is neither a data URL nor base64 of an image: nothing is fetched or opened."""
    if is_data_address(url) or is_base64_image(url):
        return
    scheme = _SCHEME.match(url[:256])
    kind = f"an address with '{scheme[1].lower()}:'" if scheme else "neither an address nor base64 of an image"
    if scheme and scheme[1].lower() == "data":
        kind = f"a data URL that begins with '{url[:40]}'"
    elif not url[:256].strip():
        kind = "empty"
    raise invalid(
        f"{param}: expected an image as a data URL, such as data:image/png;base64,...; this is {kind}. "
        "The server fetches nothing and opens no files.",
        param,
        "unsupported_image_address",
    )


def opened(predictor: Predictor, url: str, param: str, limits: Limits) -> Image:
    """A data URL's image as a model sees it. Raises ApiError as ``checked``, and where it cannot be decoded."""
    content = checked(url, param, limits, most=predictor.recipe.data.pixel_budget)
    try:
        pixels = predictor.open_image(content, Path(), "the image")
    except ImageError as error:
        raise unreadable(content, param, error) from None
    return Image(content, blake2b(content, digest_size=16).hexdigest(), pixels)


def checked(url: str, param: str, limits: Limits, *, most: int = 2**62) -> bytes:
    """The bytes of an image whose header says that it is small enough, still, and of a known format.

    Raises:
        ApiError: it is not; nothing was decoded.
    """
    check_address(url, param)
    try:
        content = image_bytes(url, param) or b""
    except ImageError as error:
        raise invalid(f"{param}: expected {error.expected}; found {error.found}", param, "invalid_image") from None
    if not content:
        raise invalid(f"{param}: the image is empty", param, "invalid_image")
    most = min(most, limits.pixels)
    try:
        header = read_header(content, pixel_budget=most, where=param)
    except ImageError as error:
        raise unreadable(content, param, error) from None
    if header.format in MOVING and frames_beyond(content, header.format, limits.frames):
        what = "a still image" if limits.frames == 1 else f"an image of at most {limits.frames} frames"
        raise invalid(f"{param}: expected {what}; this one has more frames", param, "too_many_frames")
    return content


def frames_beyond(content: bytes, form: str, most: int) -> bool:
    """Whether an image has more frames than this; looks no further than that."""
    from PIL import Image as PILImage

    try:
        with PILImage.open(io.BytesIO(content), formats=[form]) as image:
            if not getattr(image, "is_animated", False):
                return False
            if most == 1:
                return True
            image.seek(most)
    except EOFError:
        return False
    except Exception:  # a broken second frame is a broken image, which decoding will find
        return most == 1
    return True


def unreadable(content: bytes, param: str, error: ImageError) -> ApiError:
    """Why an image is refused: its size where the header says it, else nothing that a decoder said."""
    if isinstance(error, ImageSizeError):
        return invalid(
            f"{param}: expected {error.expected}; found {error.width:,} x {error.height:,}. Scale it down",
            param,
            "image_too_large",
        )
    kind = format_of(content[:16])
    why = f"it is {kind}" if kind else "it is damaged, cut off, or of another format"
    return invalid(f"{param}: the image cannot be read: {why}. {', '.join(FORMATS)} are read", param, "invalid_image")
