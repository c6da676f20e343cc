#include "isa.h"

#include <stdexcept>

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

const KernelTable& ChooseKernels(const std::string& name) {
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
  throw std::invalid_argument("no instruction set " + name + " here; there are " + names);
}

}  // namespace riffle
