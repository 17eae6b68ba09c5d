/* The version of the library, as "major.minor.patch". */
#ifndef TILTH_VERSION_H
#define TILTH_VERSION_H

const char *tl_version(void);

#endif
