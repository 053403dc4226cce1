"""The prediction command on the checkpoints of a run."""

from PIL import Image

from segp_ext import predict
from segp_ext.data.digits import digits


def test_the_predict_command_names_image_files(finished, tmp_path, capsys):

    collection = digits()
    Image.fromarray(collection.opener(collection.test[0][0])[0]).save(tmp_path / "zero.png")
    assert predict.main([str(finished), str(tmp_path / "zero.png"), "--topk=2", "--path=visual"]) == 0
    line = capsys.readouterr().out
    assert "zero.png: 0 " in line and line.count("%") == 2
    assert predict.main([str(tmp_path), str(tmp_path / "zero.png")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err
    assert predict.main([str(finished), str(tmp_path / "gone.png")]) == 2
    assert "gone.png" in capsys.readouterr().err
