#include "layout.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "pool.h"
#include "value.h"

namespace thinned {
namespace {

// One thread is enough below this: a parallel region costs microseconds.
constexpr int64_t kSerial = 16 * 1024;
// Streaming stores pay once the output exceeds the cache, and hurt inside it.
constexpr int64_t kStreamBytes = int64_t(16) << 20;
constexpr int64_t kTile = 64;

char* at(void* base, int64_t offset, Dtype t) {
  return static_cast<char*>(base) + offset * kItemSize[t];
}
const char* at(const void* base, int64_t offset, Dtype t) {
  return static_cast<const char*>(base) + offset * kItemSize[t];
}

// Merge neighbours that are one dimension in memory and in position; drop dimensions of size 1.
void simplify(std::vector<Dim>& dims) {
  std::vector<Dim> merged;
  for (const Dim& d : dims) {
    if (d.size == 1) continue;
    if (!merged.empty()) {
      Dim& outer = merged.back();
      if (outer.x == d.x * d.size && outer.out == d.out * d.size &&
          outer.position == d.position * uint64_t(d.size)) {
        outer = {outer.size * d.size, d.x, d.out, d.position};
        continue;
      }
    }
    merged.push_back(d);
  }
  dims.swap(merged);
}

// The offsets of one multi-index over some dimensions, counted up like an odometer.
class Cursor {
 public:
  explicit Cursor(const std::vector<Dim>& dims) : dims_(dims), index_(dims.size(), 0) {}

  int64_t total() const {
    int64_t n = 1;
    for (const Dim& d : dims_) n *= d.size;
    return n;
  }
  void seek(int64_t flat) {
    x = out = 0;
    position = 0;
    for (size_t k = dims_.size(); k-- > 0;) {
      index_[k] = flat % dims_[k].size;
      flat /= dims_[k].size;
      move(dims_[k], index_[k]);
    }
  }
  void next() {
    for (size_t k = dims_.size(); k-- > 0;) {
      if (++index_[k] < dims_[k].size) return move(dims_[k], 1);
      move(dims_[k], 1 - index_[k]);
      index_[k] = 0;
    }
  }

  int64_t x = 0, out = 0;
  uint64_t position = 0;

 private:
  void move(const Dim& d, int64_t steps) {
    x += steps * d.x;
    out += steps * d.out;
    position += uint64_t(steps) * d.position;
  }
  const std::vector<Dim>& dims_;
  std::vector<int64_t> index_;
};

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

int64_t share(int64_t total, int part, int parts, int64_t multiple) {
  if (part == parts) return total;
  auto cut = int64_t(double(total) * part / parts);
  return std::min(total, cut / multiple * multiple);
}

// Contiguous runs: elements numbered through, each part takes a stretch of whole groups.
void run_part(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  const Dtype t = p.job.dtype;
  const int64_t length = p.along.size;
  Cursor cursor(p.outer);
  int64_t first = share(cursor.total() * length, part, parts, 1024),
          last = share(cursor.total() * length, part + 1, parts, 1024);
  if (first >= last) return;
  cursor.seek(first / length);
  int64_t offset = first % length;
  const auto keep = uint8_t(p.job.threshold == 0);
  while (first < last) {
    int64_t n = std::min(last - first, length - offset);
    const void* x = t == kMask ? nullptr : at(p.job.x, cursor.x + offset, t);
    void* out = at(p.job.out, cursor.out + offset, t);
    if (p.constant())
      apply_row(p.kernels, t, x, 1, out, 1, &keep, 0, n, p.job.scale);
    else
      p.kernels.run[t](p.draw, x, out, p.job.base + cursor.position + uint64_t(offset), n,
                       p.job.scale, p.streaming);
    first += n;
    offset = 0;
    cursor.next();
  }
}

// Keep bytes of positions [start, start + n).
void keep_run(const Plan& p, uint64_t start, int64_t n, uint8_t* keep) {
  if (p.constant())
    std::memset(keep, p.job.threshold == 0, size_t(n));
  else
    p.kernels.run[kMask](p.draw, nullptr, keep, start, n, 1.0, false);
}

// One tile: `n` positions along by `m` elements across. Keep bytes are made along the positions and used
// along the memory.
void tile(const Plan& p, int64_t x0, int64_t out0, uint64_t position, int64_t n, int64_t m) {
  uint8_t keep[kTile][kTile];
  const Dtype t = p.job.dtype;
  const bool shared = p.across.position == 0;
  for (int64_t j = 0; j < (shared ? 1 : m); ++j)
    keep_run(p, position + uint64_t(j) * p.across.position, n, keep[j]);
  for (int64_t i = 0; i < n; ++i)
    apply_row(p.kernels, t, t == kMask ? nullptr : at(p.job.x, x0 + i * p.along.x, t), p.across.x,
              at(p.job.out, out0 + i * p.along.out, t), p.across.out, &keep[0][i],
              shared ? 0 : kTile, m, p.job.scale);
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
