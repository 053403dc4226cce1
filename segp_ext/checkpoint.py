"""Checkpoints of a learner: a folder of safetensors and JSON that appears whole or not at all. Nothing is ever unpickled.

Files: `learner.safetensors` (prototypes), `learner.json` (configuration, backbone, classes, checksums), and the adapter as PEFT writes
it (`adapter_model.safetensors`, `adapter_config.json`), which PEFT users can open elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segp_ext.config import MethodConfig, from_dict

if TYPE_CHECKING:
    from segp_ext.learner import SeGPCL

FORMAT = 2
_TENSORS, _STATE, _ADAPTER, _ADAPTER_CONFIG = (
    "learner.safetensors",
    "learner.json",
    "adapter_model.safetensors",
    "adapter_config.json",
)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old content or the new, never a part: aside, flushed to disk, then renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_learner(learner: SeGPCL, path: Path) -> None:
    """Writes `learner` to the folder `path`, replacing a checkpoint that is there.

    Raises:
        FileExistsError: if `path` exists and is not a checkpoint.
    """
    from safetensors.torch import save

    if path.exists() and not (path / _STATE).is_file():
        raise FileExistsError(f"{path} exists and is not a checkpoint; choose another place")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        files = {_TENSORS: save({"prototypes": learner.prototypes.contiguous().cpu()})}
        adapter = learner.backbone.adapter_state()
        if adapter:
            files[_ADAPTER] = save({name: tensor.contiguous().cpu() for name, tensor in adapter.items()})
            files[_ADAPTER_CONFIG] = json.dumps(learner.backbone.adapter_config(), indent=1, sort_keys=True).encode()
        for name, content in files.items():
            write_atomically(aside / name, content)
        config = {f.name: getattr(learner.config, f.name) for f in dataclasses.fields(MethodConfig)}
        state = {
            "format": FORMAT,
            "backbone": {
                "name": learner.backbone.name,
                "pretrained": learner.backbone.pretrained,
                "resize_mode": learner.backbone.resize_mode,
                "precision": learner.backbone.precision,
                "weights": learner.backbone.weights_hash(),
            },
            "config": dataclasses.asdict(MethodConfig(**config)),
            "class_names": learner.class_names,
            "task_sizes": learner.task_sizes,
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        write_atomically(aside / _STATE, json.dumps(state, indent=1).encode())
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        if path.exists():
            path.rename(old)
        aside.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load_learner(cls: type[SeGPCL], path: Path, device: str) -> SeGPCL:
    """Reads the learner in the folder `path`; see `SeGPCL.load`."""
    from safetensors.torch import load_file

    from segp_ext.pretrained import load_clip

    if not (path / _STATE).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: {_STATE} is not there")
    try:
        state: dict[str, Any] = json.loads((path / _STATE).read_text())
        if state["format"] != FORMAT:
            raise ValueError(f"its format is {state['format']}; this version reads {FORMAT}")
        for name, expected in state["sha256"].items():
            if name not in (_TENSORS, _ADAPTER, _ADAPTER_CONFIG):
                raise ValueError(f"it names an unknown file {name!r}")
            if not (path / name).is_file():
                raise ValueError(f"{name} is missing")
            if _sha256(path / name) != expected:
                raise ValueError(f"{name} is damaged: its SHA-256 is not the recorded one")
        tensors = load_file(path / _TENSORS)
        if _ADAPTER in state["sha256"]:
            tensors.update(load_file(path / _ADAPTER))
        config = from_dict(MethodConfig, state["config"])
        recorded = state["backbone"]
        backbone = load_clip(
            recorded["name"],
            recorded["pretrained"],
            device,
            resize_mode=recorded["resize_mode"],
            precision=recorded["precision"],
        )
        if backbone.weights_hash() != recorded["weights"]:
            raise ValueError(f"the weights of {backbone.name} ({backbone.pretrained}) are not those it was trained on")
        learner = cls(backbone, config)
        learner.restore(state["class_names"], state["task_sizes"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"cannot load the checkpoint {path}: {error}") from error
    return learner
