/* One token through a decoder layer, for a few texts at once: the fast path of rebus.generation.native.

   Writing a token is reading every weight once, so what counts is to read them in long streams and to do little
   beside it. Weights and cache are float or bfloat16 (the upper half of a float), everything between is float.
   Letters: R texts, D width, H heads, G key-value heads, K size of a head, M size inside the feed-forward layer. */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t u16x __attribute__((vector_size(64), may_alias));
typedef int32_t i16x __attribute__((vector_size(64), may_alias));

enum { RMS, LAYER };
enum { SWIGLU, GELU, GELU_TANH, QUICK_GELU, RELU, SILU };

typedef struct {
    int64_t width, heads, groups, size, hidden;
    int64_t norm, act, half;      /* kind of norm, of feed-forward; whether weights and cache are bfloat16 */
    double eps;
    const void *wq, *wk, *wv, *wo, *wu, *wg, *wd; /* (out, in); wg: SwiGLU's gate */
    const float *bq, *bk, *bv, *bo, *bu, *bg, *bd; /* or NULL */
    const float *n1, *n1b, *n2, *n2b, *qn, *kn;    /* scales and shifts of norms, or NULL */
} Layer;

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

/* x through the activation, in place; up: what SwiGLU multiplies it by. Most are x / (1 + e^-s) for some s of x. */
static void activate(int64_t act, float *x, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        int64_t here = n - i < 16 ? n - i : 16;
        v16 v = {0}, u = (v16){0} + 1.0f;
        memcpy(&v, x + i, here * 4);
        if (up) memcpy(&u, up + i, here * 4);
        if (act == RELU)
            v = (v16)((u16x)v & (u16x)(v > 0.0f));
        else if (act == GELU)
            for (int j = 0; j < 16; j++) v[j] *= 0.5f * (1.0f + erff(v[j] * 0.70710678f));
        else {
            v16 s = v;
            if (act == QUICK_GELU) s = 1.702f * v;
            if (act == GELU_TANH) s = 1.59576912f * (v + 0.044715f * v * v * v);
            v = v / (1.0f + exponential(-s));
        }
        v *= u;
        memcpy(x + i, &v, here * 4);
    }
}

static void norm_row(int64_t kind, const float *x, float *y, int64_t n, const float *w, const float *b, double eps) {
    double square = 0, mean = 0;
    if (kind == LAYER) {
        for (int64_t i = 0; i < n; i++) mean += x[i];
        mean /= n;
    }
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    float root = (float)(1.0 / sqrt(square / n + eps)), middle = (float)mean;
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - middle) * root * w[i] + (b ? b[i] : 0.0f);
}

#define UNROLL _Pragma("GCC unroll 8")

/* y[r] = w . x[r] and z[r] = u . x[r] for NB texts: two rows of weights at a time, so that each number of x is read for
   two products. The two are far apart, for two rows side by side would be one stream that jumps to and fro, which
   memory gives at half the speed. Several running sums, as each addition waits for the one before.
   T, X: types of the weights and of x; S: the running sums' vector; WIDE: numbers of one step. */
#define DOTS(NAME, T, X, S, WIDE, LOADW, LOADX, STEP, ONEW, ONEX, NB, PARTS)                                           \
    static void NAME##_##NB(const T *w, const T *u, const X *x, int64_t k, float *y, float *z) {                       \
        S s[NB][PARTS], t[NB][PARTS];                                                                                  \
        UNROLL for (int r = 0; r < NB; r++) UNROLL for (int p = 0; p < PARTS; p++) s[r][p] = t[r][p] = (S){0};         \
        int64_t j = 0;                                                                                                 \
        for (; j + WIDE * PARTS <= k; j += WIDE * PARTS)                                                               \
            UNROLL for (int p = 0; p < PARTS; p++) UNROLL for (int r = 0; r < NB; r++) {                               \
                s[r][p] = STEP(s[r][p], LOADW(w + j + WIDE * p), LOADX(x + r * k + j + WIDE * p));                     \
                t[r][p] = STEP(t[r][p], LOADW(u + j + WIDE * p), LOADX(x + r * k + j + WIDE * p));                     \
            }                                                                                                          \
        for (; j + WIDE <= k; j += WIDE) UNROLL for (int r = 0; r < NB; r++) {                                         \
                s[r][0] = STEP(s[r][0], LOADW(w + j), LOADX(x + r * k + j));                                           \
                t[r][0] = STEP(t[r][0], LOADW(u + j), LOADX(x + r * k + j));                                           \
            }                                                                                                          \
        if (NB == 8) {                                                                                                 \
            v16 all[16];                                                                                               \
            UNROLL for (int r = 0; r < NB; r++) all[r] = (v16)s[r][0], all[8 + r] = (v16)t[r][0];                      \
            v16 told = sums(all);                                                                                      \
            memcpy(y, &told, 32), memcpy(z, (char *)&told + 32, 32);                                                   \
        } else                                                                                                         \
            UNROLL for (int r = 0; r < NB; r++) {                                                                      \
                S v = s[r][0], o = t[r][0];                                                                            \
                UNROLL for (int p = 1; p < PARTS; p++) v += s[r][p], o += t[r][p];                                     \
                y[r] = sum((v16)v), z[r] = sum((v16)o);                                                                \
            }                                                                                                          \
        for (int r = 0; r < NB; r++)                                                                                   \
            for (int64_t i = j; i < k; i++) {                                                                          \
                y[r] += ONEW(w + i) * ONEX(x + r * k + i);                                                             \
                z[r] += ONEW(u + i) * ONEX(x + r * k + i);                                                             \
            }                                                                                                          \
    }
#define EVERY(NAME, T, X, ...)                                                                                         \
    DOTS(NAME, T, X, __VA_ARGS__, 1, 4)                                                                                \
    DOTS(NAME, T, X, __VA_ARGS__, 2, 4)                                                                                \
    DOTS(NAME, T, X, __VA_ARGS__, 3, 2)                                                                                \
    DOTS(NAME, T, X, __VA_ARGS__, 4, 2)                                                                                \
    DOTS(NAME, T, X, __VA_ARGS__, 5, 1)                                                                                \
    DOTS(NAME, T, X, __VA_ARGS__, 6, 1)                                                                                \
    DOTS(NAME, T, X, __VA_ARGS__, 7, 1)                                                                                \
    DOTS(NAME, T, X, __VA_ARGS__, 8, 1)                                                                                \
    __attribute__((unused)) static void NAME(const T *w, const T *u, const X *x, int64_t k, int64_t rows, float *y,    \
                                             float *z) {                                                               \
        for (; rows > 0; rows -= 8, x += 8 * k, y += 8, z += 8) switch (rows) {                                        \
            case 1: NAME##_1(w, u, x, k, y, z); break;                                                                 \
            case 2: NAME##_2(w, u, x, k, y, z); break;                                                                 \
            case 3: NAME##_3(w, u, x, k, y, z); break;                                                                 \
            case 4: NAME##_4(w, u, x, k, y, z); break;                                                                 \
            case 5: NAME##_5(w, u, x, k, y, z); break;                                                                 \
            case 6: NAME##_6(w, u, x, k, y, z); break;                                                                 \
            case 7: NAME##_7(w, u, x, k, y, z); break;                                                                 \
            default: NAME##_8(w, u, x, k, y, z);                                                                       \
            }                                                                                                          \
    }
#define PLUS(s, a, b) ((s) + (a) * (b))
typedef uint16_t half;
EVERY(dots_float, float, float, v16, 16, from_float, from_float, PLUS, one_float, one_float)
EVERY(dots_half, half, float, v16, 16, from_half, from_float, PLUS, one_half, one_float)

/* Where the processor multiplies bfloat16 itself, what a product reads is rounded to it, as PyTorch does. */
#ifdef __AVX512BF16__
#include <immintrin.h>
#define AS_BITS(p) ((__m512bh)_mm512_loadu_si512(p))
EVERY(dots_both, half, half, __m512, 32, AS_BITS, AS_BITS, _mm512_dpbf16_ps, one_half, one_half)
#define ROUNDS 1
#else
#define dots_both dots_half
#define ROUNDS 0
#endif

/* n numbers, from place ``at`` on, as products read them. */
static inline void ready(int64_t is_half, const float *x, void *to, int64_t at, int64_t n) {
#if ROUNDS
    if (is_half) {
        for (int64_t i = 0; i < n; i++) put_half((half *)to + at + i, x[i]);
        return;
    }
#endif
    (void)is_half;
    memcpy((float *)to + at, x, n * sizeof(float));
}

/* Scores to e^(score - highest), 0 where nothing is seen; gives what to multiply them by for their sum to be 1. */
static float shares(float *scores, int64_t count, float scale, const uint8_t *seen) {
    float most = -INFINITY, total = 0;
    for (int64_t i = 0; i < count; i++)
        if (!seen || seen[i]) most = scores[i] * scale > most ? scores[i] * scale : most;
    for (int64_t i = 0; i < count; i += 16) {
        int64_t here = count - i < 16 ? count - i : 16;
        v16 v = {0};
        memcpy(&v, scores + i, here * 4);
        v = exponential(v * scale - most);
        memcpy(scores + i, &v, here * 4);
    }
    for (int64_t i = 0; i < count; i++) total += scores[i] = !seen || seen[i] ? scores[i] : 0;
    return total > 0 ? 1.0f / total : 0;
}

#define ALL(T, LOAD, ONE)                                                                                              \
    /* One head of one text looks at its keys: softmax(q k / sqrt(K)) v; scores: room for one number a key. */         \
    static void look_##T(const float *q, const T *keys, const T *values, int64_t count, int64_t size,                  \
                         const uint8_t *seen, float *scores, float *out) {                                             \
        int64_t middle = (count + 1) / 2;                                                                              \
        for (int64_t i = 0; i < middle; i++) {                                                                         \
            int64_t m = i + middle < count ? i + middle : i;                                                           \
            float y, z;                                                                                                \
            dots_##T##_1(keys + i * size, keys + m * size, q, size, &y, &z);                                           \
            scores[i] = y, scores[m] = z;                                                                              \
        }                                                                                                              \
        float total = shares(scores, count, 1.0f / sqrtf((float)size), seen);                                          \
        int64_t j = 0;                                                                                                 \
        for (; j + 16 <= size; j += 16) {                                                                              \
            v16 s = {0};                                                                                               \
            for (int64_t i = 0; i < count; i++) s += scores[i] * LOAD(values + i * size + j);                          \
            s *= total;                                                                                                \
            memcpy(out + j, &s, 64);                                                                                   \
        }                                                                                                              \
        for (; j < size; j++) {                                                                                        \
            out[j] = 0;                                                                                                \
            for (int64_t i = 0; i < count; i++) out[j] += scores[i] * ONE(values + i * size + j);                      \
            out[j] *= total;                                                                                           \
        }                                                                                                              \
    }
ALL(float, from_float, one_float)
ALL(half, from_half, one_half)

#define MOST 64 /* texts of one call */

/* Row n of w and row m of u, (N, k) each, times x (rows, k): as ``ready`` left it. */
static inline void pair(int64_t is_half, const void *w, int64_t n, const void *u, int64_t m, const void *x, int64_t k,
                        int64_t rows, float *y, float *z) {
    if (is_half)
        dots_both((const half *)w + n * k, (const half *)u + m * k, x, k, rows, y, z);
    else
        dots_float((const float *)w + n * k, (const float *)u + m * k, x, k, rows, y, z);
}

/* to (rows, N) = or += x (rows, k) W^T + b, by all threads together. */
static inline void product(int64_t is_half, const void *w, const float *b, int64_t N, const void *x, int64_t k,
                           int64_t rows, float *to, int add) {
    float y[2][MOST];
    const int64_t middle = (N + 1) / 2;
#pragma omp for schedule(static) nowait
    for (int64_t n = 0; n < middle; n++) {
        int64_t both[2] = {n, n + middle < N ? n + middle : n};
        pair(is_half, w, both[0], w, both[1], x, k, rows, y[0], y[1]);
        for (int64_t i = 0; i < 1 + (both[1] > n); i++)
            for (int64_t r = 0; r < rows; r++) {
                float told = y[i][r] + (b ? b[both[i]] : 0), *place = to + r * N + both[i];
                *place = add ? *place + told : told;
            }
    }
}

/* Normalise one head and turn it to its position: pairs (x[i], x[i + K/2]) by the angle of cos and sin. */
static void place(float *x, int64_t size, const float *norm, double eps, const float *cos, const float *sin) {
    if (norm) norm_row(RMS, x, x, size, norm, 0, eps);
    if (!cos) return;
    for (int64_t i = 0, h = size / 2; i < h; i++) {
        float a = x[i], b = x[i + h];
        x[i] = a * cos[i] - b * sin[i];
        x[i + h] = b * cos[i] + a * sin[i];
    }
}

/* x (R, D) goes through the layer in place. keys, values (R, G, room, K): the new token's are written at ``at``.
   seen (R, seen_step) bytes: which of the tokens up to ``at`` each text sees, or NULL: all. cos, sin (R, K/2) or NULL.
   work: R x (2 max(D, H K) + (H + 2G) K + 3M + H (at + 1)) floats. */
void rebus_layer(const Layer *l, int64_t rows, float *x, float *work, void *keys, void *values, int64_t room,
                 int64_t at, const uint8_t *seen, int64_t seen_step, const float *cos, const float *sin,
                 int32_t threads) {
    const int64_t D = l->width, K = l->size, H = l->heads, G = l->groups, M = l->hidden, HK = H * K, GK = G * K;
    const int64_t wide = D > HK ? D : HK, is_half = l->half;
    float *in = work, *next = in + rows * wide, *h = next + rows * M, *q = h + rows * wide, *k = q + rows * HK,
          *v = k + rows * GK, *inner = v + rows * GK, *gate = inner + rows * M, *scores = gate + rows * M;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            norm_row(l->norm, x + r * D, h + r * D, D, l->n1, l->n1b, l->eps);
            ready(is_half, h + r * D, in, r * D, D);
        }
        product(is_half, l->wq, l->bq, HK, in, D, rows, q, 0);
        product(is_half, l->wk, l->bk, GK, in, D, rows, k, 0);
        product(is_half, l->wv, l->bv, GK, in, D, rows, v, 0);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows * (H + G); i++) {
            int64_t r = i / (H + G), head = i % (H + G);
            const float *c = cos ? cos + r * (K / 2) : 0, *s = sin ? sin + r * (K / 2) : 0;
            if (head < H) {
                place(q + r * HK + head * K, K, l->qn, l->eps, c, s);
                continue;
            }
            head -= H;
            float *key = k + r * GK + head * K, *value = v + r * GK + head * K;
            place(key, K, l->kn, l->eps, c, s);
            int64_t spot = ((r * G + head) * room + at) * K;
            for (int64_t j = 0; j < K; j++)
                if (is_half) {
                    put_half((half *)keys + spot + j, key[j]);
                    put_half((half *)values + spot + j, value[j]);
                } else {
                    put_float((float *)keys + spot + j, key[j]);
                    put_float((float *)values + spot + j, value[j]);
                }
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows * H; i++) {
            int64_t r = i / H, head = i % H, spot = (r * G + head / (H / G)) * room * K;
            const uint8_t *mask = seen ? seen + r * seen_step : 0;
            float *from = q + r * HK + head * K, *to = h + r * HK + head * K, *room_for = scores + i * (at + 1);
            if (is_half)
                look_half(from, (half *)keys + spot, (half *)values + spot, at + 1, K, mask, room_for, to);
            else
                look_float(from, (float *)keys + spot, (float *)values + spot, at + 1, K, mask, room_for, to);
            ready(is_half, to, in, r * HK + head * K, K);
        }
        product(is_half, l->wo, l->bo, D, in, HK, rows, x, 1);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            norm_row(l->norm, x + r * D, h + r * D, D, l->n2, l->n2b, l->eps);
            ready(is_half, h + r * D, in, r * D, D);
        }
        /* Each thread goes on alone with the part of the inner numbers that it made itself. */
        const int64_t gated = l->act == SWIGLU, first = M * omp_get_thread_num() / omp_get_num_threads(),
                      end = M * (omp_get_thread_num() + 1) / omp_get_num_threads(), middle = (end - first + 1) / 2;
        float y[2][MOST];
        for (int64_t n = first; n < (gated ? end : first + middle); n++) {
            int64_t m = gated || n + middle >= end ? n : n + middle;
            pair(is_half, l->wu, n, gated ? l->wg : l->wu, m, in, D, rows, y[0], y[1]);
            for (int64_t r = 0; r < rows; r++) {
                float other = y[1][r] + (gated ? l->bg ? l->bg[n] : 0 : l->bu ? l->bu[m] : 0);
                (gated ? gate : inner)[r * M + m] = other;
                inner[r * M + n] = y[0][r] + (l->bu ? l->bu[n] : 0);
            }
        }
        for (int64_t r = 0; r < rows; r++) {
            float *said = (gated ? gate : inner) + r * M + first;
            activate(gated ? SILU : l->act, said, gated ? inner + r * M + first : 0, end - first);
            ready(is_half, said, next, r * M + first, end - first);
        }
#pragma omp barrier
        product(is_half, l->wd, l->bd, D, next, M, rows, x, 1);
    }
}

/* y (R, D) = norm(x). */
void rebus_norm(int64_t kind, int64_t rows, const float *x, float *y, int64_t n, const float *w, const float *b,
                double eps) {
    for (int64_t r = 0; r < rows; r++) norm_row(kind, x + r * n, y + r * n, n, w, b, eps);
}

/* y (R, N) = x (R, K) W^T, W (N, K); work: R x K floats. */
void rebus_product(int64_t is_half, int64_t rows, const float *x, const void *w, int64_t n, int64_t k, float *y,
                   float *work, int32_t threads) {
    ready(is_half, x, work, 0, rows * k);
#pragma omp parallel num_threads(threads)
    product(is_half, w, 0, n, work, k, rows, y, 0);
}
