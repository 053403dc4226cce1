"""Writes the rows of predictions, one for each image: as a table, CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from segp_ext.runtime.progress import say
from segp_ext.storage.sealed import replaced

RowFormat = Literal["table", "csv", "jsonl", "parquet"]
FORMATS: tuple[RowFormat, ...] = ("table", "csv", "jsonl", "parquet")
"""Forms that rows may be written in."""
ENDINGS: dict[str, RowFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "table",
}
"""Endings of files, each with the format that it stands for."""
_DIGITS = 6
"""Digits of a score that are kept, as float32 has no more."""
_UNKNOWN = "unknown"
"""What the table says in place of a name for an image of no learnt class."""
_WIDEST_PATH, _WIDEST_NAME = 60, 30
"""Characters of a path and of a name in the table, beyond which a row is longer than the others."""


@dataclass(frozen=True)
class PredictionRow:
    """What was found for one image.

    Attributes:
        path: the image's path.
        named: names with their scores, best first; empty for an image that could not be named. An image of no learnt class has one entry,
            whose name is None.
        error: why the image could not be named, or None.
    """

    path: str
    named: Sequence[tuple[str | None, float]] = ()
    error: str | None = None

    @property
    def unknown(self) -> bool | None:
        """Whether the image is of no learnt class; None for an image that could not be named."""
        return None if self.error is not None else any(name is None for name, _ in self.named)


@dataclass(frozen=True)
class Layout:
    """What rows have in common, known before the first one is there.

    Attributes:
        topk: number of names in a row.
        path_width: characters of the longest path.
        name_width: characters of the longest name.
        unknown: whether it was asked which images are of no learnt class.
    """

    topk: int
    path_width: int
    name_width: int
    unknown: bool = False

    @property
    def columns(self) -> list[str]:
        """Names of the columns: path, name, score, name_2, score_2 and so on, unknown if that was asked, error."""
        further = [f"{what}_{place}" for place in range(2, self.topk + 1) for what in ("name", "score")]
        return ["path", "name", "score", *further, *(["unknown"] if self.unknown else []), "error"]


WriteRows = Callable[[Sequence[PredictionRow]], object]
"""Writes some rows, after those that it wrote before."""


Value = str | float | bool | None
"""Value of a row in one column."""


def values(row: PredictionRow, layout: Layout) -> list[Value]:
    """Returns a row's values in the order of `Layout.columns`; None where a row has none. Scores have six digits.

    Bytes of a path that are not UTF-8 become escapes.
    """
    flat: list[Value] = []
    for name, score in row.named:
        flat += [name, float(f"{score:.{_DIGITS}g}")]
    flat += [None] * (2 * layout.topk - len(flat))
    if layout.unknown:
        flat.append(row.unknown)
    return [_encodable(row.path), *flat, None if row.error is None else _encodable(row.error)]


def choose_format(given: RowFormat | None, out: Path | None, terminal: bool) -> RowFormat:
    """Chooses a format: the one given; else by the ending of the file to write; else a table for a terminal, CSV for others.

    Args:
        given: format that the user asked for, or None.
        out: file to write, or None for standard output.
        terminal: whether standard output is a terminal.

    Raises:
        ValueError: for an ending that stands for no format, for Parquet on standard output, and for Parquet without pyarrow.
    """
    chosen = given
    if chosen is None and out is not None:
        chosen = ENDINGS.get(out.suffix.lower())
        if chosen is None:
            raise ValueError(
                f"--out {out}: the ending {out.suffix!r} stands for no format; add --format, or use {', '.join(ENDINGS)}"
            )
    if chosen == "parquet" and out is None:
        raise ValueError("--format parquet needs a file: add --out FILE")
    if chosen == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError("--format parquet needs pyarrow, of the extra parquet: pip install 'segp_ext[parquet]'")
    return chosen or ("table" if terminal else "csv")


def check_out(out: Path) -> None:
    """Refuses a file that cannot be written.

    Raises:
        ValueError: naming the file and what is wrong.
    """
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}")
    if out.exists() and not out.is_file():
        raise ValueError(f"--out {out} is there, and is no plain file")


@contextmanager
def rows_written(form: RowFormat, layout: Layout, out: Path | None) -> Iterator[WriteRows]:
    """Gives a function that writes rows as they come, any number at a time.

    Args:
        form: the format.
        layout: what the rows have in common.
        out: file to write, which appears whole once all rows are there; None for standard output, which gets rows at once.

    Raises:
        OSError: naming the file, if it could not be written.
    """
    if out is None:
        text = _TEXTS[form](layout)
        _say(text.head())
        yield lambda rows: _say(text.lines(rows))
    else:
        with replaced(out.resolve()) as file:
            if form == "parquet":
                with _parquet(layout, file) as write:
                    yield write
            else:
                text = _TEXTS[form](layout)
                file.write(text.head().encode())
                yield lambda rows: file.write(text.lines(rows).encode())


def _say(lines: str) -> None:
    if lines:
        say(lines.removesuffix("\n"))


class _Text(Protocol):
    """A format of lines; each line ends with a line feed."""

    def __init__(self, layout: Layout) -> None: ...

    def head(self) -> str: ...

    def lines(self, rows: Sequence[PredictionRow]) -> str: ...


class _Csv:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def head(self) -> str:
        return self._lines([self.layout.columns])

    def lines(self, rows: Sequence[PredictionRow]) -> str:
        words = {True: "true", False: "false"}  # as JSON has them
        rows_of = [values(row, self.layout) for row in rows]
        return self._lines([[words[v] if isinstance(v, bool) else v for v in row] for row in rows_of])

    def _lines(self, rows: Sequence[Sequence[Any]]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()


class _JsonLines:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def head(self) -> str:
        return ""

    def lines(self, rows: Sequence[PredictionRow]) -> str:
        return "".join(f"{json.dumps(_named(row, self.layout), ensure_ascii=False)}\n" for row in rows)


class _Table:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.path_width = max(4, min(layout.path_width, _WIDEST_PATH))
        self.name_width = max(len(_UNKNOWN) if layout.unknown else 6, min(layout.name_width, _WIDEST_NAME))

    def head(self) -> str:
        names = ["name", *(f"name {place}" for place in range(2, self.layout.topk + 1))]
        line = self._line("path", [(name, "score") for name in names])
        return f"{line}\n{'─' * len(line)}\n"

    def lines(self, rows: Sequence[PredictionRow]) -> str:
        texts = []
        for row in rows:
            path = _printable(_encodable(row.path))
            if row.error is None:
                texts.append(
                    self._line(
                        path,
                        [
                            (_UNKNOWN if name is None else _printable(name), f"{100 * score:.1f} %")
                            for name, score in row.named
                        ],
                    )
                )
            else:
                texts.append(f"{path:{self.path_width}}  error: {_printable(_encodable(row.error))}")
        return "".join(f"{text}\n" for text in texts)

    def _line(self, path: str, named: Sequence[tuple[str, str]]) -> str:
        return "  ".join(
            [f"{path:{self.path_width}}", *(f"{name:{self.name_width}} {score:>7}" for name, score in named)]
        )


_TEXTS: dict[RowFormat, type[_Text]] = {"table": _Table, "csv": _Csv, "jsonl": _JsonLines}


@contextmanager
def _parquet(layout: Layout, file: BinaryIO) -> Iterator[WriteRows]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    kinds = {"score": pyarrow.float64(), "unknown": pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds.get(name.partition("_")[0], pyarrow.string())) for name in layout.columns])

    def write(rows: Sequence[PredictionRow]) -> None:
        writer.write_batch(pyarrow.RecordBatch.from_pylist([_named(row, layout) for row in rows], schema))

    with ParquetWriter(file, schema) as writer:
        yield write


def _named(row: PredictionRow, layout: Layout) -> dict[str, Value]:
    """Returns a row's values by the names of their columns."""
    return dict(zip(layout.columns, values(row, layout), strict=True))


def _encodable(text: str) -> str:
    """Returns a text of UTF-8 characters alone; bytes of a file name that are none become escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _printable(text: str) -> str:
    """Returns a text in one line, whose control characters, which a terminal would obey, are escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
