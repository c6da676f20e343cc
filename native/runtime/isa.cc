#include "isa.h"

#include <algorithm>

#include "clock.h"
#include "fail.h"

#if defined(RIFFLE_HAVE_NEONDOT) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(RIFFLE_HAVE_NEONDOT) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace riffle {

std::vector<const KernelTable*> AvailableKernels() {
  std::vector<const KernelTable*> tables = {KernelsBaseline()};
#if defined(__x86_64__)
  __builtin_cpu_init();
#ifdef RIFFLE_HAVE_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tables.push_back(KernelsAvx2());
#endif
#ifdef RIFFLE_HAVE_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    tables.push_back(KernelsAvx512());
#endif
#endif
  return tables;
}

namespace {

const KernelTable& TableOf(const std::string& name) {
  const std::vector<const KernelTable*> tables = AvailableKernels();
  if (name.empty()) return *tables.back();
  std::string names;
  for (const KernelTable* table : tables) {
    if (name == table->name) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->name);
  }
#ifdef RIFFLE_HAVE_WIDE
  // Not in the list: 16 lanes on narrower hardware, for testing the AVX-512 shapes where there is no AVX-512.
  if (name == KernelsWide()->name) return *KernelsWide();
#endif
  Refuse("no instruction set " + name + " here; there are " + names);
}

// GFLOP/s, the best of a few bursts of a fifth of a millisecond.
double Rate(double (*burst)(long, float*)) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    float sink = 0;
    const int64_t start = SteadyNow();
    const double work = burst(20'000, &sink);
    best = std::max(best, work / SecondsSince(start));
  }
  return best;
}

#ifdef RIFFLE_HAVE_NEONDOT
// FEAT_BF16.
bool HasNeonBf16() {
#if defined(__linux__)
  constexpr unsigned long kBf16 = 1ul << 14;  // HWCAP2_BF16, which headers older than Linux 5.6 lack
  return (getauxval(AT_HWCAP2) & kBf16) != 0;
#elif defined(__APPLE__)
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &found, &size, nullptr, 0) == 0 && found != 0;
#else
  return false;
#endif
}
#endif

[[maybe_unused]] KernelTable Replaced(KernelTable table, const PlaneKernels<Bf16>& bf16) {
  table.bf16 = bf16;
  return table;
}

}  // namespace

const KernelTable* WithDot([[maybe_unused]] const KernelTable& table) {
#if defined(RIFFLE_HAVE_AVX512DOT)
  if (&table == KernelsAvx512() && __builtin_cpu_supports("avx512bf16")) {
    static const KernelTable with_dot = Replaced(table, *DotKernelsAvx512());
    return &with_dot;
  }
#elif defined(RIFFLE_HAVE_NEONDOT)
  if (&table == KernelsBaseline() && HasNeonBf16()) {
    static const KernelTable with_dot = Replaced(table, *DotKernelsNeon());
    return &with_dot;
  }
#endif
  return nullptr;
}

const KernelTable& ChooseKernels(const std::string& name, const std::string& products) {
  const KernelTable& table = TableOf(name);
  const KernelTable* dot = products == "unpack" ? nullptr : WithDot(table);
  if (products == "dot" && !dot) Refuse("no dot products of bf16 on " + std::string(table.name));
  if (!dot || products == "dot") return dot ? *dot : table;
  // An instruction for two products may take longer than two for one (a server core of 2024: twice as long).
  static const bool faster = Rate(dot->bf16.product_burst) > Rate(table.bf16.product_burst);
  return faster ? *dot : table;
}

}  // namespace riffle
