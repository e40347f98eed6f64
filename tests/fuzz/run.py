"""Random cases of every layout, dtype, mask and path against the contract.

Case k of a seed is a function of both. What fails is printed with the command that runs it again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# A pass of a few hundred elements has no work for OpenMP's threads, which would spin beside the next one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import faces

from thinned import _kernel


def main() -> int:
    arguments = _arguments()
    if "torch" in arguments.faces:
        import torch

        torch.set_num_threads(arguments.torch_threads)
    print(f"seed {arguments.seed}, {arguments.cases} cases of {', '.join(arguments.faces)}", flush=True)
    began, failed = time.monotonic(), 0
    for number in range(arguments.first, arguments.first + arguments.cases):
        wrong = _one(number, arguments)
        if not wrong:
            continue
        failed += 1
        print(f"\nFAILED {wrong}\n  again: {_again(number, arguments)}", flush=True)
        if failed == arguments.most:
            break
    print(f"{failed} failed in {time.monotonic() - began:.0f} s")
    return failed != 0


def _one(number: int, arguments: argparse.Namespace) -> str:
    try:
        what, wrong = faces.run(arguments.seed, number, arguments.faces, arguments.paths)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"{wrong}\n  {what}" if wrong else ""


def _again(number: int, arguments: argparse.Namespace) -> str:
    words = f"--seed {arguments.seed} --first {number} --cases 1"
    return f"python tests/fuzz/run.py {words} --faces {' '.join(arguments.faces)}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--faces", nargs="+", choices=list(faces.FACES), default=list(faces.FACES))
    parser.add_argument("--paths", nargs="+", choices=_kernel.paths(), default=_kernel.paths())
    parser.add_argument("--torch-threads", type=int, default=2)
    parser.add_argument("--most", type=int, default=10, help="stop after so many failures")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
