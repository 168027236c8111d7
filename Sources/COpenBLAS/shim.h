#include <cblas.h>

// LAPACK's Cholesky factor, and the inverse from it (Fortran: everything by address, columns first).
void dpotrf_(const char *triangle, const int *n, double *a, const int *stride, int *info);
void dpotri_(const char *triangle, const int *n, double *a, const int *stride, int *info);
