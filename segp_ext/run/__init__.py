"""A run of a method over a data set, a comparison of runs, and the checks before them.

A run:
    run: learns and evaluates task after task; `run_config` does it from a `Config`.
    baselines: zero-shot CLIP and heads on the frozen model, measured beside the method.
    evaluation: accuracies of a learner on test images.
    resuming: the checkpoint to go on from, and what must not have changed since.
    directory: the folder of a run, its lock and its checkpoints.
    identity: the id and hash of what a run measures.

A comparison:
    rows: methods with the settings in which they differ, and the lists of them in the package.
    jobs: one process for each run, shared out over the devices.
    comparing: from rows and seeds to jobs, and from results to files.

Before and after:
    settings: `load_config`, settings from files and changes.
    command_line: the same from files and options; arguments reads them, help explains them.
    preflight: what would stop a run only after hours.
    examination: all that is wrong with a data set and an installation.
    image_check: unreadable and repeated images.
    installation: versions, devices and kernels of this machine.
    saved_learner: the learner that commands name, and its checkpoint.
    prediction: predicts image files.
    folder_evaluation: measures a learner on a folder whose class folders label its images.
    label_check: tests the labels of such a folder before it is learnt.
    folder_arguments, readable_files: the arguments of both, and their images in a stream.
"""
