// Which instruction sets this machine has. Compiled without any of them.
#include <atomic>
#include <cstring>
#include <utility>

#include "kernels.h"

#if defined(_MSC_VER) && defined(_M_X64)
#define THINNED_X64
#include <immintrin.h>
#include <intrin.h>
#elif defined(__x86_64__)
#define THINNED_X64
#include <cpuid.h>
#endif

namespace thinned {
namespace {

struct Machine {
  bool avx2 = false, avx512 = false;
};

// __builtin_cpu_supports is not asked: in a module that zig's compiler made it says no to everything.
#if defined(THINNED_X64)
void ask(unsigned leaf, unsigned words[4]) {
#if defined(_MSC_VER)
  __cpuidex(reinterpret_cast<int*>(words), int(leaf), 0);
#else
  if (!__get_cpuid_count(leaf, 0, &words[0], &words[1], &words[2], &words[3])) std::memset(words, 0, 16);
#endif
}

// Which registers the operating system saves.
unsigned saved() {
#if defined(_MSC_VER)
  return unsigned(_xgetbv(0));
#else
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
#endif
}
#endif

Machine look() {
  Machine m;
#if defined(THINNED_X64)
  unsigned r1[4], r7[4];
  ask(1, r1);
  ask(7, r7);
  const bool saves = r1[2] & (1u << 27), half = r1[2] & (1u << 29), fused = r1[2] & (1u << 12),
             counts = r1[2] & (1u << 23);
  const unsigned state = saves ? saved() : 0;
  m.avx2 = (state & 6) == 6 && half && fused && counts && (r7[1] & (1u << 5));
  const unsigned wanted = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F, DQ, BW, VL
  m.avx512 = m.avx2 && (state & 0xe6) == 0xe6 && (r7[1] & wanted) == wanted;
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
