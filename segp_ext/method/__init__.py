"""The method: a learner, its training, its anchors and the scores of its paths (SeGP-CL, arXiv 2603.12055)."""
