// The normal quantile by Wichura's algorithm AS 241 (PPND16; Applied Statistics 37, 1988, 477-484), for the numbers
// that CONTRACT.md, section 6, asks of it. Only +, -, *, / and sqrt, which IEEE 754 rounds one way, in a fixed order:
// so every machine, and NumPy, has the same bits. A library's log would not give that.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace thinned {
namespace {

constexpr double kCentral = 0.425;  // from 1/2 to where the tails begin

constexpr double kCentralTop[8] = {
    3.3871328727963666080e+0, 1.3314166789178437745e+2, 1.9715909503065514427e+3,
    1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
    3.3430575583588128105e+4, 2.5090809287301226727e+3};
constexpr double kCentralBottom[8] = {
    1.0,                      4.2313330701600911252e+1, 6.8718700749205790830e+2,
    5.3941960214247511077e+3, 2.1213794301586595867e+4, 3.9307895800092710610e+4,
    2.8729085735721942674e+4, 5.2264952788528545610e+3};
// The algorithm's last piece begins at a tail of exp(-25), below the smallest here, 2^-33.
constexpr double kTailTop[8] = {
    1.42343711074968357734e+0, 4.63033784615654529590e+0, 5.76949722146069140550e+0,
    3.64784832476320460504e+0, 1.27045825245236838258e+0, 2.41780725177450611770e-1,
    2.27238449892691845833e-2, 7.74545014278341407640e-4};
constexpr double kTailBottom[8] = {
    1.0,                       2.05319162663775882187e+0, 1.67638483018380384940e+0,
    6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
    5.47593808499534494600e-4, 1.05075007164441684324e-9};

inline double polynomial(const double (&c)[8], double x) {
  double sum = c[7];
  for (int k = 6; k >= 0; --k) sum = sum * x + c[k];
  return sum;
}

// For q in [-0.425, 0.425], q = p - 1/2.
inline double central_quantile(double q) {
  const double r = 0.180625 - q * q;
  return polynomial(kCentralTop, r) * q / polynomial(kCentralBottom, r);
}

// log t = e log 2 + 2 atanh((m - 1)/(m + 1)) with t = m 2^e, m within a factor of sqrt 2 of 1. Ten terms of
// the series leave a tenth of a unit of the last place.
inline double natural_log(double t) {
  constexpr uint64_t kSqrtHalf = 0x3FE6A09E667F3BCD, kOne = uint64_t(1023) << 52;
  uint64_t bits;
  std::memcpy(&bits, &t, sizeof bits);
  const uint64_t biased = (bits - kSqrtHalf + kOne) >> 52;
  const uint64_t fraction = bits - (biased << 52) + kOne;
  const uint64_t counted = biased | 0x4330000000000000;  // 2^52 + biased: AVX2 converts no 64-bit integer
  double m, e;
  std::memcpy(&m, &fraction, sizeof m);
  std::memcpy(&e, &counted, sizeof e);
  e -= 4503599627370496.0 + 1023.0;
  const double s = (m - 1.0) / (m + 1.0), r = s * s;
  double sum = 1.0 / 19.0;
  for (int k = 17; k > 0; k -= 2) sum = sum * r + 1.0 / k;
  return e * 0.6931471805599453 + 2.0 * s * sum;
}

// For the smaller of p and 1 - p, in [2^-33, 0.075]: a number above 0.
inline double tail_quantile(double t) {
  const double r = std::sqrt(-natural_log(t)) - 1.6;
  return polynomial(kTailTop, r) / polynomial(kTailBottom, r);
}

}  // namespace
}  // namespace thinned
