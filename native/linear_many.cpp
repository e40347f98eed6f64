#include "linear_many.h"

#include <algorithm>
#include <numeric>

#include "pool.h"
#include "products.h"
#include "scratch.h"

namespace thinned {
namespace {

// Multiplications that are worth another thread.
constexpr int64_t kAlone = 1 << 20;
// Floats of x that samples go through rows of the weight with: half of the second cache. With 16 inputs one sample after
// the other takes 1.15 times as long.
constexpr int64_t kPacked = 256 * 1024;
// Kept rows that a sample multiplies by before the next one does: those of the weight stay in the second cache.
constexpr int64_t kRows = 96;
// Panels of inputs at most, for which the weight is read once.
constexpr int64_t kPanels = 4;

int64_t over(int64_t n, int64_t by) { return (n + by - 1) / by; }

struct Pass {
  const LinearMany& what;
  const Products& products;
  std::vector<int64_t> all;  // numbers of all rows or columns
  int64_t deep;              // of a panel: the most of a sample
  int64_t panels, slabs;     // of inputs that are gone through at once; of these

  int64_t count() const { return int64_t(what.samples.size()); }
};

// Samples [first, last), for the inputs of a slab.
void group(const Pass& p, int64_t slab, int64_t first, int64_t last, float* packed, float* room) {
  const LinearMany& w = p.what;
  const int64_t wide = p.products.wide, begin = slab * p.panels * wide, size = p.panels * p.deep * wide;
  const int64_t inputs = std::min(p.panels * wide, w.batch - begin);
  std::vector<const float*> at;
  int64_t tallest = 0;
  for (int64_t s = first; s < last; ++s) {
    const auto& sample = w.samples[size_t(s)];
    tallest = std::max(tallest, sample.tall);
    if (s > first && w.whole_x && sample.x == w.samples[size_t(s - 1)].x) {
      at.push_back(at.back());
      continue;
    }
    float* to = packed + (s - first) * size;
    const int64_t depth = w.whole_x ? w.width : sample.wide;
    for (int64_t i = 0; i < inputs; i += wide)
      p.products.turn(sample.x + (begin + i) * depth, depth, std::min(wide, inputs - i), depth, to + i * p.deep);
    at.push_back(to);
  }
  for (int64_t r = 0; r < tallest; r += kRows)
    for (int64_t s = first; s < last; ++s) {
      const auto& sample = w.samples[size_t(s)];
      if (r >= sample.tall) continue;
      for (int64_t i = 0; i < inputs; i += wide)
        p.products.picked({w.weight, w.width, (sample.rows ? sample.rows : p.all.data()) + r,
                           sample.columns ? sample.columns : p.all.data(), std::min(kRows, sample.tall - r), sample.wide,
                           at[size_t(s - first)] + i * p.deep, w.whole_x, std::min(wide, inputs - i), float(w.scale), w.bias,
                           w.relu, room, sample.out + (begin + i) * sample.tall + r, sample.tall});
    }
}

// The samples of one slab follow one another, then come those of the next.
void part(void* context, int number, int parts) {
  const Pass& p = *static_cast<const Pass*>(context);
  const int64_t all = p.count() * p.slabs, end = all * (number + 1) / parts, wide = p.products.wide;
  const int64_t most = std::max<int64_t>(1, kPacked / (p.panels * p.deep * wide));
  float* room = scratch(most * p.panels * p.deep * wide + kRows * wide);
  for (int64_t at = all * number / parts, next; at < end; at = next) {
    const int64_t slab = at / p.count();
    next = std::min({end, at + most, (slab + 1) * p.count()});
    group(p, slab, at - slab * p.count(), next - slab * p.count(), room + kRows * wide, room);
  }
}

}  // namespace

void linear_many(const Kernels& kernels, const LinearMany& what, int threads) {
  Pass pass{what, *products_for(kernels), {}, 1, 1, 1};
  int64_t multiplications = 0, numbers = 0;
  for (const auto& sample : what.samples) {
    if (!sample.rows) numbers = std::max(numbers, what.height);
    if (!sample.columns) numbers = std::max(numbers, what.width);
    pass.deep = std::max(pass.deep, what.whole_x ? what.width : sample.wide);
    multiplications += what.batch * sample.tall * sample.wide;
  }
  pass.all.resize(size_t(numbers));
  std::iota(pass.all.begin(), pass.all.end(), 0);
  const int64_t most = over(what.batch, pass.products.wide);
  pass.panels = std::clamp<int64_t>(kPacked / (pass.deep * pass.products.wide), 1, std::min(kPanels, std::max<int64_t>(most, 1)));
  pass.slabs = over(most, pass.panels);
  const int64_t items = pass.count() * pass.slabs;
  if (items) parallel(int(std::min({int64_t(std::max(threads, 1)), items, 1 + multiplications / kAlone})), part, &pass);
}

}  // namespace thinned
