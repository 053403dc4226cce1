"""A saved learner for use elsewhere: exports that other programs load without this package, and a server (`web`).

- `exporting`: exports a learner in one of the formats, checked against it, whole or not at all.
- `merged_weights`: the format open_clip; `model_card`: the format hub; `onnx_model` and `torch_program`: the formats onnx and torch.
- `subject`: the learner that is exported; `scorer`: its classifier as one module from images to scores, and as a program.
- `agreement`: the images that exports are compared on, and how close scores must be.
- `facts`: the JSON files of every export; `source`: the folder of the learner, with its checksum and its run's result.
"""
