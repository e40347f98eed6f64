// The part of TensorFlow's C interface for operators that we use. It is declared here, because it is stable and
// TensorFlow's headers are then not needed to build, and found at run time in the library that is already loaded.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

namespace thinned::tensorflow {

struct Builder;
struct Context;
struct KernelBuilder;
struct ShapeContext;
struct ShapeHandle;
struct Status;
struct Tensor;

enum Type : int { kFloat = 1, kDouble = 2, kInt64 = 9, kBool = 10, kBfloat16 = 14, kHalf = 19 };
constexpr int kOk = 0, kInvalidArgument = 3;

struct Api {
  Builder* (*NewOpDefinitionBuilder)(const char* name);
  void (*OpDefinitionBuilderAddAttr)(Builder*, const char*);
  void (*OpDefinitionBuilderAddInput)(Builder*, const char*);
  void (*OpDefinitionBuilderAddOutput)(Builder*, const char*);
  void (*OpDefinitionBuilderSetShapeInferenceFunction)(Builder*, void (*)(ShapeContext*, Status*));
  void (*RegisterOpDefinition)(Builder*, Status*);

  ShapeHandle* (*NewShapeHandle)();
  void (*DeleteShapeHandle)(ShapeHandle*);
  void (*ShapeInferenceContextGetInput)(ShapeContext*, int, ShapeHandle*, Status*);
  void (*ShapeInferenceContextSetOutput)(ShapeContext*, int, ShapeHandle*, Status*);
  void (*ShapeInferenceContextSetUnknownShape)(ShapeContext*, Status*);

  KernelBuilder* (*NewKernelBuilder)(const char* op, const char* device, void* (*create)(void*),
                                     void (*compute)(void*, Context*), void (*destroy)(void*));
  void (*RegisterKernelBuilder)(const char* name, KernelBuilder*, Status*);

  void (*GetInput)(Context*, int, Tensor**, Status*);
  Tensor* (*AllocateOutput)(Context*, int, Type, const int64_t* dims, int rank, size_t bytes, Status*);
  Tensor* (*ForwardInputOrAllocateOutput)(Context*, const int* candidates, int, int output,
                                          const int64_t* dims, int rank, int* forwarded, Status*);
  void (*OpKernelContext_Failure)(Context*, Status*);

  Type (*TensorType)(const Tensor*);
  int (*NumDims)(const Tensor*);
  int64_t (*Dim)(const Tensor*, int);
  int64_t (*TensorElementCount)(const Tensor*);
  void* (*TensorData)(const Tensor*);
  void (*DeleteTensor)(Tensor*);

  Status* (*NewStatus)();
  void (*DeleteStatus)(Status*);
  void (*SetStatus)(Status*, int code, const char* message);
  int (*GetCode)(const Status*);
};

// False where TensorFlow is not loaded or lacks one of these.
inline bool find(Api& api) {
  void* library = nullptr;
  for (const char* name : {"libtensorflow_framework.so.2", "libtensorflow_framework.2.dylib"})
    if (!library) library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return false;
  bool all = true;
  auto take = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    all = all && function;
  };
#define THINNED_TAKE(name) take(api.name, "TF_" #name)
  THINNED_TAKE(NewOpDefinitionBuilder);
  THINNED_TAKE(OpDefinitionBuilderAddAttr);
  THINNED_TAKE(OpDefinitionBuilderAddInput);
  THINNED_TAKE(OpDefinitionBuilderAddOutput);
  THINNED_TAKE(OpDefinitionBuilderSetShapeInferenceFunction);
  THINNED_TAKE(RegisterOpDefinition);
  THINNED_TAKE(NewShapeHandle);
  THINNED_TAKE(DeleteShapeHandle);
  THINNED_TAKE(ShapeInferenceContextGetInput);
  THINNED_TAKE(ShapeInferenceContextSetOutput);
  THINNED_TAKE(ShapeInferenceContextSetUnknownShape);
  THINNED_TAKE(NewKernelBuilder);
  THINNED_TAKE(RegisterKernelBuilder);
  THINNED_TAKE(GetInput);
  THINNED_TAKE(AllocateOutput);
  THINNED_TAKE(ForwardInputOrAllocateOutput);
  THINNED_TAKE(OpKernelContext_Failure);
  THINNED_TAKE(TensorType);
  THINNED_TAKE(NumDims);
  THINNED_TAKE(Dim);
  THINNED_TAKE(TensorElementCount);
  THINNED_TAKE(TensorData);
  THINNED_TAKE(DeleteTensor);
  THINNED_TAKE(NewStatus);
  THINNED_TAKE(DeleteStatus);
  THINNED_TAKE(SetStatus);
  THINNED_TAKE(GetCode);
#undef THINNED_TAKE
  return all;
}

}  // namespace thinned::tensorflow
