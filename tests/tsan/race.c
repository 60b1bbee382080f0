/* Two thread-parallel sums, to see that the sanitizer tells them apart: `barrier`
 * hands partial sums over at the end of a loop, `race` adds to one place at once. */
#include <stdio.h>
#include <string.h>

#define THREADS 4
#define N 100000

int main(int argc, char **argv)
{
    static double part[THREADS];
    double sum = 0;
    if (argc > 1 && !strcmp(argv[1], "race")) {
#pragma omp parallel for num_threads(THREADS)
        for (int i = 0; i < N; i++)
            sum += i;
    } else {
#pragma omp parallel num_threads(THREADS)
        {
#pragma omp for
            for (int q = 0; q < THREADS; q++)
                for (int i = q; i < N; i += THREADS)
                    part[q] += i;
#pragma omp single
            for (int q = 0; q < THREADS; q++)
                sum += part[q];
        }
    }
    printf("%.0f\n", sum);
    return 0;
}
