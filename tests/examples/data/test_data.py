"""The renderer against real pictures, and the loaders against files good and bad."""

import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from data.dsprites_drawn import all_classes, as_bytes, render_words
from data.dsprites_file import FIRST, STEP
from data.pictures import (
    CACHE_NAME,
    draw_dsprites,
    load_dsprites_npz,
    pack,
    read_cache,
    render_dsprites,
    unpack,
    write_cache,
)

SAMPLES = Path(__file__).parents[2] / "data" / "dsprites_real_samples.npz"


@pytest.fixture(scope="module")
def real():
    with np.load(SAMPLES, allow_pickle=False) as file:
        return file["imgs"], file["latents_classes"]


@pytest.fixture(scope="module")
def packed():
    return as_bytes(render_words(all_classes()))


# --- drawing ---


def test_every_real_image_is_drawn_exactly(real):
    images, classes = real
    drawn = render_dsprites(classes)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, images)


@pytest.mark.slow
def test_whole_set_has_our_hash_and_nearly_the_published_statistics(packed):
    """The published mean and mean standard deviation (ddof 1) tell how near: not bit for bit."""
    assert packed.shape == (737_280, 512)
    digest, lit = hashlib.sha256(), []
    for start in range(0, len(packed), 16_384):
        bits = np.unpackbits(packed[start : start + 16_384], axis=-1, bitorder="little")
        lit.append(bits.sum(1, dtype=np.int64))
        digest.update(bits)
    assert digest.hexdigest() == "2c612e5234d21c2b576c375ebe1faa1b363ab97d340164c5d2dcf27f35dd5eb6"

    def deviation(count):
        return np.sqrt(count / 4096 * (1 - count / 4096) * 4096 / 4095)

    count = np.concatenate(lit)
    published = round(0.042494423521889584 * 737_280 * 4096)
    assert (published, count.sum()) == (128_328_862, 128_328_864)
    lacking = 737_280 * 0.19516645880626055 - deviation(count).sum()
    assert lacking == pytest.approx(0.0031674, abs=1e-7)
    # A pixel more tells most in the smallest sprite, one fewer least in the largest one: so many
    # pixels must differ at least, with two more of ours that are lit there not.
    most = deviation(count.min() + 1) - deviation(count.min())
    least = deviation(count.max()) - deviation(count.max() - 1)
    fewest = next(2 * n + 2 for n in range(100) if n * most - (n + 2) * least >= lacking)
    assert fewest == 14


def test_order_of_the_whole_set_is_that_of_the_npz():
    classes = all_classes()
    assert classes.shape == (737_280, 6)
    np.testing.assert_array_equal(classes[[0, 1, 32, 1024, 40 * 1024]].sum(0), [0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(classes[-1], [0, 2, 5, 39, 31, 31])


@pytest.mark.slow
def test_drawing_does_not_depend_on_the_company(packed):
    rows = np.random.default_rng(0).integers(0, 737_280, 300)
    alone = pack(render_dsprites(all_classes()[rows]))
    np.testing.assert_array_equal(alone, packed[rows])


def test_a_full_turn_is_the_same_picture(packed):
    by_turn = packed.reshape(18, 40, 1024, 512)
    np.testing.assert_array_equal(by_turn[:, 0], by_turn[:, 39])


def test_no_sprites():
    assert render_dsprites(np.zeros((0, 6), int)).shape == (0, 64, 64)


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        (np.zeros(6, int), ValueError, r"shape \(N, 6\).*got \(6,\)"),
        (np.zeros((2, 5), int), ValueError, r"shape \(N, 6\).*got \(2, 5\)"),
        (np.zeros((2, 6)), TypeError, "integer dtype.*float64"),
        (np.zeros((2, 6), bool), TypeError, "integer dtype.*bool"),
        ([[0, 0, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0]], ValueError, r"column 1 \(shape\).*0..2.*row 1"),
        ([[0, 0, 0, 40, 0, 0]], ValueError, r"column 3 \(orientation\).*0..39.*has 40"),
        ([[0, 0, 0, 0, 0, -1]], ValueError, r"column 5 \(posY\).*has -1"),
        ([[1, 0, 0, 0, 0, 0]], ValueError, r"column 0 \(color\)"),
    ],
)
def test_bad_classes_are_named(classes, error, message):
    with pytest.raises(error, match=message):
        render_dsprites(classes)


# --- packing ---


def test_packing_round_trip(real):
    images, _ = real
    unpacked = unpack(torch.from_numpy(pack(images)))
    assert unpacked.dtype == torch.float32
    np.testing.assert_array_equal(unpacked.numpy().reshape(images.shape), images)


# --- cache ---


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "no digest", "not an npy"])
def test_damaged_cache_is_noticed(tmp_path, damage):
    path, array = tmp_path / "cache.npy", np.arange(1024, dtype=np.uint8).reshape(2, 512)
    assert read_cache(path, (2, 512)) is None
    write_cache(path, array)
    np.testing.assert_array_equal(read_cache(path, (2, 512)), array)
    assert [file.name for file in tmp_path.iterdir()] == ["cache.npy"]
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[700] ^= 1
    path.write_bytes(
        {
            "truncated": good[:-500],
            "one bit": bytes(flipped),
            "empty": b"",
            "no digest": good[:-32],
            "not an npy": b"hello" * 100,
        }[damage]
    )
    with pytest.warns(UserWarning, match="drawing the set again"):
        assert read_cache(path, (2, 512)) is None


@pytest.mark.slow
def test_corrupt_cache_is_drawn_again(tmp_path, packed):
    (tmp_path / CACHE_NAME).write_bytes(b"\x93NUMPY, or so it says")
    with pytest.warns(UserWarning, match="drawing the set again"):
        sprites = draw_dsprites(tmp_path)
    assert np.array_equal(sprites.packed, packed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(draw_dsprites(tmp_path).packed, packed)


def test_unwritable_cache_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written"):
        write_cache(tmp_path / "file" / CACHE_NAME, np.zeros((2, 512), np.uint8))


# --- the real npz ---


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def test_npz_with_classes(tmp_path, real):
    images, classes = real
    sprites = load_dsprites_npz(SAMPLES)
    np.testing.assert_array_equal(sprites.packed, pack(images))
    np.testing.assert_array_equal(sprites.classes, classes)
    assert sprites.source == str(SAMPLES)


def test_npz_with_values_only(tmp_path, real):
    images, classes = real
    path = save(tmp_path / "values.npz", imgs=images, latents_values=FIRST + STEP * classes)
    np.testing.assert_array_equal(load_dsprites_npz(path).classes, classes)


def test_full_size_npz_with_another_checksum_only_warns(tmp_path, monkeypatch, real):
    images, classes = real
    monkeypatch.setattr("data.dsprites_file.FULL", len(images))
    path = save(tmp_path / "full.npz", imgs=images, latents_classes=classes)
    with pytest.warns(UserWarning, match=r"full\.npz: md5"):
        assert len(load_dsprites_npz(path)) == len(images)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickles_in_the_npz_are_not_executed(tmp_path, real):
    images, classes = real
    sprung = tmp_path / "sprung"
    trap = np.array(Trap(sprung), dtype=object)
    path = save(tmp_path / "trap.npz", imgs=images, latents_classes=classes, metadata=trap)
    assert len(load_dsprites_npz(path)) == len(images)
    for name in ("imgs", "latents_classes"):
        arrays = {"imgs": images, "latents_classes": classes, name: np.full((420, 6), trap)}
        with pytest.raises(ValueError, match=name):
            load_dsprites_npz(save(tmp_path / f"{name}.npz", **arrays))
    assert not sprung.exists()
    with np.load(path, allow_pickle=True) as file:  # the trap is a working one
        file["metadata"]
    assert sprung.exists()


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        load_dsprites_npz(tmp_path / "nothing.npz")


@pytest.mark.parametrize("keep", [0, 10, 3000, 15_000, -1])
def test_truncated_npz(tmp_path, keep):
    path = tmp_path / "cut.npz"
    path.write_bytes(SAMPLES.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.npz.*expected a complete npz"):
        load_dsprites_npz(path)


def test_npz_with_a_flipped_byte(tmp_path, real):
    images, classes = real
    path = tmp_path / "flipped.npz"
    np.savez(path, imgs=images, latents_classes=classes)  # stored, so only the CRC can notice
    data = bytearray(path.read_bytes())
    data[100_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"flipped\.npz.*CRC"):
        load_dsprites_npz(path)


@pytest.mark.parametrize(("at", "byte"), [((6, 8), 1), ((8, 10), 99)])
def test_encrypted_or_strangely_packed_npz(tmp_path, real, at, byte):
    images, classes = real
    path = tmp_path / "odd.npz"
    np.savez(path, imgs=images, latents_classes=classes)
    data = bytearray(path.read_bytes())
    for mark, place in zip((b"PK\3\4", b"PK\1\2"), at, strict=True):  # flags, or method
        start = data.find(mark)
        while start >= 0:
            data[start + place] = byte
            start = data.find(mark, start + 4)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"odd\.npz: not a readable dSprites npz"):
        load_dsprites_npz(path)


def test_other_files(tmp_path):
    path = tmp_path / "pickle.npz"
    path.write_bytes(pickle.dumps({"imgs": 1}))
    with pytest.raises(ValueError, match="not a readable dSprites npz"):
        load_dsprites_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("imgs.npy", "no array")
    with pytest.raises(ValueError, match="not a readable dSprites npz"):
        load_dsprites_npz(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imgs": None}, "imgs"),
        ({"latents_classes": None}, "latents_values"),
        ({"imgs": np.zeros((3, 32, 32), np.uint8)}, r"imgs is \(3, 32, 32\)"),
        ({"imgs": np.zeros((3, 64, 64))}, "imgs is .*float64"),
        ({"imgs": np.full((3, 64, 64), 255, np.uint8)}, "value 255, not 0 or 1"),
        ({"imgs": np.zeros((0, 64, 64), np.uint8)}, "imgs is"),
        ({"imgs": np.asfortranarray(np.zeros((3, 64, 64), np.uint8))}, "Fortran"),
        ({"latents_classes": np.zeros((2, 6), int)}, "for 3 images"),
        ({"latents_classes": np.zeros((3, 6))}, "float64"),
        ({"latents_classes": np.full((3, 6), 7)}, "color"),
        ({"latents_classes": None, "latents_values": np.full((3, 6), np.nan)}, "value of color"),
        ({"latents_classes": None, "latents_values": np.full((3, 6), 0.77)}, "value of color"),
    ],
)
def test_wrong_content_is_named(tmp_path, change, message):
    arrays = {"imgs": np.zeros((3, 64, 64), np.uint8), "latents_classes": np.zeros((3, 6), int)}
    arrays = {key: value for key, value in (arrays | change).items() if value is not None}
    with pytest.raises(ValueError, match=rf"wrong\.npz: not a readable.*{message}"):
        load_dsprites_npz(save(tmp_path / "wrong.npz", **arrays))
