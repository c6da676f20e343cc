// Tests of the C++ engine without Node: every kernel of every instruction set that this processor runs, against
// its definition in f64, programs on several threads, and what decoding threads do beside libjpeg.
//
//     kernel-tests            everything
//     kernel-tests avx512 7   one instruction set, every 7th shape of the long lists (for emulators)
//     kernel-tests threads    the thread pool and programs only (for ThreadSanitizer)
//     kernel-tests share 0 2  the first of two processes that share everything
//
// Closes with `N passed, N failed, N skipped`; a skipped instruction set is named. Exit code 1 if anything failed.
#include <cstdio>
#include <cstring>

#include "../runtime/isa.h"
#include "check.h"

namespace {

// Sets compiled in that this processor cannot run are skipped, which the first process says.
std::vector<const riffle::KernelTable*> Tables(bool says) {
  std::vector<const riffle::KernelTable*> tables = riffle::AvailableKernels();
#ifdef RIFFLE_HAVE_WIDE
  // 16 lanes made of narrower operations: needs AVX2, which is the second table.
  if (tables.size() > 1) tables.push_back(riffle::KernelsWide());
#endif
#ifdef RIFFLE_HAVE_AVX512
  bool found = false;
  for (const riffle::KernelTable* table : tables) found = found || std::strcmp(table->name, "avx512") == 0;
  if (!found && says) {
    ++riffle::test::Test::skipped;
    std::printf("skip avx512: this processor has none\n");
  }
#endif
#if defined(RIFFLE_HAVE_AVX512DOT) || defined(RIFFLE_HAVE_NEONDOT)
  if (says && !riffle::WithDot(*riffle::AvailableKernels().back())) {
    ++riffle::test::Test::skipped;
    std::printf("skip bf16 products by dot: this processor has none\n");
  }
#endif
  return tables;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace riffle::test;
  const std::string first = argc > 1 ? argv[1] : "";
  const bool shares = first == "share" && argc > 3;
  const int share = shares ? std::atoi(argv[2]) : 0, sharers = shares ? std::atoi(argv[3]) : 1;
  const std::string only = shares ? "" : first;
  if (!shares && argc > 2) Test::every = std::max(1, std::atoi(argv[2]));
  if (share == 0) {
    TestThreadPool();
    TestThreadPoolErrors();
    TestJobThread();
  }
  if (only == "" && share == sharers - 1) {
    TestDecode();
    TestProgram();
  }
  int turn = 0;
  for (const riffle::KernelTable* table : Tables(share == 0)) {
    if (only != "" && only != "threads" && only != table->name) continue;
    if (turn++ % sharers != share) continue;
    if (only != "threads") {
      TestPointwise(*table);
      TestBf16Products(*table);
      TestDepthwise(*table);
      TestStem(*table);
      TestHead(*table);
      TestUpdate(*table);
    }
    TestExecutor(*table);
    TestProfile(*table);
    TestGradientSink(*table);
  }
  std::printf("%d passed, %d failed, %d skipped\n", Test::passed, Test::failed, Test::skipped);
  // A process of many may find nothing left to do.
  return Test::failed > 0 || (Test::passed == 0 && !shares) ? 1 : 0;
}
