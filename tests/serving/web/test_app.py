"""The endpoints: answers as the learner gives them, errors in one line, and what the page is told."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import threading

import pytest
import torch
from PIL import Image
from web_service import bomb, client_of, picture, program

from segp_ext.method.answers import Answer
from segp_ext.method.classifier import Classifier
from segp_ext.method.learner import SeGPCL
from segp_ext.serving.web import app
from segp_ext.serving.web.commands import Commands


@pytest.fixture(scope="module")
def served(two_learners):
    """A client and its service; tests change neither."""
    with client_of(two_learners[0], "--max_images=8", "--max_megapixels=1", "--max_mb=0.2") as found:
        yield found


def names_of(response):
    assert response.status_code == 200, response.text
    return [[(each["name"], each["score"]) for each in image["names"]] for image in response.json()["images"]]


def sent(*contents):
    return [("images", (f"{number}.png", content)) for number, content in enumerate(contents)]


@pytest.mark.parametrize("path", [None, "text", "visual", "dual"])
def test_answers_are_those_of_the_learner(served, two_learners, path):
    client, _ = served
    contents = [picture(seed, 20 + seed) for seed in range(3)]
    asked = "/predict?topk=3" + ("" if path is None else f"&path={path}")
    expected = SeGPCL.load(two_learners[0], "cpu").predict(contents, 3, path)
    encoded = [base64.b64encode(content).decode() for content in contents]
    by_form = names_of(client.post(asked, files=sent(*contents)))
    by_json = names_of(
        client.post(asked, json={"images": [encoded[0], f"data:image/png;base64,{encoded[1]}", encoded[2]]})
    )
    bodies = [client.post(asked, content=each, headers={"Content-Type": "image/png"}) for each in contents]
    for found in (by_form, by_json, [names_of(body)[0] for body in bodies]):
        assert [[name for name, _ in image] for image in found] == [[p.name for p in image] for image in expected]
        for image, wanted in zip(found, expected, strict=True):
            assert [score for _, score in image] == pytest.approx([p.score for p in wanted], abs=1e-5)


def test_images_are_turned_upright_where_the_learner_does(two_learners, served):
    file = io.BytesIO()
    image = Image.open(io.BytesIO(picture(3, 30))).crop((0, 0, 30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, "JPEG", exif=exif)
    classifier = SeGPCL.load(two_learners[0], "cpu").classifier()
    classifier.config.loading.orientation = "exif"
    turned = app.decode(file.getvalue(), classifier, "it")
    classifier.config.loading.orientation = "stored"
    assert not torch.equal(turned, app.decode(file.getvalue(), classifier, "it"))


def test_many_clients_at_a_time_get_their_own_answers(served, two_learners):
    client, _ = served
    contents = [picture(seed) for seed in range(16)]
    expected = [image[0].name for image in SeGPCL.load(two_learners[0], "cpu").predict(contents, 1)]
    assert len({*expected}) > 1
    found = {}

    def ask(place):
        found[place] = names_of(client.post("/predict?topk=1", files=sent(contents[place])))[0][0][0]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[place] for place in range(len(contents))] == expected


JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"files": sent(picture()[:200])}, 422, "image 1 (0.png): cannot read the given data as an image: "),
        ({"files": sent(picture(), b"text")}, 422, "image 2 (1.png): cannot read the given data as an image: "),
        ({"files": sent(b"")}, 422, "image 1 (0.png) is empty"),
        ({"files": sent(bomb(1001))}, 422, "exceeds limit of 1000000 pixels"),
        ({"files": sent(*[picture()] * 9)}, 400, "the form cannot be read: Too many files. Maximum number of files is 8."),
        ({"files": sent(bytes(200_001))}, 413, "the body may have at most 200,000 bytes"),
        ({"content": (bytes(1000) for _ in range(300)), "headers": PNG}, 413, "the body may have at most 200,000 bytes"),
        ({"data": {"name": "x"}}, 415, "got 'application/x-www-form-urlencoded'"),
        ({"content": b"", "headers": PNG}, 400, "no image came; send files in a form, base64 in JSON, or one image as"),
        ({"content": b""}, 415, "the content type must be multipart/form-data, application/json, image/* or "),
        ({"content": b"{", "headers": JSON}, 400, "the body is not JSON: "),
        ({"content": b"[" * 100_000, "headers": JSON}, 400, "the body is not JSON: "),
        ({"json": [1]}, 400, "JSON must be an object; got list"),
        ({"json": {"image": "x"}}, 400, 'JSON must be {"images": ["...", ...]} with each image in base64'),
        ({"json": {"images": ["?"]}}, 400, "image 1 is not base64: "),
        ({"json": {"images": ["AAAA"] * 9}}, 413, "at most 8 images may come at once; got 9"),
        ({"json": {"images": []}}, 400, "no image came"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "the form cannot be read: "),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}, 400, "the form cannot be read: "),
        ({"files": sent(picture()), "params": {"topk": "0"}}, 422, "topk: Input should be greater than or equal to 1; got '0'"),
        ({"files": sent(picture()), "params": {"path": "best"}}, 422, "path: Input should be 'text', 'visual'"),
        ({"files": sent(picture()), "params": {"path": "auto"}}, 422, "path must be one of text, visual, dual; got 'auto'"),
        ({"files": sent(picture()), "params": {"unknown": "1.5"}}, 422, "unknown: Input should be less than 1; got '1.5'"),
        ({"files": sent(picture()), "params": {"unknown": "0.1"}}, 422, "unknown: this learner cannot tell unknown images"),
    ],
)  # fmt: skip
def test_bad_requests_get_one_line(served, given, status, said):
    client, service = served
    response = client.post("/predict", **given)
    assert response.status_code == status, response.text
    (message,) = response.json().values()
    assert said in message and "\n" not in message and [*response.json()] == ["error"]
    assert service.images.taken == service.bytes.taken == 0
    assert client.post("/predict", files=sent(picture())).status_code == 200


def test_other_paths_and_methods_are_refused_as_json(served):
    client, _ = served
    for method, path, status in (
        ("GET", "/../etc/passwd", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("PUT", "/predict", 405),
    ):
        response = client.request(method, path)
        assert response.status_code == status and [*response.json()] == ["error"], path


def test_a_full_queue_refuses_and_says_when_to_come_again(served):
    client, service = served
    with service.images.held(service.images.most - 1):
        response = client.post("/predict", files=sent(picture(), picture()))
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert response.json()["error"] == "busy: 255 of 256 images are in hand; ask again in a second"
        assert client.post("/predict", files=sent(picture())).status_code == 200
    with service.bytes.held(service.bytes.most - 100):
        response = client.post("/predict", files=sent(picture()))
        assert response.status_code == 503 and "bytes are in hand" in response.json()["error"]


def test_a_model_that_fails_is_the_servers_fault(served, monkeypatch):
    client, service = served

    def fails(*given):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Classifier, "answer", fails)
    response = client.post("/predict", files=sent(picture()))
    assert response.status_code == 500 and response.json() == {"error": "the server failed; its log says why"}
    monkeypatch.undo()
    assert client.post("/predict", files=sent(picture())).status_code == 200 and service.images.taken == 0


def test_scores_that_are_not_finite_are_no_answer(served, monkeypatch):
    client, _ = served
    monkeypatch.setattr(
        Classifier, "answer", lambda self, pixels, *_: Answer(torch.full((len(pixels), 4), torch.nan), None, None)
    )
    response = client.post("/predict", files=sent(picture()))
    assert response.status_code == 422 and "image 1 (0.png): its scores are not finite" in response.json()["error"]


def test_an_answer_that_takes_too_long_is_given_up(two_learners, monkeypatch):
    answer, goes_on = Classifier.answer, threading.Event()
    with client_of(two_learners[0], "--timeout=0.2") as (client, service):
        monkeypatch.setattr(Classifier, "answer", lambda self, *given: goes_on.wait(60) and answer(self, *given))
        response = client.post("/predict", files=sent(picture()))
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert response.json()["error"] == "no answer within 0.2 seconds; ask again"
        goes_on.set()
        assert client.post("/predict", files=sent(picture())).status_code == 200 and service.images.taken == 0


def test_the_verdict_is_given_where_the_learner_can_give_it(two_learners, monkeypatch):
    """The rate is the server's, unless the request has one; here a stand-in calls dark images unknown."""
    rates, real = [], Classifier.answer

    def answer(self, pixels, path=None, others=(), unknown_rate=None):
        rates.append(unknown_rate)
        unknown = None if unknown_rate is None else pixels.mean(dim=(1, 2, 3)) < 0.2
        return Answer(real(self, pixels, path).probabilities, unknown, None)

    monkeypatch.setattr(Classifier, "answer", answer)
    with client_of(two_learners[0]) as (client, _):
        assert client.get("/health").json()["unknown_rate"] is None and rates == [None]
        assert client.post("/predict", files=sent(picture())).json()["images"][0]["unknown"] is None
    monkeypatch.setattr(Classifier, "temperature", lambda self, path: 1.0)
    dark = io.BytesIO()
    Image.new("RGB", (20, 20)).save(dark, "PNG")
    load = SeGPCL.load

    def calibrated(*given):
        learner = load(*given)
        made = learner.classifier()
        object.__setattr__(made, "calibration", object())
        learner.classifier = lambda: made
        return learner

    monkeypatch.setattr(SeGPCL, "load", calibrated)
    with client_of(two_learners[0], "--unknown=0.02") as (client, _):
        assert client.get("/health").json()["unknown_rate"] == 0.02
        response = client.post("/predict", files=sent(picture(), dark.getvalue())).json()
        assert [image["unknown"] for image in response["images"]] == [False, True] and response["unknown_rate"] == 0.02
        assert client.post("/predict?unknown=0.3", files=sent(picture())).json()["unknown_rate"] == rates[-1] == 0.3


def test_classes_are_listed_with_what_is_noted_of_them(served, two_learners):
    client, _ = served
    found = client.get("/classes").json()
    learner = SeGPCL.load(two_learners[0], "cpu")
    assert found["classes"] == [dataclasses.asdict(record) for record in learner.records]
    assert found["learner"] == client.get("/health").json()["learner"]


def test_health_tells_what_answers(served):
    found = served[0].get("/health").json()
    assert (found["status"], found["trouble"], found["classes"], found["job"], found["report"]) == (
        "ok",
        None,
        4,
        None,
        False,
    )
    assert found["limits"]["bytes"] == 200_000 and found["name"] == "first"


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/classes"])
def test_what_is_read_may_be_asked_for_by_head(served, path):
    response = served[0].head(path)
    assert response.status_code == 200 and served[0].get(path).status_code == 200


def test_the_report_beside_the_learner_is_shown(saved):
    with client_of(saved) as (client, _):
        response = client.get("/report")
        assert (
            response.status_code == 404
            and response.json()["error"] == "there is no report of this learner; segp evaluate makes one"
        )
        (saved / "report.html").write_text("<h1>ours</h1>")
        response = client.get("/report")
        assert response.text == "<h1>ours</h1>" and "script" not in response.headers["content-security-policy"]
        assert client.get("/health").json()["report"] is True
        beside = saved.with_name(f"{saved.name}-evaluation") / "report.html"
        beside.parent.mkdir()
        beside.write_text("<h1>newer</h1>")
        os.utime(saved / "report.html", (1, 1))
        assert client.get("/report").text == "<h1>newer</h1>"


def test_the_report_of_a_run_is_shown_for_its_checkpoint(finished):
    for place in (finished, finished / "checkpoints/latest"):
        with client_of(place) as (client, _):
            assert client.get("/report").text == (finished / "report.html").read_text()


def test_a_class_is_renamed_and_the_new_learner_answers(saved, two_learners, tmp_path):
    second = two_learners[1]
    rename = program(
        tmp_path,
        f"""
        import shutil, sys
        place, old, new = sys.argv[1:]
        print(place, old, new, file=open({str(tmp_path / "called")!r}, "w"))
        if new == "taken":
            sys.exit("warning: x\\nerror: class name 'taken' is learnt already")
        shutil.rmtree(place)
        shutil.copytree({str(second)!r}, place)
        """,
    )
    with client_of(saved, commands=Commands(rename=rename)) as (client, _):
        response = client.post("/classes/rename", json={"old": "0", "new": "taken"})
        assert response.status_code == 409 and response.json() == {"error": "class name 'taken' is learnt already"}
        (tmp_path / "called").unlink()
        for given, status, said in (
            ({"old": "zebra", "new": "x"}, 404, "no class is called 'zebra'"),
            ({"old": 3, "new": "x"}, 404, "no class is called '3'"),
            ({"old": "0", "new": "--help"}, 422, "may not begin with -"),
            ({"old": "0"}, 422, "the name must be text; got NoneType"),
            ([], 400, "JSON must be an object"),
            ({"old": "0" * 40_000}, 413, "at most 32,768 bytes"),
        ):
            response = client.post("/classes/rename", json=given)
            assert response.status_code == status and said in response.json()["error"], given
        assert not (tmp_path / "called").exists()
        response = client.post("/classes/rename", json={"old": "0", "new": " zero_one "})
        assert [each["name"] for each in response.json()["classes"]][-2:] == ["four", "<b>"]
        assert (tmp_path / "called").read_text() == f"{saved} 0 zero one\n"
        assert client.get("/health").json()["classes"] == 6
