"""The tables of docs/performance.md, from the results of compare.py."""
import statistics

BEGIN = "<!-- results: written by bench/compare.py -->"
END = "<!-- end of results -->"
MIB = 1 << 20


def rates(runs):
    return [r["rate"] for r in runs if "rate" in r]


def median(runs, key):
    found = [r[key] for r in runs if r.get(key) is not None]
    return statistics.median(found) if found else None


def best_peer(results):
    """The peer with the highest median rate, or None."""
    speed = {n: statistics.median(rates(rs)) for n, rs in results.items()
             if n != "tilth" and rates(rs)}
    return max(speed, key=speed.get) if speed else None


def ratios(ours, theirs):
    """Ratio of each pair of runs that followed each other. A peer that ran once is compared with
    every run of Tilth."""
    a, b = rates(ours), rates(theirs)
    return [x / y for x, y in zip(a, b)] if len(b) > 1 else [x / b[0] for x in a]


def number(x):
    if x is None:
        return "-"
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def share_of_peak(w, rate, machine):
    peaks = machine.get("peaks", {}).get("avx2" if w.restrict["tilth"] else "full")
    if not peaks or not w.flops or not rate:
        return "-"
    peak = peaks["bf16_gflops"] if w.dtype == "bf16" else peaks["f32_gflops"]
    if w.dtype == "auto":
        peak = max(peak, peaks["bf16_gflops"])
    return f"{100 * w.flops * rate / (peak * 1e9):.0f} %"


def main_row(w, results, machine):
    ours = results["tilth"]
    rate = statistics.median(rates(ours)) if rates(ours) else None
    memory = median(ours, "peak_rss_bytes")
    cells = [w.title, f"{number(rate)} {w.unit}/s" if rate else "failed"]
    name = best_peer(results)
    if name and rate:
        theirs = results[name]
        r = ratios(ours, theirs)
        peer_memory = median(theirs, "peak_rss_bytes")
        cells += [f"{number(statistics.median(rates(theirs)))} ({name})",
                  f"**{rate / statistics.median(rates(theirs)):.2f}** ({min(r):.2f} to {max(r):.2f})",
                  f"{memory / MIB:,.0f} / {peer_memory / MIB:,.0f}",
                  f"{memory / peer_memory:.2f}"]
    else:
        cells += ["-", "-", f"{memory / MIB:,.0f} / -" if memory else "-", "-"]
    start = median(ours, "first_step_seconds")
    cells += [share_of_peak(w, rate, machine), f"{start:.2f} s" if start else "-"]
    return "| " + " | ".join(cells) + " |"


def side_row(w, name, runs):
    """One line per side: what ran, how fast, and the loss of its first step."""
    wrong = next((r for r in runs if "error" in r), None)
    if wrong:
        what = "not installed" if wrong.get("absent") else \
            "failed: " + " ".join(wrong["error"].split())[-160:].replace("|", "/")
        return f"| {w.name} | {name} | {what} | | | |"
    seen = rates(runs)
    loss, padding = median(runs, "first_loss"), median(runs, "padding")
    loss = f"{loss:.2f}" if loss else "-"
    start = median(runs, "first_step_seconds")
    spread = f" ({number(min(seen))} to {number(max(seen))})" if len(seen) > 1 else ""
    note = f", {100 * padding:.0f} % padding" if padding else ""
    cold = median(runs, "compile_seconds")
    note += f", {cold:.0f} s to compile" if cold else ""
    return (f"| {w.name} | {name} | {number(statistics.median(seen))}{spread}{note} | "
            f"{median(runs, 'peak_rss_bytes') / MIB:,.0f} | {f'{start:.1f}' if start else '-'} | "
            f"{loss} |")


def versions(results):
    """What each side called itself, once."""
    seen = {}
    for runs in results.values():
        for name, rs in runs.items():
            for r in rs:
                if r.get("versions"):
                    seen.setdefault(name, ", ".join(f"{k} {v}" for k, v in r["versions"].items()
                                                    if k != "system"))
    return "; ".join(f"{k}: {v}" for k, v in sorted(seen.items()))


def block(chosen, doc):
    m = doc["machine"]
    peak = m.get("peaks", {}).get("full")
    lines = [f"{m['date']}, {m['cpu']}, {m['cores']} cores, Linux {m['kernel']}; {m['tilth']} "
             f"({m['commit']})."]
    if peak:
        lines.append(f"Measured peaks: {peak['bf16_gflops']:.0f} GFLOP/s bf16, "
                     f"{peak['f32_gflops']:.0f} f32, memory {peak['gbytes_per_second']:.0f} GB/s.")
    named = versions(doc["workloads"])
    if named:
        lines.append(named + ".")
    done = [w for w in chosen if w.name in doc["workloads"]]
    lines += ["", "| workload | Tilth | best peer | Tilth / peer (spread) | peak MiB, Tilth / peer "
              "| ratio | of peak | first step after |", "|---|--:|--:|--:|--:|--:|--:|--:|"]
    lines += [main_row(w, doc["workloads"][w.name], m) for w in done]
    lines += ["", "Every side:", "",
              "| workload | side | rate (spread) | peak MiB | first step after, s | first loss |",
              "|---|---|--:|--:|--:|--:|"]
    for w in done:
        lines += [side_row(w, n, rs) for n, rs in doc["workloads"][w.name].items()]
        if w.first_loss:
            lines.append(f"| {w.name} | ln V | | | | {w.first_loss:.2f} |")
    return "\n".join(lines)


def rewrite(path, chosen, doc):
    with open(path) as f:
        text = f.read()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path}: the lines '{BEGIN}' and '{END}' that hold the results are missing")
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    with open(path, "w") as f:
        f.write(f"{head}{BEGIN}\n{block(chosen, doc)}\n{END}{tail}")
