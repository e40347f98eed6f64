#include "convolution.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "beside.h"
#include "planes.h"
#include "pool.h"
#include "scratch.h"

namespace thinned {
namespace {

// Multiplications that are worth another thread.
constexpr int64_t kAlone = 1 << 18;

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to; }

const PlaneKernels* planes_for(const Kernels& kernels) { return beside(kernels, avx512_planes, avx2_planes); }

// Tasks one by one to whichever thread is free: run(next) calls next() until it gives `tasks` or more.
template <class Run>
void each(int64_t tasks, int threads, const Run& run) {
  struct Context {
    std::atomic<int64_t> next{0};
    const Run* run;
  } context;
  context.run = &run;
  auto some = [](void* data, int, int) {
    auto& c = *static_cast<Context*>(data);
    (*c.run)([&] { return c.next.fetch_add(1, std::memory_order_relaxed); });
  };
  parallel(int(std::clamp<int64_t>(tasks, 1, std::max(threads, 1))), some, &context);
}

// Rows in blocks of nearly equal size, as many as a tile may have.
struct Blocks {
  int64_t n, count;
  Blocks(int64_t rows, int64_t most) : n(rows), count(up(rows, most)) {}
  int64_t begin(int64_t k) const { return n * k / count; }
  int64_t size(int64_t k) const { return begin(k + 1) - begin(k); }
};

// A part of a weight as a correlation reads it: element (row, channel, tap) at data + row · row_step + channel ·
// channel_step + taps[tap].
struct Weights {
  const float* data;
  int64_t row_step, channel_step;
  std::vector<int64_t> taps;
};

class Correlation {
 public:
  Correlation(const PlaneKernels& run, Layout layout, int64_t rows, const Weights& weights, int threads)
      : run_(run), layout_(std::move(layout)), blocks_(rows, run.rows), taps_(int64_t(weights.taps.size())),
        deep_(std::min(layout_.channels, taps_ > 1 ? int64_t(48) : int64_t(96))) {
    packed_.reset(new float[size_t(rows * layout_.channels * taps_ + 16)]);
    each(blocks_.count, rows * layout_.channels * taps_ < kAlone ? 1 : threads, [&](auto next) {
      for (int64_t b; (b = next()) < blocks_.count;)
        for (int64_t c = 0; c < layout_.channels; c += deep_) {
          const int64_t end = std::min(layout_.channels, c + deep_);
          float* to = packed_.get() + (rows * c + blocks_.begin(b) * (end - c)) * taps_;
          for (int64_t k = c; k < end; ++k)
            for (int64_t tap : weights.taps) {
              const float* from = weights.data + blocks_.begin(b) * weights.row_step + k * weights.channel_step + tap;
              for (int64_t m = 0; m < blocks_.size(b); ++m) *to++ = from[m * weights.row_step];
            }
        }
    });
  }

  // `bias` by `numbers`, or null; a sample of the output has `out_plane` floats for each row.
  void run(int64_t batch, const float* source, const float* bias, const int64_t* numbers, float* out,
           int64_t out_plane, int threads) const {
    const int64_t units = batch * layout_.bands(), vectors = int64_t(layout_.vectors(0).starts.size());
    const int64_t tiles = up(vectors, run_.vectors), rows = blocks_.n, wide = run_.vectors * run_.lanes;
    const int64_t work = units * vectors * run_.lanes * rows * layout_.channels * taps_;
    threads = int(std::clamp<int64_t>(work / kAlone, 1, std::max(threads, 1)));
    // No result depends on how many tiles a task has.
    const int64_t splits = threads == 1 ? 1 : std::clamp<int64_t>(4 * threads / units, 1, tiles);
    each(units * splits, threads, [&](auto next) {
      float* tile_room = scratch(rows * wide + run_.lanes + layout_.room());
      float* band = tile_room + rows * wide + run_.lanes;
      int64_t padded = -1;
      for (int64_t n; (n = next()) < units * splits;) {
        const int64_t unit = n / splits, split = n % splits;
        const int64_t sample = unit / layout_.bands(), which = unit % layout_.bands();
        if (unit != padded) {
          for (int64_t c = 0; c < layout_.channels; ++c)
            layout_.pad(source + (sample * layout_.channels + c) * layout_.y.size * layout_.x.size, which,
                        band + c * layout_.plane());
          padded = unit;
        }
        float* to = out + sample * rows * out_plane + layout_.shift(which);
        for (int64_t t = tiles * split / splits; t < tiles * (split + 1) / splits; ++t)
          tile(layout_.vectors(which), t * run_.vectors, band, tile_room, bias, numbers, to, out_plane);
      }
    });
  }

 private:
  void tile(const Vectors& all, int64_t first, const float* band, float* c, const float* bias, const int64_t* numbers,
            float* out, int64_t out_plane) const {
    const int64_t wide = run_.vectors * run_.lanes, n = std::min(run_.vectors, int64_t(all.starts.size()) - first);
    const Piece* pieces = all.pieces.data() + all.begin[size_t(first)];
    const int64_t some = all.begin[size_t(first + n)] - all.begin[size_t(first)];
    if (!some) return;
    const float* w = packed_.get();
    for (int64_t k = 0; k < layout_.channels; k += deep_) {
      const int64_t depth = std::min(deep_, layout_.channels - k) * taps_;
      for (int64_t b = 0; b < blocks_.count; w += blocks_.size(b++) * depth)
        run_.tile(blocks_.size(b), n, {w, band, layout_.offsets().data() + k * taps_, all.starts.data() + first,
                                       c + blocks_.begin(b) * wide, wide, depth, k > 0});
    }
    for (int64_t r = 0; r < blocks_.n; ++r)
      run_.place(c + r * wide, first * run_.lanes, pieces, some, bias ? bias[numbers ? numbers[r] : r] : 0.0f,
                 out + r * out_plane, layout_.x.step);
  }

  const PlaneKernels& run_;
  const Layout layout_;
  const Blocks blocks_;
  const int64_t taps_, deep_;
  std::unique_ptr<float[]> packed_;
};

// The axis of a forward pass.
Axis along(const Convolution& c, int a) {
  Axis made{c.size[a], c.padding[a], c.stride[a], {}, c.made[a], 0, 1};
  for (int64_t k = 0; k < c.taps[a]; ++k) made.shifts.push_back(k * c.dilation[a]);
  return made;
}

// The axis of the input's gradient at those positions, padding counted, that leave `phase` when divided by the stride:
// a correlation of the output's gradient by some of the taps.
Axis back(const Convolution& c, int a, int64_t phase, std::vector<int64_t>& taps) {
  const int64_t s = c.stride[a], p = c.padding[a];
  std::vector<int64_t> behind;
  for (int64_t k = 0; k < c.taps[a]; ++k)
    if (k * c.dilation[a] % s == phase) {
      taps.push_back(k);
      behind.push_back((k * c.dilation[a] - phase) / s);
    }
  const int64_t most = behind.back();
  const int64_t begin = p > phase ? up(p - phase, s) : 0, end = up(std::max<int64_t>(c.size[a] + p - phase, 0), s);
  Axis made{c.made[a], most - begin, 1, {}, end - begin, begin * s + phase - p, s};
  for (int64_t m : behind) made.shifts.push_back(most - m);
  return made;
}

int64_t area(const int64_t (&pair)[2]) { return pair[0] * pair[1]; }

// Those that positions of taps leave when divided by the stride.
std::vector<int64_t> phases(const Convolution& c, int a) {
  std::vector<int64_t> found;
  for (int64_t k = 0; k < c.taps[a]; ++k) found.push_back(k * c.dilation[a] % c.stride[a]);
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

void input_gradient(const PlaneKernels& run, const Convolution& c, const float* grad, float* of_input, int threads) {
  const int64_t tall = c.weight.part_height, wide = c.weight.part_width, inner = c.weight.inner;
  const std::vector<int64_t> down = phases(c, 0), across = phases(c, 1);
  if (int64_t(down.size() * across.size()) < area(c.stride))  // no tap reads what is of another
    std::memset(of_input, 0, size_t(c.batch * wide * area(c.size)) * sizeof(float));
  for (int64_t i : down)
    for (int64_t j : across) {
      std::vector<int64_t> high, along_row;
      const Axis y = back(c, 0, i, high), x = back(c, 1, j, along_row);
      if (y.count <= 0 || x.count <= 0) continue;
      Weights weights{static_cast<const float*>(c.weight.part), inner, wide * inner, {}};
      for (int64_t k : high)
        for (int64_t l : along_row) weights.taps.push_back(k * c.taps[1] + l);
      Correlation(run, Layout(run, y, x, tall, c.size[1]), wide, weights, threads)
          .run(c.batch, grad, nullptr, nullptr, of_input, area(c.size), threads);
    }
}

// The gradient of the weight's kept part, and of the bias by kept rows: sums over units, a sample's band each, in groups
// that the shapes alone say. A thread copies and multiplies what of a group its nearer caches hold.
class WeightGradient {
 public:
  WeightGradient(const PlaneKernels& run, const Convolution& c, const ConvolutionGradients& wanted)
      : run_(run), c_(c), wanted_(wanted), layout_(run, along(c, 0), along(c, 1), c.weight.part_width, c.made[1]),
        rows_(c.weight.part_height), columns_(layout_.channels * c.weight.inner),
        lanes_(int64_t(layout_.vectors(0).starts.size()) * run.lanes), image_(layout_.channels * layout_.plane()),
        units_(c.batch * layout_.bands()), at_once_(std::min({std::max<int64_t>(kPacked / (rows_ * lanes_ + image_), 1), up(kLanes, lanes_), units_})),
        down_(rows_, run.rows),
        groups_(std::clamp<int64_t>(kRoom / (rows_ * columns_), 1, std::min(kGroups, up(units_, at_once_)))),
        sums_(size_t(units_ * rows_)) {}

  // Into the part's memory, row after row; null where the bias alone is wanted.
  void run(float* part, int threads) {
    const int64_t work = units_ * lanes_ * rows_ * columns_, size = rows_ * columns_;
    threads = int(std::clamp<int64_t>(work / kAlone, 1, std::max(threads, 1)));
    const std::unique_ptr<float[]> others(part && groups_ > 1 ? new float[size_t((groups_ - 1) * size)] : nullptr);
    // Rows of few groups are shared out: no result depends on that.
    const int64_t splits = threads == 1 ? 1 : std::min(up(2 * threads, groups_), down_.count), tasks = groups_ * splits;
    each(tasks, threads, [&](auto next) {
      for (int64_t n; (n = next()) < tasks;) {
        const int64_t group = n / splits, split = n % splits;
        one_group(group, down_.count * split / splits, down_.count * (split + 1) / splits,
                  group && part ? others.get() + (group - 1) * size : part);
      }
    });
    if (!others) return;
    each(rows_, threads, [&](auto next) {
      for (int64_t row; (row = next()) < rows_;)
        for (int64_t g = 0; g + 1 < groups_; ++g) {
          const float* more = others.get() + g * size + row * columns_;
          for (int64_t k = 0; k < columns_; ++k) part[row * columns_ + k] += more[k];
        }
    });
  }

  // out[rows] = the sums of the output's gradient.
  void put_bias(float* out) const {
    std::memset(out, 0, size_t(c_.weight.height) * sizeof(float));
    for (int64_t r = 0; r < rows_; ++r) {
      double sum = 0;
      for (int64_t u = 0; u < units_; ++u) sum += double(sums_[size_t(u * rows_ + r)]);
      out[c_.weight.rows ? c_.weight.rows[r] : r] = float(sum);
    }
  }

 private:
  static constexpr int64_t kLanes = 2048;  // whose products are added before they are added to others
  static constexpr int64_t kPacked = 512 * 1024;  // floats that are copied for them
  static constexpr int64_t kGroups = 16, kRoom = 2 << 20;  // at most, and floats of their sums
  static constexpr int64_t kColumns = 16, kNear = 1024;  // at once, and lanes of each row that go with them: 24 KiB
  static constexpr int64_t kMostRows = 6, kMostLanes = 16;  // of any instruction set

  void one_group(int64_t group, int64_t first_block, int64_t last_block, float* part) {
    const int64_t begin = units_ * group / groups_, end = units_ * (group + 1) / groups_;
    float* y = scratch(at_once_ * (rows_ * lanes_ + image_) + layout_.room());
    float* x = y + at_once_ * rows_ * lanes_;
    for (int64_t first = begin, n; first < end; first += n) {
      n = std::min(at_once_, end - first);
      for (int64_t b = first_block; b < last_block; ++b)
        for (int64_t u = 0; u < n; ++u) collect(b, first + u, y + (u * rows_ + down_.begin(b)) * lanes_);
      if (!part) continue;
      bool finite = true;
      for (int64_t u = 0; u < n; ++u) finite &= pad(first + u, x + u * image_);
      std::fill_n(x + n * image_, layout_.room() - image_, 0.0f);  // read behind the last, and multiplied by 0
      for (int64_t b = first_block; b < last_block; ++b)
        for (int64_t k = 0; k < columns_; k += kColumns)
          multiply(b, k, std::min(columns_, k + kColumns), first, n, y, x, finite, part, first > begin);
    }
  }

  void collect(int64_t block, int64_t unit, float* to) {
    const int64_t sample = unit / layout_.bands(), band = unit % layout_.bands(), rows = down_.size(block);
    for (int64_t m = 0; m < rows; ++m) {
      const int64_t row = down_.begin(block) + m;
      const float* grad = wanted_.grad + (sample * rows_ + row) * area(c_.made) + layout_.shift(band);
      sums_[size_t(unit * rows_ + row)] =
          run_.collect(grad, layout_.vectors(band), to + m * run_.lanes, rows * run_.lanes);
    }
  }

  // Whether all of it is finite.
  bool pad(int64_t unit, float* to) const {
    const int64_t sample = unit / layout_.bands(), band = unit % layout_.bands();
    bool finite = true;
    for (int64_t c = 0; c < layout_.channels; ++c)
      finite &= layout_.pad(wanted_.x + (sample * layout_.channels + c) * area(c_.size), band, to + c * layout_.plane());
    return finite;
  }

  void multiply(int64_t block, int64_t begin, int64_t end, int64_t first, int64_t n, const float* y, const float* x,
                bool finite, float* part, bool add) const {
    alignas(64) float sums[kMostRows * kColumns * kMostLanes];
    const int64_t row = down_.begin(block), rows = down_.size(block), vectors = lanes_ / run_.lanes;
    std::vector<const int32_t*> masks;
    for (int64_t u = first; !finite && u < first + n; ++u)
      masks.push_back(layout_.vectors(u % layout_.bands()).masks.data());
    Dots dots{y, x, rows_ * lanes_, image_, 0, 0, nullptr, layout_.vectors(0).starts.data(), nullptr, 0, sums, false};
    // As much of y as the nearest cache holds beside the rest goes with all columns.
    const int64_t some = std::max<int64_t>(1, kNear / lanes_), most = kNear / run_.lanes;
    for (int64_t u = 0; u < n; u += some)
      for (dots.first = 0; dots.first < vectors; dots.first += most, dots.add = true) {
        dots.y = y + (u * rows_ + row) * lanes_, dots.x = x + u * image_;
        dots.masks = finite ? nullptr : masks.data() + u;
        dots.units = std::min(some, n - u), dots.vectors = std::min(most, vectors - dots.first);
        for (int64_t k = begin; k < end; k += run_.vectors) {
          dots.offsets = layout_.offsets().data() + k, dots.sums = sums + (k - begin) * rows * run_.lanes;
          run_.dots(rows, std::min(run_.vectors, end - k), dots);
        }
      }
    for (int64_t k = begin, step; k < end; k += step) {
      step = std::min(run_.vectors, end - k);
      for (int64_t m = 0; m < rows; ++m)
        run_.add_up(sums + ((k - begin) * rows + m * step) * run_.lanes, step, part + (row + m) * columns_ + k, add);
    }
  }

  const PlaneKernels& run_;
  const Convolution& c_;
  const ConvolutionGradients& wanted_;
  const Layout layout_;
  const int64_t rows_, columns_, lanes_, image_, units_, at_once_;
  const Blocks down_;
  const int64_t groups_;
  std::vector<float> sums_;
};

}  // namespace

bool convolves(const Kernels& kernels) { return planes_for(kernels) != nullptr; }

void convolution(const Kernels& kernels, const Convolution& c, const float* x, const float* bias, float* out,
                 int threads) {
  const PlaneKernels& run = *planes_for(kernels);
  take(kernels, c.weight, threads);
  Weights weights{static_cast<const float*>(c.weight.part), c.weight.part_width * c.weight.inner, c.weight.inner, {}};
  for (int64_t k = 0; k < c.weight.inner; ++k) weights.taps.push_back(k);
  Correlation(run, Layout(run, along(c, 0), along(c, 1), c.weight.part_width, c.made[1]), c.weight.part_height,
              weights, threads)
      .run(c.batch, x, bias, c.weight.rows, out, area(c.made), threads);
}

void convolution_gradients(const Kernels& kernels, const Convolution& c, const ConvolutionGradients& wanted,
                           int threads) {
  const PlaneKernels& run = *planes_for(kernels);
  if (wanted.of_input) input_gradient(run, c, wanted.grad, wanted.of_input, threads);
  if (!wanted.of_weight && !wanted.of_bias) return;
  WeightGradient gradient(run, c, wanted);
  const int64_t size = c.weight.part_height * c.weight.part_width * c.weight.inner;
  const std::unique_ptr<float[]> part(wanted.of_weight ? new float[size_t(size)] : nullptr);
  gradient.run(part.get(), threads);
  if (wanted.of_bias) gradient.put_bias(wanted.of_bias);
  if (!wanted.of_weight) return;
  Submatrix placed = c.weight;
  placed.whole = wanted.of_weight, placed.part = part.get();
  put(kernels, placed, false, threads);
}

}  // namespace thinned
