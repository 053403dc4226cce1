"""Comparisons: runs on other images or weights under the same name."""

import pytest
from made_results import made

from segp_ext.run.comparing import check_same_data
from segp_ext.run.jobs import Job
from segp_ext.run.rows import Row


def test_rows_on_other_images_or_weights_of_one_name_are_not_compared(tmp_path):
    jobs = [Job.of(Row(row), 1, tmp_path, [], 1) for row in ("lora", "lwf", "lwf data.classes_per_task=5")]
    had = [("a", "w"), ("a", "w"), ("b", "w")]

    def check(had):
        check_same_data(
            {
                job: made(0.5, 0.1, protocol={"split_hash": s, "weights": {"hash": w}})
                for job, (s, w) in zip(jobs, had, strict=True)
            }
        )

    check(had)  # other settings may find others
    for changed, what in ((("b", "w"), "images"), (("a", "v"), "weights")):
        with pytest.raises(ValueError, match=f"lora-1 and .*lwf-1 were run on other {what} under the same name"):
            check([had[0], changed, had[2]])
