// Normal deviates of neighbouring positions (CONTRACT.md, section 6): words by the vector code of S, quantiles by
// loops that the compiler turns into vectors.
#pragma once

#include "lanes.h"
#include "quantile.h"

namespace thinned {
namespace {

constexpr uint32_t kNoiseHigh = 2, kNoiseLow = 3;

// p - 1/2 for the 32-bit number v, exact: p = (v + 1/2) / 2^32.
inline double centred(uint32_t v) {
  return (double(int32_t(v ^ 0x80000000u)) + 0.5) * (1.0 / 4294967296.0);
}

// At most kMost at a time. Three in twenty are tails: gathered, they fill vectors of their own.
constexpr int kMost = 512, kPadding = 8;

inline void deviates(const double* q, int n, float* out) {
  double tail[kMost + kPadding];
  int place[kMost], tails = 0;
  for (int k = 0; k < n; ++k) out[k] = float(central_quantile(q[k]));
  for (int k = 0; k < n; ++k) {
    const double distance = std::fabs(q[k]);
    tail[tails] = 0.5 - distance;
    place[tails] = k;
    tails += distance > kCentral;
  }
  const int padded = (tails + kPadding - 1) / kPadding * kPadding;
  for (int k = tails; k < padded; ++k) tail[k] = 0.05;
  for (int k = 0; k < padded; ++k) tail[k] = tail_quantile(tail[k]);
  for (int k = 0; k < tails; ++k) out[place[k]] = float(q[place[k]] < 0 ? -tail[k] : tail[k]);
}

template <class S>
class Noise {
 public:
  static constexpr int kBlocks = S::lanes * S::chains, kGroup = 8 * kBlocks;

  explicit Noise(const Draw& d) : draw_(d), high_(d, uint64_t(kNoiseHigh) << 28), low_(d, uint64_t(kNoiseLow) << 28) {}

  // p - 1/2 of the group that begins at `start`, a multiple of 8.
  void group(uint64_t start, double* q) {
    const uint64_t block = start >> 3;
    if (uint32_t(block) > UINT32_MAX - uint32_t(kBlocks - 1)) {  // two upper counter words: the slow way
      for (int k = 0; k < kGroup; ++k) q[k] = one(draw_, start + uint64_t(k));
      return;
    }
    upper(high_, (block >> 32) + (uint64_t(kNoiseHigh) << 28));
    upper(low_, (block >> 32) + (uint64_t(kNoiseLow) << 28));
    typename S::V product[S::chains];
    first_products<S>(block, product);
    uint64_t high[2 * kBlocks], low[2 * kBlocks];
    words(high_, product, high);
    words(low_, product, low);
    for (int w = 0; w < 2 * kBlocks; ++w)
      for (int k = 0; k < 4; ++k)
        q[4 * w + k] = centred(uint32_t(high[w] >> (16 * k) & 0xffff) << 16 | uint32_t(low[w] >> (16 * k) & 0xffff));
  }

  static double one(const Draw& d, uint64_t i) {
    const uint64_t block = i >> 3;
    const unsigned k = unsigned(i & 7);
    return centred(halfword(block_words(d, block, kNoiseHigh), k) << 16 |
                   halfword(block_words(d, block, kNoiseLow), k));
  }

 private:
  void upper(Schedule<S>& schedule, uint64_t value) {
    if (value != schedule.upper) schedule = Schedule<S>(draw_, value);
  }

  // The output of each block, four halfwords to a word, block after block.
  static void words(const Schedule<S>& schedule, const typename S::V (&product)[S::chains], uint64_t* to) {
    typename S::V a[S::chains], b[S::chains];
    generate<S>(schedule, product, a, b);
    for (int c = 0; c < S::chains; ++c) {
      uint64_t lane[2][S::lanes];
      std::memcpy(lane[0], &a[c], sizeof lane[0]);
      std::memcpy(lane[1], &b[c], sizeof lane[1]);
      for (int l = 0; l < S::lanes; ++l)
        for (int half = 0; half < 2; ++half) to[2 * (S::lanes * c + S::order(l)) + half] = lane[half][l];
    }
  }

  Draw draw_;
  Schedule<S> high_, low_;
};

template <class S>
void normal_any(const Draw& d, uint64_t start, uint64_t step, int64_t n, float* out) {
  constexpr int kGroup = Noise<S>::kGroup;
  alignas(64) double q[kMost];
  Noise<S> noise(d);
  while (n > 0) {
    const int skip = step == 1 ? int(start & 7) : 0;
    const int count = int(n < kMost - skip ? n : kMost - skip);
    if (step == 1)
      for (int k = 0; k < skip + count; k += kGroup) noise.group(start - uint64_t(skip) + uint64_t(k), q + k);
    else
      for (int k = 0; k < count; ++k) q[k] = noise.one(d, start + uint64_t(k) * step);
    deviates(q + skip, count, out);
    start += uint64_t(count) * step;
    out += count;
    n -= count;
  }
}

}  // namespace
}  // namespace thinned
