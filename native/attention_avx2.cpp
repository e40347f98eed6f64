// Attention in float32 with AVX2 and FMA.
#include "attention.h"

#if defined(__AVX2__) && (defined(__FMA__) || defined(_MSC_VER))
#include "attention_kernel.h"
#include "floats_avx2.h"

namespace thinned {
const AttentionKernels* avx2_attention() { return attention_table<Avx2Floats>("avx2"); }

}  // namespace thinned

#else
namespace thinned {
const AttentionKernels* avx2_attention() { return nullptr; }
}  // namespace thinned
#endif
