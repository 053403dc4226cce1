"""One task of SeGP-CL (arXiv 2603.12055), written from the equations in float64 NumPy: no torch, no code of the package.

Gradients are central differences. CLIP is open_clip's ViT and text transformer at any size, weights by open_clip's names.
"""

from __future__ import annotations

import numpy as np

Weights = dict[str, np.ndarray]


# -- CLIP, equations 2 to 4 ----------------------------------------------------------------------------------------------------


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _layer_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def _linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _blocks(x: np.ndarray, w: Weights, prefix: str, heads: int, causal: bool) -> np.ndarray:
    batch, length, width = x.shape
    mask = np.triu(np.full((length, length), -np.inf), 1) if causal else np.zeros((length, length))
    layer = 0
    while f"{prefix}.{layer}.ln_1.weight" in w:
        name = f"{prefix}.{layer}"
        packed = _layer_norm(x, w, f"{name}.ln_1") @ w[f"{name}.attn.in_proj_weight"].T + w[f"{name}.attn.in_proj_bias"]
        q, k, v = packed.reshape(batch, length, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        mixed = softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(width // heads) + mask) @ v
        x = x + _linear(mixed.transpose(0, 2, 1, 3).reshape(batch, length, width), w, f"{name}.attn.out_proj")
        hidden = _linear(_layer_norm(x, w, f"{name}.ln_2"), w, f"{name}.mlp.c_fc")
        x = x + _linear(hidden / (1 + np.exp(-1.702 * hidden)), w, f"{name}.mlp.c_proj")
        layer += 1
    return x


def encode_image(pixels: np.ndarray, w: Weights, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[B, 3, S, S]` in [0, 1] → v `[B, De]`, r `[B, Dr]`."""
    x = (pixels - w["mean"]) / w["std"]
    kernel = w["visual.conv1.weight"]
    width, _, patch, _ = kernel.shape
    batch, side = len(x), x.shape[-1] // patch
    patches = x.reshape(batch, 3, side, patch, side, patch).transpose(0, 2, 4, 1, 3, 5).reshape(batch, side * side, -1)
    tokens = patches @ kernel.reshape(width, -1).T
    first = np.broadcast_to(w["visual.class_embedding"], (batch, 1, width))
    x = np.concatenate([first, tokens], axis=1) + w["visual.positional_embedding"]
    x = _blocks(_layer_norm(x, w, "visual.ln_pre"), w, "visual.transformer.resblocks", heads, causal=False)
    feature = _layer_norm(x, w, "visual.ln_post")[:, 0]
    return feature @ w["visual.proj"], feature


def encode_text(tokens: np.ndarray, w: Weights, heads: int) -> np.ndarray:
    """Token ids `[C, L]` → u `[C, De]`."""
    x = w["token_embedding.weight"][tokens] + w["positional_embedding"][: tokens.shape[1]]
    x = _layer_norm(_blocks(x, w, "transformer.resblocks", heads, causal=True), w, "ln_final")
    return x[np.arange(len(x)), tokens.argmax(axis=1)] @ w["text_projection"]


def adapted(w: Weights, a: Weights, b: Weights) -> Weights:
    """Weights with W + B·A in place of W, A and B by the name of the weight that they change."""
    return {**w, **{name: w[name] + b[name] @ a[name] for name in b}}


# -- anchors, equations 9 to 14 ------------------------------------------------------------------------------------------------


def seeds(embedding: np.ndarray, text: np.ndarray, count: int) -> np.ndarray:
    """(9): for every old class the images that the teacher scores highest, `[C, count]`."""
    return np.argsort(-(unit(text) @ unit(embedding).T), axis=1, kind="stable")[:, :count]


def anchor_loss(
    embedding: np.ndarray,
    feature: np.ndarray,
    text: np.ndarray,
    prototypes: np.ndarray,
    target: np.ndarray,
    scale: float,
    weight: float,
) -> np.ndarray:
    """(11) + λ_p·(12) of every sample, `[B]`."""
    rows = np.arange(len(target))
    text_loss = -np.log(softmax(scale * unit(embedding) @ unit(text).T)[rows, target])
    return text_loss + weight * (1 - (unit(feature) * prototypes[target]).sum(axis=1))


def gradient(function, x: np.ndarray, step: float) -> np.ndarray:
    """Central differences of a function of a batch `[N, ...]` → `[N]`, for every sample by its own entries."""
    flat = x.reshape(len(x), -1)
    moved = np.repeat(flat[:, None, None, :], 2, axis=2).repeat(flat.shape[1], axis=1)  # [N, entries, 2, entries]
    entries = np.arange(flat.shape[1])
    moved[:, entries, 0, entries] += step
    moved[:, entries, 1, entries] -= step
    which = np.repeat(np.arange(len(x)), 2 * flat.shape[1])
    values = function(moved.reshape(-1, *x.shape[1:]), which).reshape(len(x), flat.shape[1], 2)
    return ((values[..., 0] - values[..., 1]) / (2 * step)).reshape(x.shape)


def dpgd(x: np.ndarray, grad: np.ndarray, seed: np.ndarray, step_size: float, epsilon: float) -> np.ndarray:
    """(14), and pixels in [0, 1]."""
    change = np.clip(x - seed - step_size * np.sign(grad), -epsilon, epsilon)
    return np.clip(seed + change, 0, 1)


# -- losses, equations 15 to 22 ------------------------------------------------------------------------------------------------


def classification(embedding: np.ndarray, text: np.ndarray, target: np.ndarray, scale: float) -> float:
    """(15), `text` of the new classes alone."""
    return float(-np.log(softmax(scale * unit(embedding) @ unit(text).T)[np.arange(len(target)), target]).mean())


def acgd(
    student: np.ndarray,
    student_text: np.ndarray,
    teacher: np.ndarray,
    teacher_text: np.ndarray,
    scale: float,
    temperature: float,
) -> float:
    """(18), over the old classes."""
    p = softmax(scale * unit(teacher) @ unit(teacher_text).T / temperature)
    q = softmax(scale * unit(student) @ unit(student_text).T / temperature)
    return float(temperature**2 * (p * np.log(p / q)).sum(axis=1).mean())


def tsgr(text: np.ndarray, reference: np.ndarray, new: range, neighbours: int, temperature: float) -> float:
    """(21): every new class's nearest classes in the reference encoder, itself left out."""
    u, u0 = unit(text), unit(reference)
    total = 0.0
    for c in new:
        others = [j for j in np.argsort(-(u0 @ u0[c]), kind="stable") if j != c][:neighbours]
        p, q = softmax(u0[others] @ u0[c] / temperature), softmax(u[others] @ u[c] / temperature)
        total += float((p * np.log(p / q)).sum())
    return total / len(new)


# -- after training, equations 23 to 31 ----------------------------------------------------------------------------------------


def new_prototype(features: np.ndarray) -> np.ndarray:
    """(23) of one class's raw features `[N, Dr]`."""
    return unit(unit(features).sum(axis=0))


def transferred(prototype: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(24) to (29) of one old class, its anchors' raw features `[K, Dr]` in teacher and student."""
    displacement = unit(after) - unit(before)
    a = unit(before) @ prototype
    drift = (a / a.sum()) @ displacement
    return unit(prototype + a.mean() * drift)


def dual(
    embedding: np.ndarray, feature: np.ndarray, text: np.ndarray, prototypes: np.ndarray, beta: float
) -> np.ndarray:
    """(31), `[B, C]`."""
    return unit(embedding) @ unit(text).T + beta * unit(feature) @ prototypes.T
