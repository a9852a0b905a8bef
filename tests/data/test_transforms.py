from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rebus.data.table import Table
from rebus.data.transforms import augment, augment_batch, draws, fit_image, fitted_image
from rebus.errors import ImageError
from rebus.models.modalities import MODALITIES
from rebus.models.modalities.rows import ItemCache, RowInputs
from rebus.recipe import Augment, Recipe

EVERYTHING = Augment(shift=0.1, scale=0.2, flip=0.5, colour=0.3, hue=0.1, erase=0.5)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (1, 1), (3, 500), (32, 32), (200, 200)])
def test_fit_gives_the_square(fit: str, shape: tuple[int, int]) -> None:
    array = np.full((*shape, 3), 77, np.uint8)
    fitted = fit_image(array, 32, fit, "black")
    assert fitted.shape == (32, 32, 3)
    assert fitted.dtype == np.uint8
    assert fitted[15, 15, 0] == 77


def test_pad_keeps_all_crop_keeps_the_middle() -> None:
    array = np.zeros((32, 96, 3), np.uint8)
    array[:, 32:64] = 200
    padded = fit_image(array, 48, "pad", "#010203")
    assert tuple(padded[0, 0]) == (1, 2, 3)
    assert padded[24, 0, 0] == 0
    assert padded[24, 24, 0] == 200
    assert (fit_image(array, 32, "crop") == 200).mean() > 0.9
    assert 5 < (fit_image(array, 48, "squash")[0, :, 0] > 100).sum() < 20


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    small = fit_image(stripes, 32, "squash")
    assert np.abs(small.astype(int) - 128).max() < 12


def test_a_batch_gives_what_single_images_give_in_any_order() -> None:
    images = noise(6, 24, 24, 3)
    indices = [5, 900, 3, 2**40, 7, 0]
    batch = augment_batch(images, EVERYTHING, 1, 2, indices)
    for row, index in enumerate(indices):
        np.testing.assert_array_equal(batch[row], augment(images[row], EVERYTHING, 1, 2, index))
    turned = augment(images[::-1], EVERYTHING, 1, 2, indices[::-1])
    np.testing.assert_array_equal(turned[::-1], batch)


@pytest.mark.parametrize(("seed", "epoch", "index"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_epoch_and_index_each_matter(seed: int, epoch: int, index: int) -> None:
    image = noise(24, 24, 3)
    assert (augment(image, EVERYTHING, seed, epoch, index) != augment(image, EVERYTHING, 0, 0, 0)).any()
    assert (draws(seed, epoch, index) != draws(0, 0, 0)).all()


def test_draws_are_pinned() -> None:
    np.testing.assert_allclose(
        draws(3, 1, 4)[:2], np.random.Generator(np.random.Philox(counter=[0, 4, 0, 0], key=[3, 1])).random(2)
    )
    many = np.stack([draws(0, 0, i) for i in range(2000)])
    assert abs(many.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(many[:-1, 0], many[1:, 0])[0, 1]) < 0.06


def test_nothing_to_change_changes_nothing() -> None:
    images = noise(2, 16, 16, 3)
    np.testing.assert_array_equal(augment_batch(images, Augment(), 0, 0, [0, 1]), images)


def test_flip_is_a_mirror() -> None:
    image = noise(16, 20, 3)
    np.testing.assert_array_equal(augment(image, Augment(flip=1.0), 0, 0, 3), image[:, ::-1])


def test_shift_moves_and_repeats_the_edge() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[18:22, 18:22] = 255
    centres = []
    for index in range(30):
        moved = augment(image, Augment(shift=0.2), 0, 0, index)[:, :, 0].astype(float)
        rows, columns = np.indices(moved.shape)
        centres.append(((moved * rows).sum() / moved.sum(), (moved * columns).sum() / moved.sum()))
    offsets = np.array(centres) - 19.5
    assert np.abs(offsets).max() <= 8.1
    assert offsets.std(0).min() > 2
    bright = np.full((20, 20, 3), 90, np.uint8)
    assert (augment(bright, Augment(shift=0.5, scale=0.5), 0, 0, 1) == 90).all()


def test_scale_changes_the_size() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 255
    areas = [augment(image, Augment(scale=0.3), 0, 0, i)[:, :, 0].mean() / image[:, :, 0].mean() for i in range(40)]
    assert 0.45 < min(areas) < 0.75
    assert 1.3 < max(areas) < 1.75


def test_colour_and_hue() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    changed = augment(grey, Augment(hue=0.5), 0, 0, 1)
    assert np.abs(changed.astype(int) - 100).max() <= 1  # grey has no hue
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    turned = np.stack([augment(red, Augment(hue=0.5), 0, 0, i)[0, 0] for i in range(20)])
    assert (turned.argmax(1) != 0).any()
    brightness = [augment(grey, Augment(colour=0.4), 0, 0, i).mean() for i in range(40)]
    assert min(brightness) < 75
    assert max(brightness) > 125


def test_erase_blanks_a_rectangle() -> None:
    image = noise(32, 32, 3)
    changed = (augment(image, Augment(erase=1.0), 0, 0, 0) != image).any(-1)
    assert 0.01 < changed.mean() < 0.3
    assert (augment(image, Augment(erase=1e-9), 0, 0, 0) == image).all()


def table_of_images(tmp_path: Path) -> Table:
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "lime")):
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{name}.png")
    return Table.from_rows([{"image": f"{name}.png"} for name in "aabcx"], tmp_path, "t")


def images_of(table: Table, cache_mb: int = 64, **settings: Any) -> RowInputs:
    recipe = Recipe().replace({"image.size": 16, **settings})
    modality = MODALITIES.get("image")(recipe, ["image"])
    return RowInputs(
        {"image": modality}, {"image": table.values("image")}, table.root, table.where, ItemCache(cache_mb)
    )


def square(images: RowInputs, row: int) -> Any:
    return images.items("image", row)[0]["pixels"]


def test_rows_of_one_image_share_it(tmp_path: Path) -> None:
    images = images_of(table_of_images(tmp_path), **{"data.background": "black"})
    assert square(images, 0) is square(images, 1)
    assert tuple(square(images, 0)[8, 8]) == (255, 0, 0)
    assert tuple(square(images, 0)[0, 0]) == (0, 0, 0)
    assert images.inputs([2, 3])["image"].tensors["pixels"].shape == (2, 3, 16, 16)
    np.testing.assert_array_equal(square(images, 0), fitted_image("a.png", tmp_path, size=16, background="black"))
    with pytest.raises(ValueError, match="read-only"):
        square(images, 0)[0, 0] = 1
    (tmp_path / "a.png").unlink()
    assert square(images, 1) is square(images, 0)  # kept in memory


def test_images_are_forgotten_within_the_budget(tmp_path: Path) -> None:
    images = images_of(table_of_images(tmp_path), cache_mb=0)
    assert square(images, 0) is not square(images, 1)
    np.testing.assert_array_equal(square(images, 0), square(images, 1))


def test_the_row_of_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"t, row 5, column 'image'.*x\.png"):
        square(images_of(table_of_images(tmp_path)), 4)


def test_images_are_read_by_threads(tmp_path: Path) -> None:
    images = images_of(table_of_images(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(lambda row: square(images, row), [0, 1, 2, 3] * 20))
    assert all(array.shape == (16, 16, 3) for array in arrays)


def test_bytes_share_by_content(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(buffer, "PNG")
    images = images_of(Table.from_rows([{"image": buffer.getvalue()}, {"image": buffer.getvalue()}]))
    assert square(images, 0) is square(images, 1)
