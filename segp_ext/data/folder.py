"""Trees of image files, one folder per class: what is on disk, and any user's own as a data set."""

from __future__ import annotations

import codecs
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from PIL import Image

from segp_ext.config import DataConfig
from segp_ext.data.images import open_image
from segp_ext.data.scenario import Collection, hold_out

SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
        ".jp2",
        ".j2k",
        ".jpx",
        ".ico",
        ".tga",
        ".heic",
        ".heif",
    }
)
"""File endings taken as images; other files are left alone."""


def _forms(*words: str) -> tuple[str, ...]:
    """Names that folders of a part have in common use: the words alone first, then `train_set`, `train-images`, `seg_train` ..."""
    kinds = [f"{mark}{kind}" for kind in ("set", "data", "images", "split") for mark in ("_", "-", "")]
    return (*words, *(f"{word}{kind}" for word in words for kind in kinds), *(f"seg_{word}" for word in words))


TRAIN = _forms("train", "training")
HELD = _forms("test", "testing", "val", "valid", "validation", "eval", "dev")
"""Names of the folders of training and of test images, in any case, the preferred one first."""
_BESIDE = ("annotation", "annotations", "attributes", "labels", "masks", "metadata", "parts")
"""Folders that stand beside class folders; they are left alone where they hold no image."""
IMAGES = ("images", "image", "imgs", "img", "frames", "photos", "pictures")
"""Folders that a class's images may lie in; their names tell nothing about the class."""
LAYOUTS = (
    "<root>/train/<class>/* with <root>/test/<class>/* (or val, valid, validation, eval, dev), <root>/<class>/* or <root>/train/<class>/* "
    "alone (split by --data.test_fraction; <root>/<class>/* also by --data.train_list and --data.test_list), or <root>/train/<wnid>/ with "
    "<root>/val/val_annotations.txt"
)
# A listed path ends with the first image ending that a separator or the line's end follows: paths may hold spaces themselves.
_LISTED = re.compile(rf"[\"']?(.*?(?:{'|'.join(map(re.escape, sorted(SUFFIXES)))}))(?:[\s,;|\"']|$)", re.IGNORECASE)
_WNID = re.compile(r"n\d{8}")


def composed(text: str) -> str:
    """A name as one text, whichever way a file system or a list writes its accents (macOS takes letters apart, others do not)."""
    return unicodedata.normalize("NFC", text)


def class_name(folder: str) -> str:
    """A folder's name as a class name: underscores become spaces."""
    return " ".join(folder.replace("_", " ").split())


def open_member(path: Path) -> Image.Image:
    """Reads an image of a data set as RGB.

    Raises:
        ValueError: naming the file, and what helps, if it cannot be read as an image.
    """
    try:
        return open_image(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; python -m segp_ext.doctor lists all such files; --data.unreadable skip leaves them out"
        ) from error


def several(items: Iterable[object], limit: int = 3) -> str:
    """The first few of `items`, and how many more there are."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")


def contents(folder: Path) -> str:
    """The first few entries of a folder, for messages."""
    entries = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    return several(entries, 6) or "nothing"


def data_root(config: DataConfig, accepted: str, *inner: str) -> Path:
    """The data set's folder: `data.root`, or the first of its folders `inner` that is there.

    Raises:
        FileNotFoundError: if it is not set or not there.
        NotADirectoryError: if it is a file.
    """
    if config.root is None:
        raise FileNotFoundError(
            f"data.root is not set: give the folder of your images with --data.root; accepted: {accepted}"
        )
    base = Path(os.path.expanduser(config.root))
    if base.exists() and not base.is_dir():
        raise NotADirectoryError(
            f"data.root: {config.root!r} is a file; unpack it if it is an archive; accepted: {accepted}"
        )
    if not base.is_dir():
        raise FileNotFoundError(f"data.root: no folder {config.root!r}; accepted: {accepted}")
    return next((base / name for name in inner if (base / name).is_dir()), base)


@dataclass
class Tree:
    """Images by class folder as they are on disk; the attributes are those of `Collection`, and `mixed`: class folders that hold images
    and several folders of images besides.
    """

    base: Path
    train: dict[str, list[Path]]
    test: dict[str, list[Path]]
    layout: str
    missing: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)


_LEFT_BEHIND = frozenset(
    {
        "__macosx",
        "@eadir",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "lost+found",
        "__pycache__",
        "$recycle.bin",
        "system volume information",
        "#recycle",
        "@recycle",
        "#snapshot",
        "@recently-snapshot",
    }
)
"""What file managers, archivers, disks and storage servers leave behind, in small letters; deleted images lie in some of it."""


def _ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a program."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def class_folders(part: Path) -> list[str]:
    """Names of the folders in `part`, sorted; hidden ones, and those of annotations without an image, are left out.

    Raises:
        ValueError: for a name that is no text.
    """
    names = sorted(entry.name for entry in part.iterdir() if entry.is_dir() and not _ignored(entry.name))
    for name in names:
        if not name.isprintable() and name.encode(errors="replace").decode() != name:
            raise ValueError(
                f"data.root: class folder {name!r} of {str(part)!r} has a name that is not valid UTF-8; rename it"
            )
    return [name for name in names if name.lower() not in _BESIDE or image_files(part / name)]


def _files(top: Path) -> list[Path]:
    """All files in a folder, at any depth and through links, sorted; what is hidden is left out.

    Raises:
        OSError: for a folder that may not be read.
    """

    found: list[Path] = []
    seen: set[str] = set()  # links can lead back
    folders = [str(top)]
    while folders:
        place = folders.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(place) as entries:
            for entry in entries:
                if _ignored(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    found.append(Path(entry.path))
    return sorted(found)


def part_folder(base: Path, names: Sequence[str]) -> str | None:
    """The first of `names` that is a folder in `base`, as it is written there: in small letters first, then in any capitals."""
    there = sorted((entry.name for entry in base.iterdir() if entry.is_dir()), reverse=True)  # small letters sort last
    return next((form for name in names for form in there if form.lower() == name.lower()), None)


def _holds_images(folder: Path) -> bool:
    """Whether images lie in a folder itself, not below it."""
    return any(file.suffix.lower() in SUFFIXES and file.is_file() for file in folder.iterdir())


def _inner(folder: Path) -> Path:
    """The folder that has several folders or images in it: `folder`, or one below that it is wrapped in, one folder in the other."""
    seen = {folder.resolve()}
    while not _holds_images(folder):
        folders = class_folders(folder)
        part = (
            len(folders) == 1 and folders[0].lower() in (*TRAIN, *HELD) and folders[0] != folder.name
        )  # Kaggle's test_set/test_set
        if len(folders) != 1 or part or (folder / folders[0]).resolve() in seen:
            break
        folder = folder / folders[0]
        seen.add(folder.resolve())
    return folder


def unwrapped(base: Path) -> Path:
    """The data set in `base`: the folder itself, or the one that it, and nothing else, is wrapped in (`images/`, an archive's name)."""
    inner = _inner(base)
    return base if _holds_images(inner) or not class_folders(inner) else inner


def _check_depth(tree: Tree, name: str, folder: Path, merge: bool) -> None:
    """Refuses a class folder that holds no image itself but several folders of images: these may be the classes. Where it holds some, it
    is noted.

    Raises:
        ValueError: naming the folder and what may be meant.
    """
    if merge:
        return
    inner = _inner(folder)
    below = [entry for entry in class_folders(inner) if image_files(inner / entry)]
    if len(below) > 1 and _holds_images(inner):
        tree.mixed += [] if name in tree.mixed else [name]
    elif len(below) > 1:
        place = inner.relative_to(tree.base)
        split = place.parts[0].lower() in (*TRAIN, *HELD)
        if all(entry.lower() in (*TRAIN, *HELD) for entry in below):
            raise ValueError(
                f"data.root: folder {place.as_posix()!r} of {str(tree.base)!r} holds the parts {several(below)}. They must stand above "
                f"the classes: move images to {below[0]}/<class>/ and so on"
            )
        remedy = f"move them into {str(folder.parent)!r}" if split else f"give {str(inner)!r} as data.root"
        raise ValueError(
            f"data.root: folder {place.as_posix()!r} of {str(tree.base)!r} holds no image itself, but {len(below)} folders of images "
            f"({several(below)}). If these are all classes, {remedy}; classes in several places must be moved into one folder. If all of "
            f"them are of the class {name!r}, add --data.merge_folders true"
        )


def _scan(tree: Tree, part: Path, classes: Sequence[str], merge: bool) -> dict[str, list[Path]]:
    """Images of each class folder in `part`, at any depth; notes in `tree` what else is there."""
    found: dict[str, list[Path]] = {}
    loose = sorted(entry for entry in part.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
    tree.stray += [f"{file.relative_to(tree.base).as_posix()} (in no class folder)" for file in loose]
    written = {composed(name): name for name in class_folders(part)}
    for name in classes:
        found[name] = []
        place = part / (name if (part / name).is_dir() else written.get(composed(name), name))
        _check_depth(tree, name, place, merge)
        for file in _files(place):
            if file.suffix.lower() not in SUFFIXES:
                tree.stray.append(file.relative_to(tree.base).as_posix())
            elif file.is_file():
                found[name].append(file)
            else:
                tree.missing.append(f"{file.relative_to(tree.base).as_posix()} (a broken link, or no file)")
    return found


def image_files(folder: Path) -> list[Path]:
    """All image files in a folder, by their endings, at any depth, sorted; what is hidden is left out."""
    return [file for file in _files(folder) if file.suffix.lower() in SUFFIXES]


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, stripped, without empty ones.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no text.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in content:
        raise ValueError(f"{path} is no text file: it holds zero bytes")
    else:
        encoding = "utf-8-sig"
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise ValueError(f"{path} is no text file: {error}") from error
        lines = content.decode("latin-1").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _named_file(setting: str, name: str, base: Path) -> Path:
    for path in (Path(os.path.expanduser(name)), base / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{setting}: no file {name!r}, here or in {base}")


def chosen_classes(config: DataConfig, base: Path, folders: Sequence[str]) -> list[str]:
    """The class folders to take: those of `data.class_list`, in its order, or all."""
    if config.class_list is None:
        return list(folders)
    path = _named_file("data.class_list", config.class_list, base)
    known = {composed(name): name for name in folders}
    # Lists of ImageNet classes often have the class's name after its folder.
    chosen = [
        known.get(composed(line)) or known.get(composed(line.split()[0]), line.split()[0]) for line in read_lines(path)
    ]
    repeated = [name for name, times in Counter(chosen).items() if times > 1]
    if repeated:
        raise ValueError(f"data.class_list: {path} names {several(repeated)} more than once")
    absent = [name for name in chosen if name not in folders]
    if absent or not chosen:
        raise ValueError(
            f"data.class_list: {path} names {several(absent) or 'no class'}, but the class folders of {base} are {several(folders)}. The "
            "list takes one class folder a line, and nothing before it: no header, number or comment"
        )
    return chosen


def read_tree(
    base: Path,
    config: DataConfig,
    accepted: str,
    held: Sequence[str] = HELD,
    choose: Callable[[DataConfig, Path, Sequence[str]], list[str]] = chosen_classes,
) -> Tree:
    """Reads `<base>/{train,test}/<class>/*`, or `<base>/<class>/*` with split lists or a seeded split of every class.

    Args:
        base: the folder.
        config: lists, classes and the share held out.
        accepted: the layouts that messages name.
        held: names of the folder of test images, the preferred one first.
        choose: which of the class folders are taken, and in which order.

    Raises:
        FileNotFoundError: if there are no class folders, or a list is not there.
        ValueError: for a class without images or missing from a part, and lists that contradict each other.
    """
    tree = Tree(base, {}, {}, "")
    train = part_folder(base, TRAIN)
    if config.train_list is not None and config.test_list is not None:
        _read_lists(tree, config.train_list, config.test_list, config, accepted, choose)
    elif train is not None and not _is_class(base, train):
        _not_above(base / train, class_folders(base / train))
        found = {name: part_folder(base, (name,)) for name in held}
        usable = [name for name in found.values() if name is not None and class_folders(base / name)]
        if usable:
            places = {name: unwrapped(base / name) for name in (train, usable[0])}
            parts = {name: class_folders(place) for name, place in places.items()}
            _same_classes(base, parts[train], parts[usable[0]], usable[0])
            classes = choose(config, base, parts[train])
            tree.train, tree.test = (_scan(tree, places[part], classes, config.merge_folders) for part in parts)
            shown = [place.relative_to(base).as_posix() for place in places.values()]
            tree.layout = f"{shown[0]}/ and {shown[1]}/ of <class>/ folders{_unused(base, places)}"
        else:
            place = unwrapped(base / train)
            if not class_folders(place):
                raise FileNotFoundError(_no_classes(base, place, accepted))
            _split(tree, place, choose(config, base, class_folders(place)), config)
            empty_parts = "".join(
                f"; {name}/ has no class folders and is not used" for name in found.values() if name is not None
            )
            tree.layout = f"{place.relative_to(base).as_posix()}/ of {tree.layout}{empty_parts}{_unused(base, [train])}"
    else:
        place = unwrapped(base)
        _split(tree, place, choose(config, place, _flat_folders(place, accepted)), config)
        tree.layout = f"{_inside(base, place)}flat {tree.layout}{_unused_lists(base)}"
    if tree.mixed:
        tree.layout += (
            f"; {several(tree.mixed)}: images and several folders of images, learnt as one class each (if these folders are the classes, "
            "remove the images beside them)"
        )
    for part, by_class in (("train", tree.train), ("test", tree.test)):
        empty = [name for name, files in by_class.items() if not files]
        if empty and not tree.missing:
            more = f" (nor have {several(empty[1:])})" if len(empty) > 1 else ""
            raise ValueError(
                f"data.root: class folder {empty[0]!r} has no {part} image{more} in {str(base)!r}; "
                f"accepted endings: {', '.join(sorted(SUFFIXES))}"
            )
    return tree


def _is_class(base: Path, folder: str) -> bool:
    """Whether a folder named like a part is a class: images lie in it, or in its one folder of `IMAGES`, as in folders beside it."""
    others = [name for name in class_folders(base) if name.lower() not in (*TRAIN, *HELD)]
    if _holds_images(base / folder):
        return not class_folders(base / folder) and any(_holds_images(base / name) for name in others)
    return len(others) > 0 and all(_in_images(base / name) for name in (folder, *others))


def _in_images(folder: Path) -> bool:
    """Whether a folder's images lie in one folder in it that is named as in `IMAGES`."""
    inner = class_folders(folder)
    return len(inner) == 1 and inner[0].lower() in IMAGES and _holds_images(folder / inner[0])


def _unused(base: Path, parts: Iterable[str]) -> str:
    """Says which folders beside the parts of a data set are left alone; those of test images without a class are not spoken of."""
    others = [
        name
        for name in class_folders(base)
        if name not in parts and (name.lower() not in HELD or class_folders(base / name))
    ]
    return (
        f" ({several(f'{name}/' for name in others)} {'are' if len(others) > 1 else 'is'} not used)" if others else ""
    )


def _inside(base: Path, place: Path) -> str:
    """Says which folder a data set is wrapped in, if it is."""
    return "" if place == base else f"{place.relative_to(base).as_posix()}/ of "


def _split(tree: Tree, place: Path, classes: Sequence[str], config: DataConfig) -> None:
    """Fills `tree` with the images of the class folders in `place`, a share of each held out."""
    images = _scan(tree, place, classes, config.merge_folders)
    few = {name: len(files) for name, files in images.items() if len(files) < 2}
    for name, count in few.items():
        more = f" (and {len(few) - 1} other folders too few)" if len(few) > 1 else ""
        raise ValueError(
            f"data.root: class folder {name!r} of {str(place)!r} holds {count} image(s){more}; at least 2 are needed to split it; "
            f"accepted endings: {', '.join(sorted(SUFFIXES))}"
        )
    for name, files in images.items():
        tree.train[name], tree.test[name] = hold_out(files, config.test_fraction, seed=0)
    tree.layout = f"<class>/ folders without a split; {100 * config.test_fraction:g} % of each class held out, seed 0"


def _no_classes(base: Path, place: Path, accepted: str) -> str:
    """The message for a folder without class folders; images in it may have their classes in their names."""
    loose = sorted(file.name for file in place.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    hint = ""
    if loose:
        hint = (
            f" {len(loose)} images lie in {str(place)!r} itself ({loose[0]} ...): if their names or a list tell their classes, move them "
            "to one folder a class; --data.train_list and --data.test_list can then choose the split;"
        )
    return f"data.root: no class folders in {str(place)!r}; there: {contents(base)};{hint} accepted: {accepted}"


def _unused_lists(base: Path) -> str:
    """Says which files beside the class folders look like the two lists of a split."""
    texts = sorted(file.name for file in base.iterdir() if file.suffix.lower() in (".txt", ".yaml", ".yml"))
    parts = {
        name: [part for part in ("train", "test") if part in name.lower()] for name in texts
    }  # both: CUB's train_test_split.txt
    train, test = ([name for name in texts if parts[name] == [part]] for part in ("train", "test"))
    if not train or not test:
        return ""
    return f" (a split is there: --data.train_list {train[0]} --data.test_list {test[0]})"


def _flat_folders(base: Path, accepted: str, listed: bool = False) -> list[str]:
    """Names of the class folders in `base`; `listed` tells that lists choose the split."""
    folders = class_folders(base)
    if not folders:
        raise FileNotFoundError(_no_classes(base, base, accepted))
    for name in folders:
        if name.lower() in (*TRAIN, *HELD) and not _is_class(base, name):
            wrong = (
                "but data.train_list and data.test_list are for <root>/<class>/* alone" if listed else "but no train/"
            )
            raise ValueError(f"data.root: {str(base)!r} has a folder {name!r} {wrong}; accepted: {accepted}")
    _not_above(base, folders)
    return folders


def _not_above(base: Path, folders: Sequence[str]) -> None:
    """Refuses folders of parts taken for folders of classes, as when `data.root` lies above the data set."""
    for name in folders:
        inner = part_folder(base / name, TRAIN)
        if inner is not None and class_folders(base / name / inner):
            raise ValueError(
                f"data.root: folder {name!r} of {str(base)!r} holds {inner}/, so it is a data set, not a class; give {str(base / name)!r}"
            )


def _same_classes(base: Path, train: Sequence[str], test: Sequence[str], held: str) -> None:
    parts = {there: {composed(name): name for name in names} for there, names in (("train", train), (held, test))}
    for there, absent in (("train", held), (held, "train")):
        names = [name for text, name in parts[there].items() if text not in parts[absent]]
        if names:
            first, *others = sorted(names)
            more = f" (nor are {several(others)})" if others else ""
            raise ValueError(
                f"data.root: class folder {first!r} is in {there}/ but not in {absent}/ of {str(base)!r}{more}; "
                "train and test need the same classes"
            )


def _listed_lines(path: Path) -> list[str]:
    """The lines of a list file, or what a YAML file lists under data; comments are left out.

    Raises:
        ValueError: if it is no list, or an empty one.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        lines = [line for line in read_lines(path) if not line.startswith(("#", "//"))]
        if lines and (path.suffix.lower() == ".json" or lines[0][0] in "[{<"):
            looks = "markup (HTML or XML)" if lines[0][0] == "<" else "JSON"
            raise ValueError(
                f"{path} looks like {looks}; a list has one path a line, or is a YAML file with a list of paths under data:"
            )
    else:
        lines = _yaml_entries(path)
    if not lines:
        raise ValueError(f"{path} is empty; a list names one image a line")
    return lines


def _yaml_entries(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        depth = 0
        for event in yaml.parse(text, loader):  # composing would end the process for want of stack
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 20:
                raise ValueError("its lists are nested more than 20 deep")
        content = yaml.load(text, loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is no YAML file: {error}") from error
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{path} must hold a list of paths under data:")
    return [entry.strip() for entry in entries if entry.strip()]


_SEPARATOR = re.compile(r"[\t,;|]")


def _bare(text: str) -> str:
    """A column of a list without its quotes, with the separators of folders that are usual here."""
    return text.strip("\"' ").replace("\\", "/")


def _is_image(text: str) -> bool:
    return os.path.splitext(text)[1].lower() in SUFFIXES


def _readings(line: str) -> list[str]:
    """What a line of a list may mean, the longest first, as names hold spaces and endings: all of it, a column, all but a last
    or first word, what goes up to an image's ending, one word."""
    ended = _LISTED.match(line)
    columns = _SEPARATOR.split(line)
    images = [column for column in columns if _is_image(_bare(column))]
    whole = [line] if len(images) < 2 else []  # an image and its mask, say
    without_first, without_last = line.split(None, 1)[1:], line.rsplit(None, 1)[0]  # paths may hold spaces
    first, last = line.split()[0], line.split()[-1]
    found = [*whole, *images, without_last, *without_first, *([ended[1]] if ended else []), *columns, first, last]
    return list(dict.fromkeys(_bare(text) for text in found if _bare(text)))


def _is_header(line: str) -> bool:
    """Whether a list's first line names columns: it holds no path, which has a folder and mostly an image's ending."""
    return not any("/" in text or _is_image(text) for text in _readings(line))


class _Named:
    """Finds the images that lists name; lists are written from different places, with and without endings.

    Args:
        images: class folder and file, by path from the data set's folder.
    """

    def __init__(self, images: dict[str, tuple[str, Path]]) -> None:
        self.images = {composed(path): image for path, image in images.items()} | images
        stems: dict[str, list[str]] = {}
        self.folders: set[str] = set()
        for path in images:
            stems.setdefault(composed(path.rpartition(".")[0]), []).append(path)
            above = composed(path).rpartition("/")[0]
            while above and above not in self.folders:
                self.folders.add(above)
                above = above.rpartition("/")[0]
        self.stems = {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1}

    def find(self, readings: Sequence[str]) -> tuple[str, tuple[str, Path]] | None:
        """The first reading that names an image, as it is or with leading folders dropped, and that image.

        A reading that names no image, but could be one of a folder that is there, is a missing image: a shorter one is another image.
        """
        for text in readings:
            steps = [step for step in text.split("/") if step not in ("", ".")]
            for start in range(max(1, len(steps) - 1)):
                tail = "/".join(steps[start:])
                for path in (tail, composed(tail)):
                    if path in self.images or path in self.stems:
                        return text, self.images[self.stems.get(path, path)]
                if _is_image(tail) and len(steps) - start > 1 and composed(tail.rpartition("/")[0]) in self.folders:
                    return None
        return None


_LABELS = frozenset({"label", "labels", "class", "classes", "class_id", "class_name", "category", "target"})
"""What lists call a column of labels."""


def _labels_in(line: str, path: str, header: list[str]) -> list[str]:
    """The labels that a list's line gives to the image `path`: columns that the header calls so, or the one beside the path."""
    columns = _SEPARATOR.split(line)
    if len(columns) == 1:  # paths may hold spaces
        pairs = (line.rsplit(None, 1), line.split(None, 1))
        columns = next((pair for pair in pairs if len(pair) == 2 and path in map(_bare, pair)), columns)
    columns = [_bare(column) for column in columns]
    if len(columns) == len(header):
        return [column for column, name in zip(columns, header, strict=True) if name in _LABELS]
    others = [column for column in columns if column != path]
    return others if len(columns) == 2 and not header and not any(map(_is_image, others)) else []


def _check_labels(
    source: str, headed: bool, labels: dict[Path, str], folder_of: dict[Path, str], folders: Sequence[str]
) -> None:
    """Refuses a list whose labels tell other classes than the folders: the folders would be learnt.

    Args:
        source: the setting and the list.
        headed: whether the list calls them labels.
        labels: by image, as the list has them.
        folder_of: the class folder by image.
        folders: all class folders.

    Raises:
        ValueError: naming an image, its label and its folder, and what to do.
    """
    known = {class_name(composed(name)).lower(): name for name in folders}
    values = set(labels.values())
    alike = len(values) == 1  # the same for all images is no label, nor is one of each image's own, a number, say
    told = headed or len(values) < len(labels) or (len(folders) == 1 and not all(map(str.isdecimal, values)))
    first_in: dict[str, Path] = {}
    first_of: dict[str, Path] = {}
    for file, label in labels.items():
        folder = folder_of[file]
        here, there = first_in.setdefault(folder, file), first_of.setdefault(label, file)
        named = folder if label.isdecimal() else known.get(class_name(composed(label)).lower(), folder)
        if named != folder:
            also = ""
        elif told and labels[here] != label:
            also = f", and {here} the label {labels[here]!r}"
        elif told and folder_of[there] != folder and not alike:
            also = f", as {there} of the folder {folder_of[there]!r}"
        else:
            continue
        raise ValueError(
            f"{source} gives {file} the label {label!r}{also}, but the class of an image is its folder, here {folder!r}. Put the "
            "images of each class into one folder of its own, or take out of the list what is not the class"
        )


def _read_lists(
    tree: Tree,
    train_list: str,
    test_list: str,
    config: DataConfig,
    accepted: str,
    choose: Callable[[DataConfig, Path, Sequence[str]], list[str]],
) -> None:
    """Fills `tree` with the images of a flat tree that two lists name."""
    paths = {
        "train": _named_file("data.train_list", train_list, tree.base),
        "test": _named_file("data.test_list", test_list, tree.base),
    }
    place = unwrapped(tree.base)
    folders = _flat_folders(place, accepted, listed=True)
    images = {
        file.relative_to(place).as_posix(): (name, file)
        for name, files in _scan(tree, place, folders, True).items()
        for file in files
    }
    tree.stray, tree.missing = [], []  # what no list names is not part of the data set
    listed: dict[str, dict[Path, str]] = {}
    named_images = _Named(images)
    for part, path in paths.items():
        try:
            lines = _listed_lines(path)
        except ValueError as error:
            raise ValueError(f"data.{part}_list: {error}") from error
        header: list[str] = []
        if _is_header(lines[0]):
            columns = _SEPARATOR.split(lines[0])
            header = [_bare(column).lower() for column in (columns if len(columns) > 1 else lines[0].split())]
        listed[part] = {}
        labels: list[dict[Path, str]] = []
        for line in lines[1:] if header else lines:
            readings = _readings(line)
            match = named_images.find(readings)
            if match is not None:
                text, (name, file) = match
                listed[part][file] = name
                for number, label in enumerate(_labels_in(line, text, header)):
                    labels += [{}] * (number == len(labels))
                    labels[number][file] = label
            else:
                shown = next((text for text in readings if re.search(r"\.\w+$", text)), readings[0])
                ending = Path(shown).suffix.lower()
                other = ending != "" and ending not in SUFFIXES  # published lists hold a stray script
                (tree.stray if other else tree.missing).append(f"{shown} (in {path.name})")
        for label_of in labels:
            _check_labels(f"data.{part}_list: {path}", bool(header), label_of, listed[part], folders)
    both = sorted(listed["train"].keys() & listed["test"].keys())
    if both:
        raise ValueError(
            f"data.train_list and data.test_list share {len(both)} image(s): {several(both)}; a split may not overlap"
        )
    if not listed["train"] or not listed["test"]:
        empty = "train" if not listed["train"] else "test"
        raise ValueError(
            f"data.{empty}_list: none of the images that {paths[empty]} names is in {place}; named: "
            f"{several(tree.missing + tree.stray) or 'nothing but column names'}; there: {contents(place)}"
        )
    named = {part: sorted(set(files.values())) for part, files in listed.items()}
    for name in sorted({*named["train"], *named["test"]}):
        _check_depth(tree, name, place / name, config.merge_folders)
    if not tree.missing:
        _same_classes(tree.base, named["train"], named["test"], "test")
    classes = choose(config, tree.base, sorted({*named["train"], *named["test"]}))
    for part, target in (("train", tree.train), ("test", tree.test)):
        target.update({name: [] for name in classes})
        for file, name in sorted(listed[part].items()):
            if name in target:
                target[name].append(file)
    tree.layout = (
        f"{_inside(tree.base, place)}flat <class>/ folders, split by {paths['train'].name} and {paths['test'].name}"
    )


def names_from_file(config: DataConfig, base: Path, folders: Sequence[str]) -> dict[str, str]:
    """Class names by folder from the JSON file `data.names_file`.

    Raises:
        ValueError: if it is no such file, or has no name for a folder.
    """
    assert config.names_file is not None
    path = _named_file("data.names_file", config.names_file, base)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"data.names_file: {path} is no JSON file: {error}") from error
    if not isinstance(content, dict):
        form = '{"folder": "name", ...}'
        raise ValueError(
            f"data.names_file: {path} must hold names by class folder, {form}; it holds a {type(content).__name__}"
        )
    given = content
    first = {composed(folder): name[0] if isinstance(name, list) and name else name for folder, name in given.items()}
    named = {folder: first.get(composed(folder), "") for folder in folders}
    unnamed = [folder for folder, name in named.items() if not isinstance(name, str) or not name.strip()]
    if unnamed:
        raise ValueError(
            f"data.names_file: {path} has no name (a text, or a list of texts) for class folder {several(unnamed)}"
        )
    return named


def tree_collection(tree: Tree, name: str, label: str, config: DataConfig, namer: Callable[[str], str]) -> Collection:
    """A tree as a data set.

    Args:
        tree: what is on disk.
        name: the data set's name in results.
        label: its name in `layout`.
        config: where class names may come from a file.
        namer: class folder → class name, where they do not.
    """
    folders = list(tree.train)
    named = {f: namer(f) for f in folders} if config.names_file is None else names_from_file(config, tree.base, folders)
    names = {folder: composed(text).strip() for folder, text in named.items()}
    for folder, text in names.items():
        if not text:
            raise ValueError(
                f"data.root: class folder {folder!r} of {str(tree.base)!r} gives an empty class name; rename it, or give names with "
                "--data.names_file"
            )

    def fingerprint(path: Path) -> str:
        return f"{path.relative_to(tree.base).as_posix()}:{path.stat().st_size}"

    return Collection(
        name=name,
        class_names=[names[f] for f in folders],
        train=[list(tree.train[f]) for f in folders],
        test=[list(tree.test[f]) for f in folders],
        opener=open_member,
        fingerprint=fingerprint,
        layout=f"{label}: {tree.layout}",
        missing=tree.missing,
        stray=tree.stray,
    )


def _read_annotated(base: Path, config: DataConfig) -> Tree:
    """Tiny-ImageNet: `train/<wnid>/images/*`, and `val/images/*` with their classes in `val/val_annotations.txt`."""
    tree = Tree(base, {}, {}, "train/<wnid>/ folders and val/ with val_annotations.txt (Tiny-ImageNet)")
    if not (base / "train").is_dir():
        raise FileNotFoundError(f"data.root: {str(base)!r} has val/val_annotations.txt but no train/")
    annotations = base / "val" / "val_annotations.txt"
    held: dict[str, list[Path]] = {}
    annotated: set[Path] = set()
    for number, line in enumerate(read_lines(annotations), start=1):
        columns = line.split()
        if len(columns) < 2:
            raise ValueError(f"{annotations}, line {number}: a file and a class are needed; got {line!r}")
        file = base / "val" / "images" / columns[0]
        if Path(columns[0]).name != columns[0] or columns[0] == ".." or file in annotated:
            what = "is named before" if file in annotated else "is no file's name"
            raise ValueError(f"{annotations}, line {number}: {columns[0]!r} {what}")
        annotated.add(file)
        held.setdefault(columns[1], [])
        if file.is_file():
            held[columns[1]].append(file)
        else:
            tree.missing.append(f"val/images/{columns[0]} (in {annotations.name})")
    folders = class_folders(base / "train")
    _same_classes(base, folders, sorted(held), "val")
    classes = chosen_classes(config, base, folders)
    tree.train = _scan(tree, base / "train", classes, True)
    tree.stray = [file for file in tree.stray if not file.endswith("_boxes.txt")]  # part of the archive
    tree.test = {name: sorted(held[name]) for name in classes}
    for name, files in tree.train.items():
        if not files:
            raise ValueError(f"data.root: class folder {name!r} has no train image in {str(base)!r}")
    return tree


def unwrapped_set(root: Path) -> Path:
    """The folder with the parts of a data set: `root`, or the one below that alone is in it."""
    inner = unwrapped(root)
    return inner if part_folder(inner, TRAIN) is not None else root


def folder(config: DataConfig) -> Collection:
    """A user's own images: see `LAYOUTS`; Tiny-ImageNet's annotations are known.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no class folders.
        ValueError: for a class with no image, fewer than two in the unsplit layout, or one missing from a part.
    """
    root = data_root(config, LAYOUTS)
    base = unwrapped_set(root)
    annotated = all((base / "val" / name).exists() for name in ("images", "val_annotations.txt"))
    reads_annotations = annotated and config.train_list is None
    tree = _read_annotated(base, config) if reads_annotations else read_tree(base, config, LAYOUTS)
    tree.layout = tree.layout if base == root else f"{base.relative_to(root).as_posix()}/ with {tree.layout}"
    namer = (
        str if config.names == "folders" else _wnid_namer(base) if all(map(_WNID.fullmatch, tree.train)) else class_name
    )
    return tree_collection(tree, root.resolve().name, "folder", config, namer)


def _wnid_namer(base: Path) -> Callable[[str], str]:
    """Names for ImageNet's class folders: ILSVRC's classes as CLIP calls them, others by the data set's own words.txt."""
    from segp_ext.data.imagenet import imagenet_names

    words: dict[str, str] = {}
    if (base / "words.txt").is_file():
        for line in read_lines(base / "words.txt"):
            wnid, _, names = line.partition("\t")
            words[wnid] = names.split(",")[0]
    return lambda wnid: imagenet_names().get(wnid) or words.get(wnid) or wnid
