"""Pictures in requests: data URLs and nothing else, looked at before they are decoded.

No address is ever fetched and no path is ever opened: what is given on is always bytes. What a decoder says of a
broken picture is never told to the client, as it may speak of this machine.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rebus.data.pictures import read_header
from rebus.errors import PictureError
from rebus.serve.errors import ApiError, invalid
from rebus.serve.settings import Limits

if TYPE_CHECKING:
    from rebus.run.predictor import Predictor

_HEAD = re.compile(r"data:image/[a-z0-9.+-]{1,40}(;[a-z0-9-]{1,40}=[a-z0-9-]{1,40})?;base64,", re.IGNORECASE)
_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]{0,20}):")
MOVING = ("GIF", "WEBP", "PNG", "TIFF", "AVIF")  # formats that may hold several frames


@dataclass(frozen=True)
class Picture:
    """A picture that was sent.

    Attributes:
        content: the file's bytes.
        digest: of them.
        pixels: (S, S, 3), as the model sees it.
    """

    content: bytes
    digest: str
    pixels: NDArray[np.uint8]


def check_address(url: str, param: str) -> int:
    """Where the base64 of a data URL begins. Raises ApiError for any other address, which is not fetched."""
    head = _HEAD.match(url)
    if head is None:
        scheme = _SCHEME.match(url)
        found = f"an address with '{scheme[1].lower()}:'" if scheme else "no address"
        if scheme and scheme[1].lower() == "data":
            found = "another kind of data URL"
        raise invalid(
            f"a picture must be a data URL, as data:image/png;base64,...; this is {found}. "
            "The server fetches nothing and opens no files.",
            param,
            "unsupported_picture_address",
        )
    return head.end()


def data_url(url: str, param: str) -> bytes:
    """The bytes in a data URL. Raises ApiError as ``check_address``, and where they are damaged."""
    start = check_address(url, param)
    try:
        content = base64.b64decode(url[start:], validate=True)
    except (ValueError, binascii.Error):
        raise invalid("the picture's base64 is damaged", param, "invalid_picture") from None
    if not content:
        raise invalid("the picture is empty", param, "invalid_picture")
    return content


def opened(predictor: Predictor, url: str, limits: Limits, param: str) -> Picture:
    """A data URL's picture as a model sees it. Raises ApiError as ``checked``, and where it cannot be decoded."""
    content = checked(url, limits, param, most=predictor.recipe.data.pixel_budget)
    try:
        pixels = predictor.open_picture(content, Path(), "the picture")
    except PictureError:
        raise unreadable(param) from None
    return Picture(content, blake2b(content, digest_size=16).hexdigest(), pixels)


def checked(url: str, limits: Limits, param: str, *, most: int = 2**62) -> bytes:
    """The bytes of a picture whose header says that it is small enough, still, and of a known format.

    Raises:
        ApiError: it is not; nothing was decoded.
    """
    content, most = data_url(url, param), min(most, limits.pixels)
    try:
        header = read_header(content, pixel_budget=most, where="the picture")
    except PictureError as error:
        if error.expected.endswith("pixels"):
            raise too_large(most, param) from None
        raise unreadable(param) from None
    if header.format in MOVING and frames_beyond(content, header.format, limits.frames):
        what = "a still picture" if limits.frames == 1 else f"a picture of at most {limits.frames} frames"
        raise invalid(f"{what} is expected; this one has more frames", param, "too_many_frames")
    return content


def frames_beyond(content: bytes, form: str, most: int) -> bool:
    """Whether a picture has more frames than this; looks no further than that."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=[form]) as image:
            if not getattr(image, "is_animated", False):
                return False
            if most == 1:
                return True
            image.seek(most)
    except EOFError:
        return False
    except Exception:  # a broken second frame is a broken picture, which decoding will find
        return most == 1
    return True


def too_large(most: int, param: str) -> ApiError:
    """The header promises too many pixels."""
    return invalid(f"the picture has more than {most:,} pixels; scale it down", param, "picture_too_large")


def unreadable(param: str | None = None) -> ApiError:
    """Whatever a decoder says, this is what the client is told."""
    return invalid(
        "the picture cannot be read: it is damaged, cut off, or of a format that is not read", param, "invalid_picture"
    )
