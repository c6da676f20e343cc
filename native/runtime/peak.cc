#include "peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "executor.h"
#include "thread_pool.h"

namespace riffle {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Peak MeasurePeak(const KernelTable& kernels, Storage storage, int threads) {
  const auto burst_of = storage == Storage::kBf16 ? kernels.bf16.product_burst : kernels.f32.product_burst;
  ThreadPool pool(threads);
  Peak peak;
  constexpr long kRounds = 2'000'000;
  constexpr int kBursts = 12;
  std::vector<float> sinks(threads * 32L);
  for (int burst = 0; burst < kBursts; ++burst) {
    std::vector<double> work(threads);
    const double start = Now();
    pool.Run(threads, [&](long t, int) { work[t] = burst_of(kRounds, &sinks[t * 32]); });
    const double seconds = Now() - start;
    double total = 0;
    for (double w : work) total += w;
    peak.gflops = std::max(peak.gflops, total / seconds);
  }
  constexpr size_t kFloats = 32 << 20;
  Arena from(kFloats), to(kFloats);
  constexpr long kPieces = 64;
  for (int round = 0; round < 5; ++round) {
    const double start = Now();
    pool.Run(kPieces, [&](long t, int) {
      const size_t piece = kFloats / kPieces;
      std::memcpy(to.data() + t * piece, from.data() + t * piece, piece * sizeof(float));
    });
    const double seconds = Now() - start;
    // The first round also faults the pages in.
    if (round > 0) peak.copy_gigabytes = std::max(peak.copy_gigabytes, 2.0 * kFloats * sizeof(float) / seconds / 1e9);
  }
  return peak;
}

}  // namespace riffle
