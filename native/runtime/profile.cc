#include "profile.h"

#include <numeric>

namespace riffle {
namespace {

// Shorter waits stay in the span that they interrupt: a span of its own would cost as much.
constexpr int64_t kShortestWait = 1000;

}  // namespace

Profile::Profile(int threads, size_t room) : threads_(threads) {
  for (Buffer& buffer : threads_) buffer.spans.reserve(room);
}

TimeSpan* Profile::Add(int thread, const TimeSpan& span) {
  Buffer& buffer = threads_[thread];
  if (buffer.spans.size() == buffer.spans.capacity()) {
    ++buffer.lost;
    buffer.spare = span;
    return &buffer.spare;
  }
  return &buffer.spans.emplace_back(span);
}

void Profile::Enter(Doing doing, int layer) {
  const int64_t now = SteadyNow();
  if (current_) current_->end = now;
  place_ = {now, now, layer, doing, false};
  current_ = Add(0, place_);
}

void Profile::Leave() {
  if (current_) current_->end = SteadyNow();
  current_ = nullptr;
}

void Profile::Waited(int64_t begin) {
  const int64_t now = SteadyNow();
  if (!current_ || now - begin < kShortestWait) return;
  current_->end = begin;
  TimeSpan wait = place_;
  wait.begin = begin;
  wait.end = now;
  wait.waits = true;
  Add(0, wait);
  TimeSpan rest = place_;
  rest.begin = rest.end = now;
  current_ = Add(0, rest);
}

TimeSpan* Profile::Join(int thread) {
  if (!current_) return &threads_[thread].spare;  // of no step
  TimeSpan part = place_;
  part.begin = part.end = SteadyNow();
  return Add(thread, part);
}

long Profile::lost() const {
  return std::accumulate(threads_.begin(), threads_.end(), 0L, [](long sum, const Buffer& b) { return sum + b.lost; });
}

}  // namespace riffle
