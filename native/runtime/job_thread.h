// A thread of its own for jobs that come from several others. As long as there is another job it does not sleep in between, so that
// the system has no reason to give its core to somebody else: a run that computed on whichever thread of libuv's pool was free lost a
// tenth of its time to decoding, with a core to spare.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

namespace riffle {

class JobThread {
 public:
  // `refused`: the system gives no thread (tests).
  explicit JobThread(bool refused = false) : refused_(refused) {}
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;
  // No job may be waiting.
  ~JobThread() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

  // Does `work` after what was asked for before, and returns when it is done, or throws what it threw. Where there is no thread, the
  // caller's does it.
  template <class Work>
  void Run(const Work& work) {
    Job job{[](const void* w) { (*static_cast<const Work*>(w))(); }, &work};
    std::unique_lock lock(mutex_);
    jobs_.push_back(&job);
    if (!Started()) {
      changed_.wait(lock, [&] { return jobs_.front() == &job; });
      Do(job, lock);
    } else {
      changed_.notify_all();
      changed_.wait(lock, [&] { return job.done; });
    }
    if (job.thrown) std::rethrow_exception(job.thrown);
  }

 private:
  struct Job {
    void (*call)(const void* work);
    const void* work;
    bool done = false;
    std::exception_ptr thrown = nullptr;
  };

  bool Started() {
    if (thread_.joinable()) return true;
    if (refused_) return false;
    try {
      thread_ = std::thread([this] { Work(); });
    } catch (const std::system_error&) {
      refused_ = true;  // for good: a thread that came later would overtake those who do their own
    }
    return !refused_;
  }

  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      Do(*jobs_.front(), lock);
    }
  }

  // The first of the jobs; `lock` is open while it is done.
  void Do(Job& job, std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    try {
      job.call(job.work);
    } catch (...) {
      job.thrown = std::current_exception();
    }
    lock.lock();
    jobs_.pop_front();
    job.done = true;
    changed_.notify_all();
  }

  bool refused_;
  bool stop_ = false;
  std::deque<Job*> jobs_;  // the first is being done
  std::mutex mutex_;
  std::condition_variable changed_;
  std::thread thread_;
};

}  // namespace riffle
