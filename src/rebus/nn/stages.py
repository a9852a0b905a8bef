"""How many blocks and channels the stages of convolutional networks have, given what a recipe says of them.

It knows no layers: sizes in, sizes out.
"""

from __future__ import annotations

from rebus.errors import RecipeError
from rebus.recipe import Tower

# of lite0: blocks, channels (of the stem too), kernel, stride and expansion of each stage, and channels at the end
BLOCKS, CHANNELS = (1, 2, 2, 3, 3, 4, 1), (32, 16, 24, 40, 80, 112, 192, 320)
KERNELS, STRIDES, EXPANSIONS = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1), (1, 6, 6, 6, 6, 6, 6)
WIDTH, PATCH = 1280, 32


def resnet_shape(settings: Tower) -> tuple[list[int], list[int]]:
    """Blocks of each stage, and channels of the stem and of each stage.

    Where the recipe says nothing, channels double from stage to stage up to the width, and there are as many stages as
    the patch needs: 16 pixels are three, 32 are four.

    Raises:
        RecipeError: they do not go together.
    """
    patch = settings.patch
    if patch < 4 or patch & (patch - 1):
        raise RecipeError("setting 'model.image.patch'", "a power of two from 4 up", str(patch), "use 8, 16 or 32")
    count = patch.bit_length() - 2
    blocks = settings.stages or [settings.depth] * count
    tops = [max(8, round(settings.width / 2 ** (count - 1 - stage) / 8) * 8) for stage in range(count - 1)]
    tops = [*tops, settings.width]
    channels = settings.channels or [max(8, tops[0] // 4) if settings.block == "bottleneck" else tops[0], *tops]
    if len(blocks) != count or min(blocks) < 1:
        do = f"give {count} numbers, or a patch of {2 ** (len(blocks) + 1)}"
        expected = f"a number of blocks for each of the {count} stages of a patch of {patch}"
        raise RecipeError("setting 'model.image.stages'", expected, str(blocks), do)
    if len(channels) != count + 1 or min(channels) < 1 or channels[-1] != settings.width:
        expected = f"channels of the stem and of {count} stages, the last one the width ({settings.width})"
        raise RecipeError("setting 'model.image.channels'", expected, str(channels), "leave it out, or correct it")
    if settings.block == "bottleneck" and any(channel % 4 for channel in channels[1:]):
        expected = "multiples of 4, for bottlenecks"
        raise RecipeError("setting 'model.image.channels'", expected, str(channels), "change them")
    return blocks, channels


def efficientnet_shape(settings: Tower) -> tuple[list[int], list[int]]:
    """Blocks of each stage, and channels of the stem and of each stage. Raises RecipeError where they do not fit."""
    patch, many = settings.patch, len(BLOCKS)
    if patch not in (4, 8, 16, PATCH):
        expected = "4, 8, 16 or 32, for an efficientnet"
        raise RecipeError("setting 'model.image.patch'", expected, str(patch), "use one of these")
    blocks = settings.stages or [min(count, settings.depth) for count in BLOCKS]
    share = settings.width / WIDTH
    channels = settings.channels or [max(8, round(channel * share / 8) * 8) for channel in CHANNELS]
    if len(blocks) != many or min(blocks) < 1:
        expected = f"a number of blocks for each of {many} stages"
        raise RecipeError("setting 'model.image.stages'", expected, str(blocks), "leave it out, or correct it")
    if len(channels) != many + 1 or min(channels) < 1:
        expected = f"channels of the stem and of {many} stages"
        raise RecipeError("setting 'model.image.channels'", expected, str(channels), "leave it out, or correct it")
    return blocks, channels
