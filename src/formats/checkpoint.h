/* What reading and writing of checkpoints share. */
#ifndef TL_FORMATS_CHECKPOINT_H
#define TL_FORMATS_CHECKPOINT_H

#include "tilth/checkpoint.h"

char *tl_ckpt_root(const char *run_dir); /* "<run_dir>/checkpoints", malloc'ed; NULL: no memory */

#endif
