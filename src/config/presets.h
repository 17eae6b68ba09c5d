/* Presets: named lists of settings. */
#ifndef TL_CONFIG_PRESETS_H
#define TL_CONFIG_PRESETS_H

typedef struct tl_preset {
  const char *name, *help;
  const char *const *settings; /* "section.key=value", NULL-terminated */
} tl_preset;

extern const tl_preset tl_presets[]; /* ends with name == NULL */

#endif
