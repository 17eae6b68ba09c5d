#include "tilth/dtype.h"

static const struct {
  size_t bytes;
  const char *text;
} dtype_table[] = {
#define ROW(name, bytes, text, st) {bytes, text},
    TL_DTYPE_MAP(ROW)
#undef ROW
};

size_t tl_dtype_size(tl_dtype t) {
  return (unsigned)t < TL_N_DTYPES ? dtype_table[t].bytes : 0;
}

const char *tl_dtype_name(tl_dtype t) {
  return (unsigned)t < TL_N_DTYPES ? dtype_table[t].text : "unknown";
}
