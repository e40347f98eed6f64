// TensorFlow's operators ThinnedDropout, ThinnedKeepMask and ThinnedFold on a CPU: a library that
// `tf.load_op_library` loads, and that the module hands its kernel to.
#include <string>
#include <type_traits>
#include <vector>

#include "contract.h"
#include "foreign.h"
#include "kernels.h"
#include "tensorflow_api.h"

namespace thinned::tensorflow {
namespace {

Api api;
Foreign kernel = nullptr;
int threads = 0;

// What goes wrong in one call; the first of it is what TensorFlow reports.
class Outcome {
 public:
  explicit Outcome(Context* context) : context_(context), status_(api.NewStatus()) {}
  ~Outcome() {
    if (!good()) api.OpKernelContext_Failure(context_, status_);
    api.DeleteStatus(status_);
  }
  bool good() const { return api.GetCode(status_) == kOk; }
  void require(bool holds, const char* message) {
    if (good() && !holds) api.SetStatus(status_, kInvalidArgument, message);
  }
  Context* context() const { return context_; }
  operator Status*() const { return status_; }

 private:
  Context* context_;
  Status* status_;
};

// A tensor that is let go at the end of its block.
class Held {
 public:
  explicit Held(Tensor* tensor) : tensor_(tensor) {}
  Held(Outcome& outcome, int input) {  // a call that succeeds would wipe out what went wrong before
    if (outcome.good()) api.GetInput(outcome.context(), input, &tensor_, outcome);
  }
  ~Held() {
    if (tensor_) api.DeleteTensor(tensor_);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  Type type() const { return api.TensorType(tensor_); }
  void* data() const { return api.TensorData(tensor_); }
  std::vector<int64_t> shape() const {
    std::vector<int64_t> sizes(size_t(api.NumDims(tensor_)));
    for (size_t k = 0; k < sizes.size(); ++k) sizes[k] = api.Dim(tensor_, int(k));
    return sizes;
  }
  template <class T>
  std::vector<T> values() const {
    auto* first = static_cast<const T*>(data());
    return {first, first + api.TensorElementCount(tensor_)};
  }

 private:
  Tensor* tensor_ = nullptr;
};

template <class T>
std::vector<T> values(Outcome& outcome, int input, size_t n, const char* message) {
  const Held tensor(outcome, input);
  auto found = outcome.good() ? tensor.values<T>() : std::vector<T>();
  outcome.require(found.size() == n, message);
  found.resize(n);
  return found;
}

// All inputs but the first: key, drop threshold, [factor,] base, strides.
struct Draws {
  std::vector<uint64_t> key, strides;
  uint64_t drop, base;
  double factor = 1.0;

  Draws(Outcome& outcome, bool scaled, const std::vector<int64_t>& shape) {
    int input = 1;
    key = values<uint64_t>(outcome, input++, 2, "key must have two elements, seed and stream");
    drop = values<uint64_t>(outcome, input++, 1, "drop must be one number")[0];
    if (scaled) factor = values<double>(outcome, input++, 1, "factor must be one number")[0];
    base = values<uint64_t>(outcome, input++, 1, "base must be one number")[0];
    {
      const Held tensor(outcome, input);
      if (outcome.good()) strides = tensor.values<uint64_t>();
    }
    outcome.require(drop <= kDropAll, "p must be in [0, 1]");
    if (strides.empty()) {
      strides.resize(shape.size());
      uint64_t step = 1;
      for (size_t k = shape.size(); k-- > 0; step *= uint64_t(shape[k])) strides[k] = step;
    }
    outcome.require(strides.size() == shape.size(), "strides must have one entry for each dimension, or none");
  }

  void run(Dtype dtype, const void* x, void* out, const std::vector<int64_t>& shape) const {
    kernel(dtype, x, out, int(shape.size()), shape.data(), strides.data(), base, key[0], key[1], drop, factor,
           threads);
  }
};

Dtype number_of(Type type) {
  switch (type) {
    case kDouble: return kFloat64;
    case kHalf: return kFloat16;
    case tensorflow::kBfloat16: return thinned::kBfloat16;
    default: return kFloat32;
  }
}

void dropout(void*, Context* context) {
  Outcome outcome(context);
  std::vector<int64_t> shape;
  Type type = kFloat;
  {  // not held longer: what is held twice is not forwarded
    const Held x(outcome, 0);
    if (!outcome.good()) return;
    shape = x.shape();
    type = x.type();
  }
  const Draws draws(outcome, true, shape);
  outcome.require(kernel != nullptr, "thinned.tensorflow is not imported in this process");
  if (!outcome.good()) return;
  const int candidate = 0;
  int forwarded = -1;
  const Held out(api.ForwardInputOrAllocateOutput(context, &candidate, 1, 0, shape.data(), int(shape.size()),
                                                  &forwarded, outcome));
  if (!outcome.good()) return;
  if (forwarded == 0) return draws.run(number_of(type), out.data(), out.data(), shape);
  const Held x(outcome, 0);
  if (outcome.good()) draws.run(number_of(type), x.data(), out.data(), shape);
}

void keep_mask(void*, Context* context) {
  Outcome outcome(context);
  std::vector<int64_t> shape;
  {
    const Held sizes(outcome, 0);
    if (!outcome.good()) return;
    shape = sizes.values<int64_t>();
  }
  size_t total = 1;
  for (int64_t size : shape) {
    outcome.require(size >= 0, "shape must not be negative");
    total *= size_t(size);
  }
  const Draws draws(outcome, false, shape);
  outcome.require(kernel != nullptr, "thinned.tensorflow is not imported in this process");
  if (!outcome.good()) return;
  const Held out(api.AllocateOutput(context, 0, kBool, shape.data(), int(shape.size()), total, outcome));
  if (outcome.good()) draws.run(kMask, nullptr, out.data(), shape);
}

void fold_key(void*, Context* context) {
  Outcome outcome(context);
  const auto key = values<uint64_t>(outcome, 0, 2, "key must have two elements, seed and stream");
  const auto data = values<uint64_t>(outcome, 1, 1, "data must be one number");
  outcome.require(data[0] >> 60 == 0, "data must be in [0, 2^60)");
  if (!outcome.good()) return;
  const int64_t size = 2;
  const Held out(api.AllocateOutput(context, 0, kInt64, &size, 1, 2 * sizeof(int64_t), outcome));
  if (!outcome.good()) return;
  auto* words = static_cast<uint64_t*>(out.data());
  words[0] = key[0];
  words[1] = fold(key[0], key[1], data[0]);
}

void shape_of_first(ShapeContext* context, Status* status) {
  ShapeHandle* shape = api.NewShapeHandle();
  api.ShapeInferenceContextGetInput(context, 0, shape, status);
  if (api.GetCode(status) == kOk) api.ShapeInferenceContextSetOutput(context, 0, shape, status);
  api.DeleteShapeHandle(shape);
}

void shape_unknown(ShapeContext* context, Status* status) {
  api.ShapeInferenceContextSetUnknownShape(context, status);
}

void register_operator(const char* name, const std::vector<const char*>& attributes,
                       const std::vector<const char*>& inputs, const char* output,
                       void (*shape)(ShapeContext*, Status*), void (*compute)(void*, Context*)) {
  Status* status = api.NewStatus();
  Builder* builder = api.NewOpDefinitionBuilder(name);
  for (const char* attribute : attributes) api.OpDefinitionBuilderAddAttr(builder, attribute);
  for (const char* input : inputs) api.OpDefinitionBuilderAddInput(builder, input);
  api.OpDefinitionBuilderAddOutput(builder, output);
  api.OpDefinitionBuilderSetShapeInferenceFunction(builder, shape);
  api.RegisterOpDefinition(builder, status);
  if (api.GetCode(status) == kOk)
    api.RegisterKernelBuilder(name, api.NewKernelBuilder(name, "CPU", nullptr, compute, nullptr), status);
  api.DeleteStatus(status);
}

// TensorFlow takes for an operator of this library what is registered while it is loaded.
const bool registered = [] {
  if (!find(api)) return false;
  const std::vector<const char*> draws = {"key: int64", "drop: int64", "base: int64", "strides: int64"};
  register_operator("ThinnedDropout", {"T: {half, bfloat16, float, double}"},
                    {"x: T", draws[0], draws[1], "factor: double", draws[2], draws[3]}, "y: T", shape_of_first,
                    dropout);
  register_operator("ThinnedKeepMask", {}, {"shape: int64", draws[0], draws[1], draws[2], draws[3]},
                    "mask: bool", shape_unknown, keep_mask);
  register_operator("ThinnedFold", {}, {"key: int64", "data: int64"}, "folded: int64", shape_of_first, fold_key);
  return true;
}();

}  // namespace
}  // namespace thinned::tensorflow

// Until the module has called this the operators refuse to run. Zero threads: as many as there are processors.
extern "C" __attribute__((visibility("default"))) int thinned_tensorflow_use(thinned::Foreign kernel,
                                                                             int threads) {
  thinned::tensorflow::kernel = kernel;
  thinned::tensorflow::threads = threads;
  return thinned::tensorflow::registered;
}
