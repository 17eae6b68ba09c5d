#include "tilth/version.h"

const char *tl_version(void) {
  return TL_VERSION; /* set by the build from the project's version */
}
