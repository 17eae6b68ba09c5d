"""Pretrains a small language model of a text file's bytes and lets it write a line.

    python3 pretrain.py input.txt [STEPS] [SECONDS]

Ctrl-C, or the end of SECONDS, stops it in order; tilth.resume(run) goes on."""

import sys

import tilth


def main():
    text, steps, seconds = (sys.argv[1:] + ["500", "0"][len(sys.argv) - 2:])[:3]
    late = False

    def show(p):
        nonlocal late
        print(f"step {p.step}: {p.note}" if p.note else
              f"step {p.step} of {p.steps}: loss {p.loss:.3f}, {p.tokens_per_s:.0f} tokens/s", file=sys.stderr)
        late = 0 < float(seconds) < p.seconds

    settings = {"data.text": text, "train.steps": steps, "run.name": "example", "model.layers": 2, "model.dim": 64}
    try:
        result = tilth.train(settings, preset="shakespeare-char", progress=show, cancel=lambda: late)
    except tilth.Stopped as e:
        print(e, file=sys.stderr)
        return 75
    print(f"{result.run}: loss {result.loss:.3f} after {result.steps} steps")
    print("The " + tilth.Generator(result.model).generate("The "))
    return 0


sys.exit(main())
