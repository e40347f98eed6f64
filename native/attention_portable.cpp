// Plain C++ for any machine: four floats that the compiler may keep in one vector.
#include <cmath>

#include "attention_kernel.h"

namespace thinned {
namespace {

struct Four {
  float x[4];
};

struct PortableFloats {
  using V = Four;
  static constexpr int lanes = 4, rows = 4, vectors = 2;

  template <class F>
  static V each(F f) {
    V v;
    for (int k = 0; k < 4; ++k) v.x[k] = f(k);
    return v;
  }
  static V load(const float* x) { return each([&](int k) { return x[k]; }); }
  static void store(float* x, V v) {
    for (int k = 0; k < 4; ++k) x[k] = v.x[k];
  }
  static V set(float x) { return each([&](int) { return x; }); }
  static V zero() { return set(0); }
  static V fma(V a, V b, V c) { return each([&](int k) { return a.x[k] * b.x[k] + c.x[k]; }); }
  static V add(V a, V b) { return each([&](int k) { return a.x[k] + b.x[k]; }); }
  static V sub(V a, V b) { return each([&](int k) { return a.x[k] - b.x[k]; }); }
  static V mul(V a, V b) { return each([&](int k) { return a.x[k] * b.x[k]; }); }
  static V max(V a, V b) { return each([&](int k) { return a.x[k] > b.x[k] ? a.x[k] : b.x[k]; }); }
  // For what is far below 2^22: adding that leaves no place for a fraction.
  static V round(V a) { return each([&](int k) { return (a.x[k] + 12582912.0f) - 12582912.0f; }); }
  static V scaled(V p, V whole, V x) {
    return each([&](int k) {
      if (x.x[k] < -126.0f) return 0.0f;
      return whole.x[k] == whole.x[k] ? p.x[k] * bits_float(uint32_t(int32_t(whole.x[k]) + 127) << 23) : p.x[k];
    });
  }
  static V kept(const uint8_t* keep, V v) { return each([&](int k) { return keep[k] ? v.x[k] : 0.0f; }); }
};

}  // namespace

const AttentionKernels* portable_attention() { return attention_table<PortableFloats>("portable"); }

}  // namespace thinned
