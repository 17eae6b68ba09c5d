"""The C interface: declarations of the public headers, and the ctypes types made from them.

DECLARATIONS holds the declarations as the headers have them, without comments; a test compares the two,
and the layout of the structs with the compiler's. Everything else follows from this text.
"""

import ctypes as C
import re

DECLARATIONS = """
typedef enum tl_log_level { TL_LOG_DEBUG, TL_LOG_INFO, TL_LOG_WARN, TL_LOG_ERROR } tl_log_level;
typedef enum tl_special {
  TL_TOK_PAD, TL_TOK_BOS, TL_TOK_EOS, TL_TOK_UNK, TL_TOK_MASK, TL_TOK_N_SPECIAL
} tl_special;
typedef enum tl_task_kind {
  TL_TASK_CLASS, TL_TASK_MULTI, TL_TASK_VALUE, TL_TASK_TOKENS, TL_TASK_PAIR, TL_TASK_TEXTS,
} tl_task_kind;
typedef enum tl_config_level {
  TL_CONFIG_DEFAULT, TL_CONFIG_PRESET, TL_CONFIG_FILE, TL_CONFIG_ENV, TL_CONFIG_FLAG,
} tl_config_level;
enum { TL_MAX_SCORES = 16 };
enum { TL_ST_MAX_NDIM = 8 };

typedef struct tl_err { tl_status code; char msg[1024]; } tl_err;
typedef void (*tl_log_fn)(void *user, tl_log_level level, const char *line);
typedef int (*tl_cancel_fn)(void *user);
typedef struct tl_ctx_options {
  int n_threads;
  const char *cpu;
  bool pin;
  tl_log_fn log;
  tl_cancel_fn cancel;
  void *user;
} tl_ctx_options;
tl_status tl_ctx_new(const tl_ctx_options *options, tl_ctx **out, tl_err *err);
void tl_ctx_free(tl_ctx *ctx);
int tl_ctx_threads(const tl_ctx *ctx);
const char *tl_ctx_cpu(const tl_ctx *ctx);
const char *tl_status_name(tl_status s);
const char *tl_version(void);

typedef struct tl_tokenizer_train_options {
  const char *type;
  int vocab_size;
  bool lowercase;
  int64_t max_bytes;
} tl_tokenizer_train_options;
typedef tl_status (*tl_text_next_fn)(void *user, const char **text, size_t *len, tl_err *err);
tl_status tl_tokenizer_train(tl_ctx *ctx, const tl_tokenizer_train_options *options,
                             tl_text_next_fn next, void *user, tl_tokenizer **out, tl_err *err);
tl_status tl_tokenizer_open(tl_ctx *ctx, const char *name, tl_tokenizer **out, tl_err *err);
tl_status tl_tokenizer_save(const tl_tokenizer *t, const char *dir, tl_err *err);
void tl_tokenizer_free(tl_tokenizer *t);
int tl_tokenizer_vocab_size(const tl_tokenizer *t);
const char *tl_tokenizer_type(const tl_tokenizer *t);
int tl_tokenizer_special(const tl_tokenizer *t, tl_special role);
const char *tl_tokenizer_token(const tl_tokenizer *t, uint32_t id);
int tl_tokenizer_id(const tl_tokenizer *t, const char *token);
tl_status tl_tokenizer_encode(const tl_tokenizer *t, const char *text, size_t len, uint32_t **ids,
                              size_t *n, size_t *cap, tl_err *err);
tl_status tl_tokenizer_decode(const tl_tokenizer *t, const uint32_t *ids, size_t n,
                              bool skip_special, char **text, size_t *len, tl_err *err);

tl_status tl_config_load(const char *preset, const char *file, const char *const *overrides,
                         size_t n, tl_config **out, tl_err *err);
tl_status tl_config_set(tl_config *c, const char *key, const char *value, tl_config_level level,
                        const char *where, tl_err *err);
tl_status tl_config_finish(tl_config *c, tl_err *err);
tl_status tl_config_dump(const tl_config *c, bool origins, char **text, tl_err *err);
void tl_config_free(tl_config *c);

typedef struct tl_score { const char *name; double value, lo, hi; } tl_score;
typedef struct tl_scores { int n; tl_score score[TL_MAX_SCORES]; } tl_scores;
typedef struct tl_progress {
  int64_t step, steps;
  uint64_t tokens;
  double loss, bpb;
  double val_loss, val_bpb;
  double lr, grad_norm;
  double tokens_per_s, flops_per_s;
  double peak;
  double seconds, eta;
  const char *note;
  int warning;
} tl_progress;
typedef void (*tl_progress_fn)(void *user, const tl_progress *p);
typedef struct tl_train_options {
  int argc;
  char *const *argv;
  tl_progress_fn progress;
  void *user;
  bool profile;
} tl_train_options;
typedef struct tl_task_result {
  const char *type;
  const char *metric;
  double best;
  int64_t trained;
  int64_t n_train, n_valid, n_test;
  int64_t n_cut;
  tl_scores valid, test;
} tl_task_result;
typedef struct tl_train_result {
  char run_dir[512];
  int64_t steps;
  uint64_t tokens;
  double loss, val_loss, val_bpb;
  double best_val_loss;
  int64_t best_step;
  double seconds, flops;
  int64_t params;
  tl_task_result task;
  tl_profile *profile;
} tl_train_result;
tl_status tl_train(tl_ctx *ctx, const tl_config *cfg, const tl_train_options *options,
                   tl_train_result *result, tl_err *err);
tl_status tl_resume(tl_ctx *ctx, const char *run_dir, const tl_train_options *options,
                    tl_train_result *result, tl_err *err);

typedef struct tl_labels { int32_t n; char **name; struct tl_label_index *index; } tl_labels;
typedef struct tl_task_data {
  tl_task_kind kind;
  size_t n;
  char **text;
  char **text_b;
  char **text_c;
  int32_t *label;
  double *value;
  size_t *first;
  int32_t *item;
  uint32_t *line;
  tl_labels labels;
  uint64_t hash;
  char *bytes, *bytes_b;
} tl_task_data;
tl_status tl_task_make(tl_task_kind kind, const char *const *text, const char *const *text_b,
                       size_t n, tl_task_data *out, tl_err *err);
void tl_task_data_free(tl_task_data *d);
typedef enum tl_image_format {
  TL_IMAGES_AUTO, TL_IMAGES_FOLDER, TL_IMAGES_CSV, TL_IMAGES_TAR, TL_IMAGES_IDX, TL_IMAGES_CIFAR, TL_IMAGES_NPZ,
} tl_image_format;
enum { TL_IMAGE_MAX_BAD = 20 };
typedef struct tl_image_limits {
  int32_t max_side;
  int64_t max_pixels;
  size_t max_bytes;
} tl_image_limits;
typedef struct tl_mask_options {
  int32_t void_id;
} tl_mask_options;
typedef struct tl_image_options {
  tl_image_format format;
  bool skip_bad;
  bool unlabelled;
  bool several;
  const tl_labels *labels;
  const tl_mask_options *masks;
  tl_image_limits limits;
  size_t memory;
} tl_image_options;
typedef struct tl_image_data {
  tl_task_data records;
  int32_t channels;
  int32_t width, height;
  size_t n_decoded;
  size_t n_bad;
  char *bad[TL_IMAGE_MAX_BAD];
  struct tl_image_data *masks;
  bool ids;
  int32_t void_id;
  struct tl_image_entry *entry;
  struct tl_image_block *blocks;
  tl_image_limits limits;
} tl_image_data;
tl_status tl_image_read(const char *path, const tl_image_options *options, tl_image_data *out,
                        tl_err *err);
void tl_image_data_free(tl_image_data *d);
typedef struct tl_predictions {
  int n_outputs;
  size_t n;
  float *output;
  int32_t *label;
  char **text;
  uint64_t *pixels;
  size_t *confusion;
  double loss;
} tl_predictions;
void tl_predictions_free(tl_predictions *p);
tl_status tl_predictor_open(tl_ctx *ctx, const char *dir, const char *dtype, int64_t max_len,
                            tl_predictor **out, tl_err *err);
void tl_predictor_free(tl_predictor *p);
const char *tl_predictor_task(const tl_predictor *p);
tl_task_kind tl_predictor_kind(const tl_predictor *p);
const tl_labels *tl_predictor_labels(const tl_predictor *p);
tl_status tl_predictor_run(tl_predictor *p, const tl_task_data *d, tl_predictions *out,
                           tl_scores *scores, tl_err *err);
bool tl_predictor_reads_images(const tl_predictor *p);
tl_status tl_predictor_run_images(tl_predictor *p, const tl_image_data *d, tl_predictions *out,
                                  tl_scores *scores, tl_err *err);

typedef struct tl_embed_options {
  const char *pool;
  const char *dtype;
  int64_t max_len;
  bool raw;
} tl_embed_options;
tl_status tl_embedder_open(tl_ctx *ctx, const char *dir, const tl_embed_options *options,
                           tl_embedder **out, tl_err *err);
void tl_embedder_free(tl_embedder *e);
int64_t tl_embedder_dim(const tl_embedder *e);
tl_status tl_embedder_run(tl_embedder *e, const char *const *text, size_t n, float *out, tl_err *err);

typedef struct tl_sampling {
  int64_t max_tokens;
  double temperature;
  int64_t top_k;
  double top_p;
  uint64_t seed;
} tl_sampling;
tl_sampling tl_sampling_defaults(void);
typedef void (*tl_emit_fn)(void *user, const char *text, size_t len);
typedef struct tl_generate_stats {
  int64_t prompt_tokens, new_tokens;
  double prompt_seconds, new_seconds;
  bool ended;
} tl_generate_stats;
tl_status tl_generator_open(tl_ctx *ctx, const char *model_dir, tl_generator **out, tl_err *err);
void tl_generator_free(tl_generator *g);
tl_status tl_generator_run(tl_generator *g, const char *prompt, const tl_sampling *sampling,
                           tl_emit_fn emit, void *user, tl_generate_stats *stats, tl_err *err);

typedef struct tl_st_tensor {
  const char *name;
  tl_st_dtype dtype;
  int ndim;
  int64_t shape[TL_ST_MAX_NDIM];
  const void *data;
  uint64_t size;
} tl_st_tensor;
typedef struct tl_st_pair { const char *key, *value; } tl_st_pair;
const char *tl_st_dtype_name(tl_st_dtype t);
tl_status tl_st_open(const char *path, tl_st **out, tl_err *err);
void tl_st_close(tl_st *st);
size_t tl_st_count(const tl_st *st);
const tl_st_tensor *tl_st_at(const tl_st *st, size_t i);
int64_t tl_st_elements(const tl_st_tensor *t);
tl_status tl_st_read_f32(const tl_st_tensor *t, float *out, tl_err *err);
tl_status tl_st_write(const char *path, const tl_st_tensor *t, size_t n, const tl_st_pair *meta,
                      size_t n_meta, uint64_t *size, uint64_t *hash, tl_err *err);
"""

_SCALARS = {
    "void": None, "char": C.c_char, "bool": C.c_bool, "int": C.c_int, "float": C.c_float, "double": C.c_double,
    "size_t": C.c_size_t, "uint8_t": C.c_uint8, "int32_t": C.c_int32, "uint32_t": C.c_uint32,
    "int64_t": C.c_int64, "uint64_t": C.c_uint64, "tl_status": C.c_int, "tl_st_dtype": C.c_int,
}

COUNTS = {"TL_ST_N_DTYPES": 22}  # of an enum that the header makes from a table


class Abi:
    """types: structs, enums and callbacks by name; constants: by name; functions: name -> (result, arguments)."""

    def __init__(self, text):
        self.types = dict(_SCALARS)
        self.constants = dict(COUNTS)
        self.functions = {}
        for declaration in self.split(text):
            self._declare(declaration)

    @staticmethod
    def split(text):
        """The declarations, each without its semicolon and with single spaces."""
        text = " ".join(text.split())
        out, depth, begin = [], 0, 0
        for i, c in enumerate(text):
            depth += (c == "{") - (c == "}")
            if c == ";" and depth == 0:
                out.append(text[begin:i].strip())
                begin = i + 1
        return out

    def _declare(self, d):
        if m := re.match(r"(?:typedef )?enum (?:\w+ )?\{(.*)\}(?: (\w+))?$", d):
            self._enum(*m.groups())
        elif m := re.match(r"typedef struct (\w+) \{(.*)\} \1$", d):
            self.types[m[1]] = type(m[1], (C.Structure,), {"_fields_": self._fields(m[2])})
        elif m := re.match(r"typedef (.+?) ?\(\*(\w+)\)\((.*)\)$", d):
            # Texts given to a callback need not end in NUL: they come as addresses.
            args = [C.c_void_p if t is C.c_char_p else t for t in self._arguments(m[3])]
            self.types[m[2]] = C.CFUNCTYPE(self._type(m[1]), *args)
        elif m := re.match(r"(.+?[ *])(\w+)\((.*)\)$", d):
            self.functions[m[2]] = (self._type(m[1]), self._arguments(m[3]))
        else:
            raise ValueError("not a declaration: " + d)

    def _enum(self, body, name):
        value = 0
        for item in filter(None, (s.strip() for s in body.split(","))):
            word, _, given = item.partition(" = ")
            value = int(given) if given else value
            self.constants[word] = value
            value += 1
        if name:
            self.types[name] = C.c_int

    def _fields(self, body):
        fields = []
        for member in filter(None, (s.strip() for s in body.split(";"))):
            m = re.match(r"((?:const |struct )*\w+(?: \*const(?= \*))?) ?(.*)$", member)
            for declarator in m[2].split(","):
                stars, name, size = re.match(r"\s*(\**)(\w+)(?:\[(\w+)\])?$", declarator.strip()).groups()
                t = self._type(m[1] + " " + stars)
                if size:
                    t = t * int(self.constants.get(size, size))
                fields.append((name, t))
        return fields

    def _arguments(self, text):
        if text == "void":
            return []
        return [self._type(re.match(r"(.+?[ *])\w+$", a.strip())[1]) for a in text.split(",")]

    def _type(self, text):
        stars = text.count("*")
        base = re.sub(r"\b(const|struct)\b|\*", " ", text).split()[0]
        if stars == 0:
            return self.types[base]
        if base == "char":
            t, stars = C.c_char_p, stars - 1
        elif base not in self.types or base == "void":
            t, stars = C.c_void_p, stars - 1  # a handle
        else:
            t = self.types[base]
        for _ in range(stars):
            t = C.POINTER(t)
        return t


abi = Abi(DECLARATIONS)
