// The kernel without Python: every path of this machine against a loop that says the contract once more,
// position by position. Built plain, under sanitizers, and for emulators; prints what it ran.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "checks.h"
#include "contract.h"
#include "environment.h"
#include "layout.h"
#include "value.h"
#include "parts.h"
#include "verbs.h"

namespace {

using namespace thinned;

void known_answers() {
  struct {
    Words counter;
    uint32_t k0, k1;
    Words out;
  } cases[] = {
      {{{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       0xa4093822,
       0x299f31d0,
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}}};
  for (auto& c : cases) {
    Words got = philox(c.counter, c.k0, c.k1);
    check(std::memcmp(&got, &c.out, sizeof got) == 0, "philox known answer", "scalar");
  }
  const char* rows = "1011111111000110100000001";
  for (uint64_t i = 0; i < 25; ++i)
    check(kept(0, 0, uint64_t(1) << 31, i) == (rows[i] == '1'), "5x5 known answer", "scalar", i);
  const uint64_t ties[] = {28166, 43346, 166986, 174685, 206461, 245668, 614574};
  for (int k = 0; k < 7; ++k)
    check(kept(5, 5, 429496730, ties[k]) == (k == 4 || k == 6), "tie known answer", "scalar", k);
}

template <class T>
void compare(const Kernels& kernels, Dtype dtype, uint64_t seed, uint64_t stream, uint64_t threshold,
             uint64_t start, int64_t n, double scale, int shift, std::mt19937_64& random) {
  auto x = inputs<T>(size_t(n + shift), random);
  auto big = std::vector<T>(size_t(n + shift + 8));
  for (bool streaming : {false, true}) {
    std::memset(static_cast<void*>(big.data()), 0x5a, big.size() * sizeof(T));
    one_run(kernels, dtype, make_draw(seed, stream, threshold),
            {x.data() + shift, big.data() + shift, start, n}, scale, streaming);
    bool ok = true;
    for (int64_t j = 0; j < n; ++j) {
      T want{};
      if (kept(seed, stream, threshold, start + uint64_t(j)))
        want = times(x[size_t(j + shift)], typename ScaleOf<T>::type(scale));
      ok &= same(big[size_t(j + shift)], want);
    }
    for (size_t j = 0; j < 8; ++j) {  // nothing before or after was touched
      T poison;
      std::memset(&poison, 0x5a, sizeof poison);
      ok &= std::memcmp(&big[size_t(n + shift) + j], &poison, sizeof poison) == 0;
      if (int(j) < shift) ok &= std::memcmp(&big[j], &poison, sizeof poison) == 0;
    }
    check(ok, "run", kernels.name, start, uint64_t(n));
  }
}

void runs(const Kernels& kernels) {
  std::mt19937_64 random(7);
  const uint64_t bases[] = {0, uint64_t(1) << 31, uint64_t(1) << 32, uint64_t(1) << 35,
                            uint64_t(1) << 60};
  const uint64_t thresholds[] = {429496730, uint64_t(1) << 31, 4294967, 1, 0xffffffff, 65535, 65536};
  std::vector<uint8_t> out(400), guard(8, 0x5a);
  for (uint64_t base : bases)
    for (int alignment = 0; alignment < 16; ++alignment)
      for (int64_t n = 0; n <= 300; n += n < 20 || n > 280 ? 1 : 7) {
        uint64_t start = base + uint64_t(alignment) - (base ? 160 : 0), seed = random(), stream = random();
        uint64_t threshold = thresholds[random() % 7];
        one_run(kernels, kMask, make_draw(seed, stream, threshold), {nullptr, out.data(), start, n}, 1,
                false);
        bool ok = true;
        for (int64_t j = 0; j < n; ++j)
          ok &= out[size_t(j)] == kept(seed, stream, threshold, start + uint64_t(j));
        check(ok, "mask", kernels.name, start, uint64_t(n));
        double scale = 4294967296.0 / double((uint64_t(1) << 32) - threshold);
        int shift = int(random() % 9);
        compare<float>(kernels, kFloat32, seed, stream, threshold, start, n, scale, shift, random);
        compare<double>(kernels, kFloat64, seed, stream, threshold, start, n, scale, shift, random);
        compare<Half>(kernels, kFloat16, seed, stream, threshold, start, n, scale, shift, random);
        compare<Brain>(kernels, kBfloat16, seed, stream, threshold, start, n, scale, shift, random);
      }
  // Long enough to meet ties, at the positions that the contract names.
  std::vector<uint8_t> mask(614575);
  one_run(kernels, kMask, make_draw(5, 5, 429496730), {nullptr, mask.data(), 0, int64_t(mask.size())}, 1,
          false);
  bool ok = true;
  for (uint64_t i = 0; i < mask.size(); ++i) ok &= mask[i] == kept(5, 5, 429496730, i);
  check(ok, "ties", kernels.name);
}

// Every 16-bit pattern through both conversions.
void conversions(const Kernels& kernels) {
  for (double scale : {1.0, 1.1111111112260892, 3.0, 0.3, 1e-7, 4294967296.0}) {
    std::vector<Half> h(65536), h_out(65536);
    std::vector<Brain> b(65536), b_out(65536);
    for (uint32_t v = 0; v < 65536; ++v) h[v].bits = b[v].bits = uint16_t(v);
    one_run(kernels, kFloat16, make_draw(1, 2, 1), {h.data(), h_out.data(), 0, 65536}, scale, false);
    one_run(kernels, kBfloat16, make_draw(1, 2, 1), {b.data(), b_out.data(), 0, 65536}, scale, false);
    bool ok = true;
    for (uint32_t v = 0; v < 65536; ++v) {
      if (!kept(1, 2, 1, v)) continue;
      ok &= same(h_out[v], times(h[v], float(scale))) && same(b_out[v], times(b[v], float(scale)));
    }
    check(ok, "conversions", kernels.name);
  }
}

// Where an array's elements lie: dimensions in any order, with gaps, reversed or, of x, broadcast.
struct Place {
  int64_t first = 0, size = 1;

  void lay(std::vector<Dim>& dims, int64_t Dim::*stride, bool gaps, bool broadcast, std::mt19937_64& random) {
    std::vector<size_t> order(dims.size());
    for (size_t k = 0; k < order.size(); ++k) order[k] = k;
    if (random() % 2) std::shuffle(order.begin(), order.end(), random);
    for (size_t k : order) {
      const int64_t by = gaps ? int64_t(random() % 3) + 1 : 1, span = (dims[k].size - 1) * by * size;
      const bool back = gaps && random() % 3 == 0;
      if (broadcast && random() % 8 == 0) {
        dims[k].*stride = 0;
        continue;
      }
      dims[k].*stride = back ? -by * size : by * size;
      if (back) first += span;
      size = span + size + (gaps ? int64_t(random() % 2) : 0);
    }
  }
};

// Random strided jobs, against the same loop over a multi-index, at one and at several threads.
void layouts(const Kernels& kernels, int rounds) {
  std::mt19937_64 random(11);
  for (int round = 0; round < rounds; ++round) {
    Job job{};
    job.dtype = kFloat32;
    const size_t rank = random() % 6;
    job.dims.resize(rank);
    const uint64_t most[] = {1, 9000, 300, 20, 8, 5};
    uint64_t position = random() % 6 ? 1 : random() % 12 + 1;
    for (size_t k = rank; k-- > 0;) {
      Dim& d = job.dims[k];
      d.size = int64_t(1 + random() % most[rank]);
      d.position = random() % 4 ? position : 0;
      if (d.position) position *= uint64_t(d.size) + random() % 3;
    }
    Place from, to;
    const bool gaps = random() % 2;
    from.lay(job.dims, &Dim::x, gaps, true, random);
    to.lay(job.dims, &Dim::out, gaps && random() % 2, false, random);
    if (random() % 3 == 0) {  // as most are: x and out alike
      from = to;
      for (Dim& d : job.dims) d.x = d.out;
    }
    job.base = random() >> (1 + random() % 60);
    job.seed = random();
    job.stream = random();
    const uint64_t thresholds[] = {0, 429496730, uint64_t(1) << 31, kDropAll};
    job.threshold = thresholds[random() % 4];
    job.scale = 1.5;
    auto x = inputs<float>(size_t(from.size), random);
    std::vector<float> want(size_t(to.size), -7.0f);
    Cursor cursor(job.dims);
    for (int64_t left = cursor.total(); left > 0; --left, cursor.next()) {
      bool keep = job.threshold == 0 ||
                  (job.threshold != kDropAll &&
                   kept(job.seed, job.stream, job.threshold, job.base + cursor.position));
      want[size_t(to.first + cursor.out)] = keep ? x[size_t(from.first + cursor.x)] * 1.5f : 0.0f;
    }
    for (int threads : {1, 2, 5}) {
      std::vector<float> out(want.size(), -7.0f);
      job.x = x.data() + from.first;
      job.out = out.data() + to.first;
      execute(kernels, job, threads);
      bool ok = true;
      for (size_t j = 0; j < out.size(); ++j) ok &= same(out[j], want[j]);
      check(ok, "layout", kernels.name, uint64_t(round), uint64_t(threads));
    }
  }
}

// Many callers at once: each gets its own result.
void callers(const Kernels& kernels) {
  std::vector<std::thread> threads;
  std::vector<int> bad(6, 0);
  for (size_t t = 0; t < bad.size(); ++t)
    threads.emplace_back([&, t] {
      std::vector<uint8_t> one(40000), two(40000);
      for (int round = 0; round < 20; ++round) {
        Job job{kMask, nullptr, one.data(), {{40000, 1, 1, 1}}, 5, t, uint64_t(round), 1u << 30, 1};
        execute(kernels, job, 1);
        job.out = two.data();
        execute(kernels, job, 4);
        bad[t] += one != two;
      }
    });
  for (auto& t : threads) t.join();
  for (int b : bad) check(b == 0, "callers", kernels.name);
}

// A caller that takes subnormal numbers for zero, rounds up, or traps, gets IEEE's results, from this thread and
// from those of the pool, and stays as it is.
void environment(const Kernels& kernels) {
#if defined(__SSE2__)
  const unsigned before = _mm_getcsr();
  std::vector<float> x(1 << 17, 1e-40f), out(x.size()), want(x.size());
  for (size_t j = 0; j < x.size(); j += 2) x[j] = float(j) + 0.1f;
  const auto n = int64_t(x.size());
  Job job{kFloat32, x.data(), want.data(), {{n, 1, 1, 1}}, 0, 1, 2, 1u << 30, 1.1};
  execute(kernels, job, 1);
  job.out = out.data();
  const unsigned flush = 0x8040, up = 0x4000, traps = 0x1f80;
  for (unsigned mode : {before | flush, before | up, before & ~traps})
    for (int threads : {1, 2}) {
      _mm_setcsr(mode);
      execute(kernels, job, threads);
      const bool stays = _mm_getcsr() == mode;
      _mm_setcsr(before);
      check(stays, "caller's mode", kernels.name, mode, uint64_t(threads));
      check(std::memcmp(out.data(), want.data(), out.size() * sizeof(float)) == 0, "environment",
            kernels.name, mode, uint64_t(threads));
    }
#else
  (void)kernels;
#endif
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 300;
  known_answers();
  folds();
  folds_of_many();
  quantiles();
  std::printf("paths:");
  for (auto k = available_kernels(); *k; ++k) {
    std::printf(" %s", (*k)->name);
    runs(**k);
    conversions(**k);
    layouts(**k, rounds);
    callers(**k);
    environment(**k);
    additions(**k, rounds);
    rows_with_keys(**k, rounds);
    deviates(**k, rounds);
    parts_of_matrices(**k, rounds);
  }
  std::printf("\n%ld checks passed, %d failed\n", checks - failures, failures);
  return failures != 0;
}
