#include "dot.h"

#include <algorithm>
#include <vector>

#include "environment.h"
#include "pool.h"

namespace thinned {
namespace {

// 16 KiB each of x, w and thinned values: a tile stays in the nearest caches while every draw passes over it.
// (Draw by draw over 10^6 elements, reading x and w costs a third of the time.)
constexpr int64_t kTile = 4096;

struct Task {
  const Kernels& kernels;
  Draw draw;
  const float *x, *w;
  int64_t n, draws;
  uint64_t base, threshold;
  std::vector<double> sums;  // [tile][draw]

  int64_t tiles() const { return (n + kTile - 1) / kTile; }
};

void tiles(void* context, int part, int parts) {
  Task& t = *static_cast<Task*>(context);
  alignas(64) float thin[kTile];
  for (int64_t k = t.tiles() * part / parts; k < t.tiles() * (part + 1) / parts; ++k) {
    const int64_t first = k * kTile, n = std::min(kTile, t.n - first);
    for (int64_t d = 0; d < t.draws; ++d) {
      const float* kept = t.x + first;
      if (t.threshold) {
        const uint64_t start = t.base + uint64_t(d) * uint64_t(t.n) + uint64_t(first);
        one_run(t.kernels, kFloat32, t.draw, {kept, thin, start, n}, 1.0, false);
        kept = thin;
      }
      t.sums[size_t(k * t.draws + d)] = t.kernels.product(kept, t.w + first, n);
    }
  }
}

}  // namespace

void dots(const Kernels& kernels, const float* x, const float* w, double* out, int64_t n,
          int64_t draws, uint64_t base, uint64_t seed, uint64_t stream, uint64_t threshold,
          int threads) {
  std::fill(out, out + draws, 0.0);
  if (threshold == kDropAll) return;
  Task task{kernels, make_draw(seed, stream, threshold), x, w, n, draws, base, threshold, {}};
  task.sums.resize(size_t(task.tiles() * draws));
  parallel(int(std::clamp<int64_t>(n * draws / 16384, 1, std::max(threads, 1))), tiles, &task);
  const Ieee arithmetic;
  for (int64_t k = 0; k < task.tiles(); ++k)
    for (int64_t d = 0; d < draws; ++d) out[d] += task.sums[size_t(k * draws + d)];
}

}  // namespace thinned
