"""Read a waveform with lecroyparser and print what it found as JSON.

usage: lecroy_parser.py FILE
"""

import json
import sys

import lecroyparser


def main() -> None:
    found = lecroyparser.ScopeData(sys.argv[1])
    text = {
        name: str(getattr(found, name))
        for name in ("templateName", "instrumentName", "waveSource", "timeBase", "recordType",
                     "processingDone", "verticalCoupling", "triggerTime")
    }  # fmt: skip
    ends = [float(value) for value in (found.x[0], found.x[-1])]
    levels = [float(value) for value in (found.y.min(), found.y.max())]
    rising = [i for i in range(1, len(found.y)) if found.y[i - 1] <= 0.5 < found.y[i]]
    print(json.dumps({**text, "points": len(found.y), "x": ends, "y": levels, "rising": rising}))


if __name__ == "__main__":
    main()
