"""Settings shared by all tests."""

import torch
from hypothesis import settings

torch.set_num_threads(2)
# Random cases: 100 of each property by default; `pytest tests/ops -k random --hypothesis-profile=thorough` draws 3,400 for
# each op, 13,600 in all.
settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=3400)
settings.load_profile("default")
