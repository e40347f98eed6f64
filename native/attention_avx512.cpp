// Attention in float32 with AVX-512.
#include "attention.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "attention_avx512.h"

namespace thinned {
const AttentionKernels* avx512_attention() { return attention_table<Avx512Floats>("avx512"); }

}  // namespace thinned

#else
namespace thinned {
const AttentionKernels* avx512_attention() { return nullptr; }
}  // namespace thinned
#endif
