// The value of a kept element (CONTRACT.md, section 4): float64 in double, float32 in float, float16
// and bfloat16 widened, multiplied once in float and rounded once, to nearest even. A residual is added to what
// that gives in the same way: a rounding of its own, as if the two were two passes.
#pragma once

#include <cstdint>
#include <cstring>

namespace thinned {

struct Half {
  uint16_t bits;
};
struct Brain {
  uint16_t bits;
};

namespace {

inline uint32_t float_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}
inline float bits_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

inline float widen(Brain b) { return bits_float(uint32_t(b.bits) << 16); }

inline float widen(Half h) {
  uint32_t sign = uint32_t(h.bits & 0x8000) << 16, exponent = (h.bits >> 10) & 31,
           fraction = h.bits & 0x3ff;
  if (exponent == 31) return bits_float(sign | 0x7f800000 | (fraction << 13));
  if (exponent) return bits_float(sign | ((exponent + 112) << 23) | (fraction << 13));
  float tiny = float(fraction) * 5.9604644775390625e-08f;  // subnormal: fraction * 2^-24, exact
  return bits_float(sign | float_bits(tiny));
}

inline Brain narrow_brain(float f) {
  uint32_t u = float_bits(f);
  if ((u & 0x7fffffff) > 0x7f800000) return {uint16_t((u >> 16) | 0x40)};  // a NaN stays one
  return {uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16)};
}

inline Half narrow_half(float f) {
  uint32_t u = float_bits(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
  if (a > 0x7f800000) return {uint16_t(sign | 0x7e00 | ((a >> 13) & 0x1ff))};
  if (a >= 0x47800000) return {uint16_t(sign | 0x7c00)};  // 65536 and above
  if (a >= 0x38800000) {                                  // normal; a carry may round up to infinity
    uint32_t r = a - (uint32_t(112) << 23);
    return {uint16_t(sign | ((r + 0xfff + ((r >> 13) & 1)) >> 13))};
  }
  // Subnormal: adding 0.5 puts the unit of the last place at 2^-24, so the adder rounds for us.
  return {uint16_t(sign | (float_bits(bits_float(a) + 0.5f) - 0x3f000000))};
}

inline double times(double x, double s) { return x * s; }
inline float times(float x, float s) { return x * s; }
inline Half times(Half x, float s) { return narrow_half(widen(x) * s); }
inline Brain times(Brain x, float s) { return narrow_brain(widen(x) * s); }

inline double plus(double a, double b) { return a + b; }
inline float plus(float a, float b) { return a + b; }
inline Half plus(Half a, Half b) { return narrow_half(widen(a) + widen(b)); }
inline Brain plus(Brain a, Brain b) { return narrow_brain(widen(a) + widen(b)); }

template <class T>
struct ScaleOf {
  using type = float;
};
template <>
struct ScaleOf<double> {
  using type = double;
};

}  // namespace
}  // namespace thinned
