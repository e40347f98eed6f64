#include "many.h"

#include <algorithm>
#include <cstring>

#include "layout.h"
#include "pool.h"
#include "share.h"

namespace thinned {
namespace {

struct Plan {
  const Kernels& kernels;
  const Rows& rows;
  std::vector<Dim> dims;  // of a row
  int64_t each;
  bool dense;
};

void one(const Plan& p, int64_t row, int threads) {
  const Rows& r = p.rows;
  const uint64_t seed = r.keys[2 * row], stream = r.keys[2 * row + 1];
  uint64_t base = r.base, threshold = r.threshold;
  double scale = r.scale;
  if (r.each != nullptr) {
    base = r.each[3 * row];
    threshold = r.each[3 * row + 1];
    std::memcpy(&scale, r.each + 3 * row + 2, sizeof scale);
  }
  const void* x = at(r.x, row / r.inner * r.x_outer + row % r.inner * r.x_inner, r.dtype);
  void* out = at(r.out, row * p.each, r.dtype);
  if (p.dense && threads == 1 && threshold > 0 && threshold < kDropAll)
    return one_run(p.kernels, r.dtype, make_draw(seed, stream, threshold), {x, out, base, p.each}, scale,
                   false);
  execute(p.kernels, {r.dtype, x, out, p.dims, base, seed, stream, threshold, scale}, threads);
}

void some(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  const int64_t total = p.rows.outer * p.rows.inner, last = share(total, part + 1, parts, 1);
  for (int64_t row = share(total, part, parts, 1); row < last; ++row) one(p, row, 1);
}

}  // namespace

void many(const Kernels& kernels, const Rows& rows, int threads) {
  Plan p{kernels, rows, std::vector<Dim>(rows.shape.size()), 1, true};
  for (size_t k = p.dims.size(); k-- > 0;) {
    p.dims[k] = {rows.shape[k], p.each, p.each, rows.position_strides[k]};
    p.dense &= rows.shape[k] == 1 || rows.position_strides[k] == uint64_t(p.each);
    p.each *= rows.shape[k];
  }
  const int64_t total = rows.outer * rows.inner;
  if (total == 0 || p.each == 0) return;
  if (p.each >= kSerial && total < threads) {  // few and long: threads share each row
    for (int64_t row = 0; row < total; ++row) one(p, row, threads);
    return;
  }
  const int parts = total * p.each < kSerial ? 1 : int(std::min<int64_t>(std::max(1, threads), total));
  parallel(parts, some, &p);
}

void fold_many(const uint64_t* keys, const uint64_t* data, uint64_t* out, int64_t n) {
  for (int64_t k = 0; k < n; ++k) {
    const uint64_t seed = keys[2 * k], stream = keys[2 * k + 1];
    out[2 * k] = seed;
    out[2 * k + 1] = fold(seed, stream, data[k]);
  }
}

}  // namespace thinned
