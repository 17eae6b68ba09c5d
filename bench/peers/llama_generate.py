"""Token generation by llama.cpp (through llama-cpp-python): greedy, batch 1, a GPT-2 in GGUF.
Prompt and generation are timed together; tokens are the new ones."""
import common
import llama_cpp

p = common.parser(__doc__)
p.add_argument("--model", required=True, help="GGUF file")
p.add_argument("--prompt", type=int, default=16)
p.add_argument("--new", type=int, default=128)
p.add_argument("--flash", action="store_true", help="flash attention")
args = p.parse_args()
llm = llama_cpp.Llama(args.model, n_ctx=512, n_threads=args.threads, n_threads_batch=args.threads,
                      flash_attn=args.flash, verbose=False)
vocab = llm.n_vocab()
prompt = [(i * 7919 + 11) % vocab for i in range(args.prompt)]


def step(i):
    llm.reset()
    n = 0
    for _ in llm.generate(prompt, temp=0, top_k=1, repeat_penalty=1.0):
        n += 1
        if n == args.new:
            break
    return 0, n


result = common.time_steps(args, step)
result.update(versions={"llama-cpp-python": llama_cpp.__version__,
                        "system": llama_cpp.llama_print_system_info().decode()},
              settings=vars(args))
common.emit(result)
