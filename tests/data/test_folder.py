"""A user's own folder of images: the names of its classes."""

from trees import make, scenario


def test_names_of_imagenets_folders(tmp_path):
    wnids = ("n01443537", "n02999999", "n03999999")
    root = make(tmp_path, {f"{part}/{w}": 1 for part in ("train", "val") for w in wnids})
    (root / "words.txt").write_text(
        "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02999999\tfunny hat, hat\n"
    )
    (root / "val/val_annotations.txt").write_text("left behind by a script that moved the images\n")
    assert scenario(root).class_names == ["goldfish", "funny hat", "n03999999"]
    assert scenario(root, names="folders").class_names == list(wnids)
