// Parts of matrices, against loops over their rows and columns, in memory that ends where they end.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "checks.h"
#include "linear.h"
#include "linear_many.h"
#include "products.h"
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
  ok = true;
  for (size_t k = 0; k < zeros.size(); ++k) ok &= same(spread[k], zeros[k]);
  check(ok, "part that is put", kernels.name, uint64_t(height), uint64_t(n));
}

std::vector<float> deviates(int64_t n, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n));
  for (float& one : x) one = normal(random);
  return x;
}

bool all_close(const std::vector<float>& found, const std::vector<double>& want) {
  bool ok = true;
  for (size_t k = 0; k < want.size(); ++k) ok &= std::abs(found[k] - want[k]) < 1e-3;
  return ok;
}

// A linear map of a part and its gradients, against sums in double.
void linear_of(const Kernels& kernels, std::mt19937_64& random, int threads) {
  const auto height = int64_t(1 + random() % 150), width = int64_t(1 + random() % 150), batch = int64_t(1 + random() % 20);
  const auto rows = some_of(height, random), columns = some_of(width, random);
  const auto tall = int64_t(rows.size()), wide = int64_t(columns.size());
  auto made = [&](int64_t n) { return deviates(n, random); };
  auto weight = made(height * width);
  const auto bias = made(height), x = made(batch * wide), grad = made(batch * tall);
  std::vector<float> out(size_t(batch * tall)), of_input(x.size()), of_weight(weight.size(), 77), of_bias(bias.size(), 77);
  const Submatrix what{kFloat32, weight.data(), nullptr, height, width, 1, rows.data(), columns.data(), tall, wide, wide, 1.5};
  linear(kernels, {what, batch, x.data(), bias.data(), out.data()}, threads);
  linear_gradients(kernels, {what, batch, grad.data(), x.data(), of_input.data(), of_weight.data(), of_bias.data()}, threads);
  std::vector<double> outs(out.size()), inputs(x.size()), weights(weight.size()), biases(bias.size());
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t r = 0; r < tall; ++r) {
      const double g = grad[size_t(b * tall + r)];
      outs[size_t(b * tall + r)] += bias[size_t(rows[size_t(r)])];
      biases[size_t(rows[size_t(r)])] += g;
      for (int64_t c = 0; c < wide; ++c) {
        const auto at = size_t(rows[size_t(r)] * width + columns[size_t(c)]), in = size_t(b * wide + c);
        outs[size_t(b * tall + r)] += 1.5 * weight[at] * x[in];
        inputs[in] += 1.5 * weight[at] * g;
        weights[at] += 1.5 * g * x[in];
      }
    }
  auto close = [&](const std::vector<float>& found, const std::vector<double>& want, const char* name) {
    check(all_close(found, want), name, kernels.name, uint64_t(height), uint64_t(width));
  };
  close(out, outs, "linear map");
  close(of_input, inputs, "its input's gradient");
  close(of_weight, weights, "its weight's gradient");
  close(of_bias, biases, "its bias's gradient");
}

// Linear maps of samples that share a weight, and with `whole` an input, against sums in double.
void linear_many_of(const Kernels& kernels, std::mt19937_64& random, int threads, bool whole) {
  const auto height = int64_t(1 + random() % 150), width = int64_t(1 + random() % 150), batch = int64_t(1 + random() % 80);
  const auto weight = deviates(height * width, random), bias = deviates(height, random), x = deviates(batch * width, random);
  std::vector<std::vector<int64_t>> kept;
  std::vector<std::vector<float>> some, outs;
  for (int s = 0; s < 3; ++s) {
    kept.push_back(some_of(height, random)), kept.push_back(some_of(width, random));
    some.emplace_back();
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t c : kept.back()) some.back().push_back(x[size_t(b * width + c)]);
    outs.emplace_back(size_t(batch) * kept[size_t(2 * s)].size());
  }
  LinearMany what{weight.data(), height, width, bias.data(), 1.5, true, whole, batch, {}};
  for (size_t s = 0; s < 3; ++s)
    what.samples.push_back({kept[2 * s].data(), kept[2 * s + 1].data(), int64_t(kept[2 * s].size()),
                            int64_t(kept[2 * s + 1].size()), whole ? x.data() : some[s].data(), outs[s].data()});
  linear_many(kernels, what, threads);
  for (size_t s = 0; s < 3; ++s) {
    std::vector<double> want;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t r : kept[2 * s]) {
        double sum = bias[size_t(r)];
        for (int64_t c : kept[2 * s + 1]) sum += 1.5 * weight[size_t(r * width + c)] * x[size_t(b * width + c)];
        want.push_back(std::max(sum, 0.0));
      }
    check(all_close(outs[s], want), "linear map of samples", kernels.name, uint64_t(height), uint64_t(width));
  }
}

void parts_of_matrices(const Kernels& kernels, int rounds) {
  std::mt19937_64 random(23);
  for (int round = 0; round < rounds; ++round) {
    const int threads = 1 + round % 3;
    part_of<float>(kernels, kFloat32, random, threads);
    part_of<double>(kernels, kFloat64, random, threads);
    part_of<Half>(kernels, kFloat16, random, threads);
    part_of<Brain>(kernels, kBfloat16, random, threads);
    if (!products_for(kernels)) continue;
    linear_of(kernels, random, threads);
    linear_many_of(kernels, random, threads, round % 2);
  }
}

}  // namespace
