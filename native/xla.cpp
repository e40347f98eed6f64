// XLA's foreign function interface is a C ABI that says its own sizes. Only what this handler reads is declared here, so
// that the build needs no XLA; a process whose structures have other sizes gets an error, never wrong memory.
#include "xla.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "contract.h"
#include "foreign.h"
#include "kernels.h"

namespace thinned {
namespace {

constexpr int kMetadata = 1, kInvalidArgument = 3;

struct Extension {
  size_t struct_size;
  int type;
  Extension* next;
};

struct Version {
  size_t struct_size;
  Extension* extensions;
  int major_version, minor_version;
};

struct Metadata {
  size_t struct_size;
  Version version;
  uint32_t traits;
};

struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

struct Buffer {
  size_t struct_size;
  Extension* extensions;
  int dtype;
  void* data;
  int64_t rank;
  int64_t* dims;
};

struct Buffers {
  size_t struct_size;
  Extension* extensions;
  int64_t size;
  int* types;
  void** buffers;

  const Buffer& operator[](int64_t k) const { return *static_cast<const Buffer*>(buffers[k]); }
};

struct ErrorArguments {
  size_t struct_size;
  Extension* extensions;
  const char* message;
  int code;
};

struct Api {
  size_t struct_size;
  Extension* extensions;
  Version version;
  const void* internal;
  void* (*create_error)(ErrorArguments*);
};

struct Frame {
  size_t struct_size;
  Extension* extensions;
  const Api* api;
  void* context;
  int stage;
  Buffers arguments, results;
};

std::atomic<int> minor_version{0};

void* fail(const Frame& frame, const char* message) {
  ErrorArguments arguments{sizeof(ErrorArguments), nullptr, message, kInvalidArgument};
  return frame.api->create_error(&arguments);
}

// XLA's number of an element type, as the kernel numbers them; -1 for others.
int kernel_dtype(int xla) {
  switch (xla) {
    case 1: return kMask;
    case 10: return kFloat16;
    case 11: return kFloat32;
    case 12: return kFloat64;
    case 16: return kBfloat16;
    default: return -1;
  }
}

uint64_t wide(const uint32_t* words) { return uint64_t(words[1]) << 32 | words[0]; }

const uint32_t* words(const Buffer& buffer) { return static_cast<const uint32_t*>(buffer.data); }

enum Operand : int64_t { kKeys, kThresholds, kStarts, kStrides, kInverted, kBegins };

void* run(const Frame& frame, const Buffers& operands, const Buffer& result) {
  const int64_t n = operands[kStrides].dims[0];
  const int dtype = kernel_dtype(result.dtype);
  if (dtype < 0 || operands.size != kBegins + n + (dtype == kMask ? 0 : 1) || result.rank < n)
    return fail(frame, "thinned: operands do not fit this version of the kernel");
  const int64_t* shape = result.dims + (result.rank - n);
  int64_t batch = 1, each = 1;
  for (int64_t k = 0; k < result.rank - n; ++k) batch *= result.dims[k];
  std::vector<uint64_t> strides(static_cast<size_t>(n));
  for (int64_t k = 0; k < n; ++k) {
    each *= shape[k];
    strides[size_t(k)] = wide(words(operands[kStrides]) + 2 * k);
  }
  if (each == 0) return nullptr;
  const bool inverted = *words(operands[kInverted]) != 0;
  const auto* x = dtype == kMask ? nullptr : static_cast<const char*>(operands[kBegins + n].data);
  auto* out = static_cast<char*>(result.data);
  for (int64_t b = 0; b < batch; ++b) {
    const uint32_t *key = words(operands[kKeys]) + 4 * b, *start = words(operands[kStarts]) + 2 * n * b;
    uint64_t threshold = wide(words(operands[kThresholds]) + 2 * b);
    uint64_t base = 0;
    for (int64_t k = 0; k < n; ++k)
      base += (wide(start + 2 * k) + wide(words(operands[kBegins + k]))) * strides[size_t(k)];
    double scale = inverted && threshold < kDropAll ? 4294967296.0 / double(kDropAll - threshold) : 1.0;
    if (threshold > kDropAll) {  // p was no probability
      threshold = dtype == kMask ? kDropAll : 0;
      scale = std::numeric_limits<double>::quiet_NaN();
    }
    const int64_t skip = b * each * kItemSize[dtype];
    foreign(dtype, x ? x + skip : nullptr, out + skip, int(n), shape, strides.data(), base, wide(key),
            wide(key + 2), threshold, scale, 0);
  }
  return nullptr;
}

}  // namespace

void xla_speak(int minor) { minor_version.store(minor); }

extern "C" void* thinned_xla_dropout(void* raw) {
  const Frame& frame = *static_cast<const Frame*>(raw);
  if (frame.extensions && frame.extensions->type == kMetadata) {
    Metadata& metadata = *reinterpret_cast<MetadataExtension*>(frame.extensions)->metadata;
    metadata.version.major_version = 0;
    metadata.version.minor_version = minor_version.load();
    return nullptr;
  }
  const Buffers &operands = frame.arguments, &results = frame.results;
  const bool known = frame.struct_size >= sizeof(Frame) && operands.struct_size == sizeof(Buffers) &&
                     results.struct_size == sizeof(Buffers) && operands.size > kBegins &&
                     results.size == 1 && results[0].struct_size == sizeof(Buffer);
  if (!known) return fail(frame, "thinned: this XLA speaks another foreign function interface");
  return run(frame, operands, results[0]);
}

}  // namespace thinned
