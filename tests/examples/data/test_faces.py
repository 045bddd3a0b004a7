"""The mesh renderer against rays and known answers; heads, and the loader of the real file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from data.faces import AMBIENT, draw_faces, light_directions, load_faces_pth, render, render_faces
from data.head_model import axes, make_head, open_edge, read_mesh, target_weights
from data.mesh import face_normals, halve, lambert, rasterise, rotation, spread, vertex_normals

pytestmark = pytest.mark.slow

# --- z-buffer ---

CUBE = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
CUBE_QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
CUBE_TRIANGLES = np.array([t for a, b, c, d in CUBE_QUADS for t in ((a, b, c), (a, c, d))])


def image(points, triangles, size):
    """Number of the triangle that each pixel shows, -1 for none."""
    pixel, triangle, _ = rasterise(np.asarray(points, float), np.asarray(triangles), size)
    picture = np.full(size * size, -1)
    picture[pixel] = triangle
    return picture.reshape(size, size)


def nearest_on_ray(points, triangles, x, y):
    """The slow way: solve for the weights of the corners on the vertical ray through (x, y)."""
    found, nearest = -1, -np.inf
    for k, (a, b, c) in enumerate(points[triangles]):
        matrix = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]])
        if np.linalg.det(matrix) <= 0:  # clockwise: its back
            continue
        weights = np.linalg.solve(matrix, [x, y, 1])
        depth = weights @ [a[2], b[2], c[2]]
        if (weights >= 0).all() and depth > nearest:
            found, nearest = k, depth
    return found


@pytest.mark.parametrize("seed", range(4))
def test_random_triangles_agree_with_a_ray_test(seed):
    rng, size = np.random.default_rng(seed), 12
    points = rng.uniform(-4, size + 4, (40, 3))  # some reach out of the picture
    triangles = rng.permuted(np.tile(np.arange(40), (25, 1)), axis=1)[:, :3]
    expected = [
        [
            nearest_on_ray(points, triangles, column + 0.5, size - row - 0.5)
            for column in range(size)
        ]
        for row in range(size)
    ]
    assert_array_equal(image(points, triangles, size), expected)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (30, 20), (-100, -35), (45, 90)])
def test_depth_of_a_turned_cube_is_that_of_the_ray_through_its_slabs(azimuth, elevation):
    size, pose = 32, rotation(azimuth, elevation)
    points = CUBE @ pose.T * 8 + np.array([16, 16, 0])
    pixel, triangle, weights = rasterise(points, CUBE_TRIANGLES, size)
    row, column = np.divmod(pixel, size)
    depth = (weights * points[CUBE_TRIANGLES[triangle], 2].T).sum(0) / 8

    x, y = (np.arange(size) + 0.5 - 16) / 8, (16 - np.arange(size) - 0.5) / 8
    xx, yy = np.meshgrid(x, y)
    start = np.stack([xx, yy, np.zeros_like(xx)], axis=-1) @ pose  # into the cube's own frame
    along = pose[2] + 1e-300
    ends = np.sort(np.stack([(-1 - start) / along, (1 - start) / along]), axis=0)
    enter, leave = ends[0].max(-1), ends[1].min(-1)
    hit = enter < leave
    expected = np.where(hit, leave, np.nan)  # the viewer is at +z, so the last point is seen
    assert hit.sum() == len(pixel)
    assert_allclose(depth, expected[row, column], atol=1e-9)


SQUARE = [(1, 1), (7, 1), (7, 7), (1, 7)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nearer_triangle_wins_in_any_order(order):
    points = (
        [(1, 1, z) for z in (0, 5)] + [(7, 1, z) for z in (0, 5)] + [(7, 7, z) for z in (0, 5)]
    )
    triangles = np.array([(0, 2, 4), (1, 3, 5)])[list(order)]
    picture = image(points, triangles, 8)
    assert set(np.unique(picture)) == {-1, order.index(1)}


def test_triangles_that_cross_are_each_seen_where_they_are_nearer():
    left_near = [(0, 0, 5), (8, 0, -5), (8, 8, -5), (0, 8, 5)]
    flat = [(x, y, 0) for x, y in ((0, 0), (8, 0), (8, 8), (0, 8))]
    quads = [(0, 1, 2), (0, 2, 3), (4, 5, 6), (4, 6, 7)]
    picture = image(left_near + flat, quads, 8)
    assert (picture[:, :4] < 2).all() and (picture[:, 4:] >= 2).all()


def test_a_square_has_neither_holes_nor_a_border_too_many():
    points = [(x - 0.5, y - 0.5, 0) for x, y in SQUARE]  # edges and diagonal run through centres
    picture = image(points, [(0, 1, 2), (0, 2, 3)], 8)
    assert (picture >= 0).sum() == 49
    assert (picture[1:, :7] >= 0).all()  # row 0 is on top


def test_backs_edges_and_what_is_outside_are_not_drawn():
    points = [(x, y, 0) for x, y in SQUARE] + [(20, 20, 0), (30, 20, 0), (30, 30, 0)]
    for triangle in [(0, 2, 1), (0, 0, 1), (0, 2, 2), (4, 5, 6)]:
        assert (image(points, [triangle], 8) == -1).all()
    assert (image(points, np.zeros((0, 3), int), 8) == -1).all()


def test_weights_interpolate():
    points = np.array([(0, 0, 0), (8, 0, 0), (0, 8, 0)], dtype=float)
    pixel, _, weights = rasterise(points, np.array([[0, 1, 2]]), 8)
    x, y, _ = (weights.T @ points).T
    row, column = np.divmod(pixel, 8)
    assert_allclose(x, column + 0.5)
    assert_allclose(y, 7 - row + 0.5)


# --- geometry and light ---


def test_turning():
    right, up, viewer = np.eye(3)
    assert_allclose(rotation(90, 0) @ viewer, right, atol=1e-15)
    assert_allclose(rotation(0, 90) @ up, viewer, atol=1e-15)
    assert_allclose(rotation(40, 90) @ up, viewer, atol=1e-15)  # azimuth is about the vertical
    assert_allclose(rotation(33, -21) @ rotation(33, -21).T, np.eye(3), atol=1e-15)


def test_normals_of_a_cube_point_out():
    normals = face_normals(CUBE, CUBE_TRIANGLES)
    middles = CUBE[CUBE_TRIANGLES].mean(1)
    assert ((normals * middles).sum(1) > 0).all()
    assert_allclose(np.linalg.norm(normals, axis=1), 4)  # twice the area
    assert ((vertex_normals(CUBE, CUBE_TRIANGLES) * CUBE).sum(1) > 1).all()


def test_brightness_falls_with_the_angle_to_the_light():
    angle = np.radians(np.arange(0, 181, 10))
    lights = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=1)
    bright = lambert(np.array([[0, 0, 3.0]]), lights, 0.1)[:, 0]
    assert bright[0] == 1
    assert (np.diff(bright[:10]) < 0).all()
    assert_allclose(bright[9:], 0.1)
    assert_allclose(bright[6], 0.1 + 0.9 * 0.5)  # 60 degrees


def test_halving_takes_means_and_does_not_overflow():
    images = np.array([[[255, 255, 0, 1], [255, 255, 0, 1]]], dtype=np.uint8)
    assert_array_equal(halve(images), [[[255, 1]]])
    assert_array_equal(halve(images.astype(float)), [[[255, 1]]])


def test_a_single_value_lies_in_the_middle():
    assert_array_equal(spread(1, -90, 90), [0])
    assert_array_equal(spread(3, -90, 90), [-90, 0, 90])


# --- heads ---

SIZES = (2, 3, 3, 3)


@pytest.fixture(scope="module")
def images():
    return render_faces(SIZES)


def test_neck_is_the_only_opening_and_is_closed_below_the_picture():
    _, triangles, _ = read_mesh()
    assert len(open_edge(triangles)) == 44
    head = make_head(0)
    rim = open_edge(head.triangles)
    assert len(rim) == 44 and head.vertices[np.unique(rim), 1].max() < -2


def test_opposite_targets_are_never_mixed_and_heads_do_not_move():
    names = read_mesh()[2].names
    pairs = {
        names[a]: names[b]
        for low, high in axes(names)
        if low
        for a, b in zip(low, high, strict=True)
    }
    assert pairs["nose/nose-hump-decr"] == "nose/nose-hump-incr"
    assert pairs["eyes/r-eye-trans-in"] == "eyes/r-eye-trans-out"
    assert not any("head/head-trans" in name for pair in pairs.items() for name in pair)
    for identity in range(5):
        weight = dict(zip(names, target_weights(identity, names), strict=True))
        assert all(
            weight[a] * weight[b] == 0 and weight[a] + weight[b] > 0 for a, b in pairs.items()
        )
        assert all(
            w >= 0 and (w == 0 or "head/head-trans" not in name) for name, w in weight.items()
        )
        assert weight["ears/l-ear-wing-incr"] == weight["ears/r-ear-wing-incr"]
        whole = sum(w for name, w in weight.items() if name.startswith("macrodetails/"))
        assert whole == pytest.approx(1)


def test_every_target_but_whole_people_and_moves_is_on_one_axis():
    names = read_mesh()[2].names
    found = sorted(names[k] for pair in axes(names) for end in pair for k in end)
    left_out = ("macrodetails/", "head/head-trans")
    assert found == sorted(name for name in names if not name.startswith(left_out))


def test_a_head_fills_its_picture(images):
    frontal = images[:, 1, 1, 1]
    share = (frontal > 0).mean((1, 2))
    assert share.min() > 0.2 and share.max() < 0.7
    assert (frontal[:, -1].max(1) > 0).all()  # the neck leaves the picture below
    assert (frontal[:, :, [0, -1]] == 0).all()  # nothing does on either side


def test_every_factor_changes_the_picture(images):
    floats = images.astype(float)
    for axis in range(4):
        steps = np.abs(np.diff(floats, axis=axis)).mean((-1, -2))
        assert steps.min() > 1, axis


def test_a_mirrored_pose_in_mirrored_light_is_the_mirrored_picture(images):
    mirrored = images[:, ::-1, :, ::-1, :, ::-1].astype(float)
    assert np.abs(images - mirrored).mean() < 1  # the mesh is symmetric, its triangles are not


def test_light_comes_from_the_left_first(images):
    left, right = (
        images[:, 1, 1, :, :, :32].mean((-1, -2)),
        images[:, 1, 1, :, :, 32:].mean((-1, -2)),
    )
    assert (left[:, 0] > 2 * right[:, 0]).all() and (right[:, 2] > 2 * left[:, 2]).all()
    assert_allclose(left[:, 1], right[:, 1], rtol=0.02)


def test_no_light_leaves_the_ambient_share():
    head, pose = make_head(0), rotation(0, 0)
    behind, front = render(head, pose, np.array([[0, 0, -1.0], [0, 0, 1.0]])).astype(float)
    assert behind[30, 32] == pytest.approx(AMBIENT * front[30, 32], abs=6)


def test_a_head_depends_on_nothing_but_its_number(images):
    assert_array_equal(render_faces((1, 3, 3, 3)), images[:1])
    assert_array_equal(
        render(make_head(1), rotation(90, -25), light_directions(3))[2], images[1, 2, 0, 2]
    )


def test_pictures_and_classes_agree(images):
    faces = draw_faces(sizes=SIZES)
    assert faces.source.startswith("stand-in: ")
    assert faces.shape == (1, 64, 64) and faces.packed.shape == (54, 4096)
    assert faces.factors == ("identity", "azimuth", "elevation", "lighting")
    assert faces.mig_factors == ("azimuth", "elevation", "lighting")
    assert faces.packed.dtype == np.uint8 and faces.classes.dtype == np.int64
    assert_array_equal(faces.packed.reshape(-1, 64, 64), images[tuple(faces.classes.T)])


def test_cache_is_used_and_checked(tmp_path, monkeypatch):
    sizes = (1, 2, 1, 1)
    drawn = draw_faces(tmp_path, sizes=sizes)
    (cached,) = tmp_path.iterdir()
    good = cached.read_bytes()
    cached.write_bytes(good[:200] + b"x" + good[201:])
    with pytest.warns(UserWarning, match="drawing the set again"):
        assert draw_faces(tmp_path, sizes=sizes).fingerprint() == drawn.fingerprint()
    assert cached.read_bytes() == good
    monkeypatch.setattr("data.faces.render_faces", None)
    assert draw_faces(tmp_path, sizes=sizes).fingerprint() == drawn.fingerprint()
    with pytest.raises(TypeError):  # other sizes are another set
        draw_faces(tmp_path, sizes=(1, 1, 1, 1))


def test_contact_sheet_of_the_readme():
    path = Path(__file__).parents[3] / "examples" / "isa_vae" / "images" / "faces_stand_in.png"
    assert path.stat().st_size < 150_000
    with Image.open(path) as sheet:
        assert sheet.size == (12 * 66, 5 * 66)


# --- the real file ---


def small():
    count = 2 * 3 * 2 * 2 * 4096
    return (torch.arange(count) % 251).to(torch.uint8).view(2, 3, 2, 2, 64, 64)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_real_file(tmp_path, new):
    path, images = tmp_path / "faces.pth", small()
    torch.save(images, path, _use_new_zipfile_serialization=new)
    faces = load_faces_pth(str(path))
    assert faces.source == str(path) and len(faces) == 24
    assert faces.mig_factors == ("azimuth", "elevation", "lighting")
    by_class = images.numpy()[tuple(faces.classes.T)]
    assert_array_equal(faces.packed.reshape(-1, 64, 64), by_class)
    assert_array_equal(faces.classes[[1, 2, 4, 12]], np.eye(4, dtype=int)[::-1])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (small().float(), r"torch\.float32 of shape \(2, 3, 2, 2, 64, 64\)"),
        (small()[0], r"torch\.uint8 of shape \(3, 2, 2, 64, 64\)"),
        (small()[..., :32], r"shape \(2, 3, 2, 2, 64, 32\)"),
        (small()[:0], "empty"),
        (torch.zeros((), dtype=torch.uint8).expand(50, 21, 11, 11, 64, 64), "not contiguous"),
        (torch.zeros(1, 1, 1, 1, 64, 64, dtype=torch.uint8).to_sparse(), "uint8 of shape"),
        (torch.nn.Parameter(small().float()), "holds a Parameter"),
        ({"images": small()}, "holds a dict"),
        ("text", "holds a str"),
    ],
    ids=["dtype", "dims", "size", "empty", "strides", "sparse", "parameter", "dict", "str"],
)
def test_wrong_content_is_named(tmp_path, content, found):
    path = tmp_path / "wrong.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"wrong\.pth: .*{found}.*expected basel_face_renders"):
        load_faces_pth(path)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_pickles_in_the_file_are_not_executed(tmp_path, new):
    path, sprung = tmp_path / "trap.pth", tmp_path / "sprung"
    torch.save([small(), Trap(sprung)], path, _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match=r"trap\.pth: not a readable tensor"):
        load_faces_pth(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)  # the trap is a working one
    assert sprung.exists()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("keep", [0, 1, 50, 400, 50_000, -1, -1000])
def test_truncated_file(tmp_path, keep, new):
    path = tmp_path / "cut.pth"
    torch.save(small(), path, _use_new_zipfile_serialization=new)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.pth: .*expected basel"):
        load_faces_pth(path)


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth.*basel_face_renders"):
        load_faces_pth(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError):
        load_faces_pth(tmp_path)


def test_no_advice_to_run_the_code_of_a_file_is_passed_on(tmp_path):
    """Torch's own message says how to load such a file all the same."""
    (tmp_path / "text.pth").write_text("no tensor at all\n" * 10)
    (tmp_path / "bytes.pth").write_bytes(bytes(range(256)) * 20)
    torch.save([small(), Trap(tmp_path / "sprung")], tmp_path / "trap.pth")
    for name in ("text.pth", "bytes.pth", "trap.pth"):
        with pytest.raises(ValueError, match="not a readable tensor") as error:
            load_faces_pth(tmp_path / name)
        said = str(error.value)
        assert "weights_only" not in said and "still be loaded" not in said and "\n" not in said
