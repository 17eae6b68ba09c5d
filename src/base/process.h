/* What the system knows of this process. */
#ifndef TL_BASE_PROCESS_H
#define TL_BASE_PROCESS_H

/* Seconds since the process began, to 1/100: /proc tells its start in clock ticks since boot. 0 if
 * it cannot be known. */
double tl_process_age(void);
/* Bytes of memory that it has held at most; 0 if it cannot be known. */
double tl_process_peak_rss(void);

#endif
