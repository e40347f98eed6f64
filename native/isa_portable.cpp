// Plain C++ for any machine: one 64-bit lane, four chains side by side.
#include "run.h"

namespace thinned {
namespace {

struct Portable {
  using Picks = PlainColumns;
  using V = uint64_t;
  using H = uint16_t;
  static constexpr int lanes = 1, chains = 4;
  static constexpr uintptr_t kStreamAlignment = 1;

  static V set(uint64_t v) { return v; }
  static V load(const uint64_t* v) { return *v; }
  static constexpr int order(int lane) { return lane; }
  static H halves(uint16_t v) { return v; }
  static V add(V a, V b) { return a + b; }
  static V mul(V a, V b) { return uint64_t(uint32_t(a)) * uint32_t(b); }
  static V shr32(V a) { return a >> 32; }
  static V swap32(V a) { return a >> 32 | a << 32; }
  static V low32(V a) { return uint32_t(a); }
  static V bit_xor(V a, V b) { return a ^ b; }
  static V counters(int chain) { return uint64_t(chain); }
  static void fence() {}

  struct Drops {
    uint8_t keep[8 * lanes * chains];
  };

  static bool decide(const V (&a)[chains], const V (&b)[chains], H limit, H tie, Drops& drops) {
    bool tied = false;
    for (int c = 0; c < chains; ++c)
      for (int k = 0; k < 8; ++k) {
        uint16_t h = uint16_t((k < 4 ? a[c] : b[c]) >> (16 * (k & 3)));
        drops.keep[8 * c + k] = h > limit;
        tied |= h == tie;
      }
    return tied;
  }
  static void keep_bytes(const Drops& drops, uint8_t* keep) {
    std::memcpy(keep, drops.keep, sizeof drops.keep);
  }
  template <bool, class T, class Scale>
  static void apply(const T* x, T* out, const Drops& drops, Scale scale) {
    apply_bytes(x, out, drops.keep, sizeof drops.keep, scale);
  }
  template <bool, class T>
  static void sum(const T* a, const T* b, T* out) {
    sum_elements(a, b, out, 8 * chains);
  }
};

}  // namespace

const Kernels* portable_kernels() { return table<Portable>("portable"); }

}  // namespace thinned
