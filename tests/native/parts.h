// Parts of matrices, against loops over their rows and columns, in memory that ends where they end.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "checks.h"
#include "submatrix.h"

namespace {

std::vector<int64_t> some_of(int64_t size, std::mt19937_64& random) {
  std::vector<int64_t> kept;
  const uint64_t most = 1 + random() % 20;
  for (int64_t k = 0; k < size; ++k)
    if (random() % 20 < most) kept.push_back(k);
  if (kept.empty()) kept.push_back(int64_t(random() % uint64_t(size)));
  return kept;
}

template <class T>
void part_of(const Kernels& kernels, Dtype dtype, std::mt19937_64& random, int threads) {
  const auto height = int64_t(1 + random() % 12), width = int64_t(1 + random() % 150);
  const int64_t inner = random() % 3 ? 1 : 3, n = width * inner;
  const auto rows = some_of(height, random), columns = some_of(width, random);
  const auto tall = int64_t(rows.size()), wide = int64_t(columns.size());
  const auto x = inputs<T>(size_t(height * n), random);
  auto whole = x;
  std::vector<T> part(size_t(tall * wide * inner)), again = part, want = part, spread(whole.size()), zeros(whole.size());
  for (int64_t r = 0; r < tall; ++r)
    for (int64_t c = 0; c < wide * inner; ++c) {
      const auto from = size_t(rows[size_t(r)] * n + columns[size_t(c / inner)] * inner + c % inner);
      want[size_t(r * wide * inner + c)] = times(x[from], typename ScaleOf<T>::type(1.5));
      zeros[from] = x[from];
    }
  Submatrix what{dtype, whole.data(), part.data(), height, width, inner, rows.data(), columns.data(), tall, wide,
                 wide * inner, 1.5};
  Submatrix other = what;
  other.part = again.data();
  take(kernels, what, threads);
  take_many(kernels, {what, other}, threads);
  bool ok = true;
  for (size_t k = 0; k < want.size(); ++k) ok &= same(part[k], want[k]) && same(again[k], want[k]);
  check(ok, "part", kernels.name, uint64_t(height), uint64_t(n));
  what.scale = 1.0;
  take(kernels, what, threads);
  what.whole = spread.data();
  put(kernels, what, false, threads);
  std::copy(part.begin(), part.end(), whole.begin());
  other = what;
  other.whole = whole.data();
  put_within(kernels, other, threads);
  ok = true;
  for (size_t k = 0; k < zeros.size(); ++k) ok &= same(spread[k], zeros[k]) && same(whole[k], zeros[k]);
  check(ok, "part that is put", kernels.name, uint64_t(height), uint64_t(n));
}

void parts_of_matrices(const Kernels& kernels, int rounds) {
  std::mt19937_64 random(23);
  for (int round = 0; round < rounds; ++round) {
    const int threads = 1 + round % 3;
    part_of<float>(kernels, kFloat32, random, threads);
    part_of<double>(kernels, kFloat64, random, threads);
    part_of<Half>(kernels, kFloat16, random, threads);
    part_of<Brain>(kernels, kBfloat16, random, threads);
  }
}

}  // namespace
