// The two ways in which ranks add their gradients: in memory that all of them see, inside a machine; by messages, between machines.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "../runtime/exchange.h"
#include "../runtime/program.h"
#include "communicator.h"

namespace riffle {

// Gradients lie in a window that all ranks of the machine see; when all have finished, each adds one slice of everybody's and
// takes the others' sums over.
std::unique_ptr<Exchange> MakeWindowExchange(Communicator& ranks, const ProgramInfo& program);

// Each rank sends to every other its slice of a bucket, adds what it got, and sends the sum to all; while backward goes on where
// `overlaps`.
std::unique_ptr<Exchange> MakeMessageExchange(Communicator& ranks, const ProgramInfo& program, bool overlaps);

// What a rank has to do in an operation, said before it: the others have to have the same.
struct OperationHeader {
  uint64_t magic = 0x726966666c652b2b;
  int64_t sequence = 0, kind = 0, count = 0;

  bool operator==(const OperationHeader&) const = default;
};

// Throws RanksError naming both ranks and what they would do.
void ExpectSame(const OperationHeader& mine, const OperationHeader& theirs, int my_rank, int their_rank);

// Where slice `part` of `parts` of `count` numbers begins: at whole lines of 64 bytes, so that no two ranks write to one.
inline long SliceBegin(long count, int part, int parts) {
  const long lines = (count + 15) / 16;
  return part >= parts ? count : std::min(count, lines * part / parts * 16);
}

}  // namespace riffle
