#include "submatrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kept_columns.h"
#include "pool.h"
#include "share.h"

namespace thinned {
namespace {

// Moved by one thread: to hand a part to another takes longer.
constexpr int64_t kAlone = 64 * 1024;

struct Task {
  const Kernels& kernels;
  const Submatrix& what;
  bool add;
  KeptColumns kept;

  Task(const Kernels& fast, const Submatrix& w, bool adds)
      : kernels(fast), what(w), add(adds), kept(w, adds) {}
  const Kernels& of_columns() const { return kept.kernels(kernels); }
  char* whole(int64_t row) const { return at(what.whole, row * kept.columns().n, what.dtype); }
  char* part(int64_t row) const { return at(what.part, row * what.part_row, what.dtype); }
  void move(const void* from, void* to) const {
    const Columns& c = kept.columns();
    if (what.scale == 1.0)
      std::memcpy(to, from, size_t(c.n) * kItemSize[what.dtype]);
    else
      kernels.scaled[what.dtype](from, to, c.n, what.scale);
  }
};

void take_part(void* context, int part, int parts) {
  const Task& t = *static_cast<const Task*>(context);
  const Submatrix& w = t.what;
  const auto taken = t.of_columns().taken[w.dtype];
  for (int64_t row = w.part_height * part / parts; row < w.part_height * (part + 1) / parts; ++row) {
    const char* from = t.whole(w.rows ? w.rows[row] : row);
    if (t.kept.all())
      t.move(from, t.part(row));
    else
      taken(t.kept.columns(), from, t.part(row));
  }
}

void take_many_part(void* context, int part, int parts) {
  const auto& tasks = *static_cast<const std::vector<Task>*>(context);
  const int64_t height = tasks[0].what.height, begin = height * part / parts, end = height * (part + 1) / parts;
  std::vector<int64_t> next;
  for (const Task& t : tasks) {
    const Submatrix& w = t.what;
    next.push_back(w.rows ? std::lower_bound(w.rows, w.rows + w.part_height, begin) - w.rows : begin);
  }
  for (int64_t row = begin; row < end; ++row)
    for (size_t k = 0; k < tasks.size(); ++k) {
      const Task& t = tasks[k];
      if (next[k] == t.what.part_height || (t.what.rows && t.what.rows[next[k]] != row)) continue;
      if (t.kept.all())
        t.move(t.whole(row), t.part(next[k]++));
      else
        t.of_columns().taken[t.what.dtype](t.kept.columns(), t.whole(row), t.part(next[k]++));
    }
}

// Rows of the whole, so that each is written by one thread and once.
void put_part(void* context, int part, int parts) {
  const Task& t = *static_cast<const Task*>(context);
  const Submatrix& w = t.what;
  const auto put = t.of_columns().put[w.dtype];
  const int64_t begin = w.height * part / parts, end = w.height * (part + 1) / parts;
  int64_t next = w.rows ? std::lower_bound(w.rows, w.rows + w.part_height, begin) - w.rows : begin;
  for (int64_t row = begin; row < end; ++row) {
    const bool kept = next < w.part_height && (!w.rows || w.rows[next] == row);
    if (!kept) {
      if (!t.add) std::memset(t.whole(row), 0, size_t(t.kept.columns().n) * kItemSize[w.dtype]);
    } else if (t.kept.all()) {
      t.move(t.part(next++), t.whole(row));
    } else {
      put(t.kept.columns(), t.part(next++), t.whole(row), t.add);
    }
  }
}

int many(int64_t elements, int threads) {
  return int(std::clamp<int64_t>(elements / kAlone, 1, std::max(threads, 1)));
}

}  // namespace

void take(const Kernels& kernels, const Submatrix& what, int threads) {
  Task task(kernels, what, false);
  parallel(many(what.part_height * what.part_width * what.inner, threads), take_part, &task);
}

void take_many(const Kernels& kernels, const std::vector<Submatrix>& parts, int threads) {
  std::vector<Task> tasks;
  int64_t elements = 0;
  for (const Submatrix& what : parts) {
    tasks.emplace_back(kernels, what, false);
    elements += what.part_height * what.part_width * what.inner;
  }
  if (!tasks.empty()) parallel(many(elements, threads), take_many_part, &tasks);
}

void put(const Kernels& kernels, const Submatrix& what, bool add, int threads) {
  Task task(kernels, what, add);
  parallel(many(what.height * what.width * what.inner, threads), put_part, &task);
}

}  // namespace thinned
