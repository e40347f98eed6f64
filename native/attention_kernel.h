// Forward and backward pass over the tiles of a head, for the instruction set S.
#pragma once

#include "attention_tile.h"

namespace thinned {
namespace {

// Scratch memory, handed out piece by piece.
struct Room {
  float* next;
  float* take(int64_t n) {
    float* here = next;
    next += up(n, 16);
    return here;
  }
  Sum* take_sums(int64_t n) { return reinterpret_cast<Sum*>(take(2 * n)); }
};

inline void put_sum(const Attention& c, const Head& h, int64_t i, Sum sum) {
  float* to = h.logsumexp + i * c.logsumexp.row;
  to[0] = sum.most;
  to[c.logsumexp.column] = sum.log;
}

template <class S>
struct Pass {
  using V = typename S::V;
  static constexpr int64_t kWide = S::vectors * S::lanes;

  const Kernels& kernels;
  const Attention& c;
  const int64_t width, value_width;  // padded to whole vectors

  Pass(const Kernels& kernels_, const Attention& call)
      : kernels(kernels_), c(call), width(up(call.width, S::lanes)), value_width(up(call.value_width, S::lanes)) {}

  static int64_t padded(int64_t n) { return up(n, S::lanes); }

  // One row of scores into exponentials, dropped; the sum before the drop is added to `sum`.
  static void weigh(float* s, const uint8_t* keep, int64_t n, float most, float& sum) {
    const V m = S::set(most);
    V total_ = S::zero();
    for (int64_t j = 0; j < n; j += S::lanes) {
      const V p = exp_from<S>(S::load(s + j), m);
      total_ = S::add(total_, p);
      S::store(s + j, S::kept(keep + j, p));
    }
    sum += total<S>(total_);
  }

  static float most_of(const float* s, int64_t n) {
    V most = S::set(-kInfinity);
    for (int64_t j = 0; j < n; j += S::lanes) most = S::max(most, S::load(s + j));
    return largest<S>(most);
  }

  static void times_row(float* x, int64_t n, float factor) {
    const V f = S::set(factor);
    for (int64_t j = 0; j < n; j += S::lanes) S::store(x + j, S::mul(S::load(x + j), f));
  }

  static int64_t forward_room(const Attention& c) {
    const int64_t e = padded(c.width), v = padded(c.value_width);
    return 2 * kColumns * e + kColumns * v + kQueries * (e + v + 2) + kRows * kColumns + int64_t(sizeof(Keeps)) / 4 +
           16 * 10;
  }

  void forward(const Head& h, int64_t first, int64_t last, float* memory) const {
    Room room{memory};
    float *rows = room.take(kColumns * width), *keys = room.take(kColumns * width),
          *values = room.take(kColumns * value_width), *q = room.take(kQueries * width),
          *o = room.take(kQueries * value_width), *most = room.take(kQueries), *sum = room.take(kQueries),
          *s = room.take(kRows * kColumns);
    Keeps& keeps = *reinterpret_cast<Keeps*>(room.take(int64_t(sizeof(Keeps)) / 4 + 1));
    const int64_t n = last - first;
    gather(c.dtype, h.q, first, c.q.row, n, c.width, float(c.scale), q, width);
    std::fill(o, o + n * value_width, 0.0f);
    std::fill(most, most + n, -kInfinity);
    std::fill(sum, sum + n, 0.0f);
    const int64_t end = c.causal ? std::min(c.keys, last) : c.keys;
    for (int64_t j = 0; j < end; j += kColumns) {
      const int64_t columns = std::min(kColumns, end - j);
      gather(c.dtype, h.k, j, c.k.row, columns, c.width, 1.0f, rows, width);
      turn<S>(rows, width, columns, c.width, keys);
      gather(c.dtype, h.v, j, c.v.row, columns, c.value_width, 1.0f, values, value_width);
      for (int64_t i = 0; i < n; i += kRows) {
        Tile t{first + i, std::min(kRows, n - i), j, columns};
        if (c.causal) t.columns = std::min(columns, t.i + t.rows - j);
        if (t.columns <= 0) continue;
        forward_tile(h, t, keeps, q + i * width, keys, values, s, o + i * value_width, most + i, sum + i);
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      times_row(o + i * value_width, value_width, sum[i] == 0 ? 0 : h.factor / sum[i]);
      put_sum(c, h, first + i, {most[i], std::log(sum[i])});
    }
    scatter(c.dtype, o, value_width, n, c.value_width, 1.0f, h.out, first, c.out.row);
  }

  void forward_tile(const Head& h, const Tile& t, Keeps& keeps, const float* q, const float* keys, const float* values,
                    float* s, float* o, float* most, float* sum) const {
    const int64_t across = up(t.columns, S::lanes);
    fill(kernels, c, h, t, keeps);
    product<S>({q, width, 1}, {keys, kWide, c.width * kWide}, s, kColumns, t.rows, across, c.width, false);
    for (int64_t r = 0; r < t.rows; ++r) {
      float* row = s + r * kColumns;
      hide<S>(c, h, t, r, row, across);
      const float here = most_of(row, across), before = most[r], now = here > before ? here : before;
      most[r] = now;
      const float from = now == -kInfinity ? 0 : now;
      if (before != now && before != -kInfinity) {
        const float shrink = one_exp<S>(before, from);
        sum[r] *= shrink;
        times_row(o + r * value_width, value_width, shrink);
      }
      weigh(row, keeps.row[r], across, from, sum[r]);
    }
    product<S>({s, kColumns, 1}, {values, value_width, kWide}, o, value_width, t.rows, value_width, t.columns, true);
  }

  static int64_t backward_room(const Attention& c, int64_t keys) {
    const int64_t e = padded(c.width), v = padded(c.value_width);
    return up(keys, kColumns) * (e + v) + c.queries * (e + 3) + kColumns * (2 * e + 2 * v) + kRows * (e + v) +
           2 * kRows * kColumns + int64_t(sizeof(Keeps)) / 4 + 16 * 16;
  }

  struct Backward {
    float *rows, *turned, *values, *turned_values;  // a tile of keys
    float *q, *grad, *s, *ds;
    float *dq, *dk, *dv;  // of a head, and of all keys of the task
    Sum* lse;
    float* delta;
    Keeps* keeps;
  };

  void backward(const Head* heads, int64_t first, int64_t last, float* partial, float* memory) const {
    Room room{memory};
    const int64_t n = last - first;
    Backward b;
    b.dk = room.take(up(n, kColumns) * width);
    b.dv = room.take(up(n, kColumns) * value_width);
    b.dq = room.take(c.queries * width);
    b.lse = room.take_sums(c.queries);
    b.delta = room.take(c.queries);
    b.rows = room.take(kColumns * width);
    b.turned = room.take(kColumns * width);
    b.values = room.take(kColumns * value_width);
    b.turned_values = room.take(kColumns * value_width);
    b.q = room.take(kRows * width);
    b.grad = room.take(kRows * value_width);
    b.s = room.take(kRows * kColumns);
    b.ds = room.take(kRows * kColumns);
    b.keeps = reinterpret_cast<Keeps*>(room.take(int64_t(sizeof(Keeps)) / 4 + 1));
    std::fill(b.dk, b.dk + n * width, 0.0f);
    std::fill(b.dv, b.dv + n * value_width, 0.0f);
    const int64_t group = c.lead.empty() ? 1 : c.lead.back();
    for (int64_t g = 0; g < group; ++g) {
      if (partial) b.dq = partial + g * c.queries * width;
      of_head(heads[g], first, last, b);
      if (!partial) scatter(c.dtype, b.dq, width, c.queries, c.width, float(c.scale), heads[g].dq, 0, c.dq.row);
    }
    // q was packed times scale.
    scatter(c.dtype, b.dk, width, n, c.width, 1.0f, heads->dk, first, c.dk.row);
    scatter(c.dtype, b.dv, value_width, n, c.value_width, 1.0f, heads->dv, first, c.dv.row);
  }

  // Of each query the logsumexp, and the sum of gradient times result.
  static void sums(const Attention& c, const Head& h, Sum* lse, float* delta) {
    const int64_t width = padded(c.value_width);
    std::vector<float> grad(static_cast<size_t>(width)), out(grad);
    for (int64_t i = 0; i < c.queries; ++i) {
      gather(c.dtype, h.grad, i, c.grad.row, 1, c.value_width, 1.0f, grad.data(), width);
      gather(c.dtype, h.out, i, c.out.row, 1, c.value_width, 1.0f, out.data(), width);
      V sum = S::zero();
      for (int64_t j = 0; j < width; j += S::lanes)
        sum = S::fma(S::load(grad.data() + j), S::load(out.data() + j), sum);
      delta[i] = total<S>(sum);
      const float* found = h.logsumexp + i * c.logsumexp.row;
      lse[i] = {found[0], found[c.logsumexp.column]};
      if (lse[i].log == -kInfinity) lse[i] = {kInfinity, 0};  // it looks nowhere
    }
  }

  void of_head(const Head& h, int64_t first, int64_t last, Backward& b) const {
    std::fill(b.dq, b.dq + c.queries * width, 0.0f);
    sums(c, h, b.lse, b.delta);
    for (int64_t j = first; j < last; j += kColumns) {
      const int64_t columns = std::min(kColumns, last - j);
      gather(c.dtype, h.k, j, c.k.row, columns, c.width, 1.0f, b.rows, width);
      turn<S>(b.rows, width, columns, c.width, b.turned);
      gather(c.dtype, h.v, j, c.v.row, columns, c.value_width, 1.0f, b.values, value_width);
      turn<S>(b.values, value_width, columns, c.value_width, b.turned_values);
      for (int64_t i = c.causal ? j / kRows * kRows : 0; i < c.queries; i += kRows) {
        Tile t{i, std::min(kRows, c.queries - i), j, columns};
        if (c.causal) t.columns = std::min(columns, i + t.rows - j);
        if (t.columns > 0) backward_tile(h, t, j - first, b);
      }
    }
  }

  void backward_tile(const Head& h, const Tile& t, int64_t at, Backward& b) const {
    const int64_t across = up(t.columns, S::lanes);
    gather(c.dtype, h.q, t.i, c.q.row, t.rows, c.width, float(c.scale), b.q, width);
    gather(c.dtype, h.grad, t.i, c.grad.row, t.rows, c.value_width, 1.0f, b.grad, value_width);
    fill(kernels, c, h, t, *b.keeps);
    product<S>({b.q, width, 1}, {b.turned, kWide, c.width * kWide}, b.s, kColumns, t.rows, across, c.width, false);
    product<S>({b.grad, value_width, 1}, {b.turned_values, kWide, c.value_width * kWide}, b.ds, kColumns, t.rows, across,
               c.value_width, false);
    const V factor = S::set(h.factor);
    for (int64_t r = 0; r < t.rows; ++r) {
      float *s = b.s + r * kColumns, *ds = b.ds + r * kColumns;
      hide<S>(c, h, t, r, s, across);
      const uint8_t* keep = b.keeps->row[r];
      const Sum lse = b.lse[t.i + r];
      const V delta = S::set(b.delta[t.i + r]);
      for (int64_t j = 0; j < across; j += S::lanes) {
        const V p = probability<S>(S::load(s + j), lse), scaled = S::mul(p, factor);
        const V d = S::kept(keep + j, S::mul(S::load(ds + j), factor));
        S::store(s + j, S::kept(keep + j, scaled));
        S::store(ds + j, S::mul(p, S::sub(d, delta)));
      }
    }
    product<S>({b.s, 1, kColumns}, {b.grad, value_width, kWide}, b.dv + at * value_width, value_width, t.columns,
               value_width, t.rows, true);
    product<S>({b.ds, 1, kColumns}, {b.q, width, kWide}, b.dk + at * width, width, t.columns, width, t.rows, true);
    product<S>({b.ds, kColumns, 1}, {b.rows, width, kWide}, b.dq + t.i * width, width, t.rows, width, t.columns, true);
  }
};

template <class P>
AttentionKernels table_of(const char* name) {
  return {name,
          [](const Kernels& k, const Attention& c, const Head& h, int64_t first, int64_t last, float* room) {
            P(k, c).forward(h, first, last, room);
          },
          P::forward_room,
          [](const Kernels& k, const Attention& c, const Head* h, int64_t first, int64_t last, float* partial,
             float* room) { P(k, c).backward(h, first, last, partial, room); },
          P::backward_room,
          [](const Attention& c, const Head& h, const float* partial, int parts, int64_t apart) {
            const int64_t width = P::padded(c.width);
            std::vector<float> sum(static_cast<size_t>(width));
            for (int64_t i = 0; i < c.queries; ++i) {
              std::fill(sum.begin(), sum.end(), 0.0f);
              for (int part = 0; part < parts; ++part)
                for (int64_t j = 0; j < width; ++j) sum[size_t(j)] += partial[part * apart + i * width + j];
              scatter(c.dtype, sum.data(), width, 1, c.width, float(c.scale), h.dq, i, c.dq.row);
            }
          },
          P::padded};
}

template <class S>
const AttentionKernels* attention_table(const char* name) {
  static const AttentionKernels kernels = table_of<Pass<S>>(name);
  return &kernels;
}

}  // namespace
}  // namespace thinned
