#include "peak.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "arena.h"
#include "clock.h"
#include "thread_pool.h"

namespace riffle {
Peak MeasurePeak(const KernelTable& kernels, Storage storage, int threads) {
  const auto burst_of = storage == Storage::kBf16 ? kernels.bf16.product_burst : kernels.f32.product_burst;
  ThreadPool pool(threads);
  Peak peak;
  constexpr long kRounds = 2'000'000;
  constexpr int kBursts = 12;
  std::vector<float> sinks(threads * 32L);
  for (int burst = 0; burst < kBursts; ++burst) {
    std::vector<double> work(threads);
    const int64_t start = SteadyNow();
    pool.Run(threads, [&](long t, int) { work[t] = burst_of(kRounds, &sinks[t * 32]); });
    const double seconds = SecondsSince(start);
    double total = 0;
    for (double w : work) total += w;
    peak.gflops = std::max(peak.gflops, total / seconds);
  }
  constexpr size_t kFloats = 32 << 20;
  Arena from(kFloats), to(kFloats);
  constexpr long kPieces = 64;
  for (int round = 0; round < 5; ++round) {
    const int64_t start = SteadyNow();
    pool.Run(kPieces, [&](long t, int) {
      const size_t piece = kFloats / kPieces;
      std::memcpy(to.data() + t * piece, from.data() + t * piece, piece * sizeof(float));
    });
    const double seconds = SecondsSince(start);
    // The first round also faults the pages in.
    if (round > 0) peak.copy_gigabytes = std::max(peak.copy_gigabytes, 2.0 * kFloats * sizeof(float) / seconds / 1e9);
  }
  return peak;
}

}  // namespace riffle
