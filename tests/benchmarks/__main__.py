"""Runs the benchmarks and prints their tables in Markdown.

python -m tests.benchmarks                     all of them
python -m tests.benchmarks construction        one
python -m tests.benchmarks brokers nats sql    that of the transports, on some brokers only
python -m tests.benchmarks --list              their names
python -m tests.benchmarks --large             with millions of rows; needs 10 GB of disk for some minutes
python -m tests.benchmarks --rounds 1 --repetitions 0.001     only to see that they work
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from tests.benchmarks import brokers, construction, dispatch, draining, growth, handling, takeover, transactions, wakeup
from tests.benchmarks.measuring import BROKERS, DATABASES, Benchmark, Scale, machine

BENCHMARKS: dict[str, Benchmark] = {
    "construction": construction.run,
    "dispatch": dispatch.run,
    "transactions": transactions.run,
    "handling": handling.run,
    "wakeup": wakeup.run,
    "fetching": growth.fetching,
    "claiming": growth.claiming,
    "draining": draining.run,
    "takeover": takeover.run,
    "brokers": brokers.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was chosen."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="What the toolkit costs.")
    names = f"of {', '.join(BENCHMARKS)}; all by default. A broker ({', '.join(BROKERS)}) means brokers, on this one"
    parser.add_argument("names", nargs="*", metavar="NAME", help=names)
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--rounds", type=int, default=Scale.rounds, help="how often everything is measured")
    parser.add_argument("--repetitions", type=float, default=Scale.repetitions, help="factor on the repetitions")
    parser.add_argument("--large", action="store_true", help="with as many rows as the goals are about: takes minutes")
    parser.add_argument(
        "--on", action="append", metavar="DATABASE", help="sqlite, postgresql or mariadb; all by default"
    )
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.names) - set(BENCHMARKS) - set(BROKERS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if unknown := set(chosen.on or ()) - set(DATABASES):
        parser.error(f"no database {', '.join(sorted(unknown))}; there are {', '.join(DATABASES)}")
    if chosen.rounds < 1 or chosen.repetitions <= 0:
        parser.error("--rounds takes 1 or more, --repetitions more than 0")
    if chosen.list:
        print(*BENCHMARKS, sep="\n")
        return 0
    structlog.configure(processors=[_drop])
    print(*machine(), sep="\n")
    some = frozenset(chosen.names) & frozenset(BROKERS)
    chosen_names = [name for name in BENCHMARKS if name in chosen.names or (name == "brokers" and some)]
    on = frozenset(chosen.on or DATABASES)
    scale = Scale(chosen.rounds, chosen.repetitions, chosen.large, on, some or frozenset(BROKERS))
    for name in chosen_names or BENCHMARKS:
        for part in _parts(name, scale):
            for table in asyncio.run(BENCHMARKS[name](part)):
                print("", *table.lines(), sep="\n", flush=True)
    return 0


def _parts(name: str, scale: Scale) -> list[Scale]:
    """A broker's tables are shown when it is done: what goes wrong on another one does not take them along."""
    one_by_one = [replace(scale, brokers=frozenset({broker})) for broker in BROKERS if broker in scale.brokers]
    return one_by_one if name == "brokers" else [scale]


def _drop(_logger: object, _method: str, _entry: object) -> str:
    """Printing every log line would be measured too."""
    raise structlog.DropEvent


if __name__ == "__main__":
    raise SystemExit(main())
