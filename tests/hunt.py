"""Hunt for faults: run all property tests with fresh seeds, on both databases, until the time is up.

    python tests/hunt.py --minutes 60

Each failure is printed with the command that shows it again.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Lock

from properties import HUNT

import crave_bulk as cb

URL = "CRAVE_BULK_TEST_POSTGRES_URL"
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "-q"]


class Hunt:
    """Runs of property tests, each in a process of its own, until the time is up."""

    def __init__(self, tests: list[str], seconds: float, environment: dict[str, str]) -> None:
        self.order = cycle(random.sample(tests, len(tests)))
        self.end = time.monotonic() + seconds
        self.environment = environment
        self.runs, self.failures = Counter[str](), Counter[str]()
        self._lock = Lock()

    def work(self) -> None:
        """Run one test after another."""
        while (left := self.end - time.monotonic()) > 0:
            with self._lock:
                test = next(self.order)
            self._run(test, random.randrange(2**32), left)

    def _run(self, test: str, seed: int, seconds: float) -> None:
        words = [*PYTEST, f"--hypothesis-profile={HUNT}", f"--hypothesis-seed={seed}", test]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
        ) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # it drops its database
                return
        with self._lock:
            self.runs[test] += 1
            if process.returncode:
                self.failures[test] += 1
                again = f"pytest -n0 --hypothesis-profile={HUNT} --hypothesis-seed={seed} '{test}'"
                first = output if self.failures[test] == 1 else "it failed before\n"
                print(f"{first}Run it again: {again}\n", flush=True)


def property_tests(paths: list[str], environment: dict[str, str]) -> list[str]:
    """List the tests that Hypothesis feeds."""
    words = [*PYTEST, "--collect-only", "-m", "hypothesis", "-k", "not postgres15", *paths]
    listed = subprocess.run(words, capture_output=True, text=True, env=environment)
    if listed.returncode:
        sys.exit(listed.stdout + listed.stderr)
    return [line for line in listed.stdout.splitlines() if "::" in line]


def main() -> None:
    """Hunt as long as the command line says, and fail if anything was found."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests would ignore it, too, if nohup does
    parser = argparse.ArgumentParser(
        description="Run all property tests with fresh seeds until the time is up."
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("tests", nargs="*", default=["tests"], help="files or tests; all if none is given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cb.embedded_postgres(f"{folder}/pg") as url:
        environment = {URL: url, **os.environ}
        hunt = Hunt(property_tests(given.tests, environment), 60 * given.minutes, environment)
        with ThreadPoolExecutor(given.workers) as pool:
            for worker in [pool.submit(hunt.work) for _ in range(given.workers)]:
                worker.result()
    for test, count in sorted(hunt.runs.items()):
        print(f"{count:5} runs, {hunt.failures[test]:3} failed: {test}")
    sys.exit(bool(hunt.failures))


if __name__ == "__main__":
    main()
