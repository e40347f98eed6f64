#include "normal.h"

#include <algorithm>
#include <utility>

#include "pool.h"
#include "share.h"

namespace thinned {
namespace {

// A deviate costs some twenty times what a kept element does.
constexpr int64_t kSerialDeviates = kSerial / 16;
constexpr int64_t kTile = 512;

struct Plan {
  const Kernels& kernels;
  float* out;
  Draw draw;
  uint64_t base;
  std::vector<Dim> outer;
  Dim along{1, 0, 0, 1};
  int64_t repeat = 1;  // how many neighbours share one deviate
};

void part_of(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  Cursor cursor(p.outer);
  const int64_t total = cursor.total() * p.along.size;
  int64_t first = share(total, part, parts, kTile), last = share(total, part + 1, parts, kTile);
  if (first >= last) return;
  cursor.seek(first / p.along.size);
  int64_t offset = first % p.along.size;
  float z[kTile];
  while (first < last) {
    int64_t n = std::min(last - first, p.along.size - offset);
    const uint64_t start = p.base + cursor.position + uint64_t(offset) * p.along.position;
    if (p.repeat == 1) {
      p.kernels.normal(p.draw, start, p.along.position, n, p.out + first);
    } else {
      n = std::min(n, kTile);
      p.kernels.normal(p.draw, start, p.along.position, n, z);
      for (int64_t j = 0; j < n; ++j) std::fill_n(p.out + (first + j) * p.repeat, p.repeat, z[j]);
    }
    first += n;
    offset += n;
    if (offset == p.along.size) {
      offset = 0;
      cursor.next();
    }
  }
}

}  // namespace

void normal(const Kernels& kernels, Deviates job, int threads) {
  int64_t total = 1;
  for (size_t k = job.dims.size(); k-- > 0;) {
    job.dims[k].x = 0;
    job.dims[k].out = total;
    total *= job.dims[k].size;
  }
  if (total == 0) return;
  simplify(job.dims);
  Plan p{kernels, job.out, make_draw(job.seed, job.stream, 1), job.base, {}};
  auto take_last = [&] {
    const Dim last = job.dims.back();
    job.dims.pop_back();
    return last;
  };
  if (!job.dims.empty() && job.dims.back().position == 0) p.repeat = take_last().size;
  if (!job.dims.empty()) p.along = take_last();
  p.outer = std::move(job.dims);
  parallel(total / p.repeat < kSerialDeviates ? 1 : std::max(1, threads), part_of, &p);
}

}  // namespace thinned
