"""What runs in every process of a test: the cases of the modules named, one after another, until one fails.

A process that fails says which case it was, and leaves; torchrun then ends the others, which may be waiting
for it.
"""

import datetime
import importlib
import os
import sys
import time
import traceback
import warnings

import torch
import torch.distributed as dist

WAIT = datetime.timedelta(seconds=60)
# Where the ranks compute: by gloo on a CPU, or by NCCL with a GPU each, which tests/gpu asks for.
DEVICE = os.environ.get("RANKS_DEVICE", "cpu")


def run(cases):
    """Run functions on all ranks; those that ask for another number of ranks are left out."""
    warnings.simplefilter("error")
    # Cases compare the mask of one step on the whole, and in parts.
    warnings.filterwarnings("ignore", ".* has drawn (one|the) mask", UserWarning)
    torch.set_num_threads(1)
    if DEVICE == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo", timeout=WAIT)
    rank, world = dist.get_rank(), dist.get_world_size()
    for case in cases:
        if world not in getattr(case, "worlds", (2, 4)):
            continue
        torch.manual_seed(rank)  # ranks are seeded apart, as they commonly are
        begin = time.monotonic()
        try:
            case()
        except Exception:
            print(f"rank {rank} of {world}: {case.__name__} failed\n{traceback.format_exc()}", flush=True)
            sys.stdout.flush()
            os._exit(1)
        if not rank:
            print(f"passed on {world} ranks in {time.monotonic() - begin:.1f} s: {case.__name__}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


def on(*worlds):
    """A case for these numbers of ranks alone."""

    def mark(case):
        case.worlds = worlds
        return case

    return mark


def named(name):
    """The cases of a module, or one function of it: `module` or `module:function`."""
    module, _, case = name.partition(":")
    module = importlib.import_module(module)
    return [getattr(module, case)] if case else module.CASES


if __name__ == "__main__":
    run([case for name in sys.argv[1:] for case in named(name)])
