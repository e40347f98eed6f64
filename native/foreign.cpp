#include "foreign.h"

#include <thread>
#include <utility>
#include <vector>

#include "layout.h"
#include "memory.h"

namespace thinned {
namespace {

// Frameworks hand out fresh memory that was never touched. XLA's 64 MiB: 31 ms in small pages, 14 ms in large ones.
constexpr int64_t kLargePages = int64_t(1) << 22;

}  // namespace

void foreign(int dtype, const void* x, void* out, int dims, const int64_t* shape,
             const uint64_t* position_strides, uint64_t base, uint64_t seed, uint64_t stream,
             uint64_t threshold, double scale, int threads) {
  static const int processors = int(std::thread::hardware_concurrency());
  std::vector<Dim> layout(static_cast<size_t>(dims));
  int64_t step = 1;
  for (size_t k = layout.size(); k-- > 0;) {
    layout[k] = {shape[k], step, step, position_strides[k]};
    step *= shape[k];
  }
  const int64_t bytes = step * kItemSize[dtype];
  if (x != out && bytes >= kLargePages) prefer_large_pages(out, size_t(bytes));
  execute(selected_kernels(),
          {Dtype(dtype), x, out, std::move(layout), base, seed, stream, threshold, scale},
          threads > 0 ? threads : processors);
}

}  // namespace thinned
