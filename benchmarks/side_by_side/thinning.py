"""Accuracy against CPU time of thinned training, on bundled data: writes what `thinned demo` shows."""

import argparse
import json
from pathlib import Path

from thinned.demo import thinning

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path(thinning.__file__).with_suffix(".json"))
    given = parser.parse_args()
    data = thinning.measure(given.seeds, given.steps, given.width, lambda _: print(".", end="", flush=True))
    given.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for name, curves in data["sets"].items():
        for way, each in curves.items():
            last = [(one["error"][-1], one["loss"][-1], one["seconds"][-1]) for one in each]
            print(name, way, *(f"{sum(values) / len(values):.4f}" for values in zip(*last, strict=True)))
