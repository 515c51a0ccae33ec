#!/usr/bin/python3
"""Makes grafana/dashboards out of grafana/source: operators/ for those who run the place, orgs/ for admins of one org.
With --check it writes nothing, and fails where what is there is not what would be made."""

import json
import sys
from pathlib import Path

# Nothing is left beside the sources.
sys.dont_write_bytecode = True

import audit  # noqa: E402
import cost  # noqa: E402
import gateway  # noqa: E402
import limits  # noqa: E402
import member  # noqa: E402
import org  # noqa: E402
import overview  # noqa: E402
import patterns  # noqa: E402
import servers  # noqa: E402
import tools  # noqa: E402
from parts import finished  # noqa: E402

DASHBOARDS = Path(__file__).resolve().parent.parent / "dashboards"
ALL = [overview, org, member, cost, tools, limits, audit, patterns, gateway, servers]


def texts():
    for module in ALL:
        made = module.DASHBOARD
        for folder, of_org in (("operators", False), ("orgs", True)):
            if made["for_orgs"] or not of_org:
                yield DASHBOARDS / folder / made["file"], json.dumps(finished(made, of_org), indent=1, ensure_ascii=False) + "\n"


def main():
    wanted = dict(texts())
    there = set(DASHBOARDS.glob("*/*.json"))
    if "--check" in sys.argv[1:]:
        differ = [path for path, text in wanted.items() if path not in there or path.read_text(encoding="utf-8") != text]
        differ += sorted(there - set(wanted))
        for path in differ:
            print(f"{path.relative_to(DASHBOARDS.parent.parent)} is not what grafana/source makes: run grafana/source/build.py", file=sys.stderr)
        sys.exit(1 if differ else 0)
    for path in there - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


main()
