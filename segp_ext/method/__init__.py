"""The method: a learner, its training, its anchors and the scores of its paths (SeGP-CL, arXiv 2603.12055).

The learner:

- `learner.py`: `SeGPCL`, which learns, predicts, saves and loads
- `state.py`: the learner's parts
- `class_editing.py`: removing, renaming and merging classes; `class_places.py`: where they stand then
- `state_lock.py`: the lock that guards the state
- `task.py`: one task from its anchors to its prototypes
- `checks.py`: refuses tasks and results that cannot be used
- `scores.py`: features of images and the logits of each path; `classifier.py`: the answers that they give
- `open_names.py`: scores where names compete that were never learnt, and the gate
- `answers.py`: what a classifier says of images
- `held_back.py`, `calibration.py`: images held back from training, and what they tell
- `unknown.py`: how well images fit the learnt classes
- `encoding.py`: batches through the model
- `made_once.py`: objects made once and kept
- `saved_tensors.py`: names of tensors in checkpoints

Parts that settings name, and that a user's module can add (`named_parts.py` finds them, docs/extending.md adds them):

- `sources/`: where anchors come from. `base.py` chooses seeds, `gradient.py` moves them (DPGD, ADC), `still.py` leaves them or adds noise
- `losses/`: terms of the training loss, one file each; `terms.py` adds them up
- `heads/`: how the visual path scores features

Anchors and prototypes:

- `anchors.py`: anchors made by a source, and kept in memory or in a file
- `prototypes.py`: class means, and `transfer`, the rules by which old prototypes follow the drift of anchors. The weights of
  own-anchors and all-anchors are computed in `segp_ext/ops/transfer.py` and `segp_ext/ops/drift.py`

Before a task:

- `confident_learning.py`: finds images whose labels are likely wrong, by features and cross-validation

Training on one task, from the outside in:

- `fit.py`: the loop and an epoch
- `step.py`: one step
- `prompts.py`: the step's text embeddings
- `training_state.py`: the optimiser
- `loss_record.py`: means and finite losses
- `inputs.py`: the inputs of all these modules
"""
