#include "largest.h"

#include <algorithm>
#include <vector>

#include "contract.h"

namespace thinned {
namespace {

// A number and its place in the row as one word, so that the largest number of the lowest place comes first.
uint64_t rank(uint32_t u, int64_t place) { return uint64_t(~u) << 32 | uint32_t(place); }

void ranks_of_row(const Draw& d, uint64_t start, std::vector<uint64_t>& ranks) {
  uint64_t have = ~uint64_t(0);
  Words high{}, low{};
  for (size_t j = 0; j < ranks.size(); ++j) {
    const uint64_t i = start + j, block = i >> 3;
    if (block != have) high = block_words(d, block, 0), low = block_words(d, block, 1), have = block;
    const unsigned k = unsigned(i & 7);
    ranks[j] = rank(halfword(high, k) << 16 | halfword(low, k), int64_t(j));
  }
}

}  // namespace

void largest(uint64_t seed, uint64_t stream, int64_t rows, int64_t size, int64_t count, int64_t* out) {
  const Draw d = make_draw(seed, stream, 0);
  std::vector<uint64_t> ranks(size_t(count ? size : 0));
  for (int64_t row = 0; count && row < rows; ++row, out += count) {
    ranks_of_row(d, uint64_t(row) * uint64_t(size), ranks);
    if (count < size) std::nth_element(ranks.begin(), ranks.begin() + count, ranks.end());
    for (int64_t j = 0; j < count; ++j) out[j] = int64_t(ranks[size_t(j)] & 0xffffffffu);
    std::sort(out, out + count);
  }
}

}  // namespace thinned
