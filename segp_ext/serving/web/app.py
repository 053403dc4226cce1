"""The endpoints of a learner that is served: what they take, and what they answer."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from torch import Tensor

from segp_ext.config import ScorePath
from segp_ext.data.decoding import prepared
from segp_ext.method.answers import NOT_FINITE, Answer
from segp_ext.method.classifier import Classifier
from segp_ext.serving.web import commands, metrics, page
from segp_ext.serving.web.access import KNOWN
from segp_ext.serving.web.batching import Answered, Batcher, Question
from segp_ext.serving.web.class_images import class_image
from segp_ext.serving.web.learner_watch import LearnerWatch, Served
from segp_ext.serving.web.learning import Learning
from segp_ext.serving.web.limits import Limits, RefusedError, Room, bounded_pixels, busy
from segp_ext.serving.web.uploads import small_object, title, uploaded

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """What the endpoints use.

    Attributes:
        watch: The learner that answers.
        batcher: What passes images through it.
        learning: What learns a class behind.
        limits: What a request may bring.
        images: Images of all requests in hand.
        bytes: Bytes of all requests in hand.
        decoders: Threads that decode images.
        path: The path whose scores are used, unless a request names another; the learner's own if None.
        metrics: The counters.
    """

    watch: LearnerWatch
    batcher: Batcher
    learning: Learning
    limits: Limits
    images: Room
    bytes: Room
    decoders: ThreadPoolExecutor
    path: ScorePath | None
    metrics: metrics.Metrics

    async def decoded_all(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """Runs some functions in the threads that decode, and waits for all of them; raises the first error."""
        loop = asyncio.get_running_loop()
        running = [loop.run_in_executor(self.decoders, each) for each in work]
        await asyncio.wait(running)
        return [each.result() for each in running]


def make_app(service: Service) -> FastAPI:
    """Makes the application of a service; its end stops the service's threads and the job that runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.watch.start()
        with bounded_pixels(service.limits.pixels):
            yield
        for end in (service.learning.close, service.watch.stop, service.batcher.close):
            await asyncio.to_thread(end)
        service.decoders.shutdown()

    # FastAPI's own pages load scripts from another host.
    app = FastAPI(title="segp", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _say_errors(app)
    _add_reading(app, service)
    _add_predicting(app, service)
    _add_changing(app, service)
    return app


def _say_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": error.message}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        said = f"{first['loc'][-1]}: {first['msg']}; got {str(first.get('input'))[:100]!r}"
        return JSONResponse({"error": said}, 422)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "the connection ended within the body"}, 400)  # counted, but nobody reads it

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the server failed; its log says why"}, 500)


def _add_reading(app: FastAPI, service: Service) -> None:
    """Adds the endpoints that change nothing and compute nothing."""
    watch, learning = service.watch, service.learning
    read = functools.partial(app.api_route, methods=["GET", "HEAD"])  # monitors ask with HEAD

    @read("/")
    async def page_() -> HTMLResponse:
        found = page.page()
        return HTMLResponse(found.html, headers={"Content-Security-Policy": found.policy})

    @read("/classes")
    async def classes() -> dict[str, Any]:
        return _classes(watch.current)

    @read("/job")
    async def job() -> dict[str, Any]:
        return {"state": "none"} if learning.job is None else dataclasses.asdict(learning.job)

    @read("/health")
    async def health(request: Request) -> dict[str, Any]:
        status = {"status": "ok" if watch.trouble is None else "stale"}
        if not request.scope.get(KNOWN, True):
            return status
        served = watch.current
        return {
            **status,
            "trouble": watch.trouble,
            "name": watch.place.name,
            "learner": served.identity,
            "classes": len(served.records),
            "since": served.since.isoformat(timespec="seconds"),
            "swaps": watch.swaps,
            "unknown_rate": served.unknown_rate,
            "job": None if learning.job is None else learning.job.state,
            "report": _report(watch) is not None,
            "limits": dataclasses.asdict(service.limits),
        }

    @read("/metrics")
    async def metrics_() -> Response:
        return Response(service.metrics.text(), media_type=metrics.TYPE)

    @read("/report")
    async def report() -> HTMLResponse:
        file = _report(watch)
        if file is None:
            raise RefusedError(404, "there is no report of this learner; segp evaluate makes one")
        content = await asyncio.to_thread(file.read_bytes)
        return HTMLResponse(content, headers={"Content-Security-Policy": page.REPORT_POLICY})


def _classes(served: Served) -> dict[str, Any]:
    return {"learner": served.identity, "classes": [dataclasses.asdict(record) for record in served.records]}


def _report(watch: LearnerWatch) -> Path | None:
    """Finds the newest report: in the learner's folder, of `segp evaluate` beside it, or of the run whose checkpoint it is."""
    folder, place = watch.current.folder, watch.place
    runs = [folder.parent.parent] if folder.parent.name == "checkpoints" else []
    beside = place.with_name(f"{place.name}-evaluation")
    there = [file for each in (place, folder, beside, *runs) if (file := each / "report.html").is_file()]
    return max(there, key=lambda file: file.stat().st_mtime, default=None)


def _add_predicting(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @app.post("/predict")
    async def predict(
        request: Request,
        topk: Annotated[int, Query(ge=1)] = 5,
        path: ScorePath | None = None,
        unknown: Annotated[float | None, Query(gt=0, lt=1)] = None,
    ) -> dict[str, Any]:
        served = service.watch.current  # whatever takes over meanwhile, this one answers
        question = _question(served, path or service.path, unknown)
        async with uploaded(request, limits, service.bytes, limits.images) as upload:
            with service.images.held(len(upload.images)):
                pixels = await service.decoded_all(
                    [
                        functools.partial(decode, content, served.classifier, title(place, name))
                        for place, (name, content) in enumerate(upload.images)
                    ]
                )
                waiting = [asyncio.wrap_future(service.batcher.submit(question, each)) for each in pixels]
                try:
                    async with asyncio.timeout(limits.seconds):
                        answers = await asyncio.gather(*waiting)
                except TimeoutError:
                    raise busy(f"no answer within {limits.seconds:g} seconds; ask again") from None
        service.metrics.named.inc(len(answers))
        named = [
            _named(served, answer, topk, title(place, name))
            for place, (answer, (name, _)) in enumerate(zip(answers, upload.images, strict=True))
        ]
        return {"learner": served.identity, "unknown_rate": question.unknown_rate, "images": named}


def _question(served: Served, path: ScorePath | None, unknown: float | None) -> Question:
    if unknown is not None and served.unknown_rate is None:
        raise RefusedError(422, "unknown: this learner cannot tell unknown images; see calibration.fraction")
    try:
        served.classifier.chosen_path(path)
    except ValueError as error:
        raise RefusedError(422, str(error)) from error
    return Question(served.classifier, path, served.unknown_rate if unknown is None else unknown)


def decode(content: bytes, classifier: Classifier, what: str) -> Tensor:
    """Decodes an image as `learner.predict` does, to uint8 pixels `[3, S, S]`.

    Raises:
        RefusedError: With status 422, if it cannot be read.
    """
    try:
        return prepared(content, classifier.backbone.transform, what, classifier.config.loading.orientation == "exif")
    except ValueError as error:
        raise RefusedError(422, str(error)) from error


def _named(served: Served, answer: Answered, topk: int, what: str) -> dict[str, Any]:
    (best,) = served.classifier.best(Answer(answer.probabilities.unsqueeze(0), None, None), topk)
    if best is None:
        raise RefusedError(422, f"{what}: its scores {NOT_FINITE}")
    return {"names": [{"name": name, "score": score} for name, score in best], "unknown": answer.unknown}


def _add_changing(app: FastAPI, service: Service) -> None:
    """Adds the endpoints that change the learner on disk, by programs of their own."""
    limits, learning = service.limits, service.learning

    @app.post("/classes", status_code=202)
    async def learn(request: Request) -> dict[str, Any]:
        async with uploaded(request, limits, service.bytes, limits.class_images) as upload:
            name = commands.checked_name(upload.fields.get("name", ""))
            files = await service.decoded_all(
                [
                    functools.partial(class_image, content, title(place, given))
                    for place, (given, content) in enumerate(upload.images)
                ]
            )
            job = await asyncio.to_thread(learning.start, name, files)
        return dataclasses.asdict(job)

    @app.delete("/job")
    async def cancel() -> dict[str, Any]:
        await asyncio.to_thread(learning.cancel)
        assert learning.job is not None
        return dataclasses.asdict(learning.job)

    @app.post("/classes/rename")
    async def rename(request: Request) -> dict[str, Any]:
        found = await small_object(request, limits)
        old, new = found.get("old"), commands.checked_name(found.get("new"))
        if not isinstance(old, str) or old not in service.watch.current.classifier.class_names:
            raise RefusedError(404, f"no class is called {str(old)[:60]!r}")
        await asyncio.to_thread(commands.rename, learning.commands, learning.learner, old, new)
        await asyncio.to_thread(service.watch.look)
        return _classes(service.watch.current)
