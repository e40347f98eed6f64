"""Run the side-by-side and write results.md and results.json; see README.md."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests"))  # the zoo is the tests' own

import torch  # noqa: E402

import thinned  # noqa: E402


def run(repeats: int, names: list[str]) -> dict:
    import libraries
    import measure
    import models
    import traps
    from mc import zoo

    cases = {name: case for name, case in {**zoo.CASES, **zoo.SILENT}.items() if not names or name in names}
    found = {}
    for name, case in cases.items():
        print(name, file=sys.stderr)
        who = {library: asdict(measure.measure(case, draw)) for library, draw in libraries.LIBRARIES.items()}
        if case.named and who["thinned"]["reached"] < case.count:
            who["thinned, named"] = asdict(measure.measure(case, libraries.thinned, case.named))
        seconds, ratios = measure.times(lambda case=case: zoo.build(case), repeats, named=case.named)
        found[name] = {"rates": case.rates, "libraries": who, "seconds": seconds, "ratios": ratios}
    larger = {}
    for name, build in models.MODELS.items() if not names else ():
        print(name, file=sys.stderr)
        seconds, ratios = measure.times(build, repeats)
        larger[name] = {"seconds": seconds, "ratios": ratios}
    return {"models": found, "larger": larger, "traps": list(traps.answers()) if not names else []}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of the times")
    parser.add_argument("--threads", type=int, default=1, help="of each library")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.md and results.json")
    parser.add_argument("names", nargs="*", help="models of the zoo; all, if none is given")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    thinned.set_num_threads(given.threads)

    import report

    machine = report.machine()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = {"machine": machine, "repeats": given.repeats, **run(given.repeats, given.names)}
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (given.out / "results.json").write_text(text, encoding="utf-8")
    (given.out / "results.md").write_text(report.as_markdown(json.loads(text)), encoding="utf-8")


if __name__ == "__main__":
    main()
