"""Real Trainers: masks are those of the plain loop, and a run that is killed and resumed is the whole one."""

import copy
import importlib.util

import pytest
import torch
from keyed_runs import BATCH, Noting, assert_equal_weights, assert_masks
from torch.utils.data import DataLoader

from thinned.torch import Steps

pytestmark = pytest.mark.full
PARTS = 3


def needs(*packages):
    missing = [one for one in packages if importlib.util.find_spec(one) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


class Killed(Exception):
    """A process ends."""


class HuggingFace:
    """transformers.Trainer, a checkpoint every second step."""

    def __init__(self, digits, folder, kill_at=None, workers=0):
        from transformers import Trainer, TrainerCallback, TrainingArguments

        from thinned.torch.integrations.transformers import Keyed

        class Kill(TrainerCallback):
            def on_substep_end(self, args, state, control, **rest):
                if state.global_step == kill_at:
                    raise Killed

        args = TrainingArguments(
            str(folder), per_device_train_batch_size=BATCH, gradient_accumulation_steps=PARTS,
            num_train_epochs=2, save_steps=2, learning_rate=0.05, report_to=[], disable_tqdm=True,
            use_cpu=True, seed=5, eval_strategy="steps", eval_steps=1, dataloader_num_workers=workers,
        )  # fmt: skip
        self.model = Noting(keyed=False)
        data = [{"x": x, "labels": y} for x, y in digits]
        self.trainer = Trainer(
            self.model, args, train_dataset=data, eval_dataset=data[:16], callbacks=[Keyed(seed=7), Kill()]
        )

    def train(self, resume=False):
        self.trainer.train(resume_from_checkpoint=resume)


@needs("transformers", "accelerate")
@pytest.mark.parametrize("workers", [0, 2])  # processes that read batches ahead of the step
def test_transformers_trainer(digits, tmp_path, workers):
    """Ten batches an epoch make four steps: killed in the middle of the sixth, resumed from the fourth."""
    whole = HuggingFace(digits, tmp_path / "whole", workers=workers)
    whole.train()
    # A step's number of batches is 3, 3, 3 and 1; the step counts three for each.
    numbers = [step * PARTS + part for step in range(8) for part in range(1 if step % 4 == 3 else PARTS)]
    assert_masks(whole.model.masks, numbers)
    begun = HuggingFace(digits, tmp_path / "killed", kill_at=5, workers=workers)
    with pytest.raises(Killed):
        begun.train()
    resumed = HuggingFace(digits, tmp_path / "killed", workers=workers)
    resumed.train(resume=True)
    assert_masks(resumed.model.masks, [n for n in numbers if n >= 4 * PARTS])
    assert_equal_weights(whole.model, resumed.model)


@needs("transformers", "accelerate")
def test_transformers_trainer_refuses_another_accumulation(digits, tmp_path):
    HuggingFace(digits, tmp_path).train()
    other = HuggingFace(digits, tmp_path)
    other.trainer.args.gradient_accumulation_steps = 2
    with pytest.raises(ValueError, match="begun with gradient_accumulation_steps=3 and is resumed with"):
        other.train(resume=True)


class Resumable:
    """A loader in an order that is a function of the epoch, which Lightning can stop in its middle."""

    def __init__(self, digits):
        self.digits, self.epoch, self.batch = digits, 0, 0

    def __len__(self):
        return len(self.digits) // BATCH

    def __iter__(self):
        if self.batch == len(self):  # the last epoch was not asked for more
            self.epoch, self.batch = self.epoch + 1, 0
        order = torch.randperm(len(self.digits), generator=torch.Generator().manual_seed(self.epoch))
        for number in range(self.batch, len(self)):
            self.batch = number + 1
            picked = order[number * BATCH : (number + 1) * BATCH]
            yield self.digits.tensors[0][picked], self.digits.tensors[1][picked]

    def state_dict(self):
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        self.epoch, self.batch = state["epoch"], state["batch"]


class Lightning:
    """lightning.Trainer, a checkpoint at every fifth optimizer's step, in an epoch's middle."""

    def __init__(self, digits, folder, kill_at=None):
        import lightning
        from lightning.pytorch.callbacks import Callback, ModelCheckpoint

        from thinned.torch.integrations.lightning import Keyed

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.inner = Noting(keyed=False)

            def training_step(self, batch, number):
                return self.inner(*batch)["loss"]

            def validation_step(self, batch, number):
                self.inner(*batch)

            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), lr=0.05)

        class Kill(Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, number):
                if (trainer.current_epoch, number) == kill_at:
                    raise Killed

        self.module = Module()
        self.model, self.loader = self.module.inner, Resumable(digits)
        self.validation = DataLoader(digits, batch_size=BATCH)
        self.folder = folder
        self.trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=2, accumulate_grad_batches=PARTS, logger=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
            val_check_interval=5, num_sanity_val_steps=1,
            callbacks=[
                Keyed(seed=7), Kill(),
                ModelCheckpoint(folder, every_n_train_steps=2, save_top_k=-1, filename="{step}"),
            ],
        )  # fmt: skip

    def train(self, resume=None):
        self.trainer.fit(self.module, self.loader, self.validation, ckpt_path=resume, weights_only=False)


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_lightnings_trainer(digits, tmp_path):
    whole = Lightning(digits, tmp_path / "whole")
    whole.train()
    key = "inner.drop"
    wanted = range(20)
    assert_masks_of(whole.model.masks, wanted, key)
    for kill_at, from_step in [((1, 3), 4), ((0, 7), 2)]:  # in the middle of an accumulation, both
        begun = Lightning(digits, tmp_path / f"killed{from_step}", kill_at=kill_at)
        with pytest.raises(Killed):
            begun.train()
        resumed = Lightning(digits, begun.folder)
        resumed.train(begun.folder / f"step={from_step}.ckpt")
        first = {4: 10, 2: 6}[from_step]
        assert_masks_of(resumed.model.masks, range(first, 20), key)
        assert_equal_weights(whole.model, resumed.model)


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_lightnings_trainer_with_several_optimizers(digits, tmp_path):
    """Lightning's step counts those of each optimizer, two a batch; a mask's step counts batches."""
    import lightning
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint

    from thinned.torch.integrations.lightning import Keyed

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.inner = Noting(keyed=False)

        def training_step(self, batch, number):
            first, last = self.optimizers()
            self.manual_backward(self.inner(*batch)["loss"])
            for optimizer in (first, last):
                optimizer.step()
                optimizer.zero_grad()

        def configure_optimizers(self):
            adam, sgd = torch.optim.Adam, torch.optim.SGD
            return adam(self.inner.first.parameters(), lr=0.05), sgd(self.inner.last.parameters(), lr=0.05)

    class Kill(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, number):
            if (trainer.current_epoch, number) == kill_at:
                raise Killed

    def train(folder, resume=None):
        module = Module()
        saved = ModelCheckpoint(folder, every_n_train_steps=4, save_top_k=-1, filename="{step}")
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[Keyed(seed=7), Kill(), saved],
        )  # fmt: skip
        trainer.fit(module, Resumable(digits), ckpt_path=resume, weights_only=False)
        return module.inner

    kill_at = None
    whole = train(tmp_path / "whole")
    assert_masks_of(whole.masks, range(20), "inner.drop")
    for kill_at, step in [((0, 5), 8), ((1, 3), 24)]:
        with pytest.raises(Killed):
            train(tmp_path / f"killed{step}")
        kill_at = None
        resumed = train(tmp_path / "resumed", tmp_path / f"killed{step}" / f"step={step}.ckpt")
        assert_masks_of(resumed.masks, range(step // 2, 20), "inner.drop")
        assert_equal_weights(whole, resumed)


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_lightnings_epochs_of_other_lengths_have_steps_of_their_own(digits):
    import lightning

    from thinned.torch.integrations.lightning import Keyed

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner, self.sizes = Noting(keyed=False), iter((5, 3, 7))

        def train_dataloader(self):
            return DataLoader(
                torch.utils.data.Subset(digits, range(BATCH * next(self.sizes))), batch_size=BATCH
            )

        def training_step(self, batch, number):
            return self.inner(*batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    module = Module()
    lightning.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, reload_dataloaders_every_n_epochs=1, callbacks=[Keyed(seed=7)],
    ).fit(module)  # fmt: skip
    assert_masks_of(module.inner.masks, range(15), "inner.drop")


def assert_masks_of(masks, steps, name):
    """As `assert_masks`, of a site by this name."""
    import thinned

    assert len(masks) == len(steps)
    for mask, step in zip(masks, steps, strict=True):
        key = thinned.Key(7).fold(name).fold(step)
        assert torch.equal(mask, torch.from_numpy(thinned.keep_mask(mask.shape, 0.5, key=key))), step


class Accelerated:
    """A loop by accelerate, saved after every batch: gradients of an accumulation are saved beside."""

    def __init__(self, digits):
        import accelerate

        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=PARTS)
        self.model = Noting()
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
        loader = DataLoader(digits, batch_size=BATCH, shuffle=True)
        configuration = accelerate.utils.DataLoaderConfiguration(use_seedable_sampler=True, data_seed=5)
        self.accelerator = accelerate.Accelerator(
            cpu=True, gradient_accumulation_steps=PARTS, dataloader_config=configuration
        )
        self.wrapped, self.optimizer, loader = self.accelerator.prepare(self.model, optimizer, loader)
        self.steps = Steps(
            self.wrapped, loader, rank=self.accelerator.process_index, world=self.accelerator.num_processes
        )
        self.accelerator.register_for_checkpointing(self.steps)

    def train(self, folder=None, save_at=None, until=None):
        for _ in range(self.steps.epoch, 2):
            for x, y in self.steps:
                with self.accelerator.accumulate(self.wrapped):
                    self.accelerator.backward(self.wrapped(x, y)["loss"])
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                if self.steps.step == save_at:
                    self.accelerator.save_state(str(folder))
                if self.steps.step == until:
                    return


@needs("accelerate")
def test_accelerate(digits, tmp_path):
    """Saved behind an optimizer's step, killed in the middle of the next one."""
    whole = Accelerated(digits)
    whole.train()
    assert_masks(whole.model.masks, range(20))
    begun = Accelerated(digits)
    begun.train(tmp_path / "saved", save_at=6, until=8)
    resumed = Accelerated(digits)
    resumed.accelerator.load_state(str(tmp_path / "saved"))
    resumed.train()
    assert_masks(resumed.model.masks, range(6, 20))
    assert_equal_weights(whole.model, resumed.model)
    assert copy.deepcopy(resumed.steps.state_dict())["step"] == 20
