// Additions, normal deviates and folded streams, against loops that say what they are.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "add.h"
#include "checks.h"
#include "many.h"
#include "normal.h"
#include "quantile.h"

namespace {

void folds() {
  check(fold(1, 0, 0) == 10219199065749188407u, "fold known answer", "scalar");
  check(fold(1, 0, 123456789012) == 654711503726834118u, "fold known answer", "scalar");
}

double quantile(uint64_t v) {
  const double q = (double(v) + 0.5) / 4294967296.0 - 0.5;
  if (std::fabs(q) <= kCentral) return central_quantile(q);
  const double z = tail_quantile(0.5 - std::fabs(q));
  return q < 0 ? -z : z;
}

void quantiles() {
  struct {
    uint64_t v;
    double z;
  } cases[] = {{0, -6.3379577545537892525},
               {1, -6.166429517819750247},
               {12345, -4.5354227620904280563},
               {322122547, -1.4395314704450153116},
               {uint64_t(1) << 31, 2.9180993729166226723e-10}};
  for (auto& c : cases) {
    check(std::fabs(quantile(c.v) / c.z - 1) < 1e-15, "quantile", "scalar", c.v);
    check(quantile(c.v) == -quantile(0xffffffff - c.v), "odd quantile", "scalar", c.v);
  }
  for (double t = std::ldexp(1.0, -33); t < 0.08; t *= 1.001)
    check(std::fabs(natural_log(t) / std::log(t) - 1) < 5e-16, "logarithm", "scalar");
}

// One addition, with the output apart from the inputs or in the place of one of them.
template <class T>
void addition(const Kernels& kernels, Dtype dtype, Addition job, int shift, int place, int threads,
              std::mt19937_64& random) {
  const auto size = size_t(job.n + shift);
  auto x = inputs<T>(size, random), residual = inputs<T>(size, random);
  std::vector<T> want(size + 8), apart(size + 8);
  std::memset(static_cast<void*>(apart.data()), 0x5a, apart.size() * sizeof(T));
  const std::vector<T> poison = apart;
  for (int64_t j = 0; j < job.n; ++j) {
    T thin{};
    if (kept(job.seed, job.stream, job.threshold, job.base + uint64_t(j)))
      thin = times(x[size_t(j + shift)], typename ScaleOf<T>::type(job.scale));
    want[size_t(j)] = plus(thin, residual[size_t(j + shift)]);
  }
  auto& out = place == 0 ? apart : place == 1 ? x : residual;
  job.dtype = dtype;
  job.x = x.data() + shift;
  job.residual = residual.data() + shift;
  job.out = out.data() + shift;
  add(kernels, job, threads);
  bool ok = true;
  for (int64_t j = 0; j < job.n; ++j) ok &= same(out[size_t(j + shift)], want[size_t(j)]);
  if (place == 0) {  // nothing before or after was touched
    ok &= std::memcmp(apart.data(), poison.data(), size_t(shift) * sizeof(T)) == 0;
    ok &= std::memcmp(&apart[size], &poison[size], 8 * sizeof(T)) == 0;
  }
  check(ok, "addition", kernels.name, job.base, uint64_t(job.n));
}

void additions(const Kernels& kernels, int rounds) {
  std::mt19937_64 random(13);
  const uint64_t thresholds[] = {0, 429496730, uint64_t(1) << 31, 1, 65535, kDropAll};
  for (int round = 0; round < rounds; ++round) {
    Addition job{};
    job.n = int64_t(random() % 700);
    job.base = (random() >> (1 + random() % 60)) & ~uint64_t(0) >> 1;
    if (random() % 4 == 0) job.base = (uint64_t(1) << 35) - random() % 700;
    job.seed = random();
    job.stream = random();
    job.threshold = thresholds[random() % 6];
    job.scale = 1.5;
    const int shift = int(random() % 9), place = round % 3;
    addition<float>(kernels, kFloat32, job, shift, place, 1, random);
    addition<double>(kernels, kFloat64, job, shift, place, 1, random);
    addition<Half>(kernels, kFloat16, job, shift, place, 1, random);
    addition<Brain>(kernels, kBfloat16, job, shift, place, 1, random);
  }
  Addition large{};
  large.n = 50001;
  large.seed = 5;
  large.threshold = 429496730;
  large.scale = 1.5;
  for (int place = 0; place < 3; ++place)
    addition<float>(kernels, kFloat32, large, 0, place, 3, random);
  // Stores that bypass the cache, at an address that allows them and at one that does not.
  auto x = inputs<float>(700, random), residual = inputs<float>(700, random);
  std::vector<float> room(800), want(700);
  auto* aligned = room.data() + (64 - reinterpret_cast<uintptr_t>(room.data()) % 64) / 4;
  for (int offset = 0; offset < 2; ++offset) {
    for (bool streaming : {false, true})
      kernels.added[kFloat32](make_draw(1, 2, 429496730),
                              {x.data(), streaming ? aligned + offset : want.data(), 3, 700},
                              residual.data(), 1.5, streaming);
    bool ok = true;
    for (int j = 0; j < 700; ++j) ok &= same(aligned[offset + j], want[size_t(j)]);
    check(ok, "streaming addition", kernels.name, uint64_t(offset));
  }
}

// Rows with a key each against one pass for each, x whole, shared by all or by those of one outer index.
void rows_with_keys(const Kernels& kernels, int rounds) {
  std::mt19937_64 random(19);
  const uint64_t thresholds[] = {0, 429496730, uint64_t(1) << 31, kDropAll};
  for (int round = 0; round < rounds / 3; ++round) {
    Rows rows{};
    rows.dtype = kFloat32;
    rows.outer = int64_t(random() % 4);
    rows.inner = int64_t(1 + random() % 5);
    rows.shape = {int64_t(random() % 30), int64_t(1 + random() % 40)};
    if (round % 20 == 0) rows.shape[0] = 600;
    rows.position_strides = {random() % 3 ? uint64_t(rows.shape[1]) : 0, random() % 3 ? 1u : 0u};
    const int64_t each = rows.shape[0] * rows.shape[1], count = rows.outer * rows.inner;
    rows.x_inner = random() % 2 ? each : 0;
    rows.x_outer = random() % 2 ? rows.x_inner * rows.inner : 0;
    rows.base = random() >> (1 + random() % 60);
    rows.threshold = thresholds[random() % 4];
    rows.scale = 1.5;
    std::vector<uint64_t> keys(size_t(2 * count) + 1);
    for (auto& k : keys) k = random();
    rows.keys = keys.data();
    const auto x = inputs<float>(size_t(count * each) + 1, random);
    std::vector<float> out(size_t(count * each) + 1, -7.0f), want = out;
    rows.x = x.data();
    rows.out = out.data();
    many(kernels, rows, 1 + round % 3);
    for (int64_t k = 0; k < count; ++k)
      execute(kernels,
              {kFloat32, x.data() + k / rows.inner * rows.x_outer + k % rows.inner * rows.x_inner,
               want.data() + k * each,
               {{rows.shape[0], rows.shape[1], rows.shape[1], rows.position_strides[0]},
                {rows.shape[1], 1, 1, rows.position_strides[1]}},
               rows.base, keys[size_t(2 * k)], keys[size_t(2 * k + 1)], rows.threshold, rows.scale},
              1);
    bool ok = true;
    for (size_t j = 0; j < out.size(); ++j) ok &= same(out[j], want[j]);
    check(ok, "rows with keys", kernels.name, uint64_t(count), uint64_t(each));
  }
}

void folds_of_many() {
  const uint64_t keys[] = {1, 0, 1, 0, 7, uint64_t(1) << 63}, data[] = {0, 123456789012, 5};
  uint64_t out[6];
  fold_many(keys, data, out, 3);
  check(out[0] == 1 && out[1] == 10219199065749188407u, "folds known answer", "scalar");
  check(out[2] == 1 && out[3] == 654711503726834118u, "folds known answer", "scalar");
  check(out[4] == 7 && out[5] == fold(7, uint64_t(1) << 63, 5), "folds", "scalar");
}

// Deviates of random shapes, some dimensions shared, at one and at several threads.
void deviates(const Kernels& kernels, int rounds) {
  std::mt19937_64 random(17);
  for (int round = 0; round < rounds; ++round) {
    Deviates job{};
    job.base = random() % 3 ? random() >> (1 + random() % 60) : (uint64_t(1) << 35) - random() % 700;
    job.seed = random();
    job.stream = random();
    job.dims.resize(random() % 4);
    uint64_t place = 1;
    int64_t total = 1;
    for (size_t k = job.dims.size(); k-- > 0;) {
      Dim& d = job.dims[k];
      d = {int64_t(1 + random() % 40), 0, 0, random() % 3 ? place : 0};
      if (d.position) place *= uint64_t(d.size) + random() % 3;
      total *= d.size;
    }
    const int threads = 1 + round % 3;
    std::vector<float> out(size_t(total) + 8, -7.0f);
    job.out = out.data();
    normal(kernels, job, threads);
    bool ok = true;
    for (int64_t j = 0; j < total; ++j) {
      uint64_t position = job.base;
      int64_t rest = j;
      for (size_t k = job.dims.size(); k-- > 0; rest /= job.dims[k].size)
        position += uint64_t(rest % job.dims[k].size) * job.dims[k].position;
      ok &= same(out[size_t(j)], float(quantile(number(job.seed, job.stream, 2, position))));
    }
    for (int j = 0; j < 8; ++j) ok &= out[size_t(total + j)] == -7.0f;
    check(ok, "deviates", kernels.name, uint64_t(round), uint64_t(threads));
  }
}

}  // namespace
