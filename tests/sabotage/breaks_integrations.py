"""Breaks of what drives a run: the loop of steps, ranks, and the callbacks of trainers."""

from __future__ import annotations

from breaks import of

BREAKS = of(
    "src/thinned/torch",
    [
        (
            "the step of a batch",
            "_steps.py",
            "self.batch, self.step = number + 1, self.step + 1",
            "self.batch, self.step = number + 1, number + 1",
            "integrations/test_steps.py::test_masks_are_those_of_the_batchs_number",
        ),
        (
            "the batch at which a run is resumed",
            "_steps.py",
            "if number < skip:",
            "if number <= skip:",
            "integrations/test_steps.py::test_a_resumed_run_is_the_run_that_never_stopped",
        ),
        (
            "an epoch that is left by break",
            "_steps.py",
            "if self.batch and not skip:",
            "if False:",
            "integrations/test_steps.py::test_a_loop_that_is_left_by_break_begins_the_next_epoch_anew",
        ),
        (
            "the batch size of a saved run",
            "_steps.py",
            '        self._check_same("inputs in a batch", state["batch_size"], _batch_size(self.batches))\n',
            "",
            "integrations/test_steps.py",
        ),
        (
            "two loops of a run at a time",
            "_steps.py",
            "if own != self._loops:",
            "if False:",
            "integrations/test_steps.py::test_a_run_has_one_loop_at_a_time",
        ),
        (
            "where the rows of a rank begin",
            "_ranks.py",
            "range(number * rows, (number + 1) * rows)",
            "range(number * rows + 1, (number + 1) * rows + 1)",
            "integrations/test_steps.py::test_each_rank_has_its_rows",
        ),
    ],
)
