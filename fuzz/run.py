"""A round of fuzzing with libFuzzer, a number of seconds for each target: `make fuzz`.

The stable compiler builds the targets, instrumented for coverage as cargo-fuzz does it, but without sanitizers: these
look for memory errors, and there is no unsafe code to cause any. Findings are in `fuzz/artifacts/TARGET/`;
`fuzz/target/…/release/TARGET FILE` runs one again. `fuzz/corpus/TARGET/` keeps what the fuzzer has learnt.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
TARGETS = sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))

#: The flags that `cargo fuzz build --sanitizer none` passes, too.
INSTRUMENTATION = (
    "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    " -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    " -Cllvm-args=-sanitizer-coverage-trace-compares -Cforce-frame-pointers"
)

#: After how many seconds one input counts as a hang, and how much memory a target may use, in MiB.
HANG, MEMORY = 30, 1024


def build() -> Path:
    """Builds the targets and returns their folder. `--target` keeps the instrumentation out of build scripts."""
    host = re.search(r"^host: (.+)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M)
    assert host
    command = ["cargo", "build", "--quiet", "--release", "--target", host[1]]
    subprocess.run(command, check=True, cwd=FUZZ, env={**os.environ, "RUSTFLAGS": INSTRUMENTATION})
    return FUZZ / "target" / host[1] / "release"


def fuzz(program: Path, seconds: int) -> tuple[str, bool]:
    """One line of the table, and whether something was found."""
    corpus, artifacts = FUZZ / "corpus" / program.name, FUZZ / "artifacts" / program.name
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    known = set(artifacts.iterdir())
    command = [
        str(program), str(corpus), str(FUZZ / "seeds" / program.name), f"-max_total_time={seconds}",
        f"-timeout={HANG}", f"-rss_limit_mb={MEMORY}", "-max_len=2048", "-print_final_stats=1",
        f"-artifact_prefix={artifacts}/",
    ]  # fmt: skip
    words = FUZZ / "dictionaries" / f"{program.name}.dict"
    if words.exists():
        command.append(f"-dict={words}")
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        print(result.stderr[-4000:], file=sys.stderr)
    found = sorted(path.name for path in set(artifacts.iterdir()) - known)
    runs = re.search(r"^stat::number_of_executed_units: +(\d+)", result.stderr, re.M)
    took = re.search(r"^Done \d+ runs in (\d+) second", result.stderr, re.M)
    covered = re.findall(r"\bcov: (\d+)", result.stderr)
    count = int(runs[1]) if runs else 0
    spent = int(took[1]) if took else seconds
    findings = ", ".join(found) or (f"exit status {result.returncode}" if result.returncode else "none")
    line = f"| {program.name} | {spent} s | {count:,} | {count // max(spent, 1):,} | {covered[-1] if covered else 0} |"
    return f"{line} {findings} |", result.returncode != 0 or not count


def main() -> int:
    """Returns 1 if something was found."""
    parser = argparse.ArgumentParser(description="Fuzz every parser with libFuzzer.")
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=10, help="for each target (default: %(default)s)")
    options = parser.parse_args()
    folder = build()
    print("| target | time | executions | a second | edges covered | findings |")
    print("| --- | ---: | ---: | ---: | ---: | --- |", flush=True)
    faulty = False
    for target in options.targets:
        line, found = fuzz(folder / target, options.seconds)
        faulty |= found
        print(line, flush=True)
    return int(faulty)


if __name__ == "__main__":
    sys.exit(main())
