#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define THINNED_FORKS 1
#endif

namespace thinned {
namespace {

struct Work {
  void (*fn)(void*, int, int);
  void* context;
  int parts;
  std::atomic<int> next{0};

  void drain() {
    for (int part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;)
      fn(context, part, parts);
  }
};

class Pool {
 public:
  bool try_run(Work& work) {
    std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    if (!turn) return false;
    const int helpers = work.parts - 1;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (int(threads_) < helpers) start();
      work_ = &work;
      wanted_ = helpers;
    }
    wake_.notify_all();
    work.drain();
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // whoever has not begun need not: no part is left
    done_.wait(lock, [&] { return busy_ == 0; });
    work_ = nullptr;
    return true;
  }

 private:
  void start() {
    std::thread([this] { serve(); }).detach();
    ++threads_;
  }
  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return wanted_ > 0; });
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
  int wanted_ = 0, busy_ = 0, threads_ = 0;
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
  if (parts <= 1) return fn(context, 0, 1);
  Work work{fn, context, parts};
  if (TeamLauncher launch = team.load()) return launch(drain_team, &work, unsigned(parts), 0);
  if (!pool().try_run(work)) work.drain();
}

}  // namespace thinned
