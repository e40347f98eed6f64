// Tables of other kinds that go with the kernels in use. Not for files of one instruction set.
#pragma once

#include <cstring>

#include "kernels.h"

namespace thinned {

// What goes with these kernels of another kind of table, or null. By name before anything else: even what only returns
// a table is compiled for its instruction set.
template <class Table>
const Table* beside(const Kernels& kernels, const Table* (*avx512)(), const Table* (*avx2)()) {
  if (!std::strcmp(kernels.name, "avx512")) return avx512();
  return std::strcmp(kernels.name, "avx2") ? nullptr : avx2();
}

}  // namespace thinned
