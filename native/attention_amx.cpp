// Attention in bfloat16 by AMX, added in float32.
#include "attention.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attention_amx.h"

namespace thinned {
namespace {

struct Amx {
  const Kernels& kernels;
  const Attention& c;
  const int64_t width, value_width;  // padded to whole tiles
  const float factor;                // of scores

  Amx(const Kernels& kernels_, const Attention& call)
      : kernels(kernels_),
        c(call),
        width(up(call.width, 32)),
        value_width(up(call.value_width, 32)),
        factor(float(call.scale)) {}

  static int64_t padded(int64_t n) { return up(n, 32); }

  static int64_t forward_room(const Attention& c) {
    const int64_t e = padded(c.width), v = padded(c.value_width);
    return kColumns * (e + v) / 2 + kQueries * (e / 2 + v + 2) + kRows * (kAcross + kAcrossBrain / 2) +
           int64_t(sizeof(Keeps)) / 4 + 16 * 12;
  }

  template <class T>
  static T* take(Room& room, int64_t n) {
    return reinterpret_cast<T*>(room.take((n * int64_t(sizeof(T)) + 3) / 4));
  }

  void forward(const Head& h, int64_t first, int64_t last, float* memory) const {
    const Tiles tiles;
    Room room{memory};
    auto* keys = take<uint32_t>(room, kColumns * width / 2);
    auto* values = take<uint32_t>(room, kColumns * value_width / 2);
    auto* q = take<uint16_t>(room, kQueries * width);
    float *o = room.take(kQueries * value_width), *most = room.take(kQueries), *sum = room.take(kQueries);
    float* s = room.take(kRows * kAcross);
    auto* p = take<uint16_t>(room, kRows * kAcrossBrain);
    Keeps& keeps = *reinterpret_cast<Keeps*>(room.take(int64_t(sizeof(Keeps)) / 4 + 1));
    const int64_t n = last - first, whole = up(n, kRows);
    rows_of(from(h.q, first, c.q.row), c.q.row, n, c.width, q, width, whole);
    std::fill(o, o + whole * value_width, 0.0f);
    std::fill(p, p + kRows * kAcrossBrain, uint16_t(0));
    std::fill(most, most + n, -kInfinity);
    std::fill(sum, sum + n, 0.0f);
    const int64_t end = c.causal ? std::min(c.keys, last) : c.keys;
    for (int64_t j = 0; j < end; j += kColumns) {
      const int64_t columns = std::min(kColumns, end - j), across = up(columns, 32);
      columns_of(from(h.k, j, c.k.row), c.k.row, columns, c.width, keys, across, width);
      pairs_of(from(h.v, j, c.v.row), c.v.row, columns, c.value_width, values, value_width, across);
      for (int64_t i = 0; i < n; i += kRows) {
        Tile t{first + i, std::min(kRows, n - i), j, columns};
        if (c.causal) t.columns = std::min(columns, t.i + t.rows - j);
        if (t.columns <= 0) continue;
        const int64_t seen = up(t.columns, 32);
        fill(kernels, c, h, t, keeps);
        multiply(q + i * width, width, keys, 8 * width, s, kAcross, kRows, seen, width, false);
        for (int64_t r = 0; r < t.rows; ++r)
          weigh(h, t, r, seen, s + r * kAcross, keeps.row[r], p + r * kAcrossBrain, most[i + r], sum[i + r],
                o + (i + r) * value_width);
        multiply(p, kAcrossBrain, values, 8 * across, o + i * value_width, value_width, kRows, value_width, seen, true);
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      Floats::times_row(o + i * value_width, value_width, sum[i] == 0 ? 0 : h.factor / sum[i]);
      put_sum(c, h, first + i, {most[i], std::log(sum[i])});
    }
    scatter(c.dtype, o, value_width, n, c.value_width, 1.0f, h.out, first, c.out.row);
  }

  void weigh(const Head& h, const Tile& t, int64_t r, int64_t seen, float* s, const uint8_t* keep, uint16_t* p,
             float& most, float& sum, float* o) const {
    Floats::times_row(s, seen, factor);
    hide<S>(c, h, t, r, s, seen);
    const float now = std::max(most, Floats::most_of(s, seen)), least = now == -kInfinity ? 0 : now;
    if (most != now && most != -kInfinity) {
      const float shrink = one_exp<S>(most, least);
      sum *= shrink;
      Floats::times_row(o, value_width, shrink);
    }
    most = now;
    const __m512 m = S::set(least);
    __m512 all = S::zero();
    for (int64_t j = 0; j < seen; j += 16) {
      const __m512 x = exp_from<S>(S::load(s + j), m);
      all = S::add(all, x);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + j), rounded(S::kept(keep + j, x)));
    }
    sum += total<S>(all);
  }

  static int64_t backward_room(const Attention& c, int64_t keys) {
    const int64_t e = padded(c.width), v = padded(c.value_width), queries = up(c.queries, kRows);
    return up(keys, kColumns) * (e + v) + queries * (2 * e + v + e) + 3 * queries + kColumns * (e + v) +
           kAcross * (e + v + 2 * kRows) + kRows * (kColumns + kAcrossBrain) + int64_t(sizeof(Keeps)) / 4 + 16 * 20;
  }

  struct Backward {
    uint16_t *q, *grad, *q_turned, *grad_turned;  // of a head, tile after tile
    uint32_t *keys, *key_pairs, *values;          // of a tile of keys
    float *s, *dp, *dv_turned, *dk_turned;
    uint32_t *p_pairs, *ds_pairs;
    uint16_t* ds;
    float *dq, *dk, *dv, *delta;
    Sum* lse;
    Keeps* keeps;
  };

  void backward(const Head* heads, int64_t first, int64_t last, float* partial, float* memory) const {
    const Tiles tiles;
    Room room{memory};
    const int64_t n = last - first, queries = up(c.queries, kRows);
    Backward b;
    b.dk = room.take(up(n, kColumns) * width);
    b.dv = room.take(up(n, kColumns) * value_width);
    b.dq = room.take(queries * width);
    b.lse = room.take_sums(queries);
    b.delta = room.take(queries);
    b.q = take<uint16_t>(room, queries * width);
    b.q_turned = take<uint16_t>(room, queries * width);
    b.grad = take<uint16_t>(room, queries * value_width);
    b.grad_turned = take<uint16_t>(room, queries * value_width);
    b.keys = take<uint32_t>(room, kColumns * width / 2);
    b.key_pairs = take<uint32_t>(room, kColumns * width / 2);
    b.values = take<uint32_t>(room, kColumns * value_width / 2);
    b.s = room.take(kRows * kAcross);
    b.dp = room.take(kRows * kAcross);
    b.dv_turned = room.take(value_width * kAcross);
    b.dk_turned = room.take(width * kAcross);
    b.p_pairs = take<uint32_t>(room, kRows * kColumns / 2);
    b.ds_pairs = take<uint32_t>(room, kRows * kColumns / 2);
    b.ds = take<uint16_t>(room, kRows * kAcrossBrain);
    b.keeps = reinterpret_cast<Keeps*>(room.take(int64_t(sizeof(Keeps)) / 4 + 1));
    std::fill(b.dk, b.dk + up(n, kColumns) * width, 0.0f);
    std::fill(b.dv, b.dv + up(n, kColumns) * value_width, 0.0f);
    std::fill(b.ds, b.ds + kRows * kAcrossBrain, uint16_t(0));
    const int64_t group = c.lead.empty() ? 1 : c.lead.back();
    for (int64_t g = 0; g < group; ++g) {
      of_head(heads[g], first, last, b);
      if (partial)
        std::copy(b.dq, b.dq + c.queries * width, partial + g * c.queries * width);
      else
        scatter(c.dtype, b.dq, width, c.queries, c.width, float(c.scale), heads[g].dq, 0, c.dq.row);
    }
    scatter(c.dtype, b.dk, width, n, c.width, float(c.scale), heads->dk, first, c.dk.row);
    scatter(c.dtype, b.dv, value_width, n, c.value_width, 1.0f, heads->dv, first, c.dv.row);
  }

  void of_head(const Head& h, int64_t first, int64_t last, Backward& b) const {
    std::fill(b.dq, b.dq + up(c.queries, kRows) * width, 0.0f);
    Floats::sums(c, h, b.lse, b.delta);
    for (int64_t i = 0; i < c.queries; i += kRows) {
      const int64_t rows = std::min(kRows, c.queries - i);
      const uint16_t *q = from(h.q, i, c.q.row), *grad = from(h.grad, i, c.grad.row);
      rows_of(q, c.q.row, rows, c.width, b.q + i * width, width, kRows);
      turned(q, c.q.row, rows, c.width, b.q_turned + i * width, width);
      rows_of(grad, c.grad.row, rows, c.value_width, b.grad + i * value_width, value_width, kRows);
      turned(grad, c.grad.row, rows, c.value_width, b.grad_turned + i * value_width, value_width);
    }
    for (int64_t j = first; j < last; j += kColumns) {
      const int64_t columns = std::min(kColumns, last - j), across = up(columns, 32);
      const uint16_t *k = from(h.k, j, c.k.row), *v = from(h.v, j, c.v.row);
      columns_of(k, c.k.row, columns, c.width, b.keys, across, width);
      pairs_of(k, c.k.row, columns, c.width, b.key_pairs, width, across);
      columns_of(v, c.v.row, columns, c.value_width, b.values, across, value_width);
      std::fill(b.dk_turned, b.dk_turned + width * kAcross, 0.0f);
      std::fill(b.dv_turned, b.dv_turned + value_width * kAcross, 0.0f);
      for (int64_t i = c.causal ? j / kRows * kRows : 0; i < c.queries; i += kRows) {
        Tile t{i, std::min(kRows, c.queries - i), j, columns};
        if (c.causal) t.columns = std::min(columns, i + t.rows - j);
        if (t.columns > 0) backward_tile(h, t, across, b);
      }
      add_turned(b.dk_turned, columns, width, b.dk + (j - first) * width);
      add_turned(b.dv_turned, columns, value_width, b.dv + (j - first) * value_width);
    }
  }

  static void add_turned(const float* x, int64_t rows, int64_t width, float* out) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t e = 0; e < width; ++e) out[r * width + e] += x[e * kAcross + r];
  }

  void backward_tile(const Head& h, const Tile& t, int64_t across, Backward& b) const {
    const int64_t seen = up(t.columns, 32);
    fill(kernels, c, h, t, *b.keeps);
    multiply(b.q + t.i * width, width, b.keys, 8 * width, b.s, kAcross, kRows, seen, width, false);
    multiply(b.grad + t.i * value_width, value_width, b.values, 8 * value_width, b.dp, kAcross, kRows, seen, value_width,
             false);
    for (int64_t r = 0; r < kRows; r += 2) two_rows(h, t, r, seen, b);
    multiply(b.grad_turned + t.i * value_width, kRows, b.p_pairs, 8 * kRows, b.dv_turned, kAcross, value_width, seen,
             kRows, true);
    multiply(b.q_turned + t.i * width, kRows, b.ds_pairs, 8 * kRows, b.dk_turned, kAcross, width, seen, kRows, true);
    multiply(b.ds, kAcrossBrain, b.key_pairs, 8 * across, b.dq + t.i * width, width, kRows, width, seen, true);
  }

  void two_rows(const Head& h, const Tile& t, int64_t r, int64_t seen, Backward& b) const {
    const int rows = int(std::min<int64_t>(2, t.rows - r));
    for (int n = 0; n < rows; ++n) {
      float* s = b.s + (r + n) * kAcross;
      Floats::times_row(s, seen, factor);
      hide<S>(c, h, t, r + n, s, seen);
    }
    const __m512 factor_ = S::set(h.factor);
    for (int64_t j = 0; j < seen; j += 16) {
      __m512 p[2] = {S::zero(), S::zero()}, ds[2] = {S::zero(), S::zero()};
      for (int n = 0; n < rows; ++n) {
        const int64_t row = r + n;
        const uint8_t* keep = b.keeps->row[row] + j;
        const __m512 x = probability<S>(S::load(b.s + row * kAcross + j), b.lse[t.i + row]);
        const __m512 d = S::kept(keep, S::mul(S::load(b.dp + row * kAcross + j), factor_));
        p[n] = S::kept(keep, S::mul(x, factor_));
        ds[n] = S::mul(x, S::sub(d, S::set(b.delta[t.i + row])));
      }
      const int64_t at = j * kRows / 2 + r * 8;
      _mm512_storeu_si512(b.p_pairs + at, pair(p[0], p[1]));
      _mm512_storeu_si512(b.ds_pairs + at, pair(ds[0], ds[1]));
      for (int n = 0; n < 2; ++n)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(b.ds + (r + n) * kAcrossBrain + j), rounded(ds[n]));
    }
  }
};

// Compilers differ in which of these __builtin_cpu_supports knows.
bool has_instructions() {
  unsigned a, b, c, d, a1 = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if (a >= 1) __get_cpuid_count(7, 1, &a1, &b, &c, &b);
  return (a1 >> 5 & 1) && (d >> 22 & 1) && (d >> 24 & 1);  // AVX512_BF16, AMX-BF16, AMX-TILE
}

bool permitted() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, of this process
  static const bool found = has_instructions() && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return found;
}

}  // namespace

const AttentionKernels* amx_attention() {
  static const AttentionKernels kernels = table_of<Amx>("avx512");
  return permitted() ? &kernels : nullptr;
}

}  // namespace thinned

#else
namespace thinned {
const AttentionKernels* amx_attention() { return nullptr; }
}  // namespace thinned
#endif
