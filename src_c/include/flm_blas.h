/* SciPy's BLAS and LAPACK, handed to the C kernels as function pointers. */
#ifndef FLM_BLAS_H
#define FLM_BLAS_H

typedef int flm_blas_int; /* LP64, as in scipy.linalg.cython_blas */

typedef struct {
    void (*dpotrf)(char *uplo, flm_blas_int *n, double *a, flm_blas_int *lda, flm_blas_int *info);
    void (*dpotri)(char *uplo, flm_blas_int *n, double *a, flm_blas_int *lda, flm_blas_int *info);
    void (*dtrsm)(char *side, char *uplo, char *trans, char *diag, flm_blas_int *m, flm_blas_int *n,
                  double *alpha, double *a, flm_blas_int *lda, double *b, flm_blas_int *ldb);
    void (*dsymm)(char *side, char *uplo, flm_blas_int *m, flm_blas_int *n, double *alpha, double *a,
                  flm_blas_int *lda, double *b, flm_blas_int *ldb, double *beta, double *c, flm_blas_int *ldc);
    void (*dsyrk)(char *uplo, char *trans, flm_blas_int *n, flm_blas_int *k, double *alpha, double *a,
                  flm_blas_int *lda, double *beta, double *c, flm_blas_int *ldc);
    void (*dgemm)(char *trans_a, char *trans_b, flm_blas_int *m, flm_blas_int *n, flm_blas_int *k,
                  double *alpha, double *a, flm_blas_int *lda, double *b, flm_blas_int *ldb, double *beta,
                  double *c, flm_blas_int *ldc);
} flm_blas;

#endif
