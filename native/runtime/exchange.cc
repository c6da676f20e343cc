#include "exchange.h"

#include <algorithm>
#include <vector>

namespace riffle {
namespace {

constexpr long kBlock = 1024;

template <class T>
void AddInto(T* sum, const T* more, long count) {
  for (long i = 0; i < count; ++i) sum[i] = sum[i] + more[i];
}

}  // namespace

template <class T>
void SumParts(const T* const* parts, int count, long begin, long end, T scale, T* out) {
  // Sums of 1, 2, 4 ... parts that wait for their neighbour, as in a binary counter: the tree, with few blocks at hand.
  std::vector<T> levels;
  const auto level = [&](int l) {
    if (levels.size() < static_cast<size_t>((l + 1) * kBlock)) levels.resize((l + 1) * kBlock);
    return levels.data() + l * kBlock;
  };
  T sum[kBlock];
  for (long at = begin; at < end; at += kBlock) {
    const long n = std::min(kBlock, end - at);
    for (int p = 0; p < count; ++p) {
      std::copy_n(parts[p] + at, n, sum);
      int l = 0;
      for (; p >> l & 1; ++l) AddInto(sum, level(l), n);
      if (p + 1 < count) {
        std::copy_n(sum, n, level(l));
      } else {
        for (++l; p >> l; ++l)
          if (p >> l & 1) AddInto(sum, level(l), n);
      }
    }
    for (long i = 0; i < n; ++i) out[at + i] = scale * sum[i];
  }
}

template void SumParts<float>(const float* const*, int, long, long, float, float*);
template void SumParts<double>(const double* const*, int, long, long, double, double*);

}  // namespace riffle
