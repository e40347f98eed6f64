"""Everything that a machine with a GPU has to show, in one run: `make gpu`.

Tests, times, and the model's predictions beside them; the result is `<device>.md` and `<device>.json` here.
`--dry` runs the same on a CPU, tiny sizes under Triton's interpreter, into a folder of choice (`--into`).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Seconds. The whole is to take eight minutes, with what is installed before; the model's rows are read.
LIMITS = {"tests": 300, "times": 120}
WHOLE = 480


def ran(name: str, *command: str, **environment: str) -> tuple[int, str, float]:
    """How a Python ended, what it printed, and how long it took; 124 where its time was up."""
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            timeout=LIMITS[name],
            env={**os.environ, **environment},
            cwd=HERE.parents[1],
        )
        code, text = (
            done.returncode,
            done.stdout if name != "tests" and not done.returncode else done.stdout + done.stderr,
        )
    except subprocess.TimeoutExpired as late:
        code, text = 124, (late.stdout or b"").decode() + f"\n{name}: not done in {LIMITS[name]} s"
    return code, text, time.perf_counter() - begin


def about(dry: bool) -> dict[str, Any]:
    """The device, the day and the versions."""
    import torch

    import thinned

    device = {"device": "none (dry run)", "capability": [9, 0]}
    if not dry and (wrong := trouble()):
        raise SystemExit(f"make gpu: {wrong}; make gpu DRY=1 shows on a CPU that it runs")
    import triton

    if not dry:
        device = {
            "device": torch.cuda.get_device_name(),
            "capability": list(torch.cuda.get_device_capability()),
        }
    return {
        **device,
        "date": datetime.date.today().isoformat(),
        "dry": dry,
        "versions": {
            "thinned": thinned.__version__,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "triton": triton.__version__,
            "python": platform.python_version(),
        },
    }


def trouble() -> str | None:
    """What keeps the kernels from running here, and the remedy; None where nothing does."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for the CPU: install the build for your CUDA or ROCm"
    if find_spec("triton") is None:
        return "triton is not installed, and the kernels are compiled by it: pip install triton, on Linux"
    if not torch.cuda.is_available():
        try:
            torch.cuda.init()
            why = "no GPU is visible (CUDA_VISIBLE_DEVICES?)"
        except Exception as error:  # what the driver says
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        built = f"CUDA {torch.version.cuda}" if torch.version.hip is None else f"ROCm {torch.version.hip}"
        return f"torch {torch.__version__}, built for {built}, has no GPU: {why}"
    major, minor = torch.cuda.get_device_capability()
    if torch.version.hip is None and (major, minor) < (7, 0):
        return (
            f"{torch.cuda.get_device_name()} has compute capability {major}.{minor}, and Triton supports 7.0 "
            "and later: masks go by torch's operators there"
        )
    return None


def main() -> int:
    """Run and write; 1 where the tests or a part failed, and what ran is written all the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--into", type=Path, default=HERE)
    options = parser.parse_args()
    result = about(options.dry)
    dry = ["--dry"] if options.dry else []
    interpreted = {"TRITON_INTERPRET": "1"} if options.dry else {}
    # Newer GPUs of one generation are compiled for as the table's is.
    known = {"8": "sm_80", "9": "sm_90", "1": "sm_100"}.get(str(result["capability"][0])[0], "sm_90")
    rows = json.loads((HERE / "model.json").read_text())
    result["model"] = {"arch": known, "rows": [row for row in rows if row["arch"] == known]}
    spent = " + ".join(f"{name} {limit}" for name, limit in LIMITS.items())
    print(f"at most {spent} of {WHOLE} s; what is done by then is written", flush=True)
    steps = {
        "tests": (["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", "not full", "tests/gpu"], {}),
        "times": ([str(HERE / "measure.py"), *dry], interpreted),
    }
    for name, (command, environment) in steps.items():
        print(f"{name} …", flush=True)
        code, text, took = ran(name, *command, **environment)
        result[name] = {
            "code": code,
            "seconds": round(took, 1),
            "text": text[-4000:] if code or name == "tests" else "",
        }
        if name != "tests":
            # A row a line: what was measured before the time was up, or a fault, counts.
            lines = [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
            result[name]["rows"] = [json.loads(line) for line in lines]
    options.into.mkdir(parents=True, exist_ok=True)
    stem = result["device"].split("(")[0].strip().replace(" ", "-") if not options.dry else "dry"
    (options.into / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.into / f"{stem}.md").write_text(page(result))
    print(page(result))
    return int(any(result[name]["code"] for name in steps))


def page(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    ended = "; ".join(
        f"{name}: {'done' if not result[name]['code'] else 'FAILED'} in {result[name]['seconds']} s"
        for name in ("tests", "times")
    )
    lines = [
        f"# {result['device']}",
        "",
        f"{result['date']}; {versions}. {ended}.",
        "",
        *(["**A dry run on a CPU: its times mean nothing.**", ""] if result["dry"] else []),
        "Times are medians, by the device's clock; a ratio is over a copy of as many bytes, an attention's",
        f"over the same kernels at p = 0. The model's are for {result['model']['arch']}.",
        "",
        "| kernel | dtype | elements | µs | time / copy | predicted: all overlaps, nothing does |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["times"]["rows"]:
        found = predicted(row, result["model"]["rows"])
        said = ", ".join(f"{sum(r[name] for r in found):.2f}" for name in ("bound", "apart") if found)
        lines.append(
            f"| {row['kernel']} | {row['dtype']} | {row['elements']:,} | {row['seconds'] * 1e6:.0f} "
            f"| {row['ratio']:.2f} | {said or '–'} |"
        )
    return "\n".join([*lines, "", "```", result["tests"]["text"].strip()[-1500:], "```", ""])


def predicted(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The model's rows of a call's launches: DropBlock has three."""
    names = [row["kernel"], *(f"{row['kernel']}, {part}" for part in ("seeds", "growing"))]
    wanted = [(name, row["dtype"], row["of"]) for name in names]
    return [r for r in rows if (r["kernel"], r["dtype"], r["elements"]) in wanted]


if __name__ == "__main__":
    sys.exit(main())
