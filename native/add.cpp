#include "add.h"

#include <algorithm>
#include <cstring>

#include "pool.h"
#include "share.h"

namespace thinned {
namespace {

constexpr int64_t kBlock = 1024;  // elements: 8 KiB of the widest type stay in the nearest cache

// Where no position matters: all kept or all dropped, block by block.
void constant(const Kernels& kernels, const Addition& job, int64_t first, int64_t last) {
  alignas(64) char thin[kBlock * sizeof(double)];
  const Dtype t = job.dtype;
  if (job.threshold) std::memset(thin, 0, sizeof thin);
  for (; first < last; first += kBlock) {
    const int64_t n = std::min(kBlock, last - first);
    if (!job.threshold) kernels.scaled[t](at(job.x, first, t), thin, n, job.scale);
    kernels.sum[t](thin, at(job.residual, first, t), at(job.out, first, t), n);
  }
}

struct Task {
  const Kernels& kernels;
  const Addition& job;
  bool streaming;
};

void part_of(void* context, int part, int parts) {
  const Task& task = *static_cast<const Task*>(context);
  const Addition& job = task.job;
  const Dtype t = job.dtype;
  const int64_t first = share(job.n, part, parts, kBlock), last = share(job.n, part + 1, parts, kBlock);
  if (first >= last) return;
  if (job.threshold == 0 || job.threshold == kDropAll) return constant(task.kernels, job, first, last);
  task.kernels.added[t](make_draw(job.seed, job.stream, job.threshold),
                        {at(job.x, first, t), at(job.out, first, t), job.base + uint64_t(first), last - first},
                        at(job.residual, first, t), job.scale, task.streaming);
}

}  // namespace

void add(const Kernels& kernels, const Addition& job, int threads) {
  const bool fresh = job.out != job.x && job.out != job.residual;
  Task task{kernels, job, fresh && job.n * kItemSize[job.dtype] >= kStreamBytes};
  parallel(job.n < kSerial ? 1 : std::max(1, threads), part_of, &task);
}

}  // namespace thinned
