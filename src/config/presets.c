/* Adding a preset: a list of settings and a row in tl_presets. Keys not listed keep their
 * defaults. A test loads every preset. */
#include "config/presets.h"

#include <stddef.h>

static const char *const shakespeare_char[] = {"run.name=shakespeare-char",
                                               "run.eval_every=250",
                                               "run.seed=1337",
                                               "data.tokenizer=bytes",
                                               "data.unit=file",
                                               "data.split=tail",
                                               "data.val_fraction=0.1",
                                               "model.type=gpt2",
                                               "model.layers=4",
                                               "model.heads=4",
                                               "model.dim=128",
                                               "model.dropout=0",
                                               "train.seq_len=64",
                                               "train.batch=12",
                                               "train.steps=2000",
                                               "optim.type=adamw",
                                               "optim.lr=1e-3",
                                               "optim.min_lr_ratio=0.1",
                                               "optim.schedule=cosine",
                                               "optim.warmup=100",
                                               "optim.beta1=0.9",
                                               "optim.beta2=0.99",
                                               "optim.weight_decay=0.1",
                                               "optim.clip=1",
                                               NULL};

static const char *const shakespeare_10m[] = {"run.name=shakespeare-10m",
                                              "run.eval_every=250",
                                              "run.seed=1337",
                                              "data.tokenizer=bytes",
                                              "data.unit=file",
                                              "data.split=tail",
                                              "data.val_fraction=0.1",
                                              "model.type=gpt2",
                                              "model.layers=6",
                                              "model.heads=6",
                                              "model.dim=384",
                                              "model.dropout=0.2",
                                              "model.attention_dropout=0.2",
                                              "train.seq_len=256",
                                              "train.batch=64",
                                              "train.steps=5000",
                                              "optim.type=adamw",
                                              "optim.lr=1e-3",
                                              "optim.min_lr_ratio=0.1",
                                              "optim.schedule=cosine",
                                              "optim.warmup=100",
                                              "optim.beta1=0.9",
                                              "optim.beta2=0.99",
                                              "optim.weight_decay=0.1",
                                              "optim.clip=1",
                                              NULL};

static const char *const gpt2[] = {
    "run.name=gpt2",    "model.type=gpt2",        "model.layers=6",
    "model.heads=6",    "model.dim=384",          "train.seq_len=256",
    "train.batch=16",   "train.steps=5000",       "optim.type=adamw",
    "optim.lr=1e-3",    "optim.schedule=cosine",  "optim.warmup=200",
    "optim.beta2=0.95", "optim.weight_decay=0.1", NULL};

static const char *const gpt2_124m[] = {"run.name=gpt2-124m",      "model.type=gpt2",
                                        "model.layers=12",         "model.heads=12",
                                        "model.dim=768",           "train.seq_len=1024",
                                        "train.batch=4",           "train.accum=16",
                                        "train.tokens=2500000000", "optim.type=adamw",
                                        "optim.lr=6e-4",           "optim.schedule=cosine",
                                        "optim.warmup=700",        "optim.beta2=0.95",
                                        "optim.weight_decay=0.1",  NULL};

static const char *const llama_tiny[] = {
    "run.name=llama-tiny", "model.type=llama", "model.layers=6",         "model.heads=4",
    "model.kv_heads=2",    "model.dim=256",    "train.seq_len=256",      "train.batch=16",
    "train.steps=5000",    "optim.type=adamw", "optim.lr=1e-3",          "optim.schedule=wsd",
    "optim.warmup=200",    "optim.beta2=0.95", "optim.weight_decay=0.1", NULL};

static const char *const bert_tiny[] = {"run.name=bert-tiny",
                                        "model.type=bert",
                                        "model.layers=4",
                                        "model.heads=4",
                                        "model.dim=256",
                                        "model.dropout=0.1",
                                        "model.attention_dropout=0.1",
                                        "objective.type=masked",
                                        "objective.mask_rate=0.15",
                                        "train.seq_len=128",
                                        "train.batch=32",
                                        "train.steps=10000",
                                        "optim.type=adamw",
                                        "optim.lr=5e-4",
                                        "optim.schedule=linear",
                                        "optim.min_lr_ratio=0",
                                        "optim.warmup=500",
                                        "optim.beta2=0.98",
                                        "optim.weight_decay=0.01",
                                        NULL};

static const char *const encoder_small[] = {
    "run.name=encoder-small",  "model.type=encoder",      "model.layers=6",
    "model.heads=4",           "model.dim=256",           "objective.type=masked",
    "objective.mask_rate=0.3", "train.seq_len=128",       "train.batch=32",
    "train.steps=10000",       "optim.type=adamw",        "optim.lr=1e-3",
    "optim.schedule=wsd",      "optim.min_lr_ratio=0",    "optim.warmup=300",
    "optim.beta2=0.98",        "optim.weight_decay=0.05", NULL};

const tl_preset tl_presets[] = {
    {"shakespeare-char", "bytes of Shakespeare on a CPU in minutes (nanoGPT's CPU recipe, 0.8M)",
     shakespeare_char},
    {"shakespeare-10m", "bytes of Shakespeare, 10.7M (nanoGPT's GPU recipe)", shakespeare_10m},
    {"gpt2", "a small GPT-2: 6 layers of 384", gpt2},
    {"gpt2-124m", "GPT-2 as published: 12 layers of 768", gpt2_124m},
    {"llama-tiny", "a small LLaMA: 6 layers of 256, grouped queries", llama_tiny},
    {"bert-tiny", "a small BERT: 4 layers of 256, 15% masked", bert_tiny},
    {"encoder-small", "a modern encoder: 6 layers of 256, 30% masked", encoder_small},
    {NULL, NULL, NULL}};
