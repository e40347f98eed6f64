"""Breaks of what drives a run: the loop of steps, ranks, and the callbacks of trainers."""

from breaks import of

BREAKS = of(
    "src/thinned/torch",
    """
the step of a batch | _steps.py | integrations/test_steps.py::test_masks_are_those_of_the_batchs_number
-self.batch, self.step = number + 1, self.step + 1
+self.batch, self.step = number + 1, number + 1

the batch at which a run is resumed | _steps.py |
    integrations/test_steps.py::test_a_resumed_run_is_the_run_that_never_stopped
-if number < skip:
+if number <= skip:

an epoch that is left by break | _steps.py |
    integrations/test_steps.py::test_a_loop_that_is_left_by_break_begins_the_next_epoch_anew
-if self.batch and not skip:
+if False:

the batch size of a saved run | _steps.py | integrations/test_steps.py
-        self._check_same("inputs in a batch", state["batch_size"], _batch_size(self.batches))
-

two loops of a run at a time | _steps.py | integrations/test_steps.py::test_a_run_has_one_loop_at_a_time
-if own != self._loops:
+if False:

where the rows of a rank begin | _ranks.py | integrations/test_steps.py::test_each_rank_has_its_rows
-range(number * rows, (number + 1) * rows)
+range(number * rows + 1, (number + 1) * rows + 1)
""",
)
