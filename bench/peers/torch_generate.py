"""Token generation by transformers' generate() with its key/value cache: a GPT-2 of random weights,
greedy, batch 1. Prompt and generation are timed together; tokens are the new ones."""
import common
import torch
import torch_common as tc
import transformers

p = common.parser(__doc__)
p.add_argument("--layers", type=int, default=12)
p.add_argument("--dim", type=int, default=768)
p.add_argument("--heads", type=int, default=12)
p.add_argument("--vocab", type=int, default=50304)
p.add_argument("--prompt", type=int, default=16)
p.add_argument("--new", type=int, default=128)
p.add_argument("--save", help="write the model to this folder and stop (for llama.cpp)")
args = p.parse_args()
tc.setup(args)
transformers.logging.set_verbosity_error()
config = transformers.GPT2Config(vocab_size=args.vocab, n_embd=args.dim, n_layer=args.layers,
                                 n_head=args.heads, bos_token_id=0, eos_token_id=None)
model = transformers.GPT2LMHeadModel(config).eval()
if args.save:
    model.save_pretrained(args.save)
    raise SystemExit
if args.dtype != "f32":
    model = model.bfloat16()
extra = {"cache_implementation": "static"} if args.compile else {}
if args.compile:
    model.forward = torch.compile(model.forward)
prompt = torch.randint(4, args.vocab, (1, args.prompt))


@torch.inference_mode()
def step(i):
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=args.new,
                         min_new_tokens=args.new, do_sample=False, pad_token_id=0, **extra)
    return 0, out.shape[1] - args.prompt


result = common.time_steps(args, step)
versions = tc.versions()
versions["transformers"] = transformers.__version__
result.update(parameters=sum(q.numel() for q in model.parameters()), versions=versions,
              settings=vars(args))
common.emit(result)
