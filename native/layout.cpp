#include "layout.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "pool.h"
#include "share.h"
#include "value.h"

namespace thinned {
namespace {

constexpr int64_t kTile = 64;

template <class T>
void strided_row(const T* x, int64_t dx, T* out, int64_t dout, const uint8_t* keep, int64_t dkeep,
                 int64_t n, typename ScaleOf<T>::type scale) {
  for (int64_t j = 0; j < n; ++j) {
    T v = times(x[j * dx], scale);
    if (!keep[j * dkeep]) std::memset(&v, 0, sizeof v);
    out[j * dout] = v;
  }
}

// n elements along one dimension, each with its keep byte (dkeep 0: one byte for all).
void apply_row(const Kernels& kernels, Dtype t, const void* x, int64_t dx, void* out, int64_t dout,
               const uint8_t* keep, int64_t dkeep, int64_t n, double scale) {
  const bool dense = dx == 1 && dout == 1;
  if (dense && dkeep == 1) return kernels.masked[t](x, out, keep, n, scale);
  if (t != kMask && dense && dkeep == 0) {
    if (*keep) return kernels.scaled[t](x, out, n, scale);
    std::memset(out, 0, size_t(n * kItemSize[t]));
    return;
  }
  auto as = [&](auto* typed) {
    using T = std::remove_pointer_t<decltype(typed)>;
    strided_row<T>(static_cast<const T*>(x), dx, static_cast<T*>(out), dout, keep, dkeep, n,
                   typename ScaleOf<T>::type(scale));
  };
  switch (t) {
    case kFloat32: return as(static_cast<float*>(nullptr));
    case kFloat64: return as(static_cast<double*>(nullptr));
    case kFloat16: return as(static_cast<Half*>(nullptr));
    case kBfloat16: return as(static_cast<Brain*>(nullptr));
    default:
      for (int64_t j = 0; j < n; ++j) static_cast<uint8_t*>(out)[j * dout] = keep[j * dkeep];
  }
}

// A job with its dimensions told apart: what is left over, the one along which positions run, and the one
// along which memory runs.
struct Plan {
  const Kernels& kernels;
  Job job;
  Draw draw;
  std::vector<Dim> outer;
  Dim along{1, 0, 0, 1};   // position stride 1
  Dim across{1, 0, 0, 0};  // any position stride
  int64_t across_tile = 1;
  bool streaming = false;

  bool constant() const { return job.threshold == 0 || job.threshold == kDropAll; }
};

// Contiguous runs: elements numbered through, each part takes a stretch of whole groups.
struct Stretch {
  const Plan& plan;
  Cursor cursor;
  int64_t first, last, offset;

  Stretch(const Plan& p, int part, int parts) : plan(p), cursor(p.outer) {
    const int64_t total = cursor.total() * p.along.size;
    first = share(total, part, parts, 1024);
    last = share(total, part + 1, parts, 1024);
    if (first >= last) return;
    cursor.seek(first / p.along.size);
    offset = first % p.along.size;
  }

  bool next(Run& run) {
    if (first >= last) return false;
    const Job& job = plan.job;
    run.n = std::min(last - first, plan.along.size - offset);
    run.x = job.dtype == kMask ? nullptr : at(job.x, cursor.x + offset, job.dtype);
    run.out = at(job.out, cursor.out + offset, job.dtype);
    run.start = job.base + cursor.position + uint64_t(offset);
    first += run.n;
    offset = 0;
    cursor.next();
    return true;
  }
};

void run_part(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  Stretch stretch(p, part, parts);
  if (!p.constant()) {
    auto next = [](void* source, Run& run) { return static_cast<Stretch*>(source)->next(run); };
    return p.kernels.runs[p.job.dtype](p.draw, next, &stretch, p.job.scale, p.streaming);
  }
  const auto keep = uint8_t(p.job.threshold == 0);
  for (Run run; stretch.next(run);)
    apply_row(p.kernels, p.job.dtype, run.x, 1, run.out, 1, &keep, 0, run.n, p.job.scale);
}

// Keep bytes of a tile: `m` runs of `n` positions, one a row.
struct KeepRows {
  uint8_t (&keep)[kTile][kTile];
  uint64_t start, step;
  int64_t n, m, row;

  bool next(Run& run) {
    if (row == m) return false;
    run = {nullptr, keep[row], start + uint64_t(row) * step, n};
    ++row;
    return true;
  }
};

// Turns an 8 by 8 square of bytes, by halves, quarters and eighths.
void transpose_8x8(const uint8_t* from, uint8_t* to) {
  uint64_t r[8];
  for (int k = 0; k < 8; ++k) std::memcpy(&r[k], from + k * kTile, 8);
  auto swap = [&](int a, int b, int shift, uint64_t mask) {
    const uint64_t t = ((r[a] >> shift) ^ r[b]) & mask;
    r[b] ^= t;
    r[a] ^= t << shift;
  };
  for (int k = 0; k < 4; ++k) swap(k, k + 4, 32, 0x00000000ffffffffu);
  for (int k : {0, 1, 4, 5}) swap(k, k + 2, 16, 0x0000ffff0000ffffu);
  for (int k : {0, 2, 4, 6}) swap(k, k + 1, 8, 0x00ff00ff00ff00ffu);
  for (int k = 0; k < 8; ++k) std::memcpy(to + k * kTile, &r[k], 8);
}

// One tile: `n` positions along by `m` elements across. Keep bytes are made along the positions, turned,
// and used along the memory.
void tile(const Plan& p, int64_t x0, int64_t out0, uint64_t position, int64_t n, int64_t m) {
  alignas(64) uint8_t keep[kTile][kTile] = {}, turned[kTile][kTile];
  const Dtype t = p.job.dtype;
  const bool shared = p.across.position == 0;
  if (p.constant()) {
    std::memset(keep, p.job.threshold == 0, sizeof keep);
    std::memset(turned, p.job.threshold == 0, sizeof turned);
  } else {
    KeepRows rows{keep, position, p.across.position, n, shared ? 1 : m, 0};
    auto next = [](void* source, Run& run) { return static_cast<KeepRows*>(source)->next(run); };
    p.kernels.runs[kMask](p.draw, next, &rows, 1.0, false);
    if (!shared)
      for (int64_t j = 0; j < m; j += 8)
        for (int64_t i = 0; i < n; i += 8) transpose_8x8(&keep[j][i], &turned[i][j]);
  }
  for (int64_t i = 0; i < n; ++i)
    apply_row(p.kernels, t, t == kMask ? nullptr : at(p.job.x, x0 + i * p.along.x, t), p.across.x,
              at(p.job.out, out0 + i * p.along.out, t), p.across.out,
              shared ? &keep[0][i] : turned[i], shared ? 0 : 1, m, p.job.scale);
}

void tile_part(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  Cursor cursor(p.outer);
  const int64_t rows = (p.along.size + kTile - 1) / kTile,
                columns = (p.across.size + p.across_tile - 1) / p.across_tile;
  const int64_t total = cursor.total() * rows * columns;
  int64_t first = share(total, part, parts, 1), last = share(total, part + 1, parts, 1);
  if (first >= last) return;
  cursor.seek(first / (rows * columns));
  int64_t inside = first % (rows * columns);
  for (; first < last; ++first) {
    int64_t i = inside / columns * kTile, j = inside % columns * p.across_tile;
    tile(p, cursor.x + i * p.along.x + j * p.across.x, cursor.out + i * p.along.out + j * p.across.out,
         p.job.base + cursor.position + uint64_t(i) + uint64_t(j) * p.across.position,
         std::min(kTile, p.along.size - i), std::min(p.across_tile, p.across.size - j));
    if (++inside == rows * columns) {
      inside = 0;
      cursor.next();
    }
  }
}

}  // namespace

void execute(const Kernels& kernels, Job job, int threads) {
  int64_t total = 1;
  for (const Dim& d : job.dims) total *= d.size;
  if (total == 0) return;
  const int64_t bytes = total * kItemSize[job.dtype];
  Plan p{kernels, std::move(job), {}, {}};
  p.draw = make_draw(p.job.seed, p.job.stream, p.job.threshold);
  p.streaming = p.job.x != p.job.out && bytes >= kStreamBytes;
  if (p.constant()) {  // no position matters: walk memory in its own order
    for (Dim& d : p.job.dims) d.position = 0;
    std::stable_sort(p.job.dims.begin(), p.job.dims.end(), [](const Dim& a, const Dim& b) {
      return std::abs(a.out) > std::abs(b.out);
    });
  }
  simplify(p.job.dims);
  auto& dims = p.job.dims;
  const int parts = total < kSerial ? 1 : std::max(1, threads);

  auto take = [&](auto better) {  // the best dimension, moved out of dims; size 1 if none fits
    auto best = dims.end();
    for (auto d = dims.begin(); d != dims.end(); ++d)
      if (better(*d, best == dims.end() ? nullptr : &*best)) best = d;
    Dim found = best == dims.end() ? Dim{1, 0, 0, 0} : *best;
    if (best != dims.end()) dims.erase(best);
    return found;
  };
  p.along = take([&](const Dim& d, const Dim*) {
    return p.constant() ? d.x == 1 && d.out == 1 : d.position == 1;
  });
  const bool dense = p.along.size == 1 ? dims.empty() : p.along.x == 1 && p.along.out == 1;
  if (dense) {
    p.outer = std::move(dims);
    return parallel(parts, run_part, &p);
  }
  p.across = take([](const Dim& d, const Dim* best) {
    return !best || std::abs(d.out) <= std::abs(best->out);
  });
  p.across_tile = p.across.position == 0 ? int64_t(16384) : kTile;
  p.outer = std::move(dims);
  parallel(parts, tile_part, &p);
}

}  // namespace thinned
