/* Tokens through a decoder layer: the fast path of rebus.generation.decoders.compiled.

   A call takes rows: tokens of any texts, each at its own place, one a text where texts are being written and many
   where a prompt is read. Weights and cache are float or bfloat16, everything between is float.
   Letters: R rows, D width, H heads, G key-value heads, K size of a head, M size inside the feed-forward layer. */

#include "vectors.h"
#include "products.h"

enum { RMS, LAYER };
enum { SWIGLU, GELU, GELU_TANH, QUICK_GELU, RELU, SILU };

typedef struct {
    int64_t width, heads, groups, size, hidden;
    int64_t norm, act, half;      /* kind of norm, of feed-forward; whether weights and cache are bfloat16 */
    double eps;
    const void *wq, *wk, *wv, *wo, *wu, *wg, *wd; /* (out, in) in tiles; wg: SwiGLU's gate */
    const float *bq, *bk, *bv, *bo, *bu, *bg, *bd; /* or NULL */
    const float *n1, *n1b, *n2, *n2b, *qn, *kn;    /* scales and shifts of norms, or NULL */
} Layer;

/* Where a layer keeps keys and values: blocks (blocks, G, size, K) each, and for each text the blocks it has. */
typedef struct {
    int64_t size, step; /* tokens of a block, blocks of a text */
    void *keys, *values;
    const int32_t *tables; /* (texts, step): token t of a text is in its block t / size */
} Cache;

/* The rows of a call. */
typedef struct {
    int64_t count;
    const int32_t *text, *at; /* (R): whose token it is, and at which place of its text */
    const float *cos, *sin; /* (R, K/2), or NULL */
} Rows;

/* x through the activation, in place; up: what SwiGLU multiplies it by. Most are x / (1 + e^-s) for some s of x. */
static void activate(int64_t act, float *x, const float *up, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        v16 v = part_of(x + i, n - i, 0.0f);
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
        if (up) v *= part_of(up + i, n - i, 0.0f);
        put_part(x + i, v, n - i);
    }
}

static void norm_row(int64_t kind, const float *x, float *y, int64_t n, const float *w, const float *b, double eps) {
    float middle = 0;
    v16 square = {0};
    if (kind == LAYER) {
        v16 total = {0};
        for (int64_t i = 0; i < n; i += 16) total += part_of(x + i, n - i, 0.0f);
        middle = sum(total) / (float)n;
    }
    for (int64_t i = 0; i < n; i += 16) {
        v16 v = part_of(x + i, n - i, middle) - middle;
        square += v * v;
    }
    const float root = (float)(1.0 / sqrt((double)sum(square) / (double)n + eps));
    for (int64_t i = 0; i < n; i += 16) {
        v16 v = (part_of(x + i, n - i, 0.0f) - middle) * root * part_of(w + i, n - i, 0.0f);
        if (b) v += part_of(b + i, n - i, 0.0f);
        put_part(y + i, v, n - i);
    }
}

/* Scores to e^(score - highest); gives what to multiply them by for their sum to be 1. */
static float shares(float *scores, int64_t count, float scale) {
    v16 highest = (v16){0} - INFINITY, total = {0};
    for (int64_t i = 0; i < count; i += 16) highest = larger(part_of(scores + i, count - i, -INFINITY), highest);
    float most = -INFINITY;
    for (int i = 0; i < 16; i++) most = highest[i] > most ? highest[i] : most;
    if (most == -INFINITY) { /* it sees nothing, and nobody reads it */
        memset(scores, 0, count * sizeof(float));
        return 0;
    }
    for (int64_t i = 0; i < count; i += 16) {
        v16 old = part_of(scores + i, count - i, -INFINITY), v = exponential((old - most) * scale);
        v = (v16)((u16x)v & (u16x)(old > -INFINITY));
        total += v;
        put_part(scores + i, v, count - i);
    }
    return 1.0f / sum(total);
}

static inline int64_t spot(const Cache *c, int64_t groups, int64_t K, int64_t text, int64_t group, int64_t at) {
    return ((c->tables[text * c->step + at / c->size] * groups + group) * c->size + at % c->size) * K;
}

#define HEADS 4 /* of a group that look together: each key is loaded once for all of them */
#define ALL(T, LOAD, GET)                                                                                              \
    /* scores[e][i] = q[e] . keys[i], sixteen keys at a time: their sums are made together. */                         \
    static void compare_##T(const float *q, int64_t heads, const T *keys, const T *soon, int64_t count, int64_t size,   \
                            float *scores, int64_t room) {                                                             \
        for (int64_t i = 0; i < count; i += 16)                                                                        \
            for (int64_t e = 0; e < heads; e++) {                                                                      \
                v16 s[16];                                                                                             \
                const int64_t here = count - i < 16 ? count - i : 16, whole = size / 16 * 16;                          \
                for (int64_t m = 0; m < here; m++) {                                                                   \
                    const T *key = keys + (i + m) * size, *next = soon + (i + m) * size;                               \
                    if (!e)                                                                                            \
                        for (int64_t j = 0; j < size; j += 64 / (int64_t)sizeof(T)) __builtin_prefetch(next + j);      \
                    s[m] = (v16){0};                                                                                   \
                    for (int64_t j = 0; j < whole; j += 16) s[m] += from_float(q + e * size + j) * LOAD(key + j);      \
                    for (int64_t j = whole; j < size; j++) s[m][0] += q[e * size + j] * GET(key + j);                  \
                }                                                                                                      \
                for (int64_t m = here; m < 16; m++) s[m] = (v16){0};                                                   \
                put_part(scores + e * room + i, sums(s), here);                                                        \
            }                                                                                                          \
    }                                                                                                                  \
    /* out[e] += scores[e] . values */                                                                                 \
    static void gather_##T(const float *scores, int64_t heads, int64_t room, const T *values, int64_t count,           \
                           int64_t size, float *out) {                                                                 \
        int64_t j = 0;                                                                                                 \
        for (; j + 32 <= size; j += 32)                                                                                \
            for (int64_t e = 0; e < heads; e += HEADS) {                                                               \
                v16 s[HEADS][2];                                                                                       \
                const float *from[HEADS];                                                                              \
                UNROLL for (int m = 0; m < HEADS; m++) {                                                               \
                    const int64_t one = e + m < heads ? e + m : heads - 1;                                             \
                    from[m] = scores + one * room;                                                                     \
                    s[m][0] = from_float(out + one * size + j), s[m][1] = from_float(out + one * size + j + 16);       \
                }                                                                                                      \
                for (int64_t i = 0; i < count; i++) {                                                                  \
                    v16 low = LOAD(values + i * size + j), high = LOAD(values + i * size + j + 16);                    \
                    UNROLL for (int m = 0; m < HEADS; m++) s[m][0] += from[m][i] * low, s[m][1] += from[m][i] * high;  \
                }                                                                                                      \
                for (int64_t m = 0; m < HEADS && e + m < heads; m++) memcpy(out + (e + m) * size + j, s[m], 128);      \
            }                                                                                                          \
        for (; j < size; j++)                                                                                          \
            for (int64_t e = 0; e < heads; e++)                                                                        \
                for (int64_t i = 0; i < count; i++)                                                                    \
                    out[e * size + j] += scores[e * room + i] * GET(values + i * size + j);                            \
    }
ALL(float, from_float, one_float)
ALL(half, from_half, one_half)

/* The heads of a group, of one row, look at the keys of its text up to its own place: out = softmax(q k / sqrt(K)) v. */
static void look(const Layer *l, const Cache *c, const Rows *rows, int64_t r, int64_t group, const float *q,
                 float *scores, int64_t room, float *out) {
    const int64_t K = l->size, G = l->groups, heads = l->heads / G, text = rows->text[r], n = rows->at[r] + 1;
    for (int64_t i = 0; i < n; i += c->size) {
        const int64_t from = spot(c, G, K, text, group, i), count = n - i < c->size ? n - i : c->size;
        if (l->half)
            compare_half(q, heads, (half *)c->keys + from, (half *)c->values + from, count, K, scores + i, room);
        else
            compare_float(q, heads, (float *)c->keys + from, (float *)c->values + from, count, K, scores + i, room);
    }
    float total[heads];
    for (int64_t e = 0; e < heads; e++) total[e] = shares(scores + e * room, n, 1.0f / sqrtf((float)K));
    memset(out, 0, heads * K * sizeof(float));
    for (int64_t i = 0; i < n; i += c->size) {
        const int64_t from = spot(c, G, K, text, group, i), count = n - i < c->size ? n - i : c->size;
        if (l->half)
            gather_half(scores + i, heads, room, (half *)c->values + from, count, K, out);
        else
            gather_float(scores + i, heads, room, (float *)c->values + from, count, K, out);
    }
    for (int64_t e = 0; e < heads; e++)
        for (int64_t j = 0; j < K; j++) out[e * K + j] *= total[e];
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

/* x (R, D) goes through the layer in place; keys and values of its tokens are written to the cache, then looked at.
   work: R x (2 max(D, H K) + (H + 2G) K + 3M + 6) + threads x H/G x (most + 1) floats, ``most`` the largest place. */
void rebus_layer(const Layer *l, const Cache *c, const Rows *rows, float *x, float *work, int64_t most, int32_t threads) {
    const int64_t D = l->width, K = l->size, H = l->heads, G = l->groups, M = l->hidden, HK = H * K, GK = G * K;
    const int64_t R = rows->count, wide = (D > HK ? D : HK) + 2, is_half = l->half;
    float *in = work, *next = in + R * wide, *h = next + R * (M + 2), *q = h + R * wide, *k = q + R * HK,
          *v = k + R * GK, *inner = v + R * GK, *gate = inner + R * M, *scores = gate + R * M;
#pragma omp parallel num_threads(threads)
    {
        const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
#pragma omp for schedule(static)
        for (int64_t r = 0; r < R; r++) {
            norm_row(l->norm, x + r * D, h + r * D, D, l->n1, l->n1b, l->eps);
            ready(is_half, h + r * D, in, r, R, 0, D, D);
        }
        product(is_half, l->wq, l->bq, HK, in, D, R, q, HK, 0);
        product(is_half, l->wk, l->bk, GK, in, D, R, k, GK, 0);
        product(is_half, l->wv, l->bv, GK, in, D, R, v, GK, 0);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t i = 0; i < R * (H + G); i++) {
            int64_t r = i / (H + G), head = i % (H + G);
            const float *cos = rows->cos ? rows->cos + r * (K / 2) : 0, *sin = rows->sin ? rows->sin + r * (K / 2) : 0;
            if (head < H) {
                place(q + r * HK + head * K, K, l->qn, l->eps, cos, sin);
                continue;
            }
            head -= H;
            float *key = k + r * GK + head * K, *value = v + r * GK + head * K;
            place(key, K, l->kn, l->eps, cos, sin);
            const int64_t to = spot(c, G, K, rows->text[r], head, rows->at[r]);
            for (int64_t j = 0; j < K; j++)
                if (is_half) {
                    put_half((half *)c->keys + to + j, key[j]);
                    put_half((half *)c->values + to + j, value[j]);
                } else {
                    put_float((float *)c->keys + to + j, key[j]);
                    put_float((float *)c->values + to + j, value[j]);
                }
        }
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < R * G; i++) {
            const int64_t r = i / G, group = i % G, each = H / G, from = group * each * K;
            float *to = h + r * HK + from;
            look(l, c, rows, r, group, q + r * HK + from, scores + me * each * (most + 1), most + 1, to);
            ready(is_half, to, in, r, R, from, HK, each * K);
        }
        product(is_half, l->wo, l->bo, D, in, HK, R, x, D, 1);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t r = 0; r < R; r++) {
            norm_row(l->norm, x + r * D, h + r * D, D, l->n2, l->n2b, l->eps);
            ready(is_half, h + r * D, in, r, R, 0, D, D);
        }
        /* Each thread goes on alone with the part of the inner numbers that it made itself. */
        const int64_t tiles = (M + LANES - 1) / LANES, first = tiles * me / all, end = tiles * (me + 1) / all;
        const int64_t from = first * LANES, upto = end * LANES < M ? end * LANES : M, gated = l->act == SWIGLU;
        some_tiles(is_half, l->wu, l->bu, M, in, D, R, inner, M, 0, first, end);
        if (gated) some_tiles(is_half, l->wg, l->bg, M, in, D, R, gate, M, 0, first, end);
        for (int64_t r = 0; r < R && from < upto; r++) {
            float *said = (gated ? gate : inner) + r * M + from;
            activate(gated ? SILU : l->act, said, gated ? inner + r * M + from : 0, upto - from);
            ready(is_half, said, next, r, R, from, M, upto - from);
        }
#pragma omp barrier
        product(is_half, l->wd, l->bd, D, next, M, R, x, D, 1);
    }
}

/* Outputs of one tile. */
int64_t rebus_lanes(void) { return LANES; }

/* y (R, D) = norm(x). */
void rebus_norm(int64_t kind, int64_t rows, const float *x, float *y, int64_t n, const float *w, const float *b,
                double eps) {
    for (int64_t r = 0; r < rows; r++) norm_row(kind, x + r * n, y + r * n, n, w, b, eps);
}

/* y (R, N; rows ``wide`` apart) = x (R, k) W^T + b, W in tiles; work: R x (k + 1) floats. */
void rebus_product(int64_t is_half, int64_t rows, const float *x, const void *w, const float *b, int64_t n, int64_t k,
                   float *y, int64_t wide, float *work, int32_t threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) ready(is_half, x + r * k, work, r, rows, 0, k, k);
        product(is_half, w, b, n, work, k, rows, y, wide, 0);
    }
}
