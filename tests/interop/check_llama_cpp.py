"""Models pretrained here, as GGUF in llama.cpp: the same greedy text as `tilth generate`, in every type of weights.

llama.cpp's own completion is asked, so that its tokenizer, its beginning of a text and its end of a text take part. With
Q8_0 it rounds the activations to 8 bits, too, so that near ties can fall otherwise: each of its tokens must be the one
that Tilth finds likeliest with the same file's weights, or nearly so."""
import glob

from common import check, finish, logits, path, text_lines, tilth

try:
    import llama_cpp
except ImportError:
    print("skipped: the package llama-cpp-python is not there")
    raise SystemExit(77)

PROMPTS = ["the river", "an old mill", "small birds sang", "x = f(a[", "don't ", "привет"]
TOKENS = 20
NEAR_TIE = 0.1  # of logits


def check_texts(llm, model, name):
    same, told = 0, ""
    for prompt in PROMPTS:
        have = llm.create_completion(prompt, max_tokens=TOKENS, temperature=0)["choices"][0]["text"]
        want = tilth("generate", model, "--prompt", prompt, "--max-tokens", TOKENS, "--temperature", 0)
        want = want.removeprefix(prompt).removesuffix("\n")
        same += have == want
        if have != want:
            told = f": {prompt!r} goes on with {have!r} there, {want!r} here"
    check(same == len(PROMPTS), f"{name}: {same} of {len(PROMPTS)} texts go on as here{told}")
    print(f"        {have!r}")


def check_near_ties(llm, model, name):
    lost, other = 0, 0
    for prompt in PROMPTS:
        ids = llm.tokenize(prompt.encode(), add_bos=False)
        llm.reset()
        new = [t for t, _ in zip(llm.generate(ids, temp=0, top_k=1), range(TOKENS))]
        scores = logits(model, [ids + new])[0][len(ids) - 1:-1]
        gap = [row.max() - row[t] for row, t in zip(scores, new)]
        lost = max(lost, *gap)
        other += sum(g > 0 for g in gap)
    check(lost <= NEAR_TIE, f"{name}: of {TOKENS * len(PROMPTS)} tokens {other} are not the likeliest here, by {lost:.3f} at most")


with open(path("text.txt"), "w") as f:
    f.write("\n".join(text_lines(1500)) + "\n")
tilth("tokenizer", "train", "-n", "380", "--unit", "line", "--out", path("tok"), path("text.txt"))
for kind in ["gpt2", "llama"]:
    tilth("train", f"run.name={kind}", f"run.dir={path('runs')}", f"data.text={path('text.txt')}", f"data.tokenizer={path('tok')}",
          "data.unit=line", "data.val_fraction=0.05", f"model.type={kind}", "model.dim=64", "model.layers=2", "model.heads=4",
          "train.seq_len=64", "train.batch=16", "train.steps=120", "optim.lr=3e-3")
    model = glob.glob(path("runs", f"{kind}-*", "model"))[0]
    for dtype in ["f32", "f16", "bf16", "q8_0"]:
        file = path(f"{kind}-{dtype}.gguf")
        tilth("export", model, "--to", "gguf", "--dtype", dtype, "--out", file)
        ours = model if dtype == "f32" else path(f"{kind}-{dtype}")
        if dtype != "f32":
            tilth("import", file, "--out", ours)
        llm = llama_cpp.Llama(file, n_ctx=64, n_threads=1, verbose=False, type_k=llama_cpp.GGML_TYPE_F32,
                              type_v=llama_cpp.GGML_TYPE_F32)
        (check_near_ties if dtype == "q8_0" else check_texts)(llm, ours, f"{kind} {dtype}")
finish()
