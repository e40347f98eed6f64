#include "attention.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "beside.h"
#include "pool.h"

namespace thinned {
namespace {

const AttentionKernels* none() { return nullptr; }

const AttentionKernels& kernels_for(const Kernels& kernels, Dtype dtype) {
  const AttentionKernels* found = nullptr;
  if (dtype == kBfloat16) found = beside(kernels, amx_attention, none);
  if (!found) found = beside(kernels, avx512_attention, avx2_attention);
  return found ? *found : *portable_attention();
}

const char* at(const Operand& o, const std::vector<int64_t>& lead, int64_t head, int64_t size) {
  int64_t offset = 0;
  for (size_t d = lead.size(); d-- > 0; head /= lead[d]) offset += head % lead[d] * o.heads[d];
  return static_cast<const char*>(o.data) + offset * size;
}

template <class T>
T* place(const Operand& o, const std::vector<int64_t>& lead, int64_t head, int64_t size) {
  return o.data ? reinterpret_cast<T*>(const_cast<char*>(at(o, lead, head, size))) : nullptr;
}

Head head_of(const Attention& c, int64_t n) {
  const int64_t size = kItemSize[c.dtype];
  Head h{};
  h.q = place<void>(c.q, c.lead, n, size);
  h.k = place<void>(c.k, c.lead, n, size);
  h.v = place<void>(c.v, c.lead, n, size);
  h.out = place<void>(c.out, c.lead, n, size);
  h.grad = place<void>(c.grad, c.lead, n, size);
  h.dq = place<void>(c.dq, c.lead, n, size);
  h.dk = place<void>(c.dk, c.lead, n, size);
  h.dv = place<void>(c.dv, c.lead, n, size);
  h.mask = place<void>(c.mask, c.lead, n, c.mask_kind == kBool ? 1 : kItemSize[c.mask_dtype]);
  h.logsumexp = place<float>(c.logsumexp, c.lead, n, 4);
  h.base = c.base;
  int64_t left = n;
  for (size_t d = c.lead.size(); d-- > 0; left /= c.lead[d])
    h.base += uint64_t(left % c.lead[d]) * uint64_t(c.positions.heads[d]);
  const auto* words = place<const uint64_t>(c.words, c.lead, n, 8);
  const auto* rates = place<const uint64_t>(c.rates, c.lead, n, 8);
  h.seed = words[0];
  h.stream = words[1];
  h.threshold = rates[0];
  double factor;
  std::memcpy(&factor, rates + 1, sizeof factor);
  h.factor = float(factor);
  return h;
}

int64_t count(const std::vector<int64_t>& lead) {
  int64_t n = 1;
  for (int64_t size : lead) n *= size;
  return n;
}

// Tasks one by one to whichever thread is free; each thread has scratch memory of its own.
template <class Task>
void each(int64_t tasks, int64_t room, int threads, Task task) {
  struct Context {
    std::atomic<int64_t> next{0};
    int64_t tasks, room;
    Task* task;
  } context{};
  context.tasks = tasks;
  context.room = room;
  context.task = &task;
  auto some = [](void* data, int, int) {
    auto& c = *static_cast<Context*>(data);
    std::unique_ptr<float[]> memory;
    float* room = nullptr;
    for (int64_t n; (n = c.next.fetch_add(1, std::memory_order_relaxed)) < c.tasks;) {
      if (!memory) {
        memory.reset(new float[size_t(c.room) + 16]);
        room = memory.get() + (-(reinterpret_cast<uintptr_t>(memory.get()) >> 2) & 15);
      }
      (*c.task)(n, room);
    }
  };
  parallel(int(std::min<int64_t>(threads, tasks)), some, &context);
}

}  // namespace

void attention_forward(const Kernels& kernels, const Attention& c, int threads) {
  const AttentionKernels& run = kernels_for(kernels, c.dtype);
  const int64_t heads = count(c.lead), tile = 64;
  // No result depends on how many queries a task has.
  int64_t size = std::min(kQueries, (c.queries + tile - 1) / tile * tile);
  while (size > tile && heads * ((c.queries + size - 1) / size) < 4 * threads) size = (size / 2 + tile - 1) / tile * tile;
  const int64_t blocks = (c.queries + size - 1) / size;
  each(heads * blocks, run.forward_room(c), threads, [&](int64_t n, float* room) {
    // The last queries first: under a causal mask they have the most to look at.
    const int64_t first = (blocks - 1 - n / heads) * size;
    run.forward(kernels, c, head_of(c, n % heads), first, std::min(first + size, c.queries), room);
  });
}

void attention_backward(const Kernels& kernels, const Attention& c, int threads) {
  const AttentionKernels& run = kernels_for(kernels, c.dtype);
  const int64_t heads = count(c.lead), group = c.lead.empty() ? 1 : c.lead.back(), served = heads / group;
  // Few heads are divided along the keys, by their number alone: sums must not depend on the threads.
  const int64_t most = std::max<int64_t>(1, 16 / served);
  int64_t parts = std::min(most, (c.keys + 1023) / 1024);
  int64_t size = (c.keys + parts - 1) / parts;
  size = (size + 255) / 256 * 256;
  parts = (c.keys + size - 1) / size;
  const int64_t each_head = c.queries * run.padded(c.width), apart = heads * each_head;
  std::unique_ptr<float[]> partial;
  if (parts > 1) partial.reset(new float[size_t(parts * apart)]);
  each(served * parts, run.backward_room(c, std::min(size, c.keys)), threads, [&](int64_t n, float* room) {
    const int64_t part = n / served, first = part * size, one = n % served;
    std::vector<Head> some;
    for (int64_t g = 0; g < group; ++g) some.push_back(head_of(c, one * group + g));
    float* to = partial ? partial.get() + part * apart + one * group * each_head : nullptr;
    run.backward(kernels, c, some.data(), first, std::min(first + size, c.keys), to, room);
  });
  if (!partial) return;
  each(heads, 0, threads, [&](int64_t n, float*) {
    run.reduce(c, head_of(c, n), partial.get() + n * each_head, int(parts), apart);
  });
}

}  // namespace thinned
