// Memory that runs in another order than positions: transposed and channels_last arrays, and masks that are shared.
// A tile is a few dimensions in which positions run, by a few in which memory runs: keep bytes are made in the order
// of positions, turned, and used in that of memory.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "gather.h"
#include "plan.h"
#include "share.h"

namespace thinned {
namespace {

constexpr int64_t kRows = 64, kRow = 1024, kTile = 4096, kWide = 16384;  // elements

// Some dimensions of a tile, innermost first; the last of them may be cut into parts.
struct Side {
  std::vector<Dim> dims;
  int64_t elements = 1;       // of a whole part
  int64_t parts = 1;
  int64_t whole = 1;          // size of the last dimension
  bool full = false;
  std::vector<int64_t> x, out, keep;  // where each element of a part lies

  void take(const Dim& d, int64_t most) {
    const int64_t size = std::min(d.size, most / elements);
    dims.push_back({size, d.x, d.out, d.position});
    whole = d.size;
    parts = (whole + size - 1) / size;
    elements *= size;
    full = size < d.size;
  }
  // Cuts the last dimension so that no more than `most` elements are left.
  void shorten(int64_t most) {
    if (elements <= most) return;
    elements /= dims.back().size;
    const Dim d = dims.back();
    dims.pop_back();
    take({whole, d.x, d.out, d.position}, most);
  }
  bool fits(int64_t most) const { return !full && 2 * elements <= most; }
  // Elements of one part along its last dimension, and of all.
  int64_t last(int64_t part) const {
    return dims.empty() ? 1 : std::min(dims.back().size, whole - part * dims.back().size);
  }
  int64_t count(int64_t part) const {
    return dims.empty() ? 1 : elements / dims.back().size * last(part);
  }
  void tabulate(const std::vector<int64_t>& keep_steps) {
    x = out = keep = {0};
    for (size_t k = 0; k < dims.size(); ++k) {
      const size_t below = x.size();
      for (int64_t i = 1; i < dims[k].size; ++i)
        for (size_t j = 0; j < below; ++j) {
          x.push_back(x[j] + i * dims[k].x);
          out.push_back(out[j] + i * dims[k].out);
          keep.push_back(keep[j] + i * keep_steps[k]);
        }
    }
  }
};

bool counts_up(const std::vector<int64_t>& table) {
  for (size_t k = 0; k < table.size(); ++k)
    if (table[k] != int64_t(k)) return false;
  return true;
}

// Turns an 8 by 8 square of bytes, by halves, quarters and eighths.
void transpose_8x8(uint64_t (&r)[8]) {
  auto swap = [&](int a, int b, int shift, uint64_t mask) {
    const uint64_t t = ((r[a] >> shift) ^ r[b]) & mask;
    r[b] ^= t;
    r[a] ^= t << shift;
  };
  for (int k = 0; k < 4; ++k) swap(k, k + 4, 32, 0x00000000ffffffffu);
  for (int k : {0, 1, 4, 5}) swap(k, k + 2, 16, 0x0000ffff0000ffffu);
  for (int k : {0, 2, 4, 6}) swap(k, k + 1, 8, 0x00ff00ff00ff00ffu);
}

// One dimension along which the positions of a tile differ.
struct Level {
  const Dim* dim;
  int64_t keep;     // so far apart lie its keep bytes
  const Side* cut;  // the side that it is the cut end of, if it is one
};

}  // namespace

struct Tiling {
  const Plan& plan;
  Side rows, row;  // in the order of positions, in that of memory
  std::vector<Dim> outer;
  std::vector<Level> levels;  // by position
  size_t chained = 0;         // so many of them are one run
  bool shared, plain_x, plain_out, in_order, square;

  explicit Tiling(const Plan& p) : plan(p), outer(p.job.dims) {
    auto nearest = [](const Dim& d) { return uint64_t(std::abs(d.out)); };
    auto first = [](const Dim& d) { return d.position - 1; };  // that the mask is shared along come last
    const uint64_t along = first(*std::min_element(
        outer.begin(), outer.end(), [&](const Dim& a, const Dim& b) { return first(a) < first(b); }));
    const Dim memory = take(nearest);
    const bool wide = memory.size >= kRows && memory.position == 0 && memory.x == 1 && memory.out == 1;
    row.take(memory, wide ? kWide : kRow);
    while (row.elements < kRows && row.fits(kRow) && !outer.empty()) row.take(take(nearest), kRow);
    auto runs = [&](const Dim& d) { return first(d) == along; };
    auto differs = [](const Dim& d) { return d.position != 0; };
    if (std::none_of(row.dims.begin(), row.dims.end(), runs))
      while (rows.fits(kRows) && some(differs)) rows.take(take(first), kRows);
    else  // keep bytes made once serve all that share them
      while (rows.fits(kRows) && some(std::not_fn(differs)))
        rows.take(take([&](const Dim& d) { return differs(d) ? UINT64_MAX : nearest(d); }), kRows);
    if (!wide) row.shorten(kTile / rows.elements);
    lay_out();
  }

  void part(int64_t first, int64_t last) const;

 private:
  template <class Of>
  bool some(Of of) const {
    return std::any_of(outer.begin(), outer.end(), of);
  }
  template <class By>
  Dim take(By by) {
    const auto least = std::min_element(outer.begin(), outer.end(),
                                        [&](const Dim& a, const Dim& b) { return by(a) < by(b); });
    const Dim found = *least;
    outer.erase(least);
    return found;
  }

  void lay_out() {
    for (const Side* side : {&rows, &row})
      for (size_t k = 0; k < side->dims.size(); ++k)
        if (const Dim& d = side->dims[k]; d.position)
          levels.push_back({&d, 0, side->full && k + 1 == side->dims.size() ? side : nullptr});
    std::stable_sort(levels.begin(), levels.end(),
                     [](const Level& a, const Level& b) { return a.dim->position < b.dim->position; });
    int64_t step = 1;
    for (Level& level : levels) {
      level.keep = step;
      step *= level.dim->size;
    }
    while (chained < levels.size() && (chained == 0 || continues(levels[chained - 1], levels[chained]))) ++chained;
    for (Side* side : {&rows, &row}) {
      std::vector<int64_t> steps;
      for (const Dim& d : side->dims) {
        steps.push_back(0);
        for (const Level& level : levels)
          if (level.dim == &d) steps.back() = level.keep;
      }
      side->tabulate(steps);
    }
    shared = std::all_of(row.dims.begin(), row.dims.end(), [](const Dim& d) { return d.position == 0; });
    plain_x = plan.job.dtype == kMask || counts_up(row.x);
    plain_out = counts_up(row.out);
    in_order = counts_up(row.keep);
    square = counts_up(rows.keep) && rows.elements > 2;
    while (row.keep.size() % 8) row.keep.push_back(0);
  }
  static bool continues(const Level& below, const Level& above) {
    return !below.cut && above.dim->position == below.dim->position * uint64_t(below.dim->size);
  }

  void make_keep(uint64_t start, int64_t part_of_rows, int64_t part_of_row, uint8_t* keep) const;
  void turn(const uint8_t* keep, uint8_t* turned, int64_t apart, int64_t n, int64_t m) const;
  template <class T>
  void apply(const uint8_t* keep, int64_t apart, int64_t x0, int64_t out0, int64_t n, int64_t m) const;
};

// The keep bytes of one tile, in the order of positions.
void Tiling::make_keep(uint64_t start, int64_t part_of_rows, int64_t part_of_row, uint8_t* keep) const {
  struct Runs {
    uint8_t* keep;
    uint64_t start;
    int64_t n, left;
    Cursor cursor;

    bool next(Run& run) {
      if (left-- == 0) return false;
      run = {nullptr, keep + cursor.x, start + cursor.position, n};
      cursor.next();
      return true;
    }
  };
  std::vector<Dim> others;
  int64_t n = 1;
  for (size_t k = 0; k < levels.size(); ++k) {
    const Level& level = levels[k];
    int64_t size = level.dim->size;
    if (level.cut) size = level.cut->last(level.cut == &rows ? part_of_rows : part_of_row);
    if (k < chained)
      n *= size;
    else
      others.push_back({size, level.keep, 0, level.dim->position});
  }
  Runs source{keep, start, n, 1, Cursor(others)};
  source.left = source.cursor.total();
  if (levels.empty() || levels[0].dim->position == 1) {
    auto next = [](void* s, Run& run) { return static_cast<Runs*>(s)->next(run); };
    return plan.kernels.runs[kMask](plan.draw, next, &source, 1.0, false);
  }
  for (Run run; source.next(run);)
    plan.keep_row(run.start, levels[0].dim->position, n, static_cast<uint8_t*>(run.out));
}

// From the order of positions to that of memory: n rows of m bytes, `apart` from one another.
void Tiling::turn(const uint8_t* keep, uint8_t* turned, int64_t apart, int64_t n, int64_t m) const {
  if (!square) {
    const int64_t* place = row.keep.data();
    for (int64_t i = 0; i < n; ++i, turned += apart) {
      const uint8_t* from = keep + rows.keep[size_t(i)];
      for (int64_t j = 0; j < m; ++j) turned[j] = from[place[j]];
    }
    return;
  }
  for (int64_t j = 0; j < m; j += 8)
    for (int64_t i = 0; i < n; i += 8) {
      uint64_t r[8];
      for (int k = 0; k < 8; ++k) std::memcpy(&r[k], keep + row.keep[size_t(j + k)] + i, 8);
      transpose_8x8(r);
      for (int k = 0; k < 8; ++k) std::memcpy(turned + (i + k) * apart + j, &r[k], 8);
    }
}

template <class T>
void Tiling::apply(const uint8_t* keep, int64_t apart, int64_t x0, int64_t out0, int64_t n, int64_t m) const {
  const Job& job = plan.job;
  const T* x = static_cast<const T*>(job.x);
  T* out = static_cast<T*>(job.out);
  alignas(64) T stage[kRow];
  for (int64_t i = 0; i < n; ++i) {
    const uint8_t* bytes = keep + (apart ? i * apart : rows.keep[size_t(i)]);
    const T* source = job.dtype == kMask ? nullptr : x + x0 + rows.x[size_t(i)];
    T* to = out + out0 + rows.out[size_t(i)];
    if (!plain_x) {
      for (int64_t j = 0; j < m; ++j) stage[j] = source[row.x[size_t(j)]];
      source = stage;
    }
    T* target = plain_out ? to : stage;
    if (shared)
      plan.decided(source, target, *bytes != 0, m);
    else
      plan.kernels.masked[job.dtype](source, target, bytes, m, job.scale);
    if (!plain_out)
      for (int64_t j = 0; j < m; ++j) to[row.out[size_t(j)]] = stage[j];
  }
}

void Tiling::part(int64_t first, int64_t last) const {
  alignas(64) uint8_t keep[kTile + 64], turned[2 * kTile];
  Cursor cursor(outer);
  cursor.seek(first / (rows.parts * row.parts));
  int64_t inside = first % (rows.parts * row.parts);
  const Dim along = rows.dims.empty() ? Dim{1, 0, 0, 0} : rows.dims.back(), across = row.dims.back();
  const int64_t apart = shared || in_order ? 0 : (row.elements + 7) / 8 * 8;
  for (; first < last; ++first) {
    const int64_t a = inside / row.parts, b = inside % row.parts, i = a * along.size, j = b * across.size;
    const int64_t n = rows.count(a), m = row.count(b);
    make_keep(plan.job.base + cursor.position + uint64_t(i) * along.position + uint64_t(j) * across.position, a, b,
              keep);
    if (apart) turn(keep, turned, apart, n, m);
    with_type(plan.job.dtype, [&](auto one) {
      apply<decltype(one)>(apart ? turned : keep, apart, cursor.x + i * along.x + j * across.x,
                           cursor.out + i * along.out + j * across.out, n, m);
    });
    if (++inside == rows.parts * row.parts) {
      inside = 0;
      cursor.next();
    }
  }
}

void tile_part(void* context, int part, int parts) {
  const Plan& p = *static_cast<const Plan*>(context);
  const Tiling tiling(p);
  const int64_t total = Cursor(tiling.outer).total() * tiling.rows.parts * tiling.row.parts;
  const int64_t first = share(total, part, parts, 1), last = share(total, part + 1, parts, 1);
  if (first < last) tiling.part(first, last);
}

}  // namespace thinned
