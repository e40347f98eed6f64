// Which instruction sets this machine has. Compiled without any of them.
#include <atomic>
#include <cstring>
#include <utility>

#include "kernels.h"

#if defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
#endif

namespace thinned {
namespace {

struct Machine {
  bool avx2 = false, avx512 = false;
};

Machine look() {
  Machine m;
#if defined(_MSC_VER) && defined(_M_X64)
  int r1[4], r7[4];
  __cpuidex(r1, 1, 0);
  __cpuidex(r7, 7, 0);
  bool saves = r1[2] & (1 << 27), half = r1[2] & (1 << 29), fused = r1[2] & (1 << 12);
  unsigned long long state = saves ? _xgetbv(0) : 0;
  m.avx2 = (state & 6) == 6 && half && fused && (r7[1] & (1 << 5));
  const int wanted = (1 << 16) | (1 << 17) | (1 << 30) | int(1u << 31);  // F, DQ, BW, VL
  m.avx512 = m.avx2 && (state & 0xe6) == 0xe6 && (r7[1] & wanted) == wanted;
#elif defined(__x86_64__)
  m.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") &&
           __builtin_cpu_supports("fma");
  m.avx512 = m.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  return m;
}

struct List {
  const Kernels* entries[5] = {};
  List() {
    const Machine m = look();
    int n = 0;
    if (m.avx512 && avx512_kernels()) entries[n++] = avx512_kernels();
    if (m.avx2 && avx2_kernels()) entries[n++] = avx2_kernels();
    if (baseline_kernels()) entries[n++] = baseline_kernels();
    entries[n] = portable_kernels();
  }
};

}  // namespace

void one_run(const Kernels& kernels, Dtype dtype, const Draw& draw, const Run& run, double scale,
             bool streaming) {
  struct Once {
    Run run;
    bool done;
  } once{run, false};
  auto next = [](void* source, Run& out) {
    auto& s = *static_cast<Once*>(source);
    out = s.run;
    return !std::exchange(s.done, true);
  };
  kernels.runs[dtype](draw, next, &once, scale, streaming);
}

const Kernels* const* available_kernels() {
  static const List list;
  return list.entries;
}

const Kernels* find_kernels(const char* name) {
  for (auto entry = available_kernels(); *entry; ++entry)
    if (std::strcmp((*entry)->name, name) == 0) return *entry;
  return nullptr;
}

namespace {

std::atomic<const Kernels*>& selection() {
  static std::atomic<const Kernels*> selected{available_kernels()[0]};
  return selected;
}

}  // namespace

const Kernels& selected_kernels() { return *selection().load(); }

bool select_kernels(const char* name) {
  const Kernels* kernels = find_kernels(name);
  if (kernels) selection().store(kernels);
  return kernels != nullptr;
}

}  // namespace thinned
