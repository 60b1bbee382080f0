/* Threads of OpenMP across fork(). */
#ifndef FLM_THREADS_H
#define FLM_THREADS_H

/* Parallel regions of the calling thread run on it alone from now on: 1, or 0 without OpenMP. */
int flm_one_thread(void);

#endif
