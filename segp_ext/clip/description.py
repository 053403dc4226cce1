"""The `open_clip_config.json` of a model in a folder or on the hub: read, and refused where no model is like that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segp_ext.clip.model_names import LOCAL

ARCHITECTURE = "open_clip_config.json"
"""Name of the file, as open_clip has it."""
_LARGEST, _DEEPEST = 10**7, 1000
"""No model's configuration has greater numbers, or more layers. With more, a foreign one would take all memory, or never end."""


def read_description(prefix: str, place: str) -> dict[str, Any]:
    """Reads the architecture of a model from its folder or from the hub.

    Args:
        prefix: `LOCAL` or `segp_ext.clip.model_names.HUB`.
        place: the folder, or the model's name on the hub.

    Returns:
        open_clip's configuration of the model, with numbers that a model may have.

    Raises:
        FileNotFoundError: if the folder has no such file.
        ValueError: if the file does not hold a configuration, or one that no model has.
    """
    if prefix == LOCAL:
        path = Path(place) / ARCHITECTURE
        if not path.is_file():
            raise FileNotFoundError(f"no {ARCHITECTURE} in {place!r}")
    else:
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(place, ARCHITECTURE))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON file: {error}") from error
    model = content.get("model_cfg") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("text_cfg", {}), dict):
        raise ValueError(f"{path.name} must hold a dict model_cfg, and in it a dict text_cfg")
    _check_numbers(model, "model_cfg")
    return model


def _check_numbers(settings: Any, name: str) -> None:
    """Raises ValueError for a number that no model has, before anything is made of it."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            _check_numbers(value, f"{name}.{key}")
    elif isinstance(settings, list):
        for value in settings:
            _check_numbers(value, name)
    elif isinstance(settings, (int, float)):
        most = _DEEPEST if name.endswith(("layers", "depth", "depths")) else _LARGEST
        if not abs(settings) <= most:
            raise ValueError(f"{name} is {settings}, more than any model has ({most})")
