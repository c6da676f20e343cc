// What the threads that read and decode pictures do while steps are profiled (profile.h); times as there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace riffle {

// Reading or decoding of some pictures, on a thread of libuv's pool; numbers of threads are given as they come.
struct PictureJob {
  int64_t begin, end;
  int thread;
  bool decodes;
};

// One record of the process: from StartPictureJobs on, until TakePictureJobs hands it over. `room` as above.
void StartPictureJobs(size_t room);
std::vector<PictureJob> TakePictureJobs();

// Its life is a job, where they are recorded.
class PictureJobSpan {
 public:
  explicit PictureJobSpan(bool decodes);
  ~PictureJobSpan();
  PictureJobSpan(const PictureJobSpan&) = delete;
  PictureJobSpan& operator=(const PictureJobSpan&) = delete;

 private:
  const bool decodes_;
  const int64_t begin_;  // 0 where nothing is recorded
};

}  // namespace riffle
