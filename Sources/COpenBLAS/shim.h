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
