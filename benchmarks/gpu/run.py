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
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Seconds. The whole is to take eight minutes, with what is installed before.
LIMITS = {"tests": 210, "times": 90, "model": 90}


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
    import triton

    import thinned

    device = {"device": "none (dry run)", "capability": [9, 0]}
    if not dry:
        if not torch.cuda.is_available():
            raise SystemExit(
                "make gpu needs a GPU that torch's CUDA build sees; make gpu DRY=1 shows that it runs"
            )
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


def main() -> int:
    """Run and write; 1 where the tests or a part failed, and what ran is written all the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--into", type=Path, default=HERE)
    options = parser.parse_args()
    result = about(options.dry)
    dry = ["--dry"] if options.dry else []
    interpreted = {"TRITON_INTERPRET": "1"} if options.dry else {}
    only = ["dropout bfloat16"] if options.dry else []
    # Newer GPUs of one generation are compiled for as the table's is.
    known = {"8": "sm_80", "9": "sm_90", "1": "sm_100"}.get(str(result["capability"][0])[0], "sm_90")
    steps = {
        "tests": (["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", "not full", "tests/gpu"], {}),
        "times": ([str(HERE / "measure.py"), *dry], interpreted),
        "model": (["-m", "thinned", "bench", "--gpu-model", *only, "--arch", known, "--json"], {}),
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
            result[name]["rows"] = json.loads(text) if not code else []
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
        for name in ("tests", "times", "model")
    )
    predicted = {(r["kernel"], r["dtype"], r["elements"]): r for r in result["model"]["rows"]}
    lines = [
        f"# {result['device']}",
        "",
        f"{result['date']}; {versions}. {ended}.",
        "",
        *(["**A dry run on a CPU: its times mean nothing.**", ""] if result["dry"] else []),
        "Times are medians, by the device's clock; a ratio is over a copy of as many bytes.",
        "",
        "| kernel | dtype | elements | µs | time / copy | predicted: all overlaps, nothing does |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["times"]["rows"]:
        found = predicted.get((row["kernel"], row["dtype"], row["of"]))
        said = f"{found['bound']:.2f}, {found['apart']:.2f}" if found else "–"
        lines.append(
            f"| {row['kernel']} | {row['dtype']} | {row['elements']:,} | {row['seconds'] * 1e6:.0f} "
            f"| {row['ratio']:.2f} | {said} |"
        )
    return "\n".join([*lines, "", "```", result["tests"]["text"].strip()[-1500:], "```", ""])


if __name__ == "__main__":
    sys.exit(main())
