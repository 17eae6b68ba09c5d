/* The version of the library, as "major.minor.patch". */
#ifndef TILTH_VERSION_H
#define TILTH_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

const char *tl_version(void);

#ifdef __cplusplus
}
#endif

#endif
