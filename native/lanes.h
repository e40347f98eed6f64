// Philox4x32-10 over vector lanes. One 64-bit lane holds one 32-bit state word; the upper half of a
// lane is rubbish that the widening multiply never reads, which saves every blend of the usual packed form: a
// round is 2 multiplies, 2 shifts and 4 xors per vector. What stays the same along a run is folded
// into constants, so rounds 1 and 2 together cost one multiply.
//
// S, the instruction set, gives: V, lanes, chains, set, add, mul, shr32, swap32, low32, bit_xor, counters.
#pragma once

#include "contract.h"

namespace thinned {
namespace {

template <class S>
struct Schedule {
  using V = typename S::V;
  V mul0, mul1;
  V round1, round2a, round2b, round3;  // xored constants of the first three rounds
  V key0[kRounds], key1[kRounds];
  V step;          // mul0 * the counters of one group, added to the first product
  uint64_t upper;  // block >> 32, for which round2a and the rest were made

  Schedule(const Draw& d, uint64_t upper_) : upper(upper_) {
    uint32_t k0 = d.key0, k1 = d.key1, s0[kRounds], s1[kRounds];
    for (int r = 0; r < kRounds; ++r, k0 += kWeyl0, k1 += kWeyl1) {
      s0[r] = k0;
      s1[r] = k1;
      key0[r] = S::set(k0);
      key1[r] = S::set(k1);
    }
    mul0 = S::set(kMul0);
    mul1 = S::set(kMul1);
    step = S::set(uint64_t(kMul0) * uint64_t(S::lanes * S::chains));
    // Round 1 multiplies the stream's low word and round 2 a word made of it: both known here.
    uint64_t p1 = uint64_t(d.stream0) * kMul1;
    uint32_t c0 = uint32_t(p1 >> 32) ^ uint32_t(upper) ^ s0[0];
    uint64_t q0 = uint64_t(c0) * kMul0;
    round1 = S::set(d.stream1 ^ s1[0]);
    round2a = S::set(uint32_t(p1) ^ s0[1]);
    round2b = S::set(uint32_t(q0 >> 32) ^ s1[1]);
    round3 = S::set(uint32_t(q0) ^ s1[2]);
  }
};

// The first product (counter * mul0) of each chain of a group that begins at `block`.
template <class S>
inline void first_products(uint64_t block, typename S::V (&product)[S::chains]) {
  for (int c = 0; c < S::chains; ++c)
    product[c] = S::mul(S::add(S::set(uint32_t(block)), S::counters(c)), S::set(kMul0));
}

// Words 0 and 1 of each lane's block into `a`, words 2 and 3 into `b`.
template <class S>
inline void generate(const Schedule<S>& s, const typename S::V (&product)[S::chains],
                     typename S::V (&a)[S::chains], typename S::V (&b)[S::chains]) {
  using V = typename S::V;
  constexpr int C = S::chains;
  V c0[C], c1[C], c2[C], c3[C];
  for (int c = 0; c < C; ++c) c1[c] = S::mul(S::bit_xor(S::shr32(product[c]), s.round1), s.mul1);
  for (int c = 0; c < C; ++c) c0[c] = S::bit_xor(S::shr32(c1[c]), s.round2a);
  for (int c = 0; c < C; ++c) {
    V p1 = S::mul(S::bit_xor(product[c], s.round2b), s.mul1);
    V p0 = S::mul(c0[c], s.mul0);
    c0[c] = S::bit_xor(S::bit_xor(S::shr32(p1), c1[c]), s.key0[2]);
    c1[c] = p1;
    c2[c] = S::bit_xor(S::shr32(p0), s.round3);
    c3[c] = p0;
  }
#if defined(__GNUC__)
#pragma GCC unroll 6
#endif
  for (int r = 3; r < kRounds - 1; ++r)
    for (int c = 0; c < C; ++c) {
      V p0 = S::mul(c0[c], s.mul0), p1 = S::mul(c2[c], s.mul1);
      c0[c] = S::bit_xor(S::bit_xor(S::shr32(p1), c1[c]), s.key0[r]);
      c2[c] = S::bit_xor(S::bit_xor(S::shr32(p0), c3[c]), s.key1[r]);
      c1[c] = p1;
      c3[c] = p0;
    }
  for (int c = 0; c < C; ++c) {  // the last round leaves both words of a product in one lane
    V p0 = S::mul(c0[c], s.mul0), p1 = S::mul(c2[c], s.mul1);
    a[c] = S::bit_xor(S::swap32(p1), S::bit_xor(S::low32(c1[c]), s.key0[kRounds - 1]));
    b[c] = S::bit_xor(S::swap32(p0), S::bit_xor(S::low32(c3[c]), s.key1[kRounds - 1]));
  }
}

}  // namespace
}  // namespace thinned
