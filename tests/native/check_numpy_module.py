"""The NumPy module against NumPy itself, run by ctest: torch must not be needed, so it is made unimportable."""

import sys

import numpy as np

sys.modules["torch"] = None  # type: ignore[assignment]
import segp_numpy  # noqa: E402


def expected(x, grad, seed, step_size, epsilon, lower, upper):
    over = [np.asarray(v, np.float64).reshape(1, -1, 1, 1) for v in (step_size, epsilon, lower, upper)]
    step_size, epsilon, lower, upper = over
    moved = x - step_size * np.nan_to_num(np.sign(grad))
    return np.clip(np.clip(moved, seed - epsilon, seed + epsilon), lower, upper)


def unit(rows):
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)


def transferred(prototypes, before, after, target):
    centre, before, after = (unit(rows.astype(np.float64)) for rows in (prototypes, before, after))
    moved = centre.copy()
    for c in range(len(centre)):
        mine = target == c
        if mine.any():
            moved[c] += ((before[mine] @ centre[c])[:, None] * (after[mine] - before[mine])).mean(axis=0)
    return unit(moved)


def check_transfer(random) -> None:
    prototypes, before, after = (random.standard_normal((n, 19)).astype(np.float32) for n in (6, 40, 40))
    target = random.integers(0, 5, 40)
    before[3] = 0
    views = [
        (prototypes, before, after, target),
        (prototypes[:, ::-2], before[:, ::-2], after[:, ::-2], target),
        (prototypes, before[::-2], after[::-2], target[::-2]),
        (prototypes.astype(np.float64), before.astype(np.float16), after, target),
        (prototypes, before[:0], after[:0], target[:0]),
    ]
    for view in views:
        out = segp_numpy.prototype_transfer(*view)
        assert out.dtype == view[0].dtype
        np.testing.assert_allclose(out, transferred(*view), rtol=0, atol=5e-7)
    target[7] = 6
    try:
        segp_numpy.prototype_transfer(prototypes, before, after, target)
    except ValueError as error:
        assert str(error) == "prototype_transfer: target must be in [0, 6); got 6 at index 7"  # noqa: PT017 (as below)
    else:
        raise AssertionError("a target out of range was accepted")


def check_refusals(random) -> None:
    """The kernels' rules reach the caller as ValueErrors; tests/native/test_contract.cpp has all of them."""
    five, seven, narrow = (random.standard_normal(shape).astype(np.float32) for shape in ((5, 13), (7, 13), (7, 12)))
    numbers = {"logit_scale": 1.0, "temperature": 1.0}
    for message, call in {
        "geometry_distill: teacher must be [B, De] like student; got [5, 13] and [7, 13]":
            lambda: segp_numpy.geometry_distill(seven, five, five, five, **numbers),
        "geometry_distill: student must be a matrix; got [13]":
            lambda: segp_numpy.geometry_distill(seven[0], five, seven, five, **numbers),
        "geometry_distill: temperature must be from 1e-06 to 1e+06; got 0":
            lambda: segp_numpy.geometry_distill(seven, five, seven, five, logit_scale=1.0, temperature=0.0),
        "dual_target_loss: target must be [7], one class per row; got [6]":
            lambda: segp_numpy.dual_target_loss(seven, seven, five, five, np.zeros(6, int), logit_scale=1.0, visual_weight=1.0),
        "prototype_drift: before must have the width of prototypes, 13; got [7, 12]":
            lambda: segp_numpy.prototype_drift(five, narrow, narrow, temperature=1.0),
        "prototype_transfer: after must be [A, Dr] like before; got [7, 12] and [7, 13]":
            lambda: segp_numpy.prototype_transfer(five, seven, narrow, np.zeros(7, int)),
        "prototype_transfer: target must be a vector": lambda: segp_numpy.prototype_transfer(five, seven, seven, np.zeros((7, 1), int)),
        "dpgd_step: grad must be [1, 1, 5, 13] like x; got [1, 1, 7, 13]":
            lambda: segp_numpy.dpgd_step(five[None, None], seven[None, None], five[None, None], step_size=[0.1], epsilon=[0.1]),
    }.items():  # fmt: skip
        try:
            call()
        except ValueError as error:
            assert str(error) == message  # noqa: PT017 (pytest is not at hand here)
        else:
            raise AssertionError(f"accepted, where this was to be said: {message}")


def main() -> None:
    random = np.random.default_rng(0)
    bounds = {"step_size": [0.05, 0.1, 0.02], "epsilon": [0.1], "lower": [0.0], "upper": [1.0, 0.9, 0.8]}
    for dtype, tolerance in ((np.float16, 2**-11), (np.float32, 3e-7), (np.float64, 1e-15)):
        seed = random.random((2, 3, 20, 17)).astype(dtype)
        x = (seed + 0.1 * random.standard_normal(seed.shape)).astype(dtype)
        grad = random.standard_normal(seed.shape).astype(np.float32)
        grad[0, 0, 0, :3] = [0.0, -0.0, np.nan]
        views = [
            (x, grad, seed),
            tuple(np.asfortranarray(a) for a in (x, grad, seed)),
            (x[:, :, ::-1, ::2], grad[:, :, ::-1, ::2], seed[:, :, ::-1, ::2]),
            (x, grad, np.broadcast_to(seed[:1], seed.shape)),
            (x[:0], grad[:0], seed[:0]),
        ]
        for view in views:
            out = segp_numpy.dpgd_step(*view, **bounds)
            assert out.dtype == dtype
            assert out.shape == view[0].shape
            wanted = expected(*(a.astype(np.float64) for a in view), **bounds)
            np.testing.assert_allclose(out.astype(np.float64), wanted, rtol=0, atol=tolerance)
    for broken in ({"epsilon": [-1.0]}, {"step_size": [0.1, 0.2]}, {"lower": [2.0]}, {"upper": [np.nan]}):
        try:
            segp_numpy.dpgd_step(x, grad, seed, **{**bounds, **broken})
        except ValueError as error:
            assert str(error).startswith("dpgd_step: "), error  # noqa: PT017 (pytest is not at hand here)
        else:
            raise AssertionError(f"{broken} was accepted")
    check_transfer(random)
    check_refusals(random)
    print("the NumPy module agrees with NumPy")


if __name__ == "__main__":
    main()
