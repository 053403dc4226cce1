"""Files that appear whole or not at all: checkpoints of learners, and tasks in the middle of being learnt."""
