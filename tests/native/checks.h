// What the checks share: the contract said once more, numbers to try, and the count of what failed.
#pragma once

#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "contract.h"
#include "value.h"

namespace {

using namespace thinned;

int failures = 0;
long checks = 0;

void check(bool ok, const char* what, const char* path, uint64_t a = 0, uint64_t b = 0) {
  ++checks;
  if (ok) return;
  if (++failures <= 20)
    std::printf("FAILED %s on %s (%llu, %llu)\n", what, path, (unsigned long long)a,
                (unsigned long long)b);
}

// The 32-bit number of a position whose halfwords serve two purposes: the first and the one after it.
uint64_t number(uint64_t seed, uint64_t stream, uint32_t first, uint64_t i) {
  auto half = [&](uint32_t purpose) {
    Words w = philox({{uint32_t(i >> 3), uint32_t(i >> 35) + (purpose << 28), uint32_t(stream),
                       uint32_t(stream >> 32)}},
                     uint32_t(seed), uint32_t(seed >> 32));
    return uint64_t(w.w[(i % 8) / 2] >> (16 * (i % 2)) & 0xffff);
  };
  return half(first) * 65536 + half(first + 1);
}

bool kept(uint64_t seed, uint64_t stream, uint64_t threshold, uint64_t i) {
  return number(seed, stream, 0, i) >= threshold;
}

// Numbers that matter: ordinary, subnormal, infinite, NaN, negative zero.
template <class T>
std::vector<T> inputs(size_t n, std::mt19937_64& random) {
  std::vector<T> x(n);
  for (auto& v : x) {
    uint64_t bits = random();
    if constexpr (sizeof(T) == 2) {
      v.bits = uint16_t(bits);
    } else if (random() % 4) {
      v = T(std::normal_distribution<double>()(random));
    } else {
      std::memcpy(&v, &bits, sizeof v);  // any pattern at all
    }
  }
  return x;
}

bool is_nan(float f) { return f != f; }
bool is_nan(double f) { return f != f; }
bool is_nan(Half h) { return (h.bits & 0x7fff) > 0x7c00; }
bool is_nan(Brain b) { return (b.bits & 0x7fff) > 0x7f80; }

template <class T>
bool same(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (is_nan(a) && is_nan(b));
}

}  // namespace
