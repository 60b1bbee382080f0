/* A forked process has one thread, but libgomp's pool still lists those of the
 * parent and the next parallel region would wait for them forever.  With no
 * active level allowed, regions are run by the thread that meets them; the
 * kernels' results do not depend on how many threads there are. */
#include "flm_threads.h"

#ifdef _OPENMP
#include <omp.h>
#endif

int flm_one_thread(void) {
#ifdef _OPENMP
    omp_set_max_active_levels(0);
    return 1;
#else
    return 0;
#endif
}
