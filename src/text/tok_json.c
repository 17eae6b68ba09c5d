/* Writes tokenizer.json and the two files beside it, in the form of Hugging Face's tokenizers. */
#include "tok_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/file.h"

void tok_json_chars(tl_buf *b, const char *s) {
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\') tl_buf_putc(b, '\\');
    if (c < 32)
      tl_buf_printf(b, "\\u%04x", c);
    else
      tl_buf_putc(b, (char)c);
  }
}

void tok_json_string(tl_buf *b, const char *s) {
  tl_buf_putc(b, '"');
  tok_json_chars(b, s);
  tl_buf_putc(b, '"');
}

void tok_json_vocab(tl_buf *b, const tl_tokenizer *t) {
  tl_buf_puts(b, "    \"vocab\": {");
  for (uint32_t id = 0; id < t->n; id++) {
    tl_buf_puts(b, id ? ",\n      " : "\n      ");
    tok_json_string(b, tok_str(t, id));
    tl_buf_printf(b, ": %u", id);
  }
  tl_buf_puts(b, "\n    }");
}

static const char *truth(bool b) {
  return b ? "true" : "false";
}

void tok_json_norm(tl_buf *b, const tok_norm *n) {
  if (!n->on) {
    tl_buf_puts(b, "null");
    return;
  }
  tl_buf_printf(b,
                "{\n    \"type\": \"BertNormalizer\",\n    \"clean_text\": %s,\n"
                "    \"handle_chinese_chars\": %s,\n    \"strip_accents\": %s,\n"
                "    \"lowercase\": %s\n  }",
                truth(n->clean_text), truth(n->chinese_chars), truth(n->strip_accents),
                truth(n->lowercase));
}

static void put_special_piece(tl_buf *b, const char *token, const char *end) {
  tl_buf_puts(b, "      {\"SpecialToken\": {\"id\": ");
  tok_json_string(b, token);
  tl_buf_printf(b, ", \"type_id\": %s}}", end);
}

static void put_special_entry(tl_buf *b, const char *token, int id, const char *end) {
  tl_buf_puts(b, "      ");
  tok_json_string(b, token);
  tl_buf_puts(b, ": {\"id\": ");
  tok_json_string(b, token);
  tl_buf_printf(b, ", \"ids\": [%d], \"tokens\": [", id);
  tok_json_string(b, token);
  tl_buf_printf(b, "]}%s", end);
}

/* Wraps a text in BOS ... EOS, a pair in BOS A EOS B EOS. */
void tok_json_post(tl_buf *b, const tl_tokenizer *t) {
  int bos = t->special[TL_TOK_BOS], eos = t->special[TL_TOK_EOS];
  tl_buf_puts(b, "  \"post_processor\": ");
  if (bos < 0 || eos < 0 || bos == eos) {
    tl_buf_puts(b, "null,\n");
    return;
  }
  const char *s = tok_str(t, (uint32_t)bos), *e = tok_str(t, (uint32_t)eos);
  tl_buf_puts(b, "{\n    \"type\": \"TemplateProcessing\",\n");
  for (int pair = 0; pair < 2; pair++) {
    tl_buf_puts(b, pair ? "    \"pair\": [\n" : "    \"single\": [\n");
    put_special_piece(b, s, "0");
    tl_buf_puts(b, ",\n      {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},\n");
    put_special_piece(b, e, "0");
    if (pair) {
      tl_buf_puts(b, ",\n      {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}},\n");
      put_special_piece(b, e, "1");
    }
    tl_buf_puts(b, "\n    ],\n");
  }
  tl_buf_puts(b, "    \"special_tokens\": {\n");
  put_special_entry(b, s, bos, ",\n");
  put_special_entry(b, e, eos, "\n    }\n  },\n");
}

static void put_added(tl_buf *b, const tl_tokenizer *t) {
  tl_buf_puts(b, "  \"added_tokens\": [");
  bool any = false;
  for (uint32_t id = 0; id < t->n; id++) {
    if (!(t->flag[id] & TOK_F_ADDED)) continue;
    tl_buf_printf(b, "%s\n    {\"id\": %u, \"content\": ", any ? "," : "", id);
    tok_json_string(b, tok_str(t, id));
    tl_buf_printf(b,
                  ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                  "\"normalized\": false, \"special\": %s}",
                  truth(t->flag[id] & TOK_F_SPECIAL));
    any = true;
  }
  tl_buf_puts(b, any ? "\n  ],\n" : "],\n");
}

void tok_write_json(const tl_tokenizer *t, tl_buf *out) {
  tl_buf_puts(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
  put_added(out, t);
  t->type->write(t, out);
  tl_buf_puts(out, "\n}\n");
}

/* Names that transformers gives the roles: the last two are BERT's for BOS and EOS. */
static const struct role {
  const char *key;
  tl_special role;
} roles[] = {
    {"bos_token", TL_TOK_BOS}, {"eos_token", TL_TOK_EOS},   {"unk_token", TL_TOK_UNK},
    {"pad_token", TL_TOK_PAD}, {"mask_token", TL_TOK_MASK}, {"cls_token", TL_TOK_BOS},
    {"sep_token", TL_TOK_EOS},
};

static void put_roles(tl_buf *b, const tl_tokenizer *t, const char *first) {
  for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
    int id = t->special[roles[i].role];
    if (id < 0) continue;
    tl_buf_printf(b, "%s\n  \"%s\": ", first, roles[i].key);
    tok_json_string(b, tok_str(t, (uint32_t)id));
    first = ",";
  }
}

static void put_config(tl_buf *b, const tl_tokenizer *t) {
  tl_buf_puts(b, "{\n  \"added_tokens_decoder\": {");
  bool any = false;
  for (uint32_t id = 0; id < t->n; id++) {
    if (!(t->flag[id] & TOK_F_ADDED)) continue;
    tl_buf_printf(b, "%s\n    \"%u\": {\"content\": ", any ? "," : "", id);
    tok_json_string(b, tok_str(t, id));
    tl_buf_printf(b,
                  ", \"lstrip\": false, \"normalized\": false, \"rstrip\": false, "
                  "\"single_word\": false, \"special\": %s}",
                  truth(t->flag[id] & TOK_F_SPECIAL));
    any = true;
  }
  tl_buf_puts(b, any ? "\n  }" : "}");
  put_roles(b, t, ",");
  tl_buf_puts(b, ",\n  \"clean_up_tokenization_spaces\": false,\n"
                 "  \"model_max_length\": 1000000000000000019884624838656,\n"
                 "  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
}

static tl_status write_file(const char *dir, const char *name, tl_buf *b, tl_err *err) {
  char *path = tl_path_join(dir, name);
  tl_status s = path ? tl_buf_check(b, err) : tok_nomem(err);
  if (s == TL_OK) s = tl_file_write_atomic(path, b->data, b->len, err);
  free(path);
  tl_buf_clear(b);
  return s;
}

const char *const tl_tokenizer_files[] = {"tokenizer.json", "tokenizer_config.json",
                                          "special_tokens_map.json", "chat_template.jinja", NULL};
enum { MAX_BESIDE = 16 << 20 };

tl_status tok_read_beside(tl_tokenizer *t, const char *dir, tl_err *err) {
  tl_status s = TL_OK;
  for (int i = 0; s == TL_OK && i < TOK_BESIDE; i++) {
    char *path = tl_path_join(dir, tl_tokenizer_files[i + 1]);
    if (!path) return tok_nomem(err);
    if (tl_file_exists(path)) s = tl_file_read(path, MAX_BESIDE, &t->beside[i], err);
    free(path);
  }
  return s;
}

static void put_map(tl_buf *b, const tl_tokenizer *t) {
  tl_buf_puts(b, "{");
  put_roles(b, t, "");
  tl_buf_puts(b, "\n}\n");
}

/* What stands beside tokenizer.json: as it was read, or made. */
static tl_status write_beside(const tl_tokenizer *t, const char *dir, tl_err *err) {
  bool made = t->beside[0].len == 0;
  tl_status s = TL_OK;
  for (int i = 0; s == TL_OK && i < TOK_BESIDE; i++) {
    tl_buf b = {0};
    if (t->beside[i].len)
      tl_buf_append(&b, t->beside[i].data, t->beside[i].len);
    else if (made && i == 0)
      put_config(&b, t);
    else if (made && i == 1)
      put_map(&b, t);
    if (b.len) s = write_file(dir, tl_tokenizer_files[i + 1], &b, err);
    tl_buf_free(&b);
  }
  return s;
}

tl_status tl_tokenizer_save(const tl_tokenizer *t, const char *dir, tl_err *err) {
  TL_TRY(tl_mkdirs(dir, err));
  tl_buf b = {0};
  if (t->source.len)
    tl_buf_append(&b, t->source.data, t->source.len);
  else
    tok_write_json(t, &b);
  tl_status s = write_file(dir, tl_tokenizer_files[0], &b, err);
  tl_buf_free(&b);
  return s == TL_OK ? write_beside(t, dir, err) : s;
}
