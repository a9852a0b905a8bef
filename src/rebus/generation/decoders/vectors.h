/* Vectors of sixteen numbers: loading, rounding, e^x. Weights and cache are float or bfloat16, the upper half of one. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t u16x __attribute__((vector_size(64), may_alias));
typedef int32_t i16x __attribute__((vector_size(64), may_alias));
typedef uint16_t half;

static inline v16 from_float(const float *p) { return *(const v16 *)p; }
static inline v16 from_half(const uint16_t *p) { return (v16)(__builtin_convertvector(*(const h16 *)p, u16x) << 16); }
static inline float one_float(const float *p) { return *p; }
static inline float one_half(const uint16_t *p) {
    uint32_t u = (uint32_t)*p << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline void put_float(float *p, float f) { *p = f; }
static inline void put_half(uint16_t *p, float f) { /* to the nearest, ties to even */
    uint32_t u;
    memcpy(&u, &f, 4);
    *p = (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
/* The first n numbers, the rest as they are in ``other``; a copy of unknown length would be a call. */
static inline v16 part_of(const float *p, int64_t n, float other) {
    v16 v = (v16){0} + other;
    if (n >= 16) return from_float(p);
    for (int64_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
static inline void put_part(float *p, v16 v, int64_t n) {
    if (n >= 16)
        memcpy(p, &v, 64);
    else
        for (int64_t i = 0; i < n; i++) p[i] = v[i];
}
static inline v16 larger(v16 a, v16 b) {
    u16x more = (u16x)(a > b);
    return (v16)(((u16x)a & more) | ((u16x)b & ~more));
}
static inline float sum(v16 v) { /* by halves: sixteen additions in a row would each wait for the last */
    typedef float v8 __attribute__((vector_size(32))), v4 __attribute__((vector_size(16)));
    v8 a[2];
    memcpy(a, &v, 64);
    a[0] += a[1];
    v4 b[2];
    memcpy(b, a, 32);
    b[0] += b[1];
    return (b[0][0] + b[0][2]) + (b[0][1] + b[0][3]);
}

/* Sixteen vectors to the vector of their sums, together: a third of the work of one after the other. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FOLDS
#endif
#endif
#ifdef FOLDS
#define FOLD(a, b, ...) (__builtin_shufflevector(a, b, __VA_ARGS__))
static inline v16 sums(const v16 *v) {
    v16 a[8], b[4], c[2];
    for (int i = 0; i < 8; i++)
        a[i] = FOLD(v[2 * i], v[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               FOLD(v[2 * i], v[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    for (int i = 0; i < 4; i++)
        b[i] = FOLD(a[2 * i], a[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               FOLD(a[2 * i], a[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    for (int i = 0; i < 2; i++)
        c[i] = FOLD(b[2 * i], b[2 * i + 1], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
               FOLD(b[2 * i], b[2 * i + 1], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
    return FOLD(c[0], c[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           FOLD(c[0], c[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
#else
static inline v16 sums(const v16 *v) {
    v16 told;
    for (int i = 0; i < 16; i++) told[i] = sum(v[i]);
    return told;
}
#endif

/* e^x, right to about 2e-7 of itself: 2^n times a polynomial, as in Cephes' expf. */
static inline v16 exponential(v16 x) {
    const v16 most = (v16){0} + 88.0f, least = (v16){0} - 87.0f, round = (v16){0} + 12582912.0f; /* 1.5 x 2^23 */
    u16x high = (u16x)(x > most), low = (u16x)(x < least);
    x = (v16)(((u16x)x & ~(high | low)) | ((u16x)most & high) | ((u16x)least & low));
    v16 n = (x * 1.44269504f + round) - round;
    x = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    v16 p = ((((1.9875691500e-4f * x + 1.3981999507e-3f) * x + 8.3334519073e-3f) * x + 4.1665795894e-2f) * x +
             1.6666665459e-1f) * x + 5.0000001201e-1f;
    p = p * x * x + x + 1.0f;
    return p * (v16)((u16x)(__builtin_convertvector(n, i16x) + 127) << 23);
}
