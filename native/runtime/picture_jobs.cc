#include "picture_jobs.h"

#include <atomic>
#include <mutex>
#include <utility>

#include "clock.h"

namespace riffle {
namespace {

std::atomic<bool> recording{false};
std::atomic<int> job_threads{0};
std::mutex jobs_mutex;
std::vector<PictureJob> jobs;

}  // namespace

void StartPictureJobs(size_t room) {
  const std::lock_guard lock(jobs_mutex);
  jobs.clear();
  jobs.reserve(room);
  recording = true;
}

std::vector<PictureJob> TakePictureJobs() {
  const std::lock_guard lock(jobs_mutex);
  recording = false;
  return std::exchange(jobs, {});
}

PictureJobSpan::PictureJobSpan(bool decodes) : decodes_(decodes), begin_(recording.load(std::memory_order_relaxed) ? SteadyNow() : 0) {}

// A lock for each job of a few pictures, which take a millisecond or more.
PictureJobSpan::~PictureJobSpan() {
  if (begin_ == 0) return;
  thread_local const int thread = job_threads++;
  const int64_t end = SteadyNow();
  const std::lock_guard lock(jobs_mutex);
  if (recording && jobs.size() < jobs.capacity()) jobs.push_back({begin_, end, thread, decodes_});
}

}  // namespace riffle
