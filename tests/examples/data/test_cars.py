"""The loader of cars3d against files good and bad; cars of boxes and wheels."""

import gzip
import hashlib
import io
import pickle
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from scipy.io import savemat

from data.car_files import IM_SHAPE, shrink
from data.car_model import LIGHT, block, disc, make_car, render
from data.cars import draw_cars, load_cars3d, pose
from data.mesh import face_normals, rotation

pytestmark = pytest.mark.slow

# --- files ---


def marked_im(model):
    """Every picture in colours that tell azimuth, elevation and model, with one dark corner."""
    azimuth, elevation = np.arange(24)[:, None], np.arange(4)
    im = np.empty(IM_SHAPE, np.uint8)
    im[:, :, 0], im[:, :, 1], im[:, :, 2] = 100 + azimuth, 150 + elevation, 200 + model
    im[:6, :20] = 0  # 6 rows of 20 columns, on top and on the left
    return im


def mat(**arrays):
    file = io.BytesIO()
    savemat(file, arrays, do_compression=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def contents():
    models = {f"data/cars/car_00{k}_mesh.mat": mat(im=marked_im(k)) for k in (1, 2, 3)}
    return {**models, "data/cars/list.txt": b"car_003_mesh\ncar_001_mesh\n"}


def unpack(contents, folder):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(contents, path, *members):
    """A tar.gz of the contents and then of members without content."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def load_quietly(path):
    """An archive whose md5 is of course not the published one."""
    with pytest.warns(UserWarning, match="md5 is"):
        return load_cars3d(path)


def test_axes_of_im_and_the_order_of_the_list(contents, tmp_path):
    cars = load_cars3d(str(unpack(contents, tmp_path)))
    assert cars.source == str(tmp_path) and cars.shape == (3, 64, 64)
    assert cars.factors == ("elevation", "azimuth", "model")
    assert cars.mig_factors == ("elevation", "azimuth")
    assert cars.packed.dtype == np.uint8 and cars.classes.dtype == np.int64
    assert cars.classes.shape == (4 * 24 * 2, 3)
    assert_array_equal(cars.classes[[1, 2, 48]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    images, (elevation, azimuth, model) = cars.packed.reshape(-1, 3, 64, 64), cars.classes.T
    colours = np.stack([100 + azimuth, 150 + elevation, np.array([203, 201])[model]], axis=1)
    assert_array_equal(images[:, :, 63, 63], colours)  # model 0 is car_003, as in list.txt
    assert_array_equal(images[:, :, :3, :10], 0)
    assert_array_equal(
        images[:, :, 3:], np.broadcast_to(colours[..., None, None], (192, 3, 61, 64))
    )
    assert_array_equal(
        images[:, :, :, 10:], np.broadcast_to(colours[..., None, None], (192, 3, 64, 54))
    )


def test_pictures_are_halved_by_means_rounded_half_up():
    im = np.zeros(IM_SHAPE, np.uint8)
    for k, four in enumerate(
        [(0, 0, 0, 1), (0, 1, 1, 0), (255, 255, 255, 255), (254, 255, 255, 255)]
    ):
        im[:2, 2 * k : 2 * k + 2, 0, 5, 2] = np.reshape(four, (2, 2))
    assert_array_equal(shrink(im)[2, 5, :4], [0, 1, 255, 255])


@pytest.mark.parametrize("order", ["list last", "list first", "dotted", "with endings"])
def test_archive_and_folder_are_the_same(contents, tmp_path, order):
    members = dict(contents)
    if order == "list first":
        members = dict(reversed(contents.items()))
    elif order == "dotted":
        members = {f"./{name}": content for name, content in contents.items()}
        members["./data/cars/._car_009_mesh.mat"] = b"what a Mac leaves behind"
        members["./data/sprites/list.txt"] = b"another data set"
    elif order == "with endings":
        members["data/cars/list.txt"] = b"car_003_mesh.mat\r\n\r\ncar_001_mesh.mat"
    cars = load_quietly(pack(members, tmp_path / "cars.tar.gz"))
    folder = load_cars3d(unpack(contents, tmp_path / "folder"))
    assert cars.fingerprint() == folder.fingerprint()


def test_published_archive_is_read_without_a_warning(contents, tmp_path, monkeypatch):
    path = pack(contents, tmp_path / "cars.tar.gz")
    monkeypatch.setattr("data.cars.MD5", hashlib.md5(path.read_bytes()).hexdigest())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_cars3d(path)) == 192


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (special("../evil", tarfile.REGTYPE), "'../evil' points outside its folder"),
        (special("data/cars/../../evil.mat", tarfile.REGTYPE), "points outside its folder"),
        (special("/evil", tarfile.REGTYPE), "points outside its folder"),
        (special("../evil", tarfile.SYMTYPE, "/etc/passwd"), "points outside its folder"),
        (
            special("data/cars/car_009_mesh.mat", tarfile.SYMTYPE, "/etc/passwd"),
            "not a regular file",
        ),
        (special("data/cars/list.txt", tarfile.LNKTYPE, "data/cars/car_001_mesh.mat"), "a link"),
        (special("data/cars/list.txt", tarfile.CHRTYPE), "a device"),
        (special("data/cars/list.txt", tarfile.FIFOTYPE), "not a regular file"),
    ],
)
def test_tricks_of_an_archive_are_refused_and_nothing_is_written(
    contents, tmp_path, member, message
):
    (tmp_path / "in").mkdir()
    path = pack(contents, tmp_path / "in" / "cars.tar.gz", member)
    with pytest.raises(ValueError, match=rf"cars\.tar\.gz: not a readable cars3d set.*{message}"):
        load_cars3d(path)
    assert [found.name for found in tmp_path.rglob("*")] == ["in", "cars.tar.gz"]


def test_reading_writes_nothing(contents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_quietly(pack(contents, tmp_path / "cars.tar.gz"))
    assert [found.name for found in tmp_path.rglob("*")] == ["cars.tar.gz"]


def test_huge_members_are_refused_unread(contents, tmp_path, monkeypatch):
    monkeypatch.setattr("data.car_files.LARGEST", 100)
    with pytest.raises(ValueError, match=r"car_001_mesh\.mat' has \d+ bytes"):
        load_cars3d(pack(contents, tmp_path / "cars.tar.gz"))


@pytest.mark.parametrize("keep", [0, 1, 5, 30, 0.3, 0.9, -40, -8, -1])
def test_truncated_archive(contents, tmp_path, keep):
    path = pack(contents, tmp_path / "cut.tar.gz")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(
        ValueError, match=r"cut\.tar\.gz: not a readable.*expected a complete nips"
    ):
        load_cars3d(path)


def test_archive_whose_tar_ends_early(contents, tmp_path):
    path = pack(contents, tmp_path / "cut.tar.gz")
    data = gzip.decompress(path.read_bytes())
    for keep in (len(data) // 2, 512, 100):  # the gzip around it is whole
        path.write_bytes(gzip.compress(data[:keep]))
        with pytest.raises(ValueError, match=r"cut\.tar\.gz: not a readable"):
            load_cars3d(path)


def test_archive_with_a_flipped_byte(contents, tmp_path):
    path = pack(contents, tmp_path / "flipped.tar.gz")
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the CRC: only who reads to the end can notice
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"flipped\.tar\.gz.*CRC"):
        load_cars3d(path)


def test_other_files(contents, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.tar\.gz.*nips2015"):
        load_cars3d(tmp_path / "nothing.tar.gz")
    path = tmp_path / "pickle.tar.gz"
    path.write_bytes(pickle.dumps(contents))
    with pytest.raises(ValueError, match=r"pickle\.tar\.gz: not a readable"):
        load_cars3d(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: not a readable.*no data/cars/list\.txt"):
        load_cars3d(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"no data/cars/list\.txt"):
        load_cars3d(pack({"data/cars/notes.txt": b""}, tmp_path / "other.tar.gz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty"),
        (b"car_001_mesh\ncar_001_mesh.mat\n", "twice"),
        (b"../car_001_mesh\n", "'../car_001_mesh', which is not a file in its folder"),
        (b"/etc/passwd\n", "'/etc/passwd'"),
        (b"..\n", "not a file in its folder"),
        (b"car_001_mesh\ncar_077_mesh\n", "no data/cars/car_077_mesh.mat, which list.txt names"),
        (b"\xff\xfe\x00", "codec"),
    ],
)
def test_bad_lists(contents, tmp_path, text, message):
    members = contents | {"data/cars/list.txt": text}
    for path in (unpack(members, tmp_path / "folder"), pack(members, tmp_path / "cars.tar.gz")):
        with pytest.raises(ValueError, match=message):
            load_cars3d(path)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


GOOD = mat(im=marked_im(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mat(mask=np.zeros(IM_SHAPE, np.uint8)), "im is missing"),
        (mat(im=np.zeros((128, 128, 3, 4, 24), np.uint8)), r"\(128, 128, 3, 4, 24\)"),
        (mat(im=np.zeros((64, 64, 3, 24, 4), np.uint8)), r"\(64, 64, 3, 24, 4\)"),
        (mat(im=np.zeros(IM_SHAPE, np.int8)), "int8"),
        (mat(im=np.zeros(IM_SHAPE, bool)), "logical"),
        (mat(im={"field": np.zeros(3)}), "struct"),
        (mat(im=np.array([GOOD, "x"], dtype=object)), "cell"),
        (mat(im="text"), "char"),
        (GOOD[:100], "data"),
        (GOOD[:-1000], "data"),
        (GOOD[:5000] + b"xxxxxxxx" + GOOD[5008:], "data"),
        (b"", "data"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400), "data"),
        (pickle.dumps(Trap(Path("sprung"))), "data"),
    ],
    ids=[f"file-{k}" for k in range(14)],  # scipy writes the time into its files
)
def test_bad_mats_are_named(contents, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = unpack(contents | {"data/cars/car_001_mesh.mat": content}, tmp_path / "folder")
    with pytest.raises(
        ValueError, match=rf"folder: not a readable.*car_001_mesh\.mat: .*{message}"
    ):
        load_cars3d(path)
    assert not Path("sprung").exists()


# --- the stand-in ---


@pytest.fixture(scope="module")
def drawn():
    return draw_cars(models=3)


def volume(solid):
    a, b, c = (solid.vertices[solid.triangles[:, k]] for k in range(3))
    return np.einsum("tk,tk->", a, np.cross(b, c)) / 6


def test_parts_are_closed_and_point_outward():
    white = (1.0, 1.0, 1.0)
    assert volume(block(white, (0, 2), (-1, 2), 0.5)) == pytest.approx(6)
    assert volume(block(white, (0, 3), (-1, 1), 1, (0, 0), 0)) == pytest.approx(4)  # a pyramid
    wheel = disc(white, (3, 1), 2, (-0.5, 0.5), sides=200)
    assert volume(wheel) == pytest.approx(4 * np.pi, rel=1e-3)
    for solid in (block(white, (0, 2), (-1, 2), 0.5), wheel, make_car(0)):
        edges = np.concatenate([solid.triangles[:, [k, (k + 1) % 3]] for k in range(3)])
        assert {tuple(e) for e in edges.tolist()} == {tuple(e[::-1]) for e in edges.tolist()}


def test_known_picture_of_a_block():
    red = (1.0, 0.0, 0.0)
    picture = render(
        block(red, (0.7 - 0.51, 0.7 + 0.51), (-1.02, 1.02), 1), rotation(0, 0), size=50
    )
    expected = np.zeros((50, 50), bool)  # a pixel is a tenth of VIEW / 5.1 metres: 20 by 10 pixels
    expected[20:30, 15:35] = True
    assert_array_equal((picture != 255).any(-1), expected)
    colours = np.unique(picture[expected], axis=0)
    assert len(colours) == 1 and colours[0, 0] > 0 and not colours[0, 1:].any()


def test_brighter_where_the_light_is():
    cube = block((1.0, 1.0, 1.0), (0.2, 1.2), (-0.5, 0.5), 0.5)
    seen = render(cube, rotation(30, 30), size=64)
    shades = np.unique(seen[seen[..., 0] < 255])
    normals = face_normals(cube.vertices @ rotation(30, 30).T, cube.triangles)
    turned = sorted({round(float(n @ LIGHT[0]), 6) for n in normals if n[2] > 1e-9})
    assert len(shades) == len(turned) == 3  # three sides, three shades


def test_every_factor_changes_the_picture(drawn):
    images = drawn.packed.reshape(4, 24, 3, -1).astype(float)
    for axis in range(3):
        steps = np.abs(np.diff(images, axis=axis)).mean(-1)
        assert steps.min() > 0.5, axis
    assert np.abs(images[:, :12] - images[:, 12:]).mean(-1).min() > 0.5  # front is not rear


def test_a_car_stands_on_white_and_is_whole(drawn):
    images = drawn.packed.reshape(-1, 3, 64, 64)
    border = np.ones((64, 64), bool)
    border[1:-1, 1:-1] = False
    assert (images[..., border] == 255).all()
    share = (images < 255).any(1).mean((1, 2))
    assert share.min() > 0.03 and share.max() < 0.5


@pytest.mark.parametrize("elevation", range(4))
def test_a_car_is_symmetric(elevation):
    car = make_car(1)
    shapes = [
        (render(car, pose(k, elevation)) < 255).any(-1) for k in (3, 9)
    ]  # 45 and 135 degrees
    assert (shapes[0] != shapes[1][:, ::-1]).sum() < 20


def test_stand_in_has_its_label_and_needs_no_company(drawn):
    assert drawn.source.startswith("stand-in: 3 cars")
    assert drawn.shape == (3, 64, 64) and drawn.packed.shape == (288, 3 * 64 * 64)
    one = draw_cars(models=1)
    assert_array_equal(one.packed, drawn.packed[drawn.classes[:, 2] == 0])


def test_cache_is_a_folder_of_the_real_layout_and_is_used(drawn, tmp_path, monkeypatch):
    first = draw_cars(tmp_path, models=1)
    assert_array_equal(first.packed, drawn.packed[drawn.classes[:, 2] == 0])
    (folder,) = tmp_path.iterdir()
    found = sorted(path.name for path in (folder / "data" / "cars").iterdir())
    assert found == ["car_001_mesh.mat", "list.txt"]
    assert load_cars3d(folder).fingerprint() == first.fingerprint()
    monkeypatch.setattr("data.cars.render_cars", None)
    cached = draw_cars(tmp_path, models=1)
    assert cached.fingerprint() == first.fingerprint() and cached.source == first.source


@pytest.mark.parametrize("damage", ["flipped", "missing", "no checksum"])
def test_damaged_cache_is_drawn_again(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(
        "data.cars.render_cars", lambda models, progress: [marked_im(1)]
    )  # quicker
    first = draw_cars(tmp_path, models=1)
    (folder,) = tmp_path.iterdir()
    path = folder / "data" / "cars" / "car_001_mesh.mat"
    if damage == "flipped":
        path.write_bytes(path.read_bytes()[:20] + b"?" + path.read_bytes()[21:])  # of the header
    else:
        (path if damage == "missing" else folder / "sha256").unlink()
    with pytest.warns(UserWarning, match="drawing the set again"):
        assert draw_cars(tmp_path, models=1).fingerprint() == first.fingerprint()
    assert [found.name for found in tmp_path.iterdir()] == [folder.name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_cars(tmp_path, models=1)


def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(models, progress):
        yield np.zeros(IM_SHAPE, np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr("data.cars.render_cars", interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_cars(tmp_path, models=2)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_cache_is_done_without(tmp_path, monkeypatch):
    monkeypatch.setattr("data.cars.render_cars", lambda models, progress: [marked_im(1)])
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert len(draw_cars(tmp_path / "file", models=1)) == 96


def test_contact_sheet_of_the_readme():
    path = Path(__file__).parents[3] / "examples" / "isa_vae" / "images" / "cars_stand_in.png"
    assert path.stat().st_size < 150_000
    with Image.open(path) as sheet:
        assert sheet.size == (12 * 66, 6 * 66)
