"""The five benchmarks: a made tree of every layout that their users have is detected and read, and others are refused by name."""

import functools
import hashlib
import http.server
import pickle
import shutil
import tarfile
import threading

import numpy as np
import pytest
from open_clip import IMAGENET_CLASSNAMES
from timm.data import ImageNetInfo
from trees import cifar100, encoded, make, scenario

from segp_ext.config import DataConfig
from segp_ext.data import load_collection

WNIDS = ImageNetInfo().label_names()
NAMES = list(IMAGENET_CLASSNAMES)
SIX = [WNIDS[i] for i in (1, 2, 4, 6, 8, 9)]
SIX_NAMES = ["goldfish", "great white shark", "hammerhead shark", "stingray", "hen", "ostrich"]


def counts(found, part):
    return [len(getattr(task, part)) for task in found.tasks]


# -- CIFAR100 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["python2", "protocol2", "protocol5"])
@pytest.mark.parametrize("inner", [False, True])
def test_cifar100(tmp_path, style, inner):
    cifar100(tmp_path, style)
    found = scenario(tmp_path / "cifar-100-python" if inner else tmp_path, name="cifar100", classes_per_task=10)
    assert found.name == "cifar100" and found.layout == "CIFAR100: cifar-100-python/ pickles (train, test, meta)"
    assert found.class_names == [f"thing {c:02d}" for c in range(100)]
    assert counts(found, "train") == [20] * 10 and counts(found, "test") == [10] * 10
    task = found.tasks[3]
    for part, held in ((task.train, 0), (task.test, 1)):
        for index in range(len(part)):
            pixels, label = part[index]
            assert pixels.shape == (3, 32, 32) and pixels.dtype == np.uint8
            assert [int(v) for v in pixels[:, 5, 7]] == [30 + label, 60 + 2 * label, held]


def test_cifar100_order_names_and_pixels_in_the_hash(tmp_path):
    first = scenario(cifar100(tmp_path / "a"), name="cifar100", order="cifar100-icarl", names="folders")
    assert first.class_names[:5] == ["thing_87", "thing_00", "thing_52", "thing_58", "thing_44"]
    again = scenario(cifar100(tmp_path / "b", "protocol5"), name="cifar100", order="cifar100-icarl", names="folders")
    other = scenario(
        cifar100(tmp_path / "c", per_class=(3, 1)), name="cifar100", order="cifar100-icarl", names="folders"
    )
    assert first.split_hash == again.split_hash != other.split_hash


def test_cifar100_is_fetched_through_torchvision(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    cifar100(tmp_path / "source")
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "source/cifar-100-python", "cifar-100-python")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR100, "url", f"http://127.0.0.1:{server.server_port}/cifar.tar.gz")
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5((tmp_path / "cifar.tar.gz").read_bytes()).hexdigest())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "root").mkdir()
    with pytest.raises(
        FileNotFoundError, match="meta, train, test not found .*there: nothing.*--data.download true fetches it"
    ):
        scenario(tmp_path / "root", name="cifar100")
    assert len(scenario(tmp_path / "new", name="cifar100", download=True).class_names) == 100
    server.shutdown()
    server.server_close()
    assert len(scenario(tmp_path / "new", name="cifar100", download=True).class_names) == 100  # there already
    with pytest.raises(ValueError, match="data.download: could not fetch"):
        scenario(tmp_path / "root", name="cifar100", download=True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train", {"data": np.zeros((2, 3), np.uint8), "fine_labels": [0, 1]}, r"train is not .*uint8 \[N, 3072\]"),
        (
            "train",
            {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0]},
            "train is not .*fine_labels must be 2 integers",
        ),
        (
            "test",
            {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [100]},
            "test: labels must be from 0 to 99; got 100",
        ),
        ("test", {"data": np.zeros((1, 3072), np.uint8), "labels": [0]}, "test is not .*fine_labels"),
        ("meta", {"label_names": ["a"]}, "meta is not CIFAR100's: fine_label_names must be a list of strings"),
    ],
)
def test_other_pickles_are_refused(tmp_path, file, content, message):
    cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / file).write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        scenario(tmp_path, name="cifar100")


def test_a_class_that_the_archive_leaves_empty_is_named(tmp_path):
    cifar100(tmp_path)
    few = {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}
    (tmp_path / "cifar-100-python/test").write_bytes(pickle.dumps(few))
    with pytest.raises(ValueError, match="class 'thing 01' of cifar100 has no test image"):
        scenario(tmp_path, name="cifar100")


# -- ImageNet-R ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["test", "val"])
@pytest.mark.parametrize("outer", ["", "imagenet-r"])
def test_imagenet_r_split(tmp_path, held, outer):
    make(tmp_path / outer, {f"train/{w}": 3 for w in SIX} | {f"{held}/{w}": 2 for w in SIX})
    (tmp_path / outer / "train" / SIX[0] / "stray.py").write_text("raise SystemExit")
    found = scenario(tmp_path, name="imagenet-r")
    assert found.layout == f"ImageNet-R: train/ and {held}/ of <wnid>/ folders" and found.class_names == SIX_NAMES
    assert counts(found, "train") == [6, 6, 6] and counts(found, "test") == [4, 4, 4]
    assert found.split_hash == scenario(tmp_path / outer, name="imagenet-r").split_hash


@pytest.mark.parametrize("form", ["text", "yaml", "labelled"])
def test_imagenet_r_flat_with_lists(tmp_path, form):
    make(tmp_path, dict.fromkeys(SIX, 4))
    (tmp_path / "README.txt").write_text("about")
    line = {"text": "{}", "yaml": "- data/imagenet-r/{}", "labelled": "./imagenet-r/{} 7"}[form]
    entries = {
        "train": [f"{w}/{i:02d}.{e}" for w in SIX for i, e in ((0, "jpg"), (1, "PNG"), (3, "PNG"))],
        "test": [f"{w}/02.jpg" for w in SIX],
    }
    entries["test"].append("split.py")
    for part, paths in entries.items():
        head = ["data:"] if form == "yaml" else []
        tail = ["targets:", *["- 0" for _ in paths]] if form == "yaml" else [""]
        lines = [*head, *(line.format(path) for path in paths), *tail]
        (tmp_path / f"{part}.{'yaml' if form == 'yaml' else 'txt'}").write_text("\n".join(lines))
    names = [f"{part}.{'yaml' if form == 'yaml' else 'txt'}" for part in entries]
    found = scenario(tmp_path, name="imagenet-r", train_list=names[0], test_list=str(tmp_path / names[1]))
    assert found.layout == f"ImageNet-R: flat <wnid>/ folders, split by {names[0]} and {names[1]}"
    assert found.class_names == SIX_NAMES and counts(found, "train") == [6, 6, 6] and counts(found, "test") == [2, 2, 2]
    assert [source.name for source in found.tasks[0].test.sources] == ["02.jpg", "02.jpg"]


def test_imagenet_r_flat_without_lists(tmp_path):
    make(tmp_path, dict.fromkeys(SIX, 5))
    found = scenario(tmp_path, name="imagenet-r", test_fraction=0.2)
    assert found.layout == "ImageNet-R: flat <wnid>/ folders without a split; 20 % of each class held out, seed 0"
    assert counts(found, "train") == [8, 8, 8] and counts(found, "test") == [2, 2, 2]


def test_where_test_and_val_are_there_one_is_taken_and_the_other_named(tmp_path):
    make(tmp_path, {f"{part}/{w}": n for w in SIX for part, n in (("train", 2), ("test", 1), ("val", 3))})
    for name, held, unused, count in (("imagenet-r", "test", "val", 2), ("ucf101", "test", "val", 2)):
        found = scenario(tmp_path, name=name)
        assert f"{held}/ of " in found.layout and f"({unused}/ is not used)" in found.layout
        assert counts(found, "test") == [count] * 3
    for wnid in WNIDS[10:104]:
        for part in ("train", "test", "val"):
            shutil.copytree(tmp_path / part / SIX[0], tmp_path / part / wnid)
    found = scenario(tmp_path, name="imagenet100", classes_per_task=100)
    assert "val/ of <wnid>/ folders (test/ is not used)" in found.layout and counts(found, "test") == [300]


def test_a_folder_that_is_no_imagenet_class_needs_a_name(tmp_path):
    make(tmp_path, {"goldfish": 3, SIX[0]: 3})
    with pytest.raises(ValueError, match="class folder 'goldfish' is not a class of ILSVRC.*--data.names_file"):
        scenario(tmp_path, name="imagenet-r")


# -- ImageNet100 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory):
    """All 1,000 classes, with the unlabelled test images that the challenge has."""
    root = tmp_path_factory.mktemp("ilsvrc")
    for part in ("train", "val"):
        for index, wnid in enumerate(WNIDS):
            (root / part / wnid).mkdir(parents=True)
            (root / part / wnid / f"{wnid}_{index}.JPEG").write_bytes(encoded(0, "jpeg"))
    (root / "test").mkdir()
    (root / "test/ILSVRC2012_test_00000001.JPEG").write_bytes(encoded(0, "jpeg"))
    return root


def test_imagenet100_is_the_first_hundred_of_ilsvrc(ilsvrc):
    found = scenario(ilsvrc, name="imagenet100", classes_per_task=10)
    assert found.layout == "ImageNet100: train/ and val/ of <wnid>/ folders, 100 classes"
    assert found.class_names == NAMES[:100] and found.class_names[0] == "tench" and found.class_names[-1] == "goose"
    assert [source.parent.name for source in found.tasks[9].test.sources] == WNIDS[90:100]
    ordered = scenario(ilsvrc, name="imagenet100", classes_per_task=10, order=1993)
    assert ordered.class_names == scenario(ilsvrc, name="imagenet100", order="imagenet100-numpy1993").class_names
    assert ordered.class_names[:3] == [NAMES[i] for i in (68, 56, 78)]


def test_imagenet100_of_a_list_keeps_its_order(ilsvrc, tmp_path):
    (tmp_path / "classes.txt").write_text(f"{WNIDS[500]} a name\n{WNIDS[3]}\n\n{WNIDS[999]}\n")
    found = scenario(ilsvrc, name="imagenet100", class_list=str(tmp_path / "classes.txt"))
    assert found.class_names == [NAMES[i] for i in (500, 3, 999)]
    assert found.layout == "ImageNet100: train/ and val/ of <wnid>/ folders, the classes of data.class_list"
    (tmp_path / "classes.txt").write_text("n00000000")
    with pytest.raises(
        ValueError, match="data.class_list: .*classes.txt names n00000000, but the class folders of .* are n01440764"
    ):
        scenario(ilsvrc, name="imagenet100", class_list=str(tmp_path / "classes.txt"))


def test_imagenet100_already_restricted(ilsvrc, tmp_path):
    for part in ("train", "val"):
        for wnid in WNIDS[::10]:
            shutil.copytree(ilsvrc / part / wnid, tmp_path / part / wnid)
    found = scenario(tmp_path, name="imagenet100")
    assert found.class_names == NAMES[::10] and found.layout.endswith("100 classes")
    shutil.rmtree(tmp_path / "train" / WNIDS[0])
    shutil.rmtree(tmp_path / "val" / WNIDS[0])
    with pytest.raises(
        ValueError, match=r"has 99 class folders, neither 100 nor the first 100 .*not there: .*--data.class_list"
    ):
        scenario(tmp_path, name="imagenet100")


# -- CUB-200 -------------------------------------------------------------------------------------------------------------------

BIRDS = ["001.Black_footed_Albatross", "002.Laysan_Albatross", "010.Red_winged_Blackbird", "200.Common_Yellowthroat"]
BIRD_NAMES = ["Black footed Albatross", "Laysan Albatross", "Red winged Blackbird", "Common Yellowthroat"]


def official_cub(root):
    """Four classes of three images; the second of each is a test image."""
    make(root / "CUB_200_2011/images", dict.fromkeys(BIRDS, 3))
    files = [f"{bird}/{i:02d}.{e}" for bird in BIRDS for i, e in enumerate(("jpg", "PNG", "jpg"))]
    tables = {
        "images.txt": files,
        "image_class_labels.txt": [BIRDS.index(file.split("/")[0]) + 1 for file in files],
        "train_test_split.txt": [int(i % 3 != 1) for i in range(len(files))],
        "classes.txt": BIRDS,
    }
    for name, values in tables.items():
        lines = [f"{number} {value}\n" for number, value in enumerate(values, start=1)]
        (root / "CUB_200_2011" / name).write_text("".join(lines))
    return root


@pytest.mark.parametrize("inner", ["", "CUB_200_2011"])
def test_cub_official(tmp_path, inner):
    found = scenario(official_cub(tmp_path) / inner, name="cub200")
    assert found.layout == "CUB-200: CUB_200_2011 with its official split" and found.class_names == BIRD_NAMES
    assert counts(found, "train") == [4, 4] and counts(found, "test") == [2, 2]
    assert [source.name for source in found.tasks[1].test.sources] == ["01.PNG", "01.PNG"]
    kept = scenario(tmp_path, name="cub200", names="folders")
    assert kept.class_names[0] == "Black_footed_Albatross"


def test_cub_with_a_split_of_ones_own(tmp_path):
    official_cub(tmp_path)
    for part, file in (("train", "00.jpg"), ("test", "02.jpg")):
        (tmp_path / f"{part}.txt").write_text("".join(f"images/{bird}/{file}\n" for bird in BIRDS))
    lists = {f"{part}_list": str(tmp_path / f"{part}.txt") for part in ("train", "test")}
    found = scenario(tmp_path, name="cub200", **lists)
    assert found.class_names == BIRD_NAMES and counts(found, "train") == [2, 2]


@pytest.mark.parametrize("held", ["test", "val"])
def test_cub_split(tmp_path, held):
    make(tmp_path, {f"train/{b}": 2 for b in BIRDS} | {f"{held}/{b}": 1 for b in BIRDS})
    found = scenario(tmp_path, name="cub200")
    assert found.layout == f"CUB-200: train/ and {held}/ of <class>/ folders" and found.class_names == BIRD_NAMES


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        (
            "images.txt",
            None,
            FileNotFoundError,
            "no CUB-200 layout in .*; there: classes.txt, image_class_labels.txt, images/",
        ),
        ("train_test_split.txt", None, FileNotFoundError, "has images.txt but no train_test_split.txt"),
        (
            "train_test_split.txt",
            "1 1\n1 0\n",
            ValueError,
            "train_test_split.txt, line 2: an image's number, not given before",
        ),
        (
            "train_test_split.txt",
            "1 1\n",
            ValueError,
            "must list the same images; they differ at 10, 11, 12 and 8 more",
        ),
        (
            "train_test_split.txt",
            "".join(f"{i} 2\n" for i in range(1, 13)),
            ValueError,
            r"1 \(train\) or 0 \(test\) is needed",
        ),
        ("image_class_labels.txt", "".join(f"{i} 1\n" for i in range(1, 13)), ValueError, "class 1 has images of two"),
        ("image_class_labels.txt", "".join(f"{i} {i}\n" for i in range(1, 13)), ValueError, "several class numbers"),
    ],
)
def test_a_damaged_cub_is_named(tmp_path, file, content, error, message):
    path = official_cub(tmp_path) / "CUB_200_2011" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message):
        scenario(tmp_path, name="cub200")


def test_a_missing_cub_image_stops_or_is_left_out(tmp_path):
    official_cub(tmp_path)
    (tmp_path / "CUB_200_2011/images" / BIRDS[0] / "00.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match="1 image.* listed .* not in .*: images/001.Black_footed_Albatross/00.jpg"
    ):
        scenario(tmp_path, name="cub200")
    with pytest.warns(RuntimeWarning, match="1 image.* of cub200 are unreadable or missing and were left out"):
        found = scenario(tmp_path, name="cub200", unreadable="skip")
    assert counts(found, "train") == [3, 4]


# -- UCF101 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["test", "val"])
@pytest.mark.parametrize(
    "videos", [[""], ["/v_g01_c01"], ["/v_g01_c01", "/v_g01_c02", "/v_g02_c01"]], ids=["", "one", "three"]
)
def test_ucf101(tmp_path, held, videos):
    """Frames in a class's folder, or in a folder per video: 3 to train and 3 to test of each class."""
    actions = ["ApplyEyeMakeup", "TaiChi", "YoYo", "BasketballDunk"]
    frames = 3 // len(videos)
    make(tmp_path, {f"{part}/{a}{video}": frames for part in ("train", held) for a in actions for video in videos})
    found = scenario(tmp_path, name="ucf101")
    assert found.layout == f"UCF101 frames: train/ and {held}/ of <class>/ folders, YoYo left out"
    assert found.class_names == ["Apply Eye Makeup", "Basketball Dunk", "Tai Chi"]
    assert counts(found, "train") == [6, 3] and counts(found, "test") == [6, 3]
    assert scenario(tmp_path, name="ucf101", names="folders").class_names[0] == "ApplyEyeMakeup"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9 001.a/x.jpg", None),
        ("9 001.a/00.jpg", "names 001.a/00.jpg more than once"),
        ("9 001.a/../../out.jpg", "'001.a/../../out.jpg' is not a path CLASS/FILE"),
        ("9 /etc/passwd", "'/etc/passwd' is not a path CLASS/FILE"),
        ("9 alone.jpg", "'alone.jpg' is not a path CLASS/FILE"),
    ],
)
def test_cub_lists_name_each_image_once_and_none_elsewhere(tmp_path, line, message):
    make(tmp_path / "images", {"001.a": 4})
    files = sorted(f"001.a/{path.name}" for path in (tmp_path / "images/001.a").iterdir())
    rows = [f"{n} {file}" for n, file in enumerate(files, start=1)]
    (tmp_path / "images.txt").write_text("\n".join([*rows, line]))
    for name in ("image_class_labels.txt", "train_test_split.txt"):
        values = [f"{row.split()[0]} {int(row.split()[0]) % 2 if 'split' in name else 1}" for row in [*rows, line]]
        (tmp_path / name).write_text("\n".join(values))
    if message is None:
        collection = load_collection(DataConfig(name="cub200", root=str(tmp_path)))
        assert collection.missing == ["images/001.a/x.jpg (in images.txt)"]
        return
    with pytest.raises(ValueError, match=message):
        load_collection(DataConfig(name="cub200", root=str(tmp_path)))
