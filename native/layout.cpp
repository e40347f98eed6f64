#include "layout.h"

#include <algorithm>
#include <cstdlib>

#include "plan.h"
#include "pool.h"
#include "share.h"

namespace thinned {
namespace {

// Contiguous runs: elements numbered through, each part takes a stretch of whole groups.
struct Stretch {
  const Job& job;
  Dim along;
  std::vector<Dim> outer;
  Cursor cursor;
  int64_t first = 0, last = 0, offset = 0;

  Stretch(const Job& j, int part, int parts)
      : job(j), along(j.dims.empty() ? Dim{1, 1, 1, 1} : j.dims.back()),
        outer(j.dims.begin(), j.dims.empty() ? j.dims.end() : j.dims.end() - 1), cursor(outer) {
    const int64_t total = cursor.total() * along.size;
    first = share(total, part, parts, 1024);
    last = share(total, part + 1, parts, 1024);
    if (first >= last) return;
    cursor.seek(first / along.size);
    offset = first % along.size;
  }

  bool next(Run& run) {
    if (first >= last) return false;
    run.n = std::min(last - first, along.size - offset);
    run.x = job.dtype == kMask ? nullptr : at(job.x, cursor.x + offset, job.dtype);
    run.out = at(job.out, cursor.out + offset, job.dtype);
    run.start = job.base + cursor.position + uint64_t(offset);
    first += run.n;
    offset = 0;
    cursor.next();
    return true;
  }
};

void dense_part(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  Stretch stretch(p.job, part, parts);
  if (!p.job.constant()) {
    auto next = [](void* source, Run& run) { return static_cast<Stretch*>(source)->next(run); };
    return p.kernels.runs[p.job.dtype](p.draw, next, &stretch, p.job.scale, p.streaming);
  }
  for (Run run; stretch.next(run);) p.decided(run.x, run.out, p.job.threshold == 0, run.n);
}

using Part = void (*)(void* plan, int part, int parts);

// Runs shorter than this are better turned in tiles.
constexpr int64_t kShort = 32;
// A mask no longer than this is kept for all that share it: 64 positions for 256 rows take 0.3 of the time.
constexpr int64_t kAgain = 1024;

// How to walk a job, whose dimensions it puts in the order of the walk.
Part way(Job& job) {
  std::vector<Dim>& dims = job.dims;
  if (job.constant())
    for (Dim& d : dims) d.position = 0;
  std::stable_sort(dims.begin(), dims.end(),
                   [](const Dim& a, const Dim& b) { return std::abs(a.out) > std::abs(b.out); });
  simplify(dims);
  if (dims.empty()) return dense_part;
  auto later = [](const Dim& a, const Dim& b) { return a.position - 1 < b.position - 1; };
  const auto along = std::min_element(dims.rbegin(), dims.rend(), later).base() - 1;
  const bool innermost = along + 1 == dims.end(), contiguous = dims.back().x == 1 && dims.back().out == 1;
  if (job.constant()) return contiguous ? dense_part : staged_part;
  if (along->position == 0) return tile_part;
  if (innermost && contiguous && along->position == 1) {
    const bool shared = std::any_of(dims.begin(), dims.end(), [](const Dim& d) { return d.position == 0; });
    return shared && along->size <= kAgain ? tile_part : dense_part;
  }
  const bool gathered = along->size >= kShort || std::is_sorted(dims.rbegin(), dims.rend(), later);
  return innermost && gathered ? staged_part : tile_part;
}

}  // namespace

void execute(const Kernels& kernels, Job job, int threads) {
  int64_t total = 1;
  for (const Dim& d : job.dims) total *= d.size;
  if (total == 0) return;
  const bool streaming = job.x != job.out && total * kItemSize[job.dtype] >= kStreamBytes;
  const Draw draw = make_draw(job.seed, job.stream, job.threshold);
  const Part part = way(job);
  Plan plan{kernels, std::move(job), draw, streaming};
  parallel(total < kSerial ? 1 : std::max(1, threads), part, &plan);
}

}  // namespace thinned
