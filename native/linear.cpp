#include "linear.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "kept_columns.h"
#include "pool.h"
#include "products.h"
#include "scratch.h"

namespace thinned {
namespace {

// Multiplications that are worth another thread.
constexpr int64_t kAlone = 1 << 20;
// Floats of a weight that are packed at once: half of the second cache.
constexpr int64_t kPacked = 128 * 1024;
// Rows of x that are gone through with them; rows of a weight's gradient that are computed before they are spread.
constexpr int64_t kRows = 192;

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
  float *out, *packed, *of_weight, *of_bias;
  const KeptColumns kept;

  Pass(const Kernels& fast, const Submatrix& w, int64_t rows)
      : kernels(fast), products(*products_for(fast)), weight(w), batch(rows), tall(w.part_height), wide(w.part_width),
        x(nullptr), grad(nullptr), bias(nullptr), out(nullptr), packed(nullptr), of_weight(nullptr), of_bias(nullptr), kept(w) {}
  int64_t number(int64_t r) const { return weight.rows ? weight.rows[r] : r; }
  const float* row(int64_t r) const { return static_cast<const float*>(weight.whole) + number(r) * weight.width; }
  // Panels of `columns` columns, the first and one behind the last that are this part's.
  int64_t panel(int64_t columns, int part, int parts) const { return up(columns, products.wide) / products.wide * part / parts; }
};

// out's columns [j, j + n) from a packed factor of as many and all of left.
void multiply(const Pass& p, const float* left, int64_t depth, const float* panels, int64_t j, int64_t n, int64_t width,
              float* rest) {
  const int64_t wide = p.products.wide, full = n / wide * wide, tail = n - full;
  for (int64_t r = 0; r < p.batch; r += kRows) {
    const int64_t rows = std::min(kRows, p.batch - r);
    const float* from = left + r * depth;
    float* out = p.out + r * width + j;
    if (p.bias)
      for (int64_t k = 0; k < rows; ++k) std::memcpy(out + k * width, p.bias + j, size_t(n) * sizeof(float));
    p.products.product(from, depth, 1, panels, wide * depth, out, width, rows, full, depth, p.bias != nullptr);
    if (!tail) continue;
    // Of whole vectors, so in memory that has room for them.
    if (p.bias)
      for (int64_t k = 0; k < rows; ++k) std::memcpy(rest + k * wide, out + k * width + full, size_t(tail) * sizeof(float));
    p.products.product(from, depth, 1, panels + full * depth, 0, rest, wide, rows, up(tail, p.products.lanes), depth,
                       p.bias != nullptr);
    for (int64_t k = 0; k < rows; ++k) std::memcpy(out + k * width + full, rest + k * wide, size_t(tail) * sizeof(float));
  }
}

// Panels of so many columns that are packed at once.
int64_t across(const Pass& p, int64_t depth) { return std::max<int64_t>(1, kPacked / (p.products.wide * depth)) * p.products.wide; }

// Rows of the weight become columns of a panel, and those are columns of out.
void forward_part(void* context, int part, int parts) {
  const Pass& p = *static_cast<const Pass*>(context);
  const int64_t lanes = p.products.lanes, wide = p.products.wide, depth = p.wide, most = across(p, depth);
  const Stretch all(p.kept, p.kernels, 0, depth);
  const int64_t row = depth + lanes;  // apart, so that no two are in one set of the cache
  float* panels = scratch(most * depth + lanes * row + wide * kRows);
  float *rows = panels + most * depth, *rest = rows + lanes * row;
  const int64_t end = std::min(p.tall, p.panel(p.tall, part + 1, parts) * wide);
  for (int64_t j = p.panel(p.tall, part, parts) * wide, n; j < end; j += n) {
    n = std::min(most, end - j);
    for (int64_t i = 0; i < n; i += lanes) {
      const int64_t some = std::min(lanes, n - i);
      for (int64_t r = 0; r < some; ++r) {
        const float* taken = all.take(p.row(j + i + r), rows + r * row);
        if (taken != rows + r * row) std::memcpy(rows + r * row, taken, size_t(depth) * sizeof(float));
      }
      p.products.turn(rows, row, some, depth, panels + i / wide * wide * depth + i % wide);
    }
    multiply(p, p.x, depth, panels, j, n, p.tall, rest);
  }
}

// Rows of the weight are rows of panels, and its columns those of out.
void input_part(const Pass& p, int part, int parts) {
  const int64_t wide = p.products.wide, depth = p.tall, most = across(p, depth);
  const int64_t end = std::min(p.wide, p.panel(p.wide, part + 1, parts) * wide);
  for (int64_t j = p.panel(p.wide, part, parts) * wide, n; j < end; j += n) {
    n = std::min(most, end - j);
    const Stretch some(p.kept, p.kernels, j, j + n);
    float* panels = scratch(most * depth + some.room() + wide * kRows);
    float *row = panels + most * depth, *rest = row + some.room();
    for (int64_t k = 0; k < depth; ++k) {
      const float* taken = some.take(p.row(k), row);
      for (int64_t i = 0; i < n; i += wide) {
        const int64_t m = std::min(wide, n - i);
        float* to = panels + i * depth + k * wide;
        std::memcpy(to, taken + i, size_t(m) * sizeof(float));
        std::memset(to + m, 0, size_t(wide - m) * sizeof(float));
      }
    }
    multiply(p, p.grad, depth, panels, j, n, p.wide, rest);
  }
}

// x in panels, for the weight's gradient.
void pack_part(const Pass& p, int part, int parts) {
  const int64_t wide = p.products.wide;
  for (int64_t n = p.panel(p.wide, part, parts); n < p.panel(p.wide, part + 1, parts); ++n) {
    const int64_t j = n * wide, some = std::min(wide, p.wide - j);
    float* to = p.packed + j * p.batch;
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
  float* c = scratch(kRows * (columns + p.batch));
  float* turned = c + kRows * columns;
  int64_t next_row = first ? p.number(first) : 0;  // of the whole
  auto zeros = [&](int64_t end) {
    std::memset(p.of_weight + next_row * width, 0, size_t((end - next_row) * width) * sizeof(float));
    next_row = end;
  };
  for (int64_t r = first; r < last; r += kRows) {
    const int64_t rows = std::min(kRows, last - r);
    pack_grad(p, r, rows, turned);
    p.products.product(turned, 1, kRows, p.packed, wide * p.batch, c, columns, rows, columns, p.batch, false);
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

void first_part(void* context, int part, int parts) {
  const Pass& p = *static_cast<const Pass*>(context);
  if (p.out) input_part(p, part, parts);
  if (p.packed) pack_part(p, part, parts);
}

// Which needs all of x packed.
void second_part(void* context, int part, int parts) {
  const Pass& p = *static_cast<const Pass*>(context);
  const int64_t first = p.tall * part / parts, last = p.tall * (part + 1) / parts;
  if (first == last) return;
  if (p.packed) weight_part(p, first, last);
  if (p.of_bias) bias_part(p, first, last);
}

int parts_of(const Pass& p, int threads) {
  return int(std::clamp<int64_t>(p.batch * p.tall * p.wide / kAlone, 1, std::max(threads, 1)));
}

}  // namespace

// By name before anything else: even what only returns a table is compiled for its instruction set.
const Products* products_for(const Kernels& kernels) {
  if (!std::strcmp(kernels.name, "avx512")) return avx512_products();
  return std::strcmp(kernels.name, "avx2") ? nullptr : avx2_products();
}

void linear(const Kernels& kernels, const Linear& what, int threads) {
  Pass pass(kernels, what.weight, what.batch);
  std::vector<float> bias(what.bias ? size_t(pass.tall) : 0);
  for (size_t r = 0; r < bias.size(); ++r) bias[r] = what.bias[pass.number(int64_t(r))];
  pass.x = what.x, pass.bias = what.bias ? bias.data() : nullptr, pass.out = what.out;
  parallel(parts_of(pass, threads), forward_part, &pass);
}

void linear_gradients(const Kernels& kernels, const LinearGradients& what, int threads) {
  Pass pass(kernels, what.weight, what.batch);
  pass.x = what.x, pass.grad = what.grad;
  pass.out = what.of_input, pass.of_weight = what.of_weight, pass.of_bias = what.of_bias;
  std::unique_ptr<float[]> packed;
  if (what.of_weight && what.batch) {
    packed.reset(new float[size_t(up(pass.wide, pass.products.wide) * what.batch)]);
    pass.packed = packed.get();
  } else if (what.of_weight) {
    std::memset(what.of_weight, 0, size_t(what.weight.height * what.weight.width) * sizeof(float));
  }
  if (what.of_bias) std::memset(what.of_bias, 0, size_t(what.weight.height) * sizeof(float));
  const int parts = parts_of(pass, threads);
  if (pass.out || pass.packed) parallel(parts, first_part, &pass);
  if (pass.packed || pass.of_bias) parallel(parts, second_part, &pass);
}

}  // namespace thinned
