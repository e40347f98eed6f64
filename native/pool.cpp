#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "environment.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define THINNED_FORKS 1
#endif

namespace thinned {
namespace {

// More parts than this are of no use to anyone, and each costs something.
constexpr int kMostParts = 256;

struct Work {
  void (*fn)(void*, int, int);
  void* context;
  int parts;
  std::atomic<int> next{0};

  void drain() {
    const Ieee arithmetic;  // in any thread
    for (int part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;)
      fn(context, part, parts);
  }
};

inline void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  asm volatile("yield");
#endif
}

// Waits for a short while without going to sleep: waking a thread costs 15 µs or more, as much as a pass over
// 65,536 elements takes on two threads. False where the condition has not come true in that while.
template <class Condition>
bool spin_until(Condition condition) {
  for (int k = 0; k < 1000; ++k) {
    if (condition()) return true;
    pause();
  }
  return false;
}

class Pool {
 public:
  bool try_run(Work& work) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn) return false;
    int wake;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      const int helpers = std::min(work.parts, processors()) - 1;
      while (threads_ < helpers && start()) continue;
      work_ = &work;
      wanted_ = std::min(helpers, threads_);
      wake = std::min<int>(wanted_, asleep_);
    }
    // No more than have a part to do: each that is woken asks for the lock.
    for (; wake > 0; --wake) wake_.notify_one();
    work.drain();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      wanted_ = 0;  // a thread that has not begun need not: no part is left
    }
    spin_until([&] { return busy_.load() == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return busy_.load() == 0; });
    work_ = nullptr;
    return true;
  }

 private:
  // Threads beyond the processors would only take turns.
  static int processors() {
    static const int found = std::max(1, int(std::thread::hardware_concurrency()));
    return found;
  }
  // False where the system gives no more threads: those that there are do the work.
  bool start() {
    try {
      std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
      return false;
    }
    ++threads_;
    return true;
  }
  void serve() {
    for (;;) {
      spin_until([&] { return wanted_.load() > 0; });
      std::unique_lock<std::mutex> lock(mutex_);
      ++asleep_;
      wake_.wait(lock, [&] { return wanted_.load() > 0; });
      --asleep_;
      --wanted_;
      ++busy_;
      Work& work = *work_;
      lock.unlock();
      work.drain();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_, mutex_;
  std::condition_variable wake_, done_;
  Work* work_ = nullptr;
  std::atomic<int> wanted_{0}, busy_{0};  // changed under mutex_, looked at without
  int threads_ = 0, asleep_ = 0;
};

// Never destroyed: its threads may outlive every static object.
std::atomic<Pool*> current{nullptr};
std::atomic<TeamLauncher> team{nullptr};

Pool& pool() {
  if (Pool* p = current.load(std::memory_order_acquire)) return *p;
  auto* fresh = new Pool;
  Pool* expected = nullptr;
  if (current.compare_exchange_strong(expected, fresh)) return *fresh;
  delete fresh;
  return *expected;
}

#ifdef THINNED_FORKS
// A forked child has none of the parent's threads, and its locks may be held by one of them: forget both.
const int at_fork = pthread_atfork(nullptr, nullptr, [] {
  current.store(nullptr);
  team.store(nullptr);
});
#endif

void drain_team(void* work) { static_cast<Work*>(work)->drain(); }

}  // namespace

void borrow_team(TeamLauncher launcher) { team.store(launcher); }

void parallel(int parts, void (*fn)(void*, int, int), void* context) {
  Work work{fn, context, std::min(parts, kMostParts)};
  if (parts <= 1) return work.drain();
  if (TeamLauncher launch = team.load()) return launch(drain_team, &work, unsigned(parts), 0);
  if (!pool().try_run(work)) work.drain();
}

}  // namespace thinned
