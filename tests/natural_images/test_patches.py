"""Patches: the two halves share no pixel, and whitening sees one of them."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from photographs.patches import corners, draw, is_held_out, photographs
from photographs.split import split
from photographs.whitening import fit_whitening, without_mean_grey

SIZE, TILE = 8, 32


@pytest.fixture(scope="module")
def images():
    return photographs(shrink=2, seed=0)


@pytest.fixture(scope="module")
def halves(images):
    return [draw(images, SIZE, TILE, 2000, held_out, seed=0) for held_out in (False, True)]


def covered(patches, images):
    """The pixels of the photographs that some patch has."""
    masks = [np.zeros(image.shape, bool) for image in images]
    for number, (row, column) in zip(patches.photograph, patches.corner, strict=True):
        masks[number][row : row + SIZE, column : column + SIZE] = True
    return masks


def test_no_pixel_is_in_both_halves(images, halves):
    for fitted, held_out in zip(*(covered(half, images) for half in halves), strict=True):
        assert fitted.any() and held_out.any() and not (fitted & held_out).any()


def test_patches_are_what_they_say(images, halves):
    for patches, held_out in zip(halves, (False, True), strict=True):
        columns = (patches.pixels, patches.photograph, patches.corner, patches.tile)
        for pixels, number, (row, column), tile in zip(*columns, strict=True):
            found = images[number][row : row + SIZE, column : column + SIZE]
            assert np.array_equal(pixels.reshape(SIZE, SIZE), found)
            assert (tile.sum() % 3 == 2) == held_out
            for r, c in ((row, column), (row + SIZE - 1, column + SIZE - 1)):
                assert (r // TILE, c // TILE) == tuple(tile)


def test_patches_are_different_and_of_both_photographs(halves):
    for patches in halves:
        places = np.column_stack([patches.photograph, patches.corner])
        assert len(np.unique(places, axis=0)) == len(places)
        assert np.bincount(patches.photograph).tolist() == [1000, 1000]


def test_tiles_are_numbered_through_both_photographs(halves):
    for patches in halves:
        index = patches.tile_index
        assert set(index) == set(range(index.max() + 1))
        for number in np.unique(index):
            (mine,) = np.nonzero(index == number)
            assert len(np.unique(patches.photograph[mine])) == 1
            assert len(np.unique(patches.tile[mine], axis=0)) == 1


def test_all_places_of_a_patch_within_a_tile_are_found():
    shape, size, tile = (13, 9), 3, 5
    slow = [
        (r, c)
        for r in range(shape[0] - size + 1)
        for c in range(shape[1] - size + 1)
        if r // tile == (r + size - 1) // tile and c // tile == (c + size - 1) // tile
    ]
    assert [tuple(corner) for corner in corners(shape, size, tile)] == slow


def test_every_third_tile_is_held_out():
    tiles = np.stack(np.meshgrid(np.arange(6), np.arange(9), indexing="ij"), -1).reshape(-1, 2)
    assert is_held_out(tiles).sum() * 3 == len(tiles)


def test_grey_levels_are_averages_of_levels_with_noise(images):
    weights = np.array([0.299, 0.587, 0.114])
    for image, colours in zip(images, load_sample_images().images, strict=True):
        grey = colours.astype(float) @ weights
        corner = grey[:212:2, :320:2], grey[1:212:2, :320:2], grey[:212:2, 1:320:2]
        expected = sum([*corner, grey[1:212:2, 1:320:2]]) / 4
        noise = image[:106, :160] - expected
        assert noise.min() > 0 and noise.max() < 1 and abs(noise.mean() - 0.5) < 0.01
        assert image.shape == (colours.shape[0] // 2, colours.shape[1] // 2)


def test_too_many_patches_are_refused(images):
    with pytest.raises(ValueError, match="photograph 0 has"):
        draw(images, SIZE, TILE, 10**6, True, seed=0)


def test_whitening_makes_white_and_ignores_the_mean_grey(halves):
    pixels = halves[0].pixels
    whitening = fit_whitening(pixels)
    x = whitening(pixels)
    assert x.shape == (2000, SIZE**2 - 1)
    assert np.allclose(x.mean(0), 0, atol=1e-9)
    assert np.allclose(x.T @ x / len(x), np.eye(SIZE**2 - 1), atol=1e-8)
    assert np.allclose(whitening(pixels + 17.0), x, atol=1e-8)


def test_the_basis_without_the_mean_grey_is_orthonormal():
    basis = without_mean_grey(16)
    assert np.allclose(basis @ basis.T, np.eye(15))
    assert np.allclose(basis.sum(1), 0)


def test_a_split_is_a_function_of_its_settings_and_whitens_by_what_is_fitted():
    one, two = (split(4, TILE, 2, (400, held_out), seed=3) for held_out in (300, 200))
    assert np.array_equal(one.fitted.pixels, two.fitted.pixels)
    assert np.array_equal(one.whitening.matrix, two.whitening.matrix)
    assert np.array_equal(one.whitening.matrix, fit_whitening(one.fitted.pixels).matrix)
    assert not np.array_equal(one.x, split(4, TILE, 2, (400, 300), seed=4).x)
