// The contract in scalar C++: Philox4x32-10, halfwords, the decision (CONTRACT.md, sections 2 and 3).
// Everything here has internal linkage: each instruction-set file compiles its own copy, so that the
// linker can never hand AVX-512 code to a machine without it.
#pragma once

#include <cstdint>

namespace thinned {

constexpr uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
constexpr int kRounds = 10;
constexpr uint64_t kDropAll = uint64_t(1) << 32;

// What decides every position of one mask.
struct Draw {
  uint32_t key0, key1;        // seed, low and high word
  uint32_t stream0, stream1;  // stream, low and high word
  uint32_t high, low;         // drop threshold D = high * 2^16 + low, 0 < D < 2^32
};

namespace {

inline Draw make_draw(uint64_t seed, uint64_t stream, uint64_t threshold) {
  return {uint32_t(seed),         uint32_t(seed >> 32),      uint32_t(stream),
          uint32_t(stream >> 32), uint32_t(threshold >> 16), uint32_t(threshold & 0xffff)};
}

struct Words {
  uint32_t w[4];
};

inline Words philox(Words c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < kRounds; ++round) {
    uint64_t p0 = uint64_t(c.w[0]) * kMul0, p1 = uint64_t(c.w[2]) * kMul1;
    c = {{uint32_t(p1 >> 32) ^ c.w[1] ^ k0, uint32_t(p1), uint32_t(p0 >> 32) ^ c.w[3] ^ k1,
          uint32_t(p0)}};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return c;
}

inline Words block_words(const Draw& d, uint64_t block, uint32_t purpose) {
  return philox({{uint32_t(block), uint32_t(block >> 32) + (purpose << 28), d.stream0, d.stream1}},
                d.key0, d.key1);
}

inline uint32_t halfword(const Words& words, unsigned k) {
  return (words.w[k >> 1] >> (16 * (k & 1))) & 0xffff;
}

// The stream of `Key(seed, stream).fold(data)` (section 5), data < 2^60.
inline uint64_t fold(uint64_t seed, uint64_t stream, uint64_t data) {
  const Words w = block_words(make_draw(seed, stream, 0), data, 15);
  return uint64_t(w.w[1]) << 32 | w.w[0];
}

// Keep bytes (1 kept, 0 dropped) of the positions [start, start + n), by the full 32-bit rule. This
// is the slow and certain path: it serves the groups in which some first halfword ties.
inline void exact_keep(const Draw& d, uint64_t start, int64_t n, uint8_t* keep) {
  uint64_t have = ~uint64_t(0);
  Words h0{}, h1{};
  for (int64_t j = 0; j < n; ++j) {
    uint64_t i = start + uint64_t(j), block = i >> 3;
    unsigned k = unsigned(i & 7);
    if (block != have) {
      h0 = block_words(d, block, 0);
      h1 = block_words(d, block, 1);
      have = block;
    }
    uint32_t u = (halfword(h0, k) << 16) | halfword(h1, k);
    keep[j] = u >= ((d.high << 16) | d.low);
  }
}

}  // namespace
}  // namespace thinned
