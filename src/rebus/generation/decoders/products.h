/* Matrix products with weights laid out in tiles, the same for one row as for hundreds.

   A tile is LANES outputs; along it lie, for each input in turn, the weights that these have there (for each pair of
   inputs where weights are bfloat16: LANES x 2 numbers). So a weight vector meets one number of each row, spread over
   all lanes, no sum ever runs across lanes, and a thread reads memory as one single stream: two tiles side by side
   would be two, which memory gives at two thirds of the speed. Each output adds its inputs in their order whatever
   the number of rows: a row's result never depends on the rows beside it.
   Letters: R rows, N outputs, k inputs. */

#include <omp.h>

#ifdef __AVX512F__
#define VECTORS 2 /* of one tile: sums of a block of rows fill half of the registers */
#else
#define VECTORS 1
#endif
#define LANES (16 * VECTORS)
#define BLOCK 8 /* rows that one pass over a tile serves */
#define GROUP 8 /* tiles that all rows are led through before the next ones are read: they stay in the cache */
#define UNROLL _Pragma("GCC unroll 8")

/* One block of NB rows through a tile: out[r] = tile . row r.
   T, X: types of weights and of rows; S: of sums; WIDE: weights of a vector; EACH: inputs of one. */
#define TILE(NAME, T, X, S, WIDE, EACH, LOAD, SPREAD, STEP, NB)                                                        \
    static void NAME##_##NB(const T *w, const X *x, int64_t steps, v16 *out) {                                         \
        S s[NB][VECTORS];                                                                                              \
        UNROLL for (int r = 0; r < NB; r++) UNROLL for (int v = 0; v < VECTORS; v++) s[r][v] = (S){0};                 \
        for (int64_t j = 0; j < steps; j++) {                                                                          \
            __typeof__(LOAD(w)) a[VECTORS];                                                                            \
            UNROLL for (int v = 0; v < VECTORS; v++) a[v] = LOAD(w + (j * VECTORS + v) * WIDE);                        \
            UNROLL for (int r = 0; r < NB; r++) {                                                                      \
                __typeof__(SPREAD(x)) b = SPREAD(x + (j * NB + r) * EACH);                                             \
                UNROLL for (int v = 0; v < VECTORS; v++) s[r][v] = STEP(s[r][v], a[v], b);                             \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL for (int r = 0; r < NB; r++) UNROLL for (int v = 0; v < VECTORS; v++) out[r * VECTORS + v] = (v16)s[r][v]; \
    }
#define EVERY(NAME, ...)                                                                                               \
    TILE(NAME, __VA_ARGS__, 1)                                                                                         \
    TILE(NAME, __VA_ARGS__, 2)                                                                                         \
    TILE(NAME, __VA_ARGS__, 3)                                                                                         \
    TILE(NAME, __VA_ARGS__, 4)                                                                                         \
    TILE(NAME, __VA_ARGS__, 5)                                                                                         \
    TILE(NAME, __VA_ARGS__, 6)                                                                                         \
    TILE(NAME, __VA_ARGS__, 7)                                                                                         \
    TILE(NAME, __VA_ARGS__, 8)                                                                                         \
    static void NAME(int nb, const void *w, const void *x, int64_t steps, v16 *out) {                                  \
        switch (nb) {                                                                                                  \
        case 1: NAME##_1(w, x, steps, out); break;                                                                     \
        case 2: NAME##_2(w, x, steps, out); break;                                                                     \
        case 3: NAME##_3(w, x, steps, out); break;                                                                     \
        case 4: NAME##_4(w, x, steps, out); break;                                                                     \
        case 5: NAME##_5(w, x, steps, out); break;                                                                     \
        case 6: NAME##_6(w, x, steps, out); break;                                                                     \
        case 7: NAME##_7(w, x, steps, out); break;                                                                     \
        default: NAME##_8(w, x, steps, out);                                                                           \
        }                                                                                                              \
    }

#define ONE(p) (*(p))
#define PLUS(s, a, b) ((s) + (a) * (b))
EVERY(tiles_float, float, float, v16, 16, 1, from_float, ONE, PLUS)

/* Where the processor multiplies bfloat16 itself, rows are rounded to it, as PyTorch does; else weights are widened. */
#ifdef __AVX512BF16__
#include <immintrin.h>
#define AS_BITS(p) ((__m512bh)_mm512_loadu_si512(p))
static inline __m512bh spread_pair(const half *p) {
    int32_t both;
    memcpy(&both, p, 4);
    return (__m512bh)_mm512_set1_epi32(both);
}
EVERY(tiles_half, half, half, __m512, 32, 2, AS_BITS, spread_pair, _mm512_dpbf16_ps)
#define ROUNDS 1
#else
typedef struct {
    v16 even, odd;
} Pairs;
typedef struct {
    float even, odd;
} Pair;
static inline Pairs from_pairs(const half *p) {
    u16x both;
    memcpy(&both, p, 64);
    return (Pairs){(v16)(both << 16), (v16)(both & 0xffff0000u)};
}
static inline Pair spread_both(const float *p) { return (Pair){p[0], p[1]}; }
static inline v16 plus_both(v16 s, Pairs a, Pair b) { return (s + a.even * b.even) + a.odd * b.odd; }
EVERY(tiles_half, half, float, v16, 32, 2, from_pairs, spread_both, plus_both)
#define ROUNDS 0
#endif

/* Numbers that a row of k takes up as products read it: whole pairs. */
static inline int64_t taken(int64_t is_half, int64_t k) { return is_half ? (k + 1) / 2 * 2 : k; }

/* n numbers of row r of ``rows``, from input c of k on, as products read them: rows of a block lie side by side. */
static inline void ready(int64_t is_half, const float *x, void *to, int64_t r, int64_t rows, int64_t c, int64_t k,
                         int64_t n) {
    const int64_t from = r / BLOCK * BLOCK, nb = rows - from < BLOCK ? rows - from : BLOCK, base = from * taken(is_half, k);
    if (!is_half) {
        float *place = (float *)to + base + r - from;
        for (int64_t i = 0; i < n; i++) place[(c + i) * nb] = x[i];
        return;
    }
#if ROUNDS
    half *place = (half *)to + base + 2 * (r - from);
#define PUT(at, f) put_half(&place[at], f)
#else
    float *place = (float *)to + base + 2 * (r - from);
#define PUT(at, f) place[at] = f
#endif
    int64_t i = c;
#if ROUNDS
    if (c % 2 == 0)
        for (; i + 16 <= c + n; i += 16) { /* eight pairs at once */
            __m256i pairs = (__m256i)_mm512_cvtneps_pbh((__m512)from_float(x + i - c));
            int32_t eight[8];
            memcpy(eight, &pairs, 32);
            UNROLL for (int m = 0; m < 8; m++) memcpy(&place[(i + 2 * m) * nb], &eight[m], 4);
        }
#endif
    for (; i < c + n; i++) PUT(i / 2 * 2 * nb + i % 2, x[i - c]);
    if (k % 2 && c + n == k) PUT(k / 2 * 2 * nb + 1, 0.0f);
}

/* Tiles ``first`` to ``end`` of the product: to (R, ``wide`` apart) = or += x W^T + b, x as ``ready`` left it. */
static void some_tiles(int64_t is_half, const void *w, const float *b, int64_t N, const void *x, int64_t k,
                       int64_t rows, float *to, int64_t wide, int add, int64_t first, int64_t end) {
    const int64_t deep = taken(is_half, k), tile = LANES * deep * (is_half ? 2 : 4), size = is_half && ROUNDS ? 2 : 4;
    v16 out[BLOCK * VECTORS];
    for (int64_t from = first; from < end; from += GROUP)
        for (int64_t r0 = 0; r0 < rows; r0 += BLOCK) {
            const int nb = rows - r0 < BLOCK ? (int)(rows - r0) : BLOCK;
            const char *row = (const char *)x + r0 * deep * size;
            for (int64_t n = from; n < end && n < from + GROUP; n++) {
                const char *at = (const char *)w + n * tile;
                if (is_half)
                    tiles_half(nb, at, row, deep / 2, out);
                else
                    tiles_float(nb, at, row, deep, out);
                for (int v = 0; v < VECTORS; v++) {
                    const int64_t column = n * LANES + v * 16, here = N - column < 16 ? N - column : 16;
                    if (here <= 0) continue;
                    v16 more = {0};
                    if (b) memcpy(&more, b + column, here * 4);
                    for (int r = 0; r < nb; r++) {
                        float *place = to + (r0 + r) * wide + column;
                        v16 told = out[r * VECTORS + v] + more;
                        if (here == 16) {
                            if (add) told += from_float(place);
                            memcpy(place, &told, 64);
                        } else
                            for (int64_t i = 0; i < here; i++) place[i] = add ? place[i] + told[i] : told[i];
                    }
                }
            }
        }
}

/* The whole product, by all threads of the team together, each its own tiles. */
static inline void product(int64_t is_half, const void *w, const float *b, int64_t N, const void *x, int64_t k,
                           int64_t rows, float *to, int64_t wide, int add) {
    const int64_t tiles = (N + LANES - 1) / LANES, me = omp_get_thread_num(), all = omp_get_num_threads();
    some_tiles(is_half, w, b, N, x, k, rows, to, wide, add, tiles * me / all, tiles * (me + 1) / all);
}
