#include <cblas.h>

// LAPACK's Cholesky factor, and the inverse from it (Fortran: everything by address, columns first).
void dpotrf_(const char *triangle, const int *n, double *a, const int *stride, int *info);
void dpotri_(const char *triangle, const int *n, double *a, const int *stride, int *info);

// Eigenvalues and eigenvectors of a symmetric matrix; singular values and vectors of any.
void dsyevd_(const char *vectors, const char *triangle, const int *n, double *a, const int *stride, double *values,
    double *work, const int *work_size, int *integers, const int *integers_size, int *info);
void dgesdd_(const char *vectors, const int *m, const int *n, double *a, const int *stride, double *values,
    double *left, const int *left_stride, double *right, const int *right_stride, double *work, const int *work_size,
    int *integers, int *info);

// Ends the threads that OpenBLAS starts when it is loaded: they look out for work for a while, which takes a core from
// those who have some, and here all is asked for on one thread. Builds without threads lack the function.
int blas_thread_shutdown_(void) __attribute__((weak));
static inline void llv_end_blas_threads(void) {
  if (blas_thread_shutdown_) blas_thread_shutdown_();
}
