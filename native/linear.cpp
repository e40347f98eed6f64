#include "linear.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "beside.h"
#include "kept_columns.h"
#include "pool.h"
#include "products.h"
#include "scratch.h"

namespace thinned {
namespace {

// Multiplications that are worth another thread.
constexpr int64_t kAlone = 1 << 20;
// Rows of a product's left factor that are gone through with one panel of the right one: those of a weight stay in the
// second cache for the next panel, and those of its gradient until they are spread.
constexpr int64_t kRows = 96;
// Rows and columns of a weight that are packed at once.
constexpr int64_t kDeep = 128, kAcross = 1024;

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// What a row keeps from its kept column `first` to `last`, as its kernels take it.
class Stretch {
 public:
  Stretch(const KeptColumns& kept, const Kernels& fast, int64_t first, int64_t last)
      : kernels_(kept.kernels(fast)), columns_(kept.columns()), begin_(first), skip_(0) {
    columns_.kept = last - first;
    if (kept.all()) return;
    columns_.numbers += first;
    begin_ = 0;
    if (&kernels_ != &fast || first == last) return;
    // By bits, of whole words: what is kept before `first` is taken too.
    const int64_t* all = kept.columns().numbers;
    begin_ = all[first] / 64 * 64;
    skip_ = all + first - std::lower_bound(all, all + first, begin_);
    columns_.bits += begin_ / 64;
    columns_.n = all[last - 1] + 1 - begin_;
    columns_.kept += skip_;
  }
  int64_t room() const { return columns_.kept; }
  // Into memory of `room()` floats; where what was asked for begins.
  const float* take(const float* row, float* to) const {
    if (columns_.bits)
      kernels_.taken[kFloat32](columns_, row + begin_, to);
    else if (columns_.scale == 1.0)
      return row + begin_;
    else
      kernels_.scaled[kFloat32](row + begin_, to, columns_.kept, columns_.scale);
    return to + skip_;
  }

 private:
  const Kernels& kernels_;
  Columns columns_;
  int64_t begin_, skip_;
};

struct Pass {
  const Kernels& kernels;
  const Products& products;
  const Submatrix& weight;
  const int64_t batch, tall, wide;
  const float *x, *grad, *bias;
  float *out, *of_weight, *of_bias;
  const KeptColumns kept;
  std::vector<int64_t> all;  // numbers, where all are kept

  Pass(const Kernels& fast, const Submatrix& w, int64_t rows)
      : kernels(fast), products(*products_for(fast)), weight(w), batch(rows), tall(w.part_height), wide(w.part_width),
        x(nullptr), grad(nullptr), bias(nullptr), out(nullptr), of_weight(nullptr), of_bias(nullptr), kept(w) {
    all.resize(size_t(std::max(w.rows ? 0 : w.height, w.columns ? 0 : w.width)));
    std::iota(all.begin(), all.end(), 0);
  }
  const float* row(int64_t r) const { return static_cast<const float*>(weight.whole) + number(r) * weight.width; }
  int64_t number(int64_t r) const { return weight.rows ? weight.rows[r] : r; }
  const int64_t* rows() const { return weight.rows ? weight.rows : all.data(); }
  const int64_t* columns() const { return weight.columns ? weight.columns : all.data(); }
  // Panels of `columns` columns, the first and one behind the last that are this part's.
  int64_t panel(int64_t columns, int part, int parts) const { return up(columns, products.wide) / products.wide * part / parts; }
};

// A part of out's columns. The weight is read where it stands, number by number, beside vectors that go along x's rows:
// its numbers come from the outer caches while products run.
void forward_part(void* context, int part, int parts) {
  const Pass& p = *static_cast<const Pass*>(context);
  const int64_t wide = p.products.wide, depth = p.wide, last = p.tall * (part + 1) / parts;
  float *room = scratch(kRows * wide + up(p.batch, wide) * depth), *panels = room + kRows * wide;
  for (int64_t j = 0; j < p.batch; j += wide)
    p.products.turn(p.x + j * depth, depth, std::min(wide, p.batch - j), depth, panels + j * depth);
  for (int64_t r = p.tall * part / parts; r < last; r += kRows)
    for (int64_t j = 0; j < p.batch; j += wide)
      p.products.picked({static_cast<const float*>(p.weight.whole), p.weight.width, p.rows() + r, p.columns(),
                         std::min(kRows, last - r), depth, panels + j * depth, false, std::min(wide, p.batch - j),
                         float(p.weight.scale), p.bias, false, room, p.out + j * p.tall + r, p.tall});
}

// Rows of the weight are packed, some at a time, since vectors have to go along its columns: number by number each
// would be another line of the cache.
void input_part(const Pass& p, int part, int parts) {
  const int64_t wide = p.products.wide, end = std::min(p.wide, p.panel(p.wide, part + 1, parts) * wide);
  for (int64_t first = p.panel(p.wide, part, parts) * wide, n; first < end; first += n) {
    n = std::min(end - first, kAcross);
    const Stretch some(p.kept, p.kernels, first, first + n);
    const int64_t full = n / wide * wide, tail = n - full;
    float* panels = scratch(up(n, wide) * kDeep + some.room() + wide * p.batch);
    float *row = panels + up(n, wide) * kDeep, *rest = row + some.room();
    for (int64_t k = 0; k < p.tall; k += kDeep) {
      const int64_t deep = std::min(kDeep, p.tall - k);
      for (int64_t r = 0; r < deep; ++r) {
        const float* taken = some.take(p.row(k + r), row);
        for (int64_t j = 0; j < n; j += wide) {
          const int64_t m = std::min(wide, n - j);
          float* to = panels + j * deep + r * wide;
          std::memcpy(to, taken + j, size_t(m) * sizeof(float));
          std::memset(to + m, 0, size_t(wide - m) * sizeof(float));
        }
      }
      p.products.product(p.grad + k, p.tall, 1, panels, wide * deep, p.out + first, p.wide, p.batch, full, deep, k > 0);
      if (tail)  // of whole vectors, so in memory that has room for them
        p.products.product(p.grad + k, p.tall, 1, panels + full * deep, 0, rest, wide, p.batch, up(tail, p.products.lanes), deep,
                           k > 0);
    }
    for (int64_t b = 0; tail && b < p.batch; ++b)
      std::memcpy(p.out + b * p.wide + first + full, rest + b * wide, size_t(tail) * sizeof(float));
  }
}

// x in panels.
void pack(const Pass& p, float* to) {
  const int64_t wide = p.products.wide;
  for (int64_t j = 0; j < p.wide; j += wide) {
    const int64_t some = std::min(wide, p.wide - j);
    for (int64_t k = 0; k < p.batch; ++k, to += wide) {
      std::memcpy(to, p.x + k * p.wide + j, size_t(some) * sizeof(float));
      std::memset(to + some, 0, size_t(wide - some) * sizeof(float));
    }
  }
}

// Columns of grad, side by side: otherwise each of its rows is a line of the cache that a block needs a part of.
void pack_grad(const Pass& p, int64_t r, int64_t rows, float* to) {
  for (int64_t k = 0; k < p.batch; ++k) std::memcpy(to + k * kRows, p.grad + k * p.tall + r, size_t(rows) * sizeof(float));
}

// Rows of the weight's gradient, each written by one thread and once.
void weight_part(const Pass& p, int64_t first, int64_t last) {
  const int64_t wide = p.products.wide, columns = up(p.wide, wide), width = p.weight.width;
  const Kernels& kernels = p.kept.kernels(p.kernels);
  float* packed = scratch(columns * p.batch + kRows * (columns + p.batch));
  float *c = packed + columns * p.batch, *turned = c + kRows * columns;
  pack(p, packed);
  int64_t next_row = first ? p.number(first) : 0;  // of the whole
  auto zeros = [&](int64_t end) {
    std::memset(p.of_weight + next_row * width, 0, size_t((end - next_row) * width) * sizeof(float));
    next_row = end;
  };
  for (int64_t r = first; r < last; r += kRows) {
    const int64_t rows = std::min(kRows, last - r);
    pack_grad(p, r, rows, turned);
    p.products.product(turned, 1, kRows, packed, wide * p.batch, c, columns, rows, columns, p.batch, false);
    for (int64_t k = 0; k < rows; ++k) {
      zeros(p.number(r + k));
      const float* from = c + k * columns;
      float* to = p.of_weight + next_row++ * width;
      if (!p.kept.all())
        kernels.put[kFloat32](p.kept.columns(), from, to, false);
      else if (p.weight.scale == 1.0)
        std::memcpy(to, from, size_t(width) * sizeof(float));
      else
        kernels.scaled[kFloat32](from, to, width, p.weight.scale);
    }
  }
  zeros(last == p.tall ? p.weight.height : p.number(last));
}

// Sums of 32 are added in double.
void bias_part(const Pass& p, int64_t first, int64_t last) {
  constexpr int64_t kWide = 256, kDown = 32;
  for (int64_t begin = first; begin < last; begin += kWide) {
    const int64_t n = std::min(kWide, last - begin);
    double sum[kWide] = {};
    for (int64_t row = 0; row < p.batch; row += kDown) {
      float some[kWide] = {};
      for (int64_t r = row; r < std::min(row + kDown, p.batch); ++r)
        for (int64_t k = 0; k < n; ++k) some[k] += p.grad[r * p.tall + begin + k];
      for (int64_t k = 0; k < n; ++k) sum[k] += double(some[k]);
    }
    for (int64_t k = 0; k < n; ++k) p.of_bias[p.number(begin + k)] = float(sum[k]);
  }
}

// Each thread packs what it needs: to wait for one another takes longer.
void gradients_part(void* context, int part, int parts) {
  const Pass& p = *static_cast<const Pass*>(context);
  if (p.out) input_part(p, part, parts);
  const int64_t first = p.tall * part / parts, last = p.tall * (part + 1) / parts;
  if (first == last) return;
  if (p.of_weight) weight_part(p, first, last);
  if (p.of_bias) bias_part(p, first, last);
}

int parts_of(const Pass& p, int threads) {
  return int(std::clamp<int64_t>(p.batch * p.tall * p.wide / kAlone, 1, std::max(threads, 1)));
}

}  // namespace

const Products* products_for(const Kernels& kernels) { return beside(kernels, avx512_products, avx2_products); }

void linear(const Kernels& kernels, const Linear& what, int threads) {
  Pass pass(kernels, what.weight, what.batch);
  pass.x = what.x, pass.bias = what.bias, pass.out = what.out;
  parallel(parts_of(pass, threads), forward_part, &pass);
}

void linear_gradients(const Kernels& kernels, const LinearGradients& what, int threads) {
  Pass pass(kernels, what.weight, what.batch);
  pass.x = what.x, pass.grad = what.grad;
  pass.out = what.of_input, pass.of_weight = what.of_weight, pass.of_bias = what.of_bias;
  if (what.of_bias) std::memset(what.of_bias, 0, size_t(what.weight.height) * sizeof(float));
  if (what.of_weight && !what.batch) {
    std::memset(what.of_weight, 0, size_t(what.weight.height * what.weight.width) * sizeof(float));
    pass.of_weight = nullptr;
  }
  parallel(parts_of(pass, threads), gradients_part, &pass);
}

}  // namespace thinned
