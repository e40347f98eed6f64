#include "planes.h"

#include <algorithm>
#include <cstring>

namespace thinned {
namespace {

constexpr int64_t kBand = 128 * 1024;  // floats of a band: a quarter of the second cache

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to; }

int64_t reach(const Axis& a) {
  int64_t most = 0;
  for (int64_t shift : a.shifts) most = std::max(most, shift / a.stride);
  return most;
}

}  // namespace

Layout::Layout(Axis high, Axis wide, int64_t n, int64_t width, int64_t lanes)
    : y(std::move(high)), x(std::move(wide)), channels(n), out_width(width), lanes_(lanes) {
  wide_ = x.count + reach(x);
  const int64_t halo = reach(y), row = channels * y.stride * x.stride * wide_;
  // Rows around a band are copied with the band before it too: it has at least four times as many.
  band_ = std::min(std::max({kBand / row - halo, 4 * halo, int64_t(1)}), y.count);
  band_ = up(y.count, up(y.count, band_));
  bands_ = up(y.count, band_);
  high_ = band_ + halo;
  plane_ = y.stride * x.stride * high_ * wide_;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i : y.shifts)
      for (int64_t j : x.shifts) {
        const int64_t phase = i % y.stride * x.stride + j % x.stride;
        offsets_.push_back(int32_t(c * plane_ + (phase * high_ + i / y.stride) * wide_ + j / x.stride));
      }
  full_ = vectors_of(band_, lanes);
  last_ = vectors_of(y.count - (bands_ - 1) * band_, lanes);
}

int64_t Layout::room() const { return channels * plane_ + int64_t(full_.starts.size()) * lanes_ + 64; }

// Vectors go along each row, or over all rows and what is between them, whichever are fewer; and where `rows` are fewer
// than those of a band, the band's vectors stay as they are.
Vectors Layout::vectors_of(int64_t rows, int64_t lanes) const {
  Vectors made;
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
  size_t next = 0;
  for (int64_t v = 0; v <= n; ++v) {
    while (next < made.pieces.size() && made.pieces[next].lane < v * lanes) ++next;
    made.begin.push_back(int32_t(next));
  }
  return made;
}

void Layout::pad(const float* source, int64_t band, float* to) const {
  std::memset(to, 0, size_t(plane_) * sizeof(float));
  const int64_t above = band * band_ * y.stride - y.front;
  for (int64_t i = std::max<int64_t>(0, -above); i < std::min(high_ * y.stride, y.size - above); ++i) {
    const float* row = source + (above + i) * x.size;
    float* first = to + (i % y.stride * x.stride * high_ + i / y.stride) * wide_;
    for (int64_t phase = 0; phase < x.stride; ++phase, first += high_ * wide_) {
      // Of this phase: from the first position that is in the source to the last.
      const int64_t begin = x.front > phase ? up(x.front - phase, x.stride) : 0;
      const int64_t n = std::min(wide_, up(std::max<int64_t>(x.size + x.front - phase, 0), x.stride)) - begin;
      const float* from = row + begin * x.stride + phase - x.front;
      if (n <= 0) continue;
      if (x.stride == 1)
        std::memcpy(first + begin, from, size_t(n) * sizeof(float));
      else
        for (int64_t k = 0; k < n; ++k) first[begin + k] = from[k * x.stride];
    }
  }
}

}  // namespace thinned
