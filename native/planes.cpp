#include "planes.h"

#include <algorithm>
#include <cstring>

namespace thinned {
namespace {

constexpr int64_t kBand = 128 * 1024;  // floats of a band: a quarter of the second cache

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to; }

// A stride's phases, up to the last that a tap reads.
int64_t phases(const Axis& a) {
  int64_t most = 0;
  for (int64_t shift : a.shifts) most = std::max(most, shift % a.stride);
  return most + 1;
}

int64_t reach(const Axis& a) {
  int64_t most = 0;
  for (int64_t shift : a.shifts) most = std::max(most, shift / a.stride);
  return most;
}

}  // namespace

Layout::Layout(const PlaneKernels& run, Axis high, Axis wide, int64_t n, int64_t width)
    : y(std::move(high)), x(std::move(wide)), channels(n), out_width(width), run_(run) {
  wide_ = x.count + reach(x);
  down_ = phases(y), across_ = phases(x);
  const int64_t halo = reach(y), row = channels * down_ * across_ * wide_;
  // Rows around a band are copied with the band before it too: it has at least four times as many.
  band_ = std::min(std::max({kBand / row - halo, 4 * halo, int64_t(1)}), y.count);
  band_ = up(y.count, up(y.count, band_));
  bands_ = up(y.count, band_);
  high_ = band_ + halo;
  plane_ = down_ * across_ * high_ * wide_;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i : y.shifts)
      for (int64_t j : x.shifts) {
        const int64_t phase = i % y.stride * across_ + j % x.stride;
        offsets_.push_back(int32_t(c * plane_ + (phase * high_ + i / y.stride) * wide_ + j / x.stride));
      }
  full_ = vectors_of(band_);
  last_ = vectors_of(y.count - (bands_ - 1) * band_);
}

int64_t Layout::room() const { return channels * plane_ + int64_t(full_.starts.size()) * run_.lanes + 64; }

// Vectors go along each row, or over all rows and what is between them, whichever are fewer; and where `rows` are fewer
// than those of a band, the band's vectors stay as they are.
Vectors Layout::vectors_of(int64_t rows) const {
  Vectors made;
  const int64_t lanes = run_.lanes;
  const int64_t each = up(x.count, lanes), all = up((band_ - 1) * wide_ + x.count, lanes);
  const bool through = all < band_ * each;
  const int64_t n = through ? all : band_ * each;
  for (int64_t v = 0; v < n; ++v)
    made.starts.push_back(int32_t(through ? v * lanes : v / each * wide_ + v % each * lanes));
  made.masks.assign(size_t(n * lanes), 0);
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t u = 0, count; u < x.count; u += count) {
      const int64_t lane = through ? t * wide_ + u : t * each * lanes + u;
      count = std::min(x.count - u, lanes - lane % lanes);
      const int64_t to = (y.first + t * y.step) * out_width + x.first + u * x.step;
      std::fill_n(made.masks.begin() + lane, count, -1);
      if (!made.pieces.empty()) {
        Piece& before = made.pieces.back();
        if (x.step == 1 && before.lane + before.count == lane && lane % lanes && before.to + before.count == to) {
          before.count += int32_t(count);
          continue;
        }
      }
      made.pieces.push_back({int32_t(lane), int32_t(count), to});
    }
  made.full = rows * x.count == n * lanes;
  size_t next = 0;
  for (int64_t v = 0; v <= n; ++v) {
    while (next < made.pieces.size() && made.pieces[next].lane < v * lanes) ++next;
    made.begin.push_back(int32_t(next));
  }
  return made;
}

bool Layout::pad(const float* source, int64_t band, float* to) const {
  const int64_t above = band * band_ * y.stride - y.front;
  // Rows of the band that are in the source.
  const int64_t begin = std::clamp<int64_t>(-above, 0, high_ * y.stride);
  const int64_t end = std::clamp(y.size - above, begin, high_ * y.stride);
  if (x.stride == 1 && y.stride == 1) {
    const int64_t skip = std::clamp<int64_t>(x.front, 0, wide_), n = std::clamp<int64_t>(x.size + x.front, skip, wide_) - skip;
    return run_.pad({source + (above + begin) * x.size + skip - x.front, x.size, begin, end - begin, high_ - end, skip, n,
                     to, wide_});
  }
  std::memset(to, 0, size_t(plane_) * sizeof(float));
  float none = 0;  // NaN where one is not finite
  for (int64_t i = begin; i < end; ++i) {
    if (i % y.stride >= down_) continue;
    const float* row = source + (above + i) * x.size;
    float* first = to + (i % y.stride * across_ * high_ + i / y.stride) * wide_;
    for (int64_t phase = 0; phase < across_; ++phase, first += high_ * wide_) {
      // Of this phase: from the first position that is in the source to the last.
      const int64_t left = x.front > phase ? up(x.front - phase, x.stride) : 0;
      const int64_t right = std::min(wide_, up(std::max<int64_t>(x.size + x.front - phase, 0), x.stride));
      for (int64_t k = left; k < right; ++k) {
        first[k] = row[k * x.stride + phase - x.front];
        none += first[k] * 0.0f;
      }
    }
  }
  return none == 0;
}

}  // namespace thinned
