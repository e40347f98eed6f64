// Memory that runs in the order of positions, with gaps: every second element, a column, reversed, broadcast. A
// stretch is gathered in the nearest cache, thinned there as if it were contiguous, and scattered.
#include <algorithm>
#include <cstring>
#include <vector>

#include "gather.h"
#include "plan.h"
#include "share.h"

namespace thinned {
namespace {

constexpr int64_t kStage = 2048;  // elements: 16 KiB of the widest type
// Positions so near one another share a block of the generator, mostly: bytes that are made and left out cost less
// than blocks of their own.
constexpr uint64_t kNear = 8;

struct Stretches {
  Walk& positions;
  uint64_t base;
  const char* x;
  char* out;
  int64_t left, item;

  bool next(Run& run) {
    if (left == 0) return false;
    run = {x, out, base + uint64_t(positions.offset()), std::min(left, positions.left())};
    positions.advance(run.n);
    left -= run.n;
    if (x) x += run.n * item;
    out += run.n * item;
    return true;
  }
};

// The next n elements in the order of positions, contiguous in memory.
void thin(const Plan& p, Walk& positions, const void* x, void* out, int64_t n) {
  const Job& job = p.job;
  if (job.constant()) return p.decided(x, out, job.threshold == 0, n);
  if (positions.step() == 1) {
    Stretches source{positions, job.base, static_cast<const char*>(x), static_cast<char*>(out), n,
                     kItemSize[job.dtype]};
    auto next = [](void* s, Run& run) { return static_cast<Stretches*>(s)->next(run); };
    return p.kernels.runs[job.dtype](p.draw, next, &source, job.scale, p.streaming);
  }
  uint8_t keep[kStage];
  for (int64_t j = 0, m; j < n; j += m) {
    m = std::min(n - j, positions.left());
    p.keep_row(job.base + uint64_t(positions.offset()), uint64_t(positions.step()), m, keep + j);
    positions.advance(m);
  }
  p.kernels.masked[job.dtype](x, out, keep, n, job.scale);
}

template <class T>
void stages(const Plan& p, int64_t first, int64_t last) {
  const Job& job = p.job;
  Walk from(job.dims, &Dim::x), to(job.dims, &Dim::out), positions(job.dims, &Dim::position);
  for (Walk* walk : {&from, &to, &positions}) walk->seek(first);
  const T* x = static_cast<const T*>(job.x);
  T* out = static_cast<T*>(job.out);
  alignas(64) T stage[kStage];
  for (int64_t n; first < last; first += n) {
    n = std::min(kStage, last - first);
    const T* source = stage;
    if (job.dtype == kMask)
      source = nullptr;
    else if (from.contiguous())
      source = x + first;
    else
      gather(x, from, stage, n);
    thin(p, positions, source, to.contiguous() ? out + first : stage, n);
    if (!to.contiguous()) scatter(stage, out, to, n);
  }
}

struct Singles {
  uint64_t start, step;
  uint8_t* keep;
  int64_t n;

  bool next(Run& run) {
    if (n-- == 0) return false;
    run = {nullptr, keep++, start, 1};
    start += step;
    return true;
  }
};

}  // namespace

void Plan::decided(const void* x, void* out, bool keep, int64_t n) const {
  if (job.dtype == kMask || !keep)
    std::memset(out, keep, size_t(n * kItemSize[job.dtype]));
  else
    kernels.scaled[job.dtype](x, out, n, job.scale);
}

void Plan::keep_row(uint64_t start, uint64_t step, int64_t n, uint8_t* keep) const {
  if (step > kNear) {
    Singles source{start, step, keep, n};
    auto next = [](void* s, Run& run) { return static_cast<Singles*>(s)->next(run); };
    return kernels.runs[kMask](draw, next, &source, 1.0, false);
  }
  if (step == 1) return one_run(kernels, kMask, draw, {nullptr, keep, start, n}, 1.0, false);
  if (step == 0) {
    keep_row(start, 1, 1, keep);
    std::memset(keep, keep[0], size_t(n));
    return;
  }
  uint8_t wide[1024];
  const auto most = int64_t(sizeof wide / step);
  for (int64_t m; n > 0; n -= m, keep += m, start += uint64_t(m) * step) {
    m = std::min(n, most);
    one_run(kernels, kMask, draw, {nullptr, wide, start, (m - 1) * int64_t(step) + 1}, 1.0, false);
    for (int64_t j = 0; j < m; ++j) keep[j] = wide[j * int64_t(step)];
  }
}

void staged_part(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  int64_t total = 1;
  for (const Dim& d : p.job.dims) total *= d.size;
  const int64_t first = share(total, part, parts, 1024), last = share(total, part + 1, parts, 1024);
  if (first < last) with_type(p.job.dtype, [&](auto one) { stages<decltype(one)>(p, first, last); });
}

}  // namespace thinned
