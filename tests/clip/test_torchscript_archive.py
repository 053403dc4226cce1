"""TorchScript archives: OpenAI's are read; archives that would do harm raise, and do nothing else."""

import io
import pickle
import struct
import warnings
import zipfile

import open_clip
import pytest
import torch
from made_clips import openai_archive, same_features, weights
from torch import nn

from segp_ext.clip.pretrained import load_clip
from segp_ext.clip.weights_file import load_file

pytestmark = pytest.mark.usefixtures("made_models")


def test_an_archive_in_openais_format(tmp_path, monkeypatch):
    model, _ = weights(force_quick_gelu=True)
    openai_archive(tmp_path / "tiny.pt", model, 32)
    monkeypatch.setattr(torch.jit, "load", None)  # which runs what an archive says
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    with pytest.warns(
        RuntimeWarning,
        match=r"tiny.pt' were trained with QuickGELU, which made-tiny gets for them; made-tiny-quickgelu is",
    ):
        backbone = load_clip("made-tiny", str(tmp_path / "tiny.pt"))
    same_features(backbone, model)
    assert isinstance(backbone.clip.visual.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        same_features(load_clip("made-tiny-quickgelu", str(tmp_path / "tiny.pt")), model)


@pytest.mark.slow
def test_an_archive_of_vit_b_32s_size(tmp_path):
    model, _ = weights(name="ViT-B-32-quickgelu")
    openai_archive(tmp_path / "ViT-B-32.pt", model, 224)
    backbone = load_clip("ViT-B-32-quickgelu", str(tmp_path / "ViT-B-32.pt"))
    assert (backbone.raw_dim, backbone.embed_dim) == (768, 512)
    state = model.state_dict()
    torch.testing.assert_close(
        backbone.clip.token_embedding.weight, state["token_embedding.weight"].half().float(), rtol=0, atol=0
    )
    torch.testing.assert_close(backbone.projection.data, state["visual.proj"].half().float(), rtol=0, atol=0)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.logit_bias = None


class Pickle:
    """Writes the few opcodes that the cases need."""

    def __init__(self):
        self.data = io.BytesIO(b"\x80\x02")
        self.data.seek(2)

    def name(self, module, name):
        self.data.write(f"c{module}\n{name}\n".encode())
        return self

    def value(self, value):
        """A plain value, without protocol and stop."""
        self.data.write(pickle.dumps(value, 2)[2:-1])
        return self

    def code(self, opcodes):
        self.data.write(opcodes)
        return self

    def done(self):
        return self.data.getvalue() + b"."


def storage(out, kind="FloatStorage", key="0", count=3, what="storage"):
    out.code(b"(").value(what).name("torch", kind).value(key).value("cpu").value(count).code(b"tQ")


def tensor(out, size=(3,), stride=(1,), offset=0, **of):
    out.name("torch._utils", "_rebuild_tensor_v2").code(b"(")
    storage(out, **of)
    out.value(offset).value(size).value(stride).value(False).name("collections", "OrderedDict").code(b")RtR")


def module(fill):
    """A module's pickle with one attribute, weight, that `fill` writes."""
    out = Pickle().name("__torch__.made", "Model").code(b")\x81}").value("weight")
    fill(out)
    return out.code(b"sb").done()


NUMBERS = struct.pack("<3f", 1, 2, 3)


def archive(path, data, record=NUMBERS, compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("m/data.pkl", data)
        out.writestr(
            "m/code/__torch__/made.py", 'class Model(Module):\n  __parameters__ = ["weight", ]\n  __buffers__ = []\n'
        )
        out.writestr("m/data/0", record, compress)
    return path


def test_the_made_archive_is_read(tmp_path):
    model = Model()
    load_file(model, "made", archive(tmp_path / "w.pt", module(tensor)))
    assert model.weight.tolist() == [1, 2, 3]


def evil(out):
    out.name("builtins", "open").code(b"(").value("ran").value("w").code(b"tR")


BOMB = {"record": bytes(4 * 10**7), "compress": zipfile.ZIP_DEFLATED}


CASES = {
    "calls open": (module(evil), "asks for builtins.open"),
    "calls os.system": (module(lambda out: out.name("posix", "system").code(b"(").value("touch ran").code(b"tR")), "posix.system"),
    "gets an attribute": (module(lambda out: out.name("builtins", "getattr").code(b"(").value(1).value("real").code(b"tR")), "getattr"),
    "a name of torch": (module(lambda out: out.name("torch", "load").code(b"(").value("w.pt").code(b"tR")), "torch.load"),
    "a dotted name": (Pickle().code(b"\x80\x04").value("__torch__.a").value("b.__globals__").code(b"\x93)R").done(), "do not fit made"),
    "state for a name": (Pickle().name("torch._utils", "_rebuild_tensor_v2").value({"x": 1}).code(b"b").done(), "state for a name"),
    "state for a type": (Pickle().name("torch", "FloatStorage").value({"itemsize": 1}).code(b"b").done(), "could not read"),
    "state that is no dict": (Pickle().name("__torch__", "M").code(b")\x81").value([1]).code(b"b").done(), "state is no dict"),
    "no model": (Pickle().value([1, 2]).done(), "holds a list, not a model"),
    "a module in itself": (Pickle().name("__torch__", "M").code(b")\x81q\x09}").value("m").code(b"h\x09sb").done(), "could not read"),
    "larger than its storage": (module(lambda out: tensor(out, size=(10**12,), stride=(0,))), "1000000000000 numbers in a storage of 3"),
    "before its storage": (module(lambda out: tensor(out, offset=-1)), "could not read"),
    "behind its storage": (module(lambda out: tensor(out, offset=2)), "could not read"),
    "negative size": (module(lambda out: tensor(out, size=(-3,))), "could not read"),
    "another count": (module(lambda out: tensor(out, count=10**12)), "does not hold 1000000000000 numbers"),
    "another type": (module(lambda out: tensor(out, kind="DoubleStorage")), "does not hold 3 numbers of torch.float64"),
    "another record": (module(lambda out: tensor(out, key="../../w.pt")), "could not read"),
    "another thing kept": (module(lambda out: tensor(out, what="module")), "asks for a 'module'"),
    "a bomb": (module(lambda out: tensor(out, count=10**7)), "data/0 is compressed", BOMB),
    "cut": (module(tensor)[:-4], "could not read"),
    "other numbers": (module(lambda out: tensor(out, size=(2,))), "do not fit made"),
}  # fmt: skip


def test_code_that_unpacks_to_much_is_not_unpacked(tmp_path):
    path = archive(tmp_path / "w.pt", module(tensor))
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("m/code/__torch__/large.py", bytes(20_000_000), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="large.py has 20 MB, where 16 are plenty"):
        load_file(Model(), "made", path)


def test_a_storage_that_many_share_is_read_once(tmp_path):
    def two(out):
        out.code(b"}(").value("weight")
        tensor(out)
        out.value("bias")
        tensor(out, kind="IntStorage")
        out.code(b"u")

    data = Pickle().name("__torch__.made", "Model").code(b")\x81")
    two(data)
    with pytest.raises(ValueError, match="asked for as numbers of two types"):
        load_file(Model(), "made", archive(tmp_path / "w.pt", data.code(b"b").done()))


@pytest.mark.parametrize("name", CASES)
def test_a_crafted_archive_raises_and_does_nothing(tmp_path, monkeypatch, name):
    data, message, *settings = CASES[name]
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "w.pt", data, **dict(*settings))
    with pytest.raises(ValueError, match=message):
        load_file(Model(), "made", path)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pt"]
