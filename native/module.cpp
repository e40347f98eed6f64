// The Python module: addresses in, nothing out. The caller has checked shapes, types and lifetimes.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "add.h"
#include "attention.h"
#include "convolution.h"
#include "dot.h"
#include "foreign.h"
#include "kept.h"
#include "largest.h"
#include "layout.h"
#include "linear.h"
#include "linear_many.h"
#include "many.h"
#include "memory.h"
#include "normal.h"
#include "pool.h"
#include "products.h"
#include "submatrix.h"
#include "xla.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using thinned::Dim;
using thinned::Dtype;
using thinned::Job;
using thinned::Kernels;

// Letting go of the lock costs about as much as a thousand elements.
constexpr int64_t kHoldLock = 4096, kHoldLockDeviates = kHoldLock / 16;

void run(Job job, int64_t total, int threads) {
  const Kernels& kernels = thinned::selected_kernels();
  if (total < kHoldLock) return thinned::execute(kernels, std::move(job), 1);
  nb::gil_scoped_release release;
  thinned::execute(kernels, std::move(job), threads);
}

void dense(int dtype, uintptr_t x, uintptr_t out, int64_t n, uint64_t base, uint64_t seed,
           uint64_t stream, uint64_t threshold, double scale, int threads) {
  run({Dtype(dtype), reinterpret_cast<const void*>(x), reinterpret_cast<void*>(out),
       {{n, 1, 1, 1}}, base, seed, stream, threshold, scale},
      n, threads);
}

void strided(int dtype, uintptr_t x, uintptr_t out, const std::vector<int64_t>& shape,
             const std::vector<int64_t>& x_strides, const std::vector<int64_t>& out_strides,
             const std::vector<uint64_t>& position_strides, uint64_t base, uint64_t seed,
             uint64_t stream, uint64_t threshold, double scale, int threads) {
  std::vector<Dim> dims(shape.size());
  int64_t total = 1;
  for (size_t k = 0; k < shape.size(); ++k) {
    dims[k] = {shape[k], x_strides.at(k), out_strides.at(k), position_strides.at(k)};
    total *= shape[k];
  }
  run({Dtype(dtype), reinterpret_cast<const void*>(x), reinterpret_cast<void*>(out),
       std::move(dims), base, seed, stream, threshold, scale},
      total, threads);
}

void many(int dtype, uintptr_t x, uintptr_t out, int64_t outer, int64_t inner, int64_t x_outer,
          int64_t x_inner, const std::vector<int64_t>& shape,
          const std::vector<uint64_t>& position_strides, uint64_t base, uintptr_t keys,
          uint64_t threshold, double scale, uintptr_t each, int threads) {
  const thinned::Rows rows{Dtype(dtype), reinterpret_cast<const void*>(x), reinterpret_cast<void*>(out),
                           outer, inner, x_outer, x_inner, shape, position_strides, base,
                           reinterpret_cast<const uint64_t*>(keys), threshold, scale,
                           reinterpret_cast<const uint64_t*>(each)};
  nb::gil_scoped_release release;
  thinned::many(thinned::selected_kernels(), rows, threads);
}

void fold_many(uintptr_t keys, uintptr_t data, uintptr_t out, int64_t n) {
  thinned::fold_many(reinterpret_cast<const uint64_t*>(keys), reinterpret_cast<const uint64_t*>(data),
                     reinterpret_cast<uint64_t*>(out), n);
}

void add(int dtype, uintptr_t x, uintptr_t residual, uintptr_t out, int64_t n, uint64_t base,
         uint64_t seed, uint64_t stream, uint64_t threshold, double scale, int threads) {
  const Kernels& kernels = thinned::selected_kernels();
  const thinned::Addition job{Dtype(dtype), reinterpret_cast<const void*>(x),
                              reinterpret_cast<const void*>(residual), reinterpret_cast<void*>(out),
                              n, base, seed, stream, threshold, scale};
  if (n < kHoldLock) return thinned::add(kernels, job, 1);
  nb::gil_scoped_release release;
  thinned::add(kernels, job, threads);
}

void normal(uintptr_t out, const std::vector<int64_t>& shape, const std::vector<uint64_t>& strides,
            uint64_t base, uint64_t seed, uint64_t stream, int threads) {
  std::vector<Dim> dims(shape.size());
  int64_t total = 1;
  for (size_t k = 0; k < shape.size(); ++k) {
    dims[k] = {shape[k], 0, 0, strides.at(k)};
    total *= shape[k];
  }
  const Kernels& kernels = thinned::selected_kernels();
  thinned::Deviates job{reinterpret_cast<float*>(out), std::move(dims), base, seed, stream};
  if (total < kHoldLockDeviates) return thinned::normal(kernels, std::move(job), 1);
  nb::gil_scoped_release release;
  thinned::normal(kernels, std::move(job), threads);
}

void dots(uintptr_t x, uintptr_t w, uintptr_t out, int64_t n, int64_t draws, uint64_t base,
          uint64_t seed, uint64_t stream, uint64_t threshold, int threads) {
  nb::gil_scoped_release release;
  thinned::dots(thinned::selected_kernels(), reinterpret_cast<const float*>(x),
                reinterpret_cast<const float*>(w), reinterpret_cast<double*>(out), n, draws, base,
                seed, stream, threshold, threads);
}

void largest(uint64_t seed, uint64_t stream, int64_t rows, int64_t size, int64_t count, uintptr_t out) {
  thinned::largest(seed, stream, rows, size, count, reinterpret_cast<int64_t*>(out));
}

// Of each row its numbers, as the bytes of int64: one memory for each, of the size that it needs.
std::vector<nb::bytearray> kept(uint64_t seed, uint64_t stream, uint64_t threshold, int64_t rows, int64_t size) {
  std::vector<int64_t> counts(static_cast<size_t>(rows)), numbers(static_cast<size_t>(rows * size));
  thinned::kept(thinned::selected_kernels(), seed, stream, threshold, rows, size, numbers.data(), counts.data());
  std::vector<nb::bytearray> found;
  for (size_t row = 0; row < counts.size(); ++row)
    found.emplace_back(numbers.data() + row * static_cast<size_t>(size), static_cast<size_t>(counts[row]) * sizeof(int64_t));
  return found;
}

// The kernel looks at no bounds: numbers ascend, so the last of them is looked at here.
void check_numbers(uintptr_t kept, int64_t count, int64_t size) {
  const auto* numbers = reinterpret_cast<const int64_t*>(kept);
  if (numbers && count && (numbers[count - 1] >= size || numbers[0] < 0))
    throw std::runtime_error("a thin site keeps number " + std::to_string(numbers[count - 1]) + " of " +
                             std::to_string(size) + " units: change sizes between unthin(model) and thin(model)");
}

thinned::Submatrix submatrix(int dtype, uintptr_t whole, uintptr_t part, const std::vector<int64_t>& shape,
                             uintptr_t rows, int64_t height, uintptr_t columns, int64_t width, int64_t row, double scale) {
  check_numbers(rows, height, shape.at(0));
  check_numbers(columns, width, shape.at(1));
  return {Dtype(dtype), reinterpret_cast<void*>(whole), reinterpret_cast<void*>(part), shape.at(0), shape.at(1),
          shape.at(2), reinterpret_cast<const int64_t*>(rows), reinterpret_cast<const int64_t*>(columns),
          height, width, row, scale};
}

void take(int dtype, uintptr_t whole, uintptr_t part, const std::vector<int64_t>& shape, uintptr_t rows,
          int64_t height, uintptr_t columns, int64_t width, int64_t row, double scale, int threads) {
  const auto what = submatrix(dtype, whole, part, shape, rows, height, columns, width, row, scale);
  nb::gil_scoped_release release;
  thinned::take(thinned::selected_kernels(), what, threads);
}

// Parts of one whole: of each its address, and addresses and numbers of its kept rows and columns.
void take_many(int dtype, uintptr_t whole, const std::vector<int64_t>& shape, const std::vector<uintptr_t>& parts,
               const std::vector<uintptr_t>& rows, const std::vector<int64_t>& heights,
               const std::vector<uintptr_t>& columns, const std::vector<int64_t>& widths, double scale, int threads) {
  std::vector<thinned::Submatrix> what;
  for (size_t k = 0; k < parts.size(); ++k)
    what.push_back(submatrix(dtype, whole, parts[k], shape, rows.at(k), heights.at(k), columns.at(k), widths.at(k),
                             widths.at(k) * shape.at(2), scale));
  nb::gil_scoped_release release;
  thinned::take_many(thinned::selected_kernels(), what, threads);
}

void put(int dtype, uintptr_t whole, uintptr_t part, const std::vector<int64_t>& shape, uintptr_t rows,
         int64_t height, uintptr_t columns, int64_t width, int64_t row, double scale, bool add, int threads) {
  const auto what = submatrix(dtype, whole, part, shape, rows, height, columns, width, row, scale);
  nb::gil_scoped_release release;
  thinned::put(thinned::selected_kernels(), what, add, threads);
}

// A weight of rows by columns, of which some are kept: addresses of their numbers, 0 for all, and how many they are.
thinned::Submatrix weight_of(uintptr_t whole, const std::vector<int64_t>& shape, uintptr_t kept_rows, int64_t height,
                             uintptr_t kept_columns, int64_t width, double scale) {
  return submatrix(thinned::kFloat32, whole, 0, {shape.at(0), shape.at(1), 1}, kept_rows, height, kept_columns, width,
                   width, scale);
}

// A code path may have been chosen since that has none.
const Kernels& multiplying() {
  const Kernels& kernels = thinned::selected_kernels();
  if (!thinned::products_for(kernels)) throw std::runtime_error(std::string("no products on the code path ") + kernels.name);
  return kernels;
}

void linear(uintptr_t weight, const std::vector<int64_t>& shape, uintptr_t kept_rows, int64_t height,
            uintptr_t kept_columns, int64_t width, double scale, int64_t batch, uintptr_t x, uintptr_t bias,
            uintptr_t out, int threads) {
  const thinned::Linear what{weight_of(weight, shape, kept_rows, height, kept_columns, width, scale), batch,
                             reinterpret_cast<const float*>(x), reinterpret_cast<const float*>(bias),
                             reinterpret_cast<float*>(out)};
  const Kernels& kernels = multiplying();
  nb::gil_scoped_release release;
  thinned::linear(kernels, what, threads);
}

// Of each sample: addresses and numbers of its kept rows and columns, and addresses of x and out.
void linear_many(uintptr_t weight, const std::vector<int64_t>& shape, uintptr_t bias, double scale, bool relu,
                 bool whole_x, int64_t batch, const std::vector<uintptr_t>& rows, const std::vector<int64_t>& heights,
                 const std::vector<uintptr_t>& columns, const std::vector<int64_t>& widths,
                 const std::vector<uintptr_t>& x, const std::vector<uintptr_t>& out, int threads) {
  thinned::LinearMany what{reinterpret_cast<const float*>(weight), shape.at(0), shape.at(1),
                           reinterpret_cast<const float*>(bias), scale, relu, whole_x, batch, {}};
  for (size_t k = 0; k < out.size(); ++k) {
    check_numbers(rows.at(k), heights.at(k), what.height);
    check_numbers(columns.at(k), widths.at(k), what.width);
    what.samples.push_back({reinterpret_cast<const int64_t*>(rows.at(k)), reinterpret_cast<const int64_t*>(columns.at(k)),
                            heights.at(k), widths.at(k), reinterpret_cast<const float*>(x.at(k)),
                            reinterpret_cast<float*>(out[k])});
  }
  const Kernels& kernels = multiplying();
  nb::gil_scoped_release release;
  thinned::linear_many(kernels, what, threads);
}

// The gradients whose address is not 0.
void linear_gradients(uintptr_t weight, const std::vector<int64_t>& shape, uintptr_t kept_rows, int64_t height,
                      uintptr_t kept_columns, int64_t width, double scale, int64_t batch, uintptr_t grad, uintptr_t x,
                      uintptr_t of_input, uintptr_t of_weight, uintptr_t of_bias, int threads) {
  const thinned::LinearGradients what{weight_of(weight, shape, kept_rows, height, kept_columns, width, scale),
                                      batch,
                                      reinterpret_cast<const float*>(grad),
                                      reinterpret_cast<const float*>(x),
                                      reinterpret_cast<float*>(of_input),
                                      reinterpret_cast<float*>(of_weight),
                                      reinterpret_cast<float*>(of_bias)};
  const Kernels& kernels = multiplying();
  nb::gil_scoped_release release;
  thinned::linear_gradients(kernels, what, threads);
}

// Sizes: the batch, then height and width of the input, the output, the taps, stride, padding and dilation.
thinned::Convolution convolution_of(const std::vector<int64_t>& sizes, uintptr_t whole, uintptr_t part, int64_t rows,
                                    int64_t columns, uintptr_t kept_rows, int64_t height, uintptr_t kept_columns,
                                    int64_t width, double scale) {
  thinned::Convolution made{};
  made.batch = sizes.at(0);
  int64_t(*pairs[])[2] = {&made.size, &made.made, &made.taps, &made.stride, &made.padding, &made.dilation};
  for (size_t k = 0; k < 6; ++k)
    for (size_t a = 0; a < 2; ++a) (*pairs[k])[a] = sizes.at(1 + 2 * k + a);
  const int64_t taps = made.taps[0] * made.taps[1];
  made.weight = submatrix(thinned::kFloat32, whole, part, {rows, columns, taps}, kept_rows, height, kept_columns, width,
                          width * taps, scale);
  return made;
}

void convolution(const std::vector<int64_t>& sizes, uintptr_t x, uintptr_t out, uintptr_t whole, uintptr_t part,
                 uintptr_t bias, int64_t rows, int64_t columns, uintptr_t kept_rows, int64_t height,
                 uintptr_t kept_columns, int64_t width, double scale, int threads) {
  const auto what = convolution_of(sizes, whole, part, rows, columns, kept_rows, height, kept_columns, width, scale);
  nb::gil_scoped_release release;
  thinned::convolution(thinned::selected_kernels(), what, reinterpret_cast<const float*>(x),
                       reinterpret_cast<const float*>(bias), reinterpret_cast<float*>(out), threads);
}

void convolution_gradients(const std::vector<int64_t>& sizes, uintptr_t grad, uintptr_t x, uintptr_t part,
                           uintptr_t of_input, uintptr_t of_weight, uintptr_t of_bias, int64_t rows, int64_t columns,
                           uintptr_t kept_rows, int64_t height, uintptr_t kept_columns, int64_t width, double scale,
                           int threads) {
  const auto what = convolution_of(sizes, 0, part, rows, columns, kept_rows, height, kept_columns, width, scale);
  nb::gil_scoped_release release;
  thinned::convolution_gradients(
      thinned::selected_kernels(), what,
      {reinterpret_cast<const float*>(grad), reinterpret_cast<const float*>(x), reinterpret_cast<float*>(of_input),
       reinterpret_cast<float*>(of_weight), reinterpret_cast<float*>(of_bias)},
      threads);
}

// Addresses of q, k, v, out, logsumexp, mask, words, rates, then of the gradients of out, q, k, v; and for each, the
// positions last, the steps of heads, rows and columns.
void attention(bool backward, int dtype, const std::vector<int64_t>& lead, const std::vector<int64_t>& sizes,
               const std::vector<uintptr_t>& data, const std::vector<std::vector<int64_t>>& strides, int mask_kind,
               int mask_dtype, uint64_t base, double scale, bool causal, int threads) {
  thinned::Attention c{};
  c.dtype = Dtype(dtype);
  c.lead = lead;
  c.queries = sizes.at(0), c.keys = sizes.at(1), c.width = sizes.at(2), c.value_width = sizes.at(3);
  thinned::Operand* all[] = {&c.q, &c.k, &c.v, &c.out, &c.logsumexp, &c.mask, &c.words, &c.rates,
                             &c.grad, &c.dq, &c.dk, &c.dv, &c.positions};
  for (size_t n = 0; n < strides.size(); ++n) {
    const auto& steps = strides[n];
    all[n]->data = reinterpret_cast<void*>(data.at(n));
    all[n]->heads.assign(steps.begin(), steps.end() - 2);
    all[n]->row = steps[steps.size() - 2];
    all[n]->column = steps.back();
  }
  c.mask_kind = thinned::MaskKind(mask_kind);
  c.mask_dtype = Dtype(mask_dtype);
  c.base = base, c.scale = scale, c.causal = causal;
  const Kernels& kernels = thinned::selected_kernels();
  nb::gil_scoped_release release;
  if (backward)
    thinned::attention_backward(kernels, c, threads);
  else
    thinned::attention_forward(kernels, c, threads);
}

// The first bytes of what NumPy's array interface, version 3, hands out in a capsule.
struct ArrayInterface {
  int two, dimensions;
  char kind;
  int item_size, flags;
  const Py_ssize_t *shape, *strides;
  void* data;
};

// Where an array's elements begin. By way of Python attributes it takes 2 µs, as long as a pass over 4,096.
uintptr_t address(nb::handle array) {
  nb::object capsule = array.attr("__array_struct__");
  auto* interface = static_cast<ArrayInterface*>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
  if (!interface || interface->two != 2) throw nb::type_error("array must be a NumPy array");
  return reinterpret_cast<uintptr_t>(interface->data);
}

std::vector<std::string> available_names() {
  std::vector<std::string> names;
  for (auto entry = thinned::available_kernels(); *entry; ++entry) names.push_back((*entry)->name);
  return names;
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("dense", &dense, "dtype"_a, "x"_a, "out"_a, "n"_a, "base"_a, "seed"_a, "stream"_a,
        "threshold"_a, "scale"_a, "threads"_a);
  m.def("strided", &strided, "dtype"_a, "x"_a, "out"_a, "shape"_a, "x_strides"_a, "out_strides"_a,
        "position_strides"_a, "base"_a, "seed"_a, "stream"_a, "threshold"_a, "scale"_a,
        "threads"_a);
  m.def("add", &add, "dtype"_a, "x"_a, "residual"_a, "out"_a, "n"_a, "base"_a, "seed"_a, "stream"_a,
        "threshold"_a, "scale"_a, "threads"_a);
  m.def("many", &many, "dtype"_a, "x"_a, "out"_a, "outer"_a, "inner"_a, "x_outer"_a, "x_inner"_a, "shape"_a,
        "position_strides"_a, "base"_a, "keys"_a, "threshold"_a, "scale"_a, "each"_a, "threads"_a);
  m.def("fold_many", &fold_many, "keys"_a, "data"_a, "out"_a, "n"_a);
  m.def("dots", &dots, "x"_a, "w"_a, "out"_a, "n"_a, "draws"_a, "base"_a, "seed"_a, "stream"_a,
        "threshold"_a, "threads"_a);
  m.def("largest", &largest, "seed"_a, "stream"_a, "rows"_a, "size"_a, "count"_a, "out"_a);
  m.def("kept", &kept, "seed"_a, "stream"_a, "threshold"_a, "rows"_a, "size"_a);
  m.def("take", &take, "dtype"_a, "whole"_a, "part"_a, "shape"_a, "rows"_a, "height"_a, "columns"_a, "width"_a,
        "row"_a, "scale"_a, "threads"_a);
  m.def("take_many", &take_many, "dtype"_a, "whole"_a, "shape"_a, "parts"_a, "rows"_a, "heights"_a, "columns"_a,
        "widths"_a, "scale"_a, "threads"_a);
  m.def("put", &put, "dtype"_a, "whole"_a, "part"_a, "shape"_a, "rows"_a, "height"_a, "columns"_a, "width"_a,
        "row"_a, "scale"_a, "add"_a, "threads"_a);
  m.def("linear", &linear, "weight"_a, "shape"_a, "kept_rows"_a, "height"_a, "kept_columns"_a, "width"_a, "scale"_a,
        "batch"_a, "x"_a, "bias"_a, "out"_a, "threads"_a);
  m.def("linear_many", &linear_many, "weight"_a, "shape"_a, "bias"_a, "scale"_a, "relu"_a, "whole_x"_a, "batch"_a,
        "rows"_a, "heights"_a, "columns"_a, "widths"_a, "x"_a, "out"_a, "threads"_a);
  m.def("linear_gradients", &linear_gradients, "weight"_a, "shape"_a, "kept_rows"_a, "height"_a, "kept_columns"_a,
        "width"_a, "scale"_a, "batch"_a, "grad"_a, "x"_a, "of_input"_a, "of_weight"_a, "of_bias"_a, "threads"_a);
  m.def("multiplies", [] { return thinned::products_for(thinned::selected_kernels()) != nullptr; });
  m.def("convolves", [] { return thinned::convolves(thinned::selected_kernels()); });
  m.def("convolution", &convolution, "sizes"_a, "x"_a, "out"_a, "whole"_a, "part"_a, "bias"_a, "rows"_a, "columns"_a,
        "kept_rows"_a, "height"_a, "kept_columns"_a, "width"_a, "scale"_a, "threads"_a);
  m.def("convolution_gradients", &convolution_gradients, "sizes"_a, "grad"_a, "x"_a, "part"_a, "of_input"_a,
        "of_weight"_a, "of_bias"_a, "rows"_a, "columns"_a, "kept_rows"_a, "height"_a, "kept_columns"_a, "width"_a,
        "scale"_a, "threads"_a);
  m.def("normal", &normal, "out"_a, "shape"_a, "strides"_a, "base"_a, "seed"_a, "stream"_a, "threads"_a);
  m.def("attention", &attention, "backward"_a, "dtype"_a, "lead"_a, "sizes"_a, "data"_a, "strides"_a, "mask_kind"_a,
        "mask_dtype"_a, "base"_a, "scale"_a, "causal"_a, "threads"_a);
  m.def("fold", &thinned::fold, "seed"_a, "stream"_a, "data"_a);
  m.def("address", &address, "array"_a);
  m.def("prefer_large_pages", [](uintptr_t begin, size_t bytes) {
    thinned::prefer_large_pages(reinterpret_cast<void*>(begin), bytes);
  });
  m.def("available", &available_names);
  m.def("select", &thinned::select_kernels, "name"_a);
  m.def("selected", [] { return std::string(thinned::selected_kernels().name); });
  m.def("foreign", [] { return reinterpret_cast<uintptr_t>(&thinned::foreign); });
  // The handler in a capsule, as JAX takes it.
  m.def("xla_handler", [](int minor) {
    thinned::xla_speak(minor);
    return nb::capsule(reinterpret_cast<void*>(&thinned::thinned_xla_dropout), "xla._CUSTOM_CALL_TARGET");
  }, "minor"_a);
  m.def("borrow_team", [](uintptr_t launcher) {
    thinned::borrow_team(reinterpret_cast<thinned::TeamLauncher>(launcher));
  });
}
