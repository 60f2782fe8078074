"""`python -m tests.chaos`: hurt a server for as long as you like."""

import argparse
import asyncio
import dataclasses
import sys
import tempfile
from pathlib import Path

from tests.chaos.drive import Mix, chaos


def main() -> int:
    """Carry out a chaos run, report, and say by the exit code whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    for field in dataclasses.fields(Mix):
        if field.type is bool or field.type == "bool":
            parser.add_argument(f"--{field.name}", action="store_true")
        elif field.name != "only":
            parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    parser.add_argument("--only", default="", help="calamities, separated by commas")
    parser.add_argument("--folder", type=Path, help="where logs are kept")
    given = vars(parser.parse_args())
    folder: Path = given.pop("folder") or Path(tempfile.mkdtemp(prefix="chaos-"))
    only: str = given.pop("only")
    mix = Mix(**given, only=tuple(filter(None, only.split(","))))
    verdict, ledger, havoc = asyncio.run(chaos(mix, folder))
    out = sys.stdout.write
    out(f"{mix}\n")
    out("Calamities:\n" + "".join(f"  {count:5d} {what}\n" for what, count in havoc.counts.most_common()))
    out("Runs by their ends, and what else was counted:\n")
    out("".join(f"  {count:5d} {what}\n" for what, count in verdict.counts.most_common()))
    out(f"The longest stall: {verdict.longest_stall:.1f} s\nAnswers:\n")
    out("".join(f"  {count:5d} {what}\n" for what, count in sorted(ledger.outcomes.items())))
    out("Noise:\n" + "".join(f"  {count:5d} {what}\n" for what, count in verdict.noise.most_common(40)))
    out(f"{len(ledger.acknowledged)} runs accepted; {len(verdict.wrong)} things wrong; logs in {folder}\n")
    out("".join(f"- {what[:1500]}\n" for what in verdict.wrong[:60]))
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
