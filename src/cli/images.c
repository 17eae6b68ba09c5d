/* Pictures as the commands read them. */
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"

tl_status tl_cli_read_images(const char *path, const tl_cli_images *how, tl_image_data *out,
                             tl_err *err) {
  tl_image_options o = {.skip_bad = !strcmp(how->bad, "skip"),
                        .unlabelled = how->unlabelled,
                        .several = how->several,
                        .labels = how->labels,
                        .masks = how->masks};
  *out = (tl_image_data){0};
  if (!tl_image_format_parse(how->format, &o.format))
    return tl_fail(err, TL_USAGE, "--format %s is unknown; pictures come as " TL_IMAGE_FORMATS,
                   how->format);
  if (!o.skip_bad && strcmp(how->bad, "stop"))
    return tl_fail(err, TL_USAGE, "--bad must be stop or skip, not %s", how->bad);
  TL_TRY(tl_image_read(path, &o, out, err));
  for (int i = 0; i < TL_IMAGE_MAX_BAD && out->bad[i]; i++)
    if (!tl_cli_quiet()) fprintf(stderr, "left out: %s\n", out->bad[i]);
  if (out->n_bad > 0 && !tl_cli_quiet())
    fprintf(stderr, "%s: %zu broken pictures were left out\n", path, out->n_bad);
  return TL_OK;
}
