"""Files that appear whole or not at all: checkpoints of learners, and tasks in the middle of being learnt.

- `sealed`: files and folders that appear whole or not at all, with checksums.
- `checkpoint`: the folder of a saved learner, written and read; `saved_backbone`: the backbone that a saved learner stands on, found.
- `task_progress`: anchors and positions of a task while it is learnt.
"""
