// What the machine can do at best: the two roofs that a kernel's speed is compared with.
#pragma once

#include "../kernels/kernels.h"
#include "program.h"

namespace riffle {

struct Peak {
  double gflops = 0;          // multiply-adds from registers, all threads, 2 operations each
  double copy_gigabytes = 0;  // GB/s read and written, copying far more than the caches hold
};

// Takes about a second. The best of several short bursts: on a shared machine the others are disturbed.
Peak MeasurePeak(const KernelTable& kernels, Storage storage, int threads);

}  // namespace riffle
