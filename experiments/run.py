#!/usr/bin/env python3
"""Runs the experiments of docs/results.md: what pretraining is worth, over several seeds.

    experiments/run.py list
    experiments/run.py run NAME... [--jobs 2] [--tilth build/tilth] [--out runs/experiments]
    experiments/run.py body NAME...          the pretraining runs alone
    experiments/run.py table [--out runs/experiments]

An experiment is a row of experiments/table.json: `prepare` (shell commands, run once), `body` (a
pretraining run, shared by experiments), `arms` (settings of `tilth finetune`, one run a seed) and
`metric`. Every result goes to OUT/results.json as soon as it is there; a run that is found there is
not made again, so an interrupted series goes on where it stopped. With --jobs N, N fine-tunings run
side by side, each on its part of the cores: the same results, for a run's bits do not depend on its
threads, and more of them an hour. Needs Python's own library only.
"""
import argparse
import json
import math
import os
import pathlib
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
# Student's t, two-sided 95 %, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def data_folder():
    for place in (os.environ.get("TILTH_DATA"), HERE.parent / "../shared/data", "/work/shared/data"):
        if place and pathlib.Path(place).is_dir():
            return str(pathlib.Path(place).resolve())
    sys.exit("no data: set TILTH_DATA to the folder that holds imdb/, sst2/, ...")


class Bench:
    def __init__(self, args):
        self.out = pathlib.Path(args.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.tilth = str(pathlib.Path(args.tilth).resolve())
        self.table = json.loads((HERE / "table.json").read_text())
        self.data = data_folder()
        self.results_file = self.out / "results.json"
        self.jobs = args.jobs
        self.lock = threading.Lock()

    def results(self):
        return json.loads(self.results_file.read_text()) if self.results_file.exists() else {}

    def record(self, key, value):
        with self.lock:
            results = self.results()
            results[key] = value
            part = self.results_file.with_suffix(".part")
            part.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            part.replace(self.results_file)

    def expand(self, text):
        return text.replace("{here}", str(HERE)).replace("{data}", self.data).replace("{out}", str(self.out)).replace("{tilth}", self.tilth)

    def prepare(self, commands):
        for command in commands:
            key = "prepare: " + command
            if key in self.results():
                continue
            command = self.expand(command)
            print("+ " + command, file=sys.stderr, flush=True)
            subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=self.out, check=True)
            self.record(key, True)

    def tilth_json(self, key, arguments):
        """Runs tilth once per key; its JSON result, with the time it took."""
        known = self.results()
        if key in known:
            return known[key]
        command = [self.tilth] + [self.expand(a) for a in arguments]
        print("+ " + shlex.join(command), file=sys.stderr, flush=True)
        begin = time.time()
        done = subprocess.Popen(command, cwd=self.out, stdout=subprocess.PIPE, text=True)
        output = done.stdout.read()
        _, status, usage = os.wait4(done.pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(f"{key}: tilth ended with {os.waitstatus_to_exitcode(status)}")
        result = json.loads(output)
        result["wall_seconds"] = round(time.time() - begin, 1)
        result["cpu_seconds"] = round(usage.ru_utime + usage.ru_stime, 1)
        result["command"] = [a.replace(self.data, "{data}").replace(str(self.out), "{out}") for a in command[1:]]
        self.record(key, result)
        print(f"{key}: {result['wall_seconds']} s", file=sys.stderr, flush=True)
        return result

    def body(self, name):
        """Folder of a pretrained model, made if need be."""
        row = self.table["bodies"][name]
        self.prepare(row.get("prepare", []))
        result = self.tilth_json("body " + name, ["train", "--json", "run.name=" + name] + row["settings"])
        return str(self.out / result["run"] / "model")

    def run(self, name):
        row = self.table["experiments"][name]
        self.prepare(row.get("prepare", []))
        runs = []
        for seed in range(1, row.get("seeds", 3) + 1):
            for arm, what in row["arms"].items():
                arguments = ["finetune", "--json", f"run.name={name}", f"run.seed={seed}"]
                arguments += row["settings"] + what["settings"]
                if "body" in what:
                    arguments += ["task.from=" + self.body(what["body"])]
                if self.jobs > 1:
                    arguments += [f"run.threads={max(1, len(os.sched_getaffinity(0)) // self.jobs)}"]
                runs.append((f"{name} / {arm} / {seed}", arguments))
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda run: self.tilth_json(*run), runs))
        print(self.summary(name))

    def summary(self, name):
        row, results = self.table["experiments"][name], self.results()
        metrics = row["metric"].split(",")
        lines = [f"**{name}**: {row['title']}; on the test, mean of the seeds ± 95 % interval (t)", "",
                 "| arm | " + "".join(f"{m} | each seed | " for m in metrics) + "trained parameters | minutes a run |",
                 "|---|" + "---|---|" * len(metrics) + "---|---|"]
        for arm in row["arms"]:
            found = [results[k] for k in (f"{name} / {arm} / {s}" for s in range(1, row.get("seeds", 3) + 1)) if k in results]
            if not found:
                continue
            cells = ""
            for metric in metrics:
                values = [r["task"][row.get("part", "test")][metric]["value"] * row.get("times", 100) for r in found]
                cells += f"{self.interval(values)} | {', '.join(f'{v:.2f}' for v in values)} | "
            trained, all_ = found[0]["task"]["trained"], found[0]["parameters"]
            minutes = sum(r["seconds"] for r in found) / len(found) / 60
            lines.append(f"| {arm} | {cells}{trained:,} of {all_:,} ({100 * trained / all_:.1f} %) | {minutes:.1f} |")
        return "\n".join(lines) + "\n"

    @staticmethod
    def interval(values):
        mean, half = sum(values) / len(values), float("nan")
        if len(values) > 1:
            deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
            half = T95[len(values) - 1] * deviation / math.sqrt(len(values))
        return f"{mean:.2f} ± {half:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["list", "run", "body", "table"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--tilth", default=HERE.parent / "build/tilth")
    parser.add_argument("--jobs", type=int, default=1, help="fine-tunings at once")
    parser.add_argument("--out", default=HERE.parent / "runs/experiments")
    args = parser.parse_args()
    bench = Bench(args)
    known = bench.table["bodies" if args.verb == "body" else "experiments"]
    names = args.names or list(known)
    unknown = [n for n in names if n not in known]
    if unknown:
        sys.exit(f"no such row: {', '.join(unknown)}; there are: {', '.join(known)}")
    for name in names:
        if args.verb == "list":
            print(f"{name}: {bench.table['experiments'][name]['title']}")
        elif args.verb == "run":
            bench.run(name)
        elif args.verb == "body":
            print(bench.body(name))
        else:
            print(bench.summary(name))


if __name__ == "__main__":
    main()
