"""Split lists: which images they name, and lists that contradict the folders or each other."""

import pytest
from PIL import Image
from trees import make, scenario, split

from segp_ext.config import DataConfig
from segp_ext.data import load_collection


def test_lists_over_a_flat_tree(tmp_path):
    make(tmp_path, {"sea_lion/deep": 4, "cat": 4, "other": 2})
    (tmp_path / "cat/my photo.jpg").write_bytes((tmp_path / "cat/00.jpg").read_bytes())
    (tmp_path / "train.txt").write_text("sea_lion/deep/00.jpg\ncat/01.PNG,1\n\ncat/my photo.jpg 0\n")
    (tmp_path / "test.txt").write_text("sea_lion/deep/02.jpg\n/data/set/cat/03.PNG\n")
    found = scenario(tmp_path, train_list="train.txt", test_list="test.txt")
    assert found.class_names == ["cat", "sea lion"] and found.name == tmp_path.name
    assert [s.name for s in found.tasks[0].train.sources] == ["01.PNG", "my photo.jpg", "00.jpg"]
    assert [s.name for s in found.tasks[0].test.sources] == ["03.PNG", "02.jpg"]
    assert found.tasks[0].train.labels == [0, 0, 1]
    (tmp_path / "cat_names.txt").write_text("of cats")
    unasked = scenario(tmp_path)
    assert unasked.layout.endswith("seed 0 (a split is there: --data.train_list train.txt --data.test_list test.txt)")
    (tmp_path / "test.txt").rename(tmp_path / "train_test_split.txt")
    assert scenario(tmp_path).layout.endswith("seed 0")


@pytest.mark.parametrize(
    ("train", "test", "error", "message"),
    [
        ("cat/00.jpg\ncat/09.jpg\ncat/tmp", "cat/02.jpg", FileNotFoundError, "2 image.*: cat/09.jpg .in train.txt., cat/tmp .in train"),
        ("cat/00.jpg", "cat/00.jpg", ValueError, "share 1 image.*00.jpg; a split may not overlap"),
        ("cat/00.jpg", "dog/09.jpg", ValueError, "data.test_list: none of the images that .*test.txt names is in"),
        ("cat/00.jpg", "dog/00.jpg", ValueError, "class folder 'cat' is in train/ but not in test/"),
    ],
)  # fmt: skip
def test_lists_that_do_not_fit_the_images(tmp_path, train, test, error, message):
    make(tmp_path, {"cat": 4, "dog": 1})
    (tmp_path / "train.txt").write_text(train)
    (tmp_path / "test.txt").write_text(test)
    with pytest.raises(error, match=message):
        scenario(tmp_path, train_list="train.txt", test_list="test.txt")


@pytest.mark.parametrize("named", ["", "images/"])
@pytest.mark.parametrize("beside", [{}, {"annotations": 0}])
def test_lists_over_a_wrapped_tree(tmp_path, named, beside):
    """Lists may name images with the folder around the classes or without it."""
    root = make(tmp_path, {"images/cat": 2, "images/dog": 2, **beside})
    found = split(root, [f"{named}cat/00.jpg", f"{named}dog/00.jpg"], [f"{named}cat/01.PNG", f"{named}dog/01.PNG"])
    assert found.class_names == ["cat", "dog"] and [file.name for file in found.train[0]] == ["00.jpg"]
    assert found.layout == "folder: images/ of flat <class>/ folders, split by train.txt and test.txt"


@pytest.mark.parametrize("above", [("animal", "plant"), ("photo", "sketch")])
def test_lists_do_not_take_what_stands_above_the_classes(tmp_path, above):
    folders = [f"{top}/{name}" for top in above for name in ("cat", "oak")]
    root, lists = make(tmp_path, dict.fromkeys([*folders, "unlisted/x", "unlisted/y"], 2)), []
    for file in ("00.jpg", "01.PNG"):
        lists.append([f"{folder}/{file}" for folder in folders])
    with pytest.raises(
        ValueError, match=f"folder '{above[0]}' of .* but 2 folders of images .*--data.merge_folders true"
    ):
        split(root, *lists)
    assert split(root, *lists, merge_folders=True).class_names == list(above)


HEAD = "file,label"


@pytest.mark.parametrize(
    ("tree", "train", "message"),
    [
        ({"images": 4}, [HEAD, "images/00.jpg,cat", "images/01.PNG,dog"], "images/01.PNG the label 'dog', and .*00.jpg the label 'cat'"),
        ({"images": 4}, ["images/00.jpg cat", "images/01.PNG dog"], "the class of an image is its folder, here 'images'. Put the images"),
        ({"images": 4}, ["images/00.jpg 0", "images/01.PNG 1", "images/02.jpg 1"], "images/01.PNG the label '1', and"),
        ({"cat": 4, "dog": 4}, [HEAD, "cat/00.jpg,dog", "dog/00.jpg,dog"], "cat/00.jpg the label 'dog', but the class .* here 'cat'"),
        ({"cat": 4, "dog": 4}, ["cat/00.jpg,Dog", "dog/00.jpg,Cat"], "cat/00.jpg the label 'Dog', but"),
        ({"cat": 4, "dog": 4}, ["n,file,class", "7,cat/00.jpg,a", "8,dog/00.jpg,a", "9,cat/02.jpg,b"], "dog/00.jpg the label 'a', as"),
        ({"cat": 4, "dog": 4, "elm": 4}, ["cat/00.jpg 0", "dog/00.jpg 0", "elm/00.jpg 1"], "dog/00.jpg the label '0', as .*cat/00.jpg of"),
    ],
)  # fmt: skip
def test_labels_of_lists_may_not_contradict_the_folders(tmp_path, tree, train, message):
    root = make(tmp_path, tree)
    with pytest.raises(ValueError, match=f"data.train_list: .*train.txt gives .*{message}"):
        split(root, train, [f"{name}/03.PNG" for name in tree])


@pytest.mark.parametrize(
    "columns",
    [
        ["{} 0", "{} 1", "{} 0"],  # the folders are 1 and 2
        ["{} tench", "{} fox", "{} tench"],
        ["0 {}", "1 {}", "2 {}"],  # numbers of the lines
        ["{} 7", "{} 7", "{} 7"],
        ["7,{},a", "8,{},a", "9,{},b"],  # which nothing calls labels
        ["{} 1/00.jpg", "{} 1/00.jpg", "{} 2/00.jpg"],
    ],
)
def test_columns_that_are_no_labels_or_agree_with_the_folders(tmp_path, columns):
    root = make(tmp_path, {"1": 4, "2": 2})
    files = ("1/00.jpg", "2/00.jpg", "1/02.jpg")
    found = split(
        root, [line.format(file) for line, file in zip(columns, files, strict=True)], ["1/01.PNG", "2/01.PNG"]
    )
    assert found.class_names == ["1", "2"] and [len(of_class) for of_class in found.train] == [2, 1]


@pytest.mark.parametrize("after", ["", " 0", ",0"])
@pytest.mark.parametrize("gone", ["00 2.jpg", "00.jpg (1).jpg", "01 (1).PNG", "00,2.jpg", "deep/00.jpg"])
def test_a_missing_image_of_a_list_is_no_other_image(tmp_path, gone, after):
    """A shorter reading of each missing name would name an image that is there, or in the other list."""
    root = make(tmp_path, {"a": 4, "b": 2, "a/deep": 0, "deep": 2})
    (root / "a/deep/99.jpg").write_bytes((root / "a/00.jpg").read_bytes())
    found = split(
        root, [f"a/02.jpg{after}", f"a/{gone}{after}", f"b/00.jpg{after}"], ["a/01.PNG", "a/00.jpg", "b/01.PNG"]
    )
    assert (
        [file.name for file in found.train[0]] == ["02.jpg"]
        and len(found.missing) == 1
        and gone.split(",")[-1] in found.missing[0]
    )


def test_a_name_without_an_ending_that_two_images_have_is_missing(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    Image.new("RGB", (4, 4)).save(root / "a/00.png")
    (root / "train.txt").write_text("a/00\na/00.png\nb/00\n")
    (root / "test.txt").write_text("a/01\nb/01\n")
    found = load_collection(DataConfig(root=str(root), train_list="train.txt", test_list="test.txt", unreadable="skip"))
    assert found.missing == ["a/00 (in train.txt)"] and [file.name for file in found.train[0]] == ["00.png"]


def test_a_line_of_quotes_alone_is_a_missing_image(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    found = split(root, ["a/00.jpg", "b/00.jpg", '"'], ["a/01.PNG", "b/01.PNG"], unreadable="skip")
    assert found.missing == ['" (in train.txt)'] and len(found.train[0]) == len(found.train[1]) == 1


def test_a_broken_link_that_no_list_names_does_not_matter(tmp_path):
    root = make(tmp_path, {"a": 2, "b": 2})
    (root / "a/gone.jpg").symlink_to(root / "nowhere")
    (root / "train.txt").write_text("a/00.jpg\nb/00.jpg\n")
    (root / "test.txt").write_text("a/01.PNG\nb/01.PNG\n")
    assert len(scenario(root, train_list="train.txt", test_list="test.txt").tasks[0].train) == 2


def test_lists_are_for_flat_trees_and_must_be_there(tmp_path):
    make(tmp_path, {"train/cat": 2, "test/cat": 2})
    with pytest.raises(FileNotFoundError, match="data.train_list: no file 'train.txt' in the working directory or in"):
        scenario(tmp_path, train_list="train.txt", test_list="test.txt")
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("cat/00.jpg")
    with pytest.raises(
        ValueError, match="has a folder 't\\w+' but data.train_list and data.test_list are for <root>/<class>/"
    ):
        scenario(tmp_path, train_list="train.txt", test_list="test.txt")
    (tmp_path / "train.yaml").write_text("images: [cat/00.jpg]")
    with pytest.raises(ValueError, match="train.yaml must hold a list of paths under data:"):
        scenario(
            make(tmp_path / "flat", {"cat": 2}),
            train_list=str(tmp_path / "train.yaml"),
            test_list=str(tmp_path / "test.txt"),
        )
